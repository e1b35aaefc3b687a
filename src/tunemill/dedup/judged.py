"""Judge the prompts with more than one answer that a night has touched; what it has not stays as it was written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from tunemill.artifacts import digest_of
from tunemill.dedup.contradictions import Asked, Contradicting, Verdict, asked_of, judge, told
from tunemill.dedup.listing import Listing
from tunemill.dedup.placed import Tables
from tunemill.dedup.segments import Array, Segment, gathered, oldest_first, sources_of
from tunemill.dedup.settings import ContradictionRule
from tunemill.rows import Row

COLUMNS = ("row", "dropped", "winner", "stays")
"""Of each line of contradictions.jsonl: the row; whether the rule drops it; the oldest row of the answer that stays
instead, and the row that stays in the place of this one, both -1 where there is none."""


class Case(NamedTuple):
    """The rows of one prompt, from old to new, and what the rule says."""

    numbers: Array
    rows: list[Asked]
    verdict: Verdict


@dataclass(frozen=True)
class Court:
    """All rows, what earlier nights wrote, and the rule."""

    segments: Sequence[Segment]
    before: Listing
    tables: Tables
    rule: ContradictionRule

    def touched(self, known: int) -> list[Case]:
        """Judge the prompts that any row from number `known` on asks."""
        from tunemill.dedup import turn_kernels as kernels

        prompts, answers = (_whole(self.segments, name) for name in ("prompt", "answer"))
        rows, first = kernels.disagreeing(prompts, answers)
        new = np.zeros(prompts.size, np.bool_)
        new[first[rows >= known]] = True
        return self._judged(rows[new[first]])

    def unlike(self, cases: Sequence[Case], labels: Array) -> list[Case]:
        """Judge again the prompts of lines that no case replaces, where another row stays now than they say."""
        column, still = self.before.columns, self.still(cases)
        changed = column["row"][still & (column["stays"] != stands(labels, column))]
        prompts = gathered(self.segments, column["row"], ("prompt",))["prompt"]
        these = gathered(self.segments, changed, ("prompt",))["prompt"]
        return self._judged(column["row"][np.isin(prompts, these)])

    def still(self, cases: Sequence[Case]) -> Array:
        """Tell which earlier lines no case replaces."""
        return ~np.isin(self.before.columns["row"], _numbers(cases))

    def dropped(self, cases: Sequence[Case], count: int) -> Array:
        """Tell of all rows which the rule drops."""
        out = np.zeros(count, np.bool_)
        column = self.before.columns
        out[column["row"][self.still(cases) & (column["dropped"] == 1)]] = True
        for case in cases:
            out[case.numbers[list(case.verdict.dropped)]] = True
        return out

    def _judged(self, rows: Array) -> list[Case]:
        """Judge the prompts of these rows, all of which have been named, in the order of their oldest rows."""
        rows = oldest_first(self.segments, rows)
        found = gathered(self.segments, rows, ("prompt", "answer"))
        _, first, prompt = np.unique(found["prompt"], return_index=True, return_inverse=True)
        order = np.argsort(first[prompt], kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(first[prompt][order])) + 1) if rows.size else []
        asked = self._asked(rows, parts)
        cases = []
        for part in parts:
            mine = [asked[at] for at in part.tolist()]
            cases.append(Case(rows[part], mine, judge(mine, found["answer"][part].tolist(), self.rule)))
        return cases

    def _asked(self, rows: Array, parts: Sequence[Array]) -> list[Asked]:
        """Read what is shown of rows: from the lines of earlier nights, or from the rows themselves."""
        listed = self.before.columns["row"]
        order = np.argsort(listed)
        place = np.searchsorted(listed, rows, sorter=order)
        known = place < listed.size
        known[known] = listed[order[place[known]]] == rows[known]
        lines = self.before.lines(order[place[known]])
        found: dict[int, Asked] = dict(
            zip(np.flatnonzero(known).tolist(), (msgspec.json.decode(line, type=Asked) for line in lines), strict=True)
        )
        fresh = np.flatnonzero(~known)
        read = msgspec.convert(self.tables.take(self.segments, rows[fresh]).to_pylist(), list[Row])
        new = dict(zip(fresh.tolist(), read, strict=True))
        for part in parts:
            said = next((found[at].prompt_id for at in part.tolist() if at in found), None)
            said = said or digest_of(asked_of(new[int(part[0])]))
            found |= {at: Asked.of(new[at], said) for at in part.tolist() if at in new}
        return [found[at] for at in range(rows.size)]


def records(
    segments: Sequence[Segment], cases: Sequence[Case], labels: Array
) -> tuple[list[Contradicting], dict[str, Array]]:
    """Give a line for each row of the cases, and its columns."""
    column = {
        "row": _numbers(cases),
        "dropped": np.array([at in case.verdict.dropped for case in cases for at in range(len(case.rows))], np.int64),
        "winner": np.array([_winner(case) for case in cases for _ in case.rows], np.int64),
    }
    column["stays"] = stands(labels, column)
    there = iter(places_of(segments, column["stays"][column["stays"] >= 0]))
    stays = iter([next(there) if row >= 0 else None for row in column["stays"].tolist()])
    lines = [told(row, at, case.verdict, next(stays)) for case in cases for at, row in enumerate(case.rows)]
    return lines, column


def stands(labels: Array, column: dict[str, Array]) -> Array:
    """Give the row that stays in the place of each: of a dropped one, where the answer that stays is kept."""
    if not labels.size:
        return column["row"]
    row, winner = column["row"], column["winner"]
    instead = np.where(labels[row] == row, -1, labels[row])
    return np.where(column["dropped"] == 1, np.where(winner < 0, -1, labels[winner]), instead)


def places_of(segments: Sequence[Segment], rows: Array) -> list[tuple[str, str, int]]:
    """Give the id, file and line of rows by their numbers."""
    found, (source, names) = gathered(segments, rows, ("row_id", "line")), sources_of(segments, rows)
    ids = [row_id.decode() for row_id in found["row_id"].tolist()]
    return list(zip(ids, (names[at] for at in source.tolist()), found["line"].tolist(), strict=True))


def _winner(case: Case) -> int:
    return int(case.numbers[case.verdict.winner]) if case.verdict.winner >= 0 else -1


def _numbers(cases: Sequence[Case]) -> Array:
    return np.concatenate([np.empty(0, np.int64), *(case.numbers for case in cases)])


def _whole(segments: Sequence[Segment], name: str) -> Array:
    return np.concatenate([np.empty(0, np.uint64), *(segment.arrays[name] for segment in segments)])
