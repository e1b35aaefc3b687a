"""Look at every token before the first step: what is trained, what is not, and whether anything must stop the run.

A row's place is written as the first 12 digits of its source file's sha256 and its line: 3f2ac09b1d7e:17.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.training.schedule import evaluation_interval, pack, planned_steps, warmup
from tunemill.training.settings import TrainSettings

if TYPE_CHECKING:
    from tunemill.models.chat import Encoded

NAMED = 10
"""Places that an error message names; the event and training.json hold all of them."""


class TokenizedRow(msgspec.Struct, frozen=True):
    """One row as the model will see it."""

    row: Row
    encoded: "Encoded"
    differs_from_stock: bool
    """The model's own template gives other ids, as it does where content holds control tokens."""

    @property
    def place(self) -> str:
        """Where the row came from."""
        return f"{self.row.source[:12]}:{self.row.line}"

    @property
    def tokens(self) -> int:
        """Length in tokens."""
        return len(self.encoded.ids)

    @property
    def answers(self) -> list[list[int]]:
        """The runs of tokens that are trained, each one assistant turn with its end."""
        marked = itertools.groupby(zip(self.encoded.ids, self.encoded.trained, strict=True), key=lambda pair: pair[1])
        return [[token for token, _ in run] for trained, run in marked if trained]


class TokenRules(msgspec.Struct, frozen=True):
    """What the tokenizer and the settings say about a row's tokens."""

    bos_id: int | None
    end_ids: tuple[int, ...]
    max_tokens: int


class SetCounts(msgspec.Struct, frozen=True):
    """What one set of rows holds, in tokens; the counts of tokens leave out the rows that are left out."""

    rows: int
    kept: int
    """Rows that are not longer than max_tokens."""
    tokens: int
    longest: int
    trained_tokens: int
    trained_min: int
    """Trained tokens of the row that has the fewest."""
    trained_mean: float
    trained_max: int
    answers: int
    """Assistant turns that are trained."""
    begin_with_bos: int
    ends: int
    """End-of-turn tokens that are trained; as many as answers, or the model would not learn to stop."""
    cut_answers: list[str]
    """Places of rows longer than max_tokens: left out, since their answer would be cut."""
    trains_nothing: list[str]
    doubled_bos: list[str]
    endless: list[str]
    """Places of rows with an answer whose last trained token does not end the turn."""
    differ_from_stock: list[str]
    """Places of rows whose ids the model's own template would not give."""


class Preflight(msgspec.Struct, frozen=True):
    """What is about to be trained on, and for how long."""

    train: SetCounts
    validation: SetCounts | None
    units: int
    """Rows, or with packing packs, that one epoch holds."""
    rows_per_step: int
    steps: int
    warmup_steps: int
    evaluate_every: int

    @property
    def measures(self) -> bool:
        """Whether there are validation rows to measure on."""
        return self.validation is not None and self.validation.kept > 0


def preflight(
    train: Sequence[TokenizedRow], validation: Sequence[TokenizedRow], rules: TokenRules, settings: TrainSettings
) -> Preflight:
    """Count both sets and plan the steps; call `refuse` on the result before training.

    Raises:
        DataError: no training row is left to train on.
    """
    kept = [row.tokens for row in fitting(train, rules)]
    if not kept:
        raise DataError(
            f"none of {len(train):,} training rows fits into train.max_tokens={rules.max_tokens:,}; raise it"
        )
    units = len(pack(kept, rules.max_tokens)) if settings.packing else len(kept)
    steps = planned_steps(units, settings)
    return Preflight(
        train=count(train, rules),
        validation=count(validation, rules) if validation else None,
        units=units,
        rows_per_step=settings.rows_per_step,
        steps=steps,
        warmup_steps=warmup(steps, settings),
        evaluate_every=evaluation_interval(steps, settings),
    )


def fitting(rows: Sequence[TokenizedRow], rules: TokenRules) -> list[TokenizedRow]:
    """Keep the rows that need no cut, in their order."""
    return [row for row in rows if row.tokens <= rules.max_tokens]


