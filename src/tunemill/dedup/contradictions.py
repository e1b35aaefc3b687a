"""Find prompts that were answered in more than one way, and say by one rule which answer stays.

Two rows ask the same when every turn before the last answer is the same, roles and system turns too, once normalised:
another system turn or an earlier turn may well call for another answer. They contradict each other when their
normalised answers differ. All rows are looked at, before near-duplicates go: where answers are short, two rows that
contradict each other are near-duplicates as well, and the newer one would leave unseen.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from tunemill.artifacts import digest_of
from tunemill.dedup.settings import ContradictionRule
from tunemill.dedup.text import normalise, spoken
from tunemill.rows import Message, Row

_LOWER = bytes(ord(chr(c).lower()) if c < 128 else c for c in range(256))
_OTHERS = bytes(c for c in range(128) if not chr(c).isalnum())
EXCERPT = 200
"""Characters of an answer or a prompt that are written down."""

Outcome = Literal["kept", "dropped", "duplicate"]


class Contradicting(msgspec.Struct, frozen=True):
    """One row whose prompt has more than one answer, and what became of it."""

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
    """Row → why its answer goes."""
    kept: dict[int, str]
    """Row → why its answer stays."""


def contradicting(rows: Sequence[Row]) -> list[list[int]]:
    """Give the places of rows that ask the same, for each prompt with more than one answer, in the order of the rows.

    Prompts in which no user says a word are left alone.
    """
    asked: dict[str, list[int]] = {}
    for i in _asked_again(rows):
        if prompt := asked_of(rows[i]):
            asked.setdefault(prompt, []).append(i)
    several = (places for places in asked.values() if len(places) > 1)
    return [places for places in several if len({_answered(rows[i]) for i in places}) > 1]


def _asked_again(rows: Sequence[Row]) -> list[int]:
    """Give the rows whose last turn before the answer occurs again, and by chance some more: 1 s for a million rows.

    What normalises to the same text has the same letters and digits; a hash of those is a fifth of the work.
    """
    hashes = np.fromiter((_letters(row.prompt) for row in rows), np.int64, len(rows))
    _, place, count = np.unique(hashes, return_inverse=True, return_counts=True)
    again: list[int] = np.flatnonzero(count[place] > 1).tolist()
    return again


def _letters(prompt: Sequence[Message]) -> int:
    text = spoken(prompt[-1]) if prompt else ""
    return hash((text if text.isascii() else normalise(text)).encode().translate(_LOWER, _OTHERS))


def asked_of(row: Row) -> str:
    """Normalise tools and every turn before the last answer, its role in front; "" where no user says anything."""
    turns = [(turn.role, normalise(spoken(turn))) for turn in row.prompt]
    if not any(text for role, text in turns if role == "user"):
        return ""
    if row.tools is not None:
        turns.insert(0, ("tools", normalise(row.tools)))
    return "\n".join(f"{role} {text}" for role, text in turns)


def _answered(row: Row) -> str:
    return normalise(spoken(row.reply)) if row.reply else ""


def judge(rows: Sequence[Row], places: Sequence[int], rule: ContradictionRule) -> Verdict:
    """Say which of the rows that ask the same go, and why each goes or stays; their order changes nothing.

    Newer is what `Row.place` orders later: the time as it is written; a row without one counts as older than any that
    has one; among those, by the file's digest, then the line.
    """
    return _RULES[rule](rows, places)


def _keep(rows: Sequence[Row], places: Sequence[int]) -> Verdict:
    return Verdict({}, dict.fromkeys(places, "the rule is `keep`"))


def _drop(rows: Sequence[Row], places: Sequence[int]) -> Verdict:
    ways = len(_by_answer(rows, places))
    return Verdict(dict.fromkeys(places, f"{ways:,} different answers; the rule is `drop`"), {})


def _newest(rows: Sequence[Row], places: Sequence[int]) -> Verdict:
    last = _newest_of(rows, places)
    answer, when = _answered(rows[last]), rows[last].time
    age = f"the newest, of {when}" if when else "no row has a time; the last by file digest and line"
    kept, dropped = f"the answer of this prompt's newest row ({age})", f"not the answer of the newest row ({age})"
    return _divided(rows, places, answer, kept, dropped)


def _majority(rows: Sequence[Row], places: Sequence[int]) -> Verdict:
    answers = _by_answer(rows, places)
    most = max(map(len, answers.values()))
    first = [answer for answer, mine in answers.items() if len(mine) == most]
    answer = max(first, key=lambda one: _age(rows, _newest_of(rows, answers[one])))
    count = f"{most:,} of {len(places):,} rows"
    tie = f"; of {len(first):,} answers with as many, it has the newest row" if len(first) > 1 else ""
    return _divided(rows, places, answer, f"the answer of {count}{tie}", f"not the answer of {count}{tie}")


_RULES: Mapping[ContradictionRule, Callable[[Sequence[Row], Sequence[int]], Verdict]] = {
    "keep": _keep,
    "newest": _newest,
    "majority": _majority,
    "drop": _drop,
}


def listed(
    rows: Sequence[Row], places: Sequence[int], verdict: Verdict, instead: Mapping[int, int]
) -> list[Contradicting]:
    """Write down every row of one prompt; `instead` tells the row that stays in the place of each duplicate."""
    prompt_id = digest_of(asked_of(rows[places[0]]))
    winner = next(iter(verdict.kept), None) if verdict.dropped else None
    return [_told(rows, i, verdict, winner, prompt_id, instead) for i in places]


def _told(
    rows: Sequence[Row], i: int, verdict: Verdict, winner: int | None, prompt_id: str, instead: Mapping[int, int]
) -> Contradicting:
    outcome: Outcome = "dropped" if i in verdict.dropped else "duplicate" if i in instead else "kept"
    why, other = verdict.dropped.get(i) or verdict.kept[i], None
    if outcome == "dropped" and winner is not None:
        other = instead.get(winner, winner)
    elif outcome == "duplicate":
        other, why = instead[i], f"{why}; but the row is a duplicate of an older one"
    stays, row = None if other is None else rows[other], rows[i]
    return Contradicting(
        prompt_id,
        row.row_id,
        row.source,
        row.line,
        row.time,
        row.prompt[-1].said[:EXCERPT],
        row.answer[:EXCERPT],
        outcome,
        stays.row_id if stays else None,
        stays.source if stays else None,
        stays.line if stays else None,
        why,
    )


def _divided(rows: Sequence[Row], places: Sequence[int], answer: str, kept: str, dropped: str) -> Verdict:
    same = {i: _answered(rows[i]) == answer for i in places}
    return Verdict({i: dropped for i in places if not same[i]}, {i: kept for i in places if same[i]})


def _by_answer(rows: Sequence[Row], places: Sequence[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i in places:
        found.setdefault(_answered(rows[i]), []).append(i)
    return found


def _newest_of(rows: Sequence[Row], places: Sequence[int]) -> int:
    return max(places, key=lambda i: _age(rows, i))


def _age(rows: Sequence[Row], i: int) -> tuple[tuple[str, str, int], str]:
    return rows[i].place, rows[i].row_id
