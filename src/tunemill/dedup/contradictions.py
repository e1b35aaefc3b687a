"""Find prompts that were answered in more than one way, and say by one rule which answer stays.

Two rows ask the same when every turn before the last answer is the same, roles and system turns too, once normalised:
another system turn or an earlier turn may well call for another answer. They contradict each other when their
normalised answers differ. All rows are looked at, before near-duplicates go: where answers are short, two rows that
contradict each other are near-duplicates as well, and the newer one would leave unseen.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from tunemill.dedup.settings import ContradictionRule
from tunemill.dedup.text import normalise, spoken
from tunemill.rows import Row

EXCERPT = 200
"""Characters of an answer or a prompt that are written down."""

Outcome = Literal["kept", "dropped", "duplicate"]


class Asked(msgspec.Struct, frozen=True):
    """What counts of a row whose prompt has more than one answer; what it says beyond that need not be held."""

    prompt_id: str
    """Digest of the normalised prompt: rows with the same one contradict each other or agree."""
    row_id: str
    source: str
    line: int
    time: str | None
    prompt: str
    """Beginning of the last turn before the answer."""
    answer: str
    """Beginning of the answer."""

    @staticmethod
    def of(row: Row, prompt_id: str) -> "Asked":
        """Take the beginnings of a row's prompt and answer."""
        shown = row.prompt[-1].said[:EXCERPT], row.answer[:EXCERPT]
        return Asked(prompt_id, row.row_id, row.source, row.line, row.time, *shown)


class Contradicting(Asked, frozen=True):
    """One row whose prompt has more than one answer, and what became of it."""

    outcome: Outcome
    """`dropped` by this rule, or a `duplicate` of a row that stays, or `kept`."""
    stays_row_id: str | None
    """The row that stays instead; None where this one does, or where the rule drops every answer."""
    stays_source: str | None
    stays_line: int | None
    why: str


class Verdict(msgspec.Struct, frozen=True):
    """What a rule says about the rows of one prompt."""

    dropped: dict[int, str]
    """Place among them → why its answer goes."""
    kept: dict[int, str]
    """Place among them → why its answer stays."""

    @property
    def winner(self) -> int:
        """Place of the oldest row that stays where others go; -1 where none goes or none stays."""
        return next(iter(self.kept), -1) if self.dropped else -1


def asked_of(row: Row) -> str:
    """Normalise tools and every turn before the last answer, its role in front; "" where no user says anything."""
    turns = [(turn.role, normalise(spoken(turn))) for turn in row.prompt]
    if not any(text for role, text in turns if role == "user"):
        return ""
    if row.tools is not None:
        turns.insert(0, ("tools", normalise(row.tools)))
    return "\n".join(f"{role} {text}" for role, text in turns)


def answered(row: Row) -> str:
    """Normalise what the last answer says, calls included; "" where the conversation has none."""
    return normalise(spoken(row.reply)) if row.reply else ""


def judge(rows: Sequence[Asked], answers: Sequence[int], rule: ContradictionRule) -> Verdict:
    """Say which of the rows that ask the same go, and why each goes or stays.

    Rows are given from old to new, by `Row.place`: the time as it is written; a row without one counts as older than
    any that has one; among those, by the file's digest, then the line. Equal answers have equal numbers.
    """
    return _RULES[rule](rows, answers)


def _keep(rows: Sequence[Asked], answers: Sequence[int]) -> Verdict:
    return Verdict({}, dict.fromkeys(range(len(rows)), "the rule is `keep`"))


def _drop(rows: Sequence[Asked], answers: Sequence[int]) -> Verdict:
    ways = len(set(answers))
    return Verdict(dict.fromkeys(range(len(rows)), f"{ways:,} different answers; the rule is `drop`"), {})


def _newest(rows: Sequence[Asked], answers: Sequence[int]) -> Verdict:
    when = rows[-1].time
    age = f"the newest, of {when}" if when else "no row has a time; the last by file digest and line"
    kept, dropped = f"the answer of this prompt's newest row ({age})", f"not the answer of the newest row ({age})"
    return _divided(answers, answers[-1], kept, dropped)


def _majority(rows: Sequence[Asked], answers: Sequence[int]) -> Verdict:
    counts, newest = Counter(answers), {answer: place for place, answer in enumerate(answers)}
    most = max(counts.values())
    first = [answer for answer, count in counts.items() if count == most]
    count = f"{most:,} of {len(rows):,} rows"
    tie = f"; of {len(first):,} answers with as many, it has the newest row" if len(first) > 1 else ""
    answer = max(first, key=newest.__getitem__)
    return _divided(answers, answer, f"the answer of {count}{tie}", f"not the answer of {count}{tie}")


_RULES: Mapping[ContradictionRule, Callable[[Sequence[Asked], Sequence[int]], Verdict]] = {
    "keep": _keep,
    "newest": _newest,
    "majority": _majority,
    "drop": _drop,
}


def _divided(answers: Sequence[int], stays: int, kept: str, dropped: str) -> Verdict:
    return Verdict(
        {place: dropped for place, answer in enumerate(answers) if answer != stays},
        {place: kept for place, answer in enumerate(answers) if answer == stays},
    )


def told(row: Asked, place: int, verdict: Verdict, stays: tuple[str, str, int] | None) -> Contradicting:
    """Write down one row; `stays` is the id, file and line of the row that stays instead, if any does."""
    dropped = place in verdict.dropped
    why = verdict.dropped[place] if dropped else verdict.kept[place]
    outcome: Outcome = "dropped" if dropped else "duplicate" if stays else "kept"
    if outcome == "duplicate":
        why = f"{why}; but the row is a duplicate of an older one"
    said = row.prompt_id, row.row_id, row.source, row.line, row.time, row.prompt, row.answer
    row_id, source, line = stays or (None, None, None)
    return Contradicting(*said, outcome, row_id, source, line, why)
