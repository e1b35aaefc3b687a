"""Find who is the same as whom: of every cluster of near-identical rows the oldest stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from tunemill.dedup.clusters import clusters
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.text import conversation_text, normalise, prompt_text
from tunemill.rows import Row


class Duplicate(msgspec.Struct, frozen=True):
    """One dropped row and the older one that stays in its place."""

    row_id: str
    source: str
    line: int
    kept_row_id: str
    kept_source: str
    kept_line: int
    similarity: float
    """Exact Jaccard similarity of the two; a cluster is linked in a chain, so it may lie below the threshold."""
    kind: Literal["exact", "near"]


@dataclass(frozen=True)
class Deduplicated:
    """Every row that came in, kept or named as a duplicate."""

    kept: list[Row]
    """From old to new."""
    duplicates: list[Duplicate]
    contradictions: list[tuple[Row, Row]]
    """Kept rows that ask the same and answer otherwise."""


def deduplicate(rows: Sequence[Row], settings: DeduplicateSettings) -> Deduplicated:
    """Keep the oldest row of every cluster; the order in which rows come changes nothing."""
    ordered = sorted(rows, key=lambda row: (row.place, row.row_id))
    texts = [normalise(conversation_text(row)) for row in ordered]
    labels = clusters(texts, settings.threshold, settings.shingle, near=settings.near)
    kept = [row for i, row in enumerate(ordered) if labels[i] == i]
    duplicates = [
        _duplicate(row, texts[i], ordered[label], texts[label], settings.shingle)
        for i, (row, label) in enumerate(zip(ordered, labels, strict=True))
        if label != i
    ]
    return Deduplicated(kept, duplicates, contradictions(kept))


def contradictions(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pair each row with the oldest one that asks the same and answers otherwise."""
    first: dict[str, Row] = {}
    found = []
    for row in rows:
        prompt = normalise(prompt_text(row))
        older = first.setdefault(prompt, row)
        if prompt and normalise(older.answer) != normalise(row.answer):
            found.append((older, row))
    return found


def jaccard(left: str, right: str, shingle: int) -> float:
    """Give the Jaccard similarity of two texts' sets of shingles, 0 to 1."""
    one, other = _shingles(left, shingle), _shingles(right, shingle)
    return len(one & other) / len(one | other)


def _shingles(text: str, length: int) -> set[str]:
    return {text[i : i + length] for i in range(max(len(text) - length + 1, 1))}


def _duplicate(row: Row, text: str, kept: Row, kept_text: str, shingle: int) -> Duplicate:
    similarity = round(jaccard(text, kept_text, shingle), 4)
    kind: Literal["exact", "near"] = "exact" if text == kept_text else "near"
    return Duplicate(row.row_id, row.source, row.line, kept.row_id, kept.source, kept.line, similarity, kind)
