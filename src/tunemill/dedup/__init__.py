"""Find who is the same as whom: of every cluster of near-identical rows the oldest stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from tunemill.dedup.clusters import clusters
from tunemill.dedup.contradictions import Contradicting, contradicting, judge, listed
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.text import conversation_text, normalise
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
    """Every row that came in: kept, named as a duplicate, or dropped because its prompt has another answer."""

    kept: list[Row]
    """From old to new."""
    duplicates: list[Duplicate]
    contradictions: list[Contradicting]
    """Every row whose prompt has more than one answer, prompt by prompt, whatever became of it."""

    @property
    def dropped(self) -> int:
        """Rows that the rule on contradictions took out."""
        return sum(one.outcome == "dropped" for one in self.contradictions)


def deduplicate(rows: Sequence[Row], settings: DeduplicateSettings) -> Deduplicated:
    """Keep the oldest row of every cluster; the order in which rows come changes nothing.

    Clusters are made of all rows, whatever the rule on contradictions drops; then the oldest that is left stays.
    """
    ordered = sorted(rows, key=lambda row: (row.place, row.row_id))
    texts = [normalise(conversation_text(row)) for row in ordered]
    labels = clusters(texts, settings.threshold, settings.shingle, near=settings.near).tolist()
    prompts = [(places, judge(ordered, places, settings.contradictions)) for places in contradicting(ordered)]
    dropped = {i for _, verdict in prompts for i in verdict.dropped}
    heads: dict[int, int] = {}
    for i, label in enumerate(labels):
        if i not in dropped:
            heads.setdefault(label, i)
    instead = {i: heads[label] for i, label in enumerate(labels) if i not in dropped and heads[label] != i}
    return Deduplicated(
        kept=[ordered[i] for i in sorted(heads.values())],
        duplicates=[
            _duplicate(ordered[i], texts[i], ordered[k], texts[k], settings.shingle) for i, k in instead.items()
        ],
        contradictions=[one for places, verdict in prompts for one in listed(ordered, places, verdict, instead)],
    )


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
