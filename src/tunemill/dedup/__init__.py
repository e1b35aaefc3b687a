"""Find who is the same as whom: of every cluster of near-identical rows the oldest stays."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tunemill.dedup import index, judged, listing
from tunemill.dedup.columns import columns_of
from tunemill.dedup.judged import Court, places_of
from tunemill.dedup.listing import Listing
from tunemill.dedup.placed import Standing, Tables
from tunemill.dedup.segments import Array, Segment, gathered, oldest_first, open_segments
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.rows import Duplicate

DUPLICATES, CONTRADICTIONS, INDEX = "duplicates.jsonl", "contradictions.jsonl", "index"


class Deduplicated(NamedTuple):
    """What became of all rows, by their numbers in the index."""

    segments: list[Segment]
    kept: Array
    """Mask of the rows that stay."""
    added: Array
    """Numbers of those that stay now and did not before, from old to new."""
    exact: int
    near: int
    dropped: int
    """Rows that the rule on contradictions took out."""
    prompts: int
    """Prompts with more than one answer."""


def deduplicate(
    valid: Path, new: Collection[str], before: Path | None, folder: Path, settings: DeduplicateSettings
) -> Deduplicated:
    """Keep the oldest row of every cluster; in what files, nights or order rows come changes nothing of that.

    Clusters are made of all rows, whatever the rule on contradictions drops; then the oldest that is left stays.

    Args:
        valid: folder of the tables of rows.
        new: names of those that the earlier night has not seen; of the others only single rows are read.
        before: what this function put out for the others; None where all are new.
        folder: where rows/, placed/, index/, listed/ and the two lists are written.
    """
    held = open_segments(sorted((before / INDEX).iterdir()), check=False) if before else []
    tables = Tables(valid, sorted(new))
    (folder / INDEX).mkdir()
    segments = index.extend(held, columns_of(tables.held), settings, folder / INDEX)
    known, count = (sum(segment.header.rows for segment in of) for of in (held, segments))

    listed = listing.read(before / CONTRADICTIONS if before else None, judged.COLUMNS)
    court = Court(segments, listed, tables, settings.contradictions)
    cases = court.touched(known)
    dropped = court.dropped(cases, count)
    labels = index.labels(segments, dropped)
    cases += court.unlike(cases, labels)
    lines, column = judged.records(segments, cases, labels)
    listed = listing.write(folder / CONTRADICTIONS, listed, court.still(cases), lines, column)

    kept = ~dropped & (labels == np.arange(count))
    copies = _duplicates(segments, before, folder, np.where(dropped | kept, -1, labels))
    added = Standing(before).carry(folder, kept, segments, tables)
    exact, near = (int(np.count_nonzero(copies.columns["exact"] == flag)) for flag in (1, 0))
    prompts = np.unique(gathered(segments, listed.columns["row"], ("prompt",))["prompt"]).size
    return Deduplicated(segments, kept, added, exact, near, int(np.count_nonzero(dropped)), prompts)


def _duplicates(segments: Sequence[Segment], before: Path | None, folder: Path, stays: Array) -> Listing:
    """Name every duplicate; `stays` gives of all rows the one that stays in their place, -1 where none does."""
    held = listing.read(before / DUPLICATES if before else None, ("row", "stays", "exact"))
    holds = stays[held.columns["row"]] == held.columns["stays"]
    fresh = stays >= 0
    fresh[held.columns["row"][holds]] = False
    rows = oldest_first(segments, np.flatnonzero(fresh))
    kept = stays[rows]
    exact = index.texts_of(segments, rows) == index.texts_of(segments, kept)
    similarity = index.similarities(segments, rows, kept).tolist()
    places = zip(places_of(segments, rows), places_of(segments, kept), similarity, exact.tolist(), strict=True)
    made = (
        Duplicate(*here, *there, round(alike, 4), "exact" if same else "near") for here, there, alike, same in places
    )
    columns = {"row": rows, "stays": kept, "exact": exact.astype(np.int64)}
    return listing.write(folder / DUPLICATES, held, holds, made, columns)


def jaccard(left: str, right: str, shingle: int) -> float:
    """Give the Jaccard similarity of two texts' sets of shingles, 0 to 1."""
    one, other = _shingles(left, shingle), _shingles(right, shingle)
    return len(one & other) / len(one | other)


def _shingles(text: str, length: int) -> set[str]:
    return {text[i : i + length] for i in range(max(len(text) - length + 1, 1))}
