"""Gather the data page's facts from what the four data stages have sealed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunemill import segments
from tunemill.quality.funnel import SIDES, Funnel, Left, Place, funnel, losses
from tunemill.quality.page_rows import Contradicted, Side, lines, sources_of
from tunemill.rows import Duplicate

Folders = Mapping[str, Path]
"""Stage → its folder."""
Sides = Mapping[str, Side]
EXACT, NEAR = "exact duplicate of an older row", "near-duplicate of an older row"
CONTRADICTS = "its prompt has another answer"
TIES, SPOILED = "would tie two sides together", "holds an item of a benchmark"


def funnel_of(
    folders: Folders, count: int, sides: Sides, dropped: Sequence[Duplicate], answers: Sequence[Contradicted]
) -> Funnel:
    """Follow the rows; `count` tells how many of them ingest read."""
    rejected = {
        stage: losses(stage, lines(folders[stage] / "rejected.jsonl", Left)) for stage in ("ingest", "validate")
    }
    rejected["ingest"] += losses("ingest", _aside(folders))
    gone = [Left(each.source, each.line, EXACT if each.kind == "exact" else NEAR) for each in dropped]
    gone += [Left(each.source, each.line, CONTRADICTS) for each in answers if each.outcome == "dropped"]
    left_out = {
        **rejected,
        "deduplicate": losses("deduplicate", gone),
        "split": losses("split", _not_dealt(folders["split"])),
    }
    read = count + sum(loss.rows for loss in rejected["ingest"])
    return funnel(read, left_out, {name: side.rows for name, side in sides.items()})


def files_of(
    folders: Folders, sides: Sides, dropped: Sequence[Duplicate], answers: Sequence[Contradicted]
) -> dict[str, dict[str, int]]:
    """Count the rows of each source file: read, left out by each stage, and on each side."""
    unread, invalid = (
        Counter(each.source for each in lines(folders[stage] / "rejected.jsonl", Left))
        for stage in ("ingest", "validate")
    )
    aside = Counter(each.source for each in _aside(folders))
    read = aside + sources_of(folders["ingest"] / "rows") + unread
    columns = {
        "read": read,
        "not read": unread,
        "set aside": aside,
        "invalid": invalid,
        "copies": Counter(each.source for each in dropped),
        "contradicting": Counter(each.source for each in answers if each.outcome == "dropped"),
        "not dealt": Counter(each.source for each in _not_dealt(folders["split"])),
        **{name: sides[name].sources for name in SIDES},
    }
    return {source: {name: counts[source] for name, counts in columns.items()} for source in sorted(read)}


def _not_dealt(folder: Path) -> Iterator[Left]:
    """Yield what the split left out."""
    for name, reason in (("bridges.jsonl", TIES), ("contaminated.jsonl", SPOILED)):
        for each in lines(folder / name, Place):
            yield Left(each.source, each.line, reason)


def _aside(folders: Folders) -> Iterator[Left]:
    """Yield what ingest passed over by a filter, or kept apart for a thumb down."""
    for record in segments.set_aside(folders["ingest"]):
        yield Left(record.source, record.line, record.reason, record.detail)