def count(rows: Sequence[TokenizedRow], rules: TokenRules) -> SetCounts:
    """Count what a set of rows holds and name the rows that something is wrong with."""
    kept = fitting(rows, rules)
    trained = [sum(row.encoded.trained) for row in kept]
    answers = [answer for row in kept for answer in row.answers]
    bos = rules.bos_id
    return SetCounts(
        rows=len(rows),
        kept=len(kept),
        tokens=sum(row.tokens for row in kept),
        longest=max((row.tokens for row in rows), default=0),
        trained_tokens=sum(trained),
        trained_min=min(trained, default=0),
        trained_mean=round(sum(trained) / len(kept), 2) if kept else 0.0,
        trained_max=max(trained, default=0),
        answers=len(answers),
        begin_with_bos=sum(bos is not None and row.encoded.ids[:1] == [bos] for row in kept),
        ends=sum(token in rules.end_ids for answer in answers for token in answer),
        cut_answers=[row.place for row in rows if row.tokens > rules.max_tokens],
        trains_nothing=[row.place for row, tokens in zip(kept, trained, strict=True) if tokens == 0],
        doubled_bos=[row.place for row in kept if bos is not None and row.encoded.ids[:2] == [bos, bos]],
        endless=[row.place for row in kept if any(answer[-1] not in rules.end_ids for answer in row.answers)],
        differ_from_stock=[row.place for row in kept if row.differs_from_stock],
    )


def refuse(found: Preflight, settings: TrainSettings) -> None:
    """Stop before the first step when a row would train nothing, a wrong thing, or not to stop.

    Raises:
        DataError: every fault of both sets with its count, the first places, and what to do.
    """
    sets = [("training", found.train), *([("validation", found.validation)] if found.validation else [])]
    faults = [fault for name, counts in sets for fault in _faults(name, counts, settings)]
    if faults:
        raise DataError("\n".join(["train: stopped before the first step", *faults]))


def marked_example(row: TokenizedRow, decode: Callable[[list[int]], str]) -> str:
    """Write one row out as text with «…» around every run of tokens that is trained."""
    pairs = zip(row.encoded.ids, row.encoded.trained, strict=True)
    runs = [(trained, [token for token, _ in run]) for trained, run in itertools.groupby(pairs, key=lambda p: p[1])]
    return "".join(f"«{decode(ids)}»" if trained else decode(ids) for trained, ids in runs)


def typical(rows: Sequence[TokenizedRow]) -> TokenizedRow:
    """Pick the row of median length, the first in order of content among equals: a fair example of a set."""
    ordered = sorted(rows, key=lambda row: (row.tokens, row.row.row_id))
    return ordered[len(ordered) // 2]


def _faults(name: str, counts: SetCounts, settings: TrainSettings) -> list[str]:
    allowed = math.floor(settings.max_cut_answers * counts.rows)
    cut = counts.cut_answers if len(counts.cut_answers) > allowed else []
    reasons = [
        (counts.trains_nothing, "have no assistant token to learn from; take them out, or give them an answer"),
        (
            cut,
            f"are longer than train.max_tokens={settings.max_tokens:,} (the longest has {counts.longest:,} tokens), so "
            f"their answer would be cut; raise train.max_tokens, lower validate's limit, or let train.max_cut_answers "
            f"(now {settings.max_cut_answers:g}) leave out that share",
        ),
        (counts.endless, "have an answer that does not end its turn; the chat template would teach never to stop"),
        (counts.doubled_bos, "begin with two BOS tokens; the chat template and the tokenizer both add one"),
    ]
    return [
        f"  {len(places):,} of {counts.rows:,} {name} rows {reason}\n    {_some(places)}"
        for places, reason in reasons
        if places
    ]


def _some(places: Sequence[str]) -> str:
    more = len(places) - NAMED
    return "  ".join(places[:NAMED]) + (f"  and {more:,} more" if more > 0 else "")
