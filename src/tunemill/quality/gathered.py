"""Gather the data page's facts from what the four data stages have sealed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunemill import rows
from tunemill.quality.funnel import SIDES, Funnel, Left, Loss, funnel, losses
from tunemill.quality.page_rows import Contradicted, Copied, Side, lines, sources_of

Folders = Mapping[str, Path]
"""Stage → its folder."""
Sides = Mapping[str, Side]
EXACT, NEAR = "exact duplicate of an older row", "near-duplicate of an older row"
CONTRADICTS = "its prompt has another answer"


def funnel_of(
    folders: Folders,
    counts: Mapping[str, int],
    sides: Sides,
    dropped: Sequence[Copied],
    answers: Sequence[Contradicted],
) -> Funnel:
    """Follow the rows; `counts` tells how many of them each stage let through."""
    rejected = {
        stage: losses(stage, lines(folders[stage] / "rejected.jsonl", Left)) for stage in ("ingest", "validate")
    }
    rejected["ingest"] += losses("ingest", _aside(folders))
    gone = [Left(each.source, each.line, EXACT if each.kind == "exact" else NEAR) for each in dropped]
    gone += [Left(each.source, each.line, CONTRADICTS) for each in answers if each.outcome == "dropped"]
    not_dealt = counts["deduplicate"] - sum(side.rows for side in sides.values())
    left_out = {
        **rejected,
        "deduplicate": losses("deduplicate", gone),
        "split": [Loss("split", "left out by the split", not_dealt, None)] if not_dealt > 0 else [],
    }
    read = counts["ingest"] + sum(loss.rows for loss in rejected["ingest"])
    return funnel(read, left_out, {name: side.rows for name, side in sides.items()})


def files_of(
    folders: Folders, sides: Sides, dropped: Sequence[Copied], answers: Sequence[Contradicted]
) -> dict[str, dict[str, int]]:
    """Count the rows of each source file: read, left out by each stage, and on each side."""
    unread, invalid = (
        Counter(each.source for each in lines(folders[stage] / "rejected.jsonl", Left))
        for stage in ("ingest", "validate")
    )
    aside = Counter(each.source for each in _aside(folders))
    read = aside + sources_of(folders["ingest"] / "rows.parquet") + unread
    columns = {
        "read": read,
        "not read": unread,
        "set aside": aside,
        "invalid": invalid,
        "copies": Counter(each.source for each in dropped),
        "contradicting": Counter(each.source for each in answers if each.outcome == "dropped"),
        **{name: sides[name].sources for name in SIDES},
    }
    return {source: {name: counts[source] for name, counts in columns.items()} for source in sorted(read)}


def _aside(folders: Folders) -> Iterator[Left]:
    """Yield what ingest passed over by a filter, or kept apart for a thumb down."""
    for record in rows.set_aside(folders["ingest"]):
        yield Left(record.source, record.line, record.reason, record.detail)
