"""Count how often each answer occurs: a label that nearly all rows carry, or hardly any, is learnt badly.

Labels are the values of one field of JSON answers, or short answers as a whole.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from tunemill.quality.page_settings import BalanceSettings

LABELS = 200
"""Different values at most that count as labels where no field is named."""
ROWS = 5
"""Rows a value on average, at least, where no field is named: of fewer each answer is its own."""
LONGEST = 80
"""Characters of a label at most where no field is named."""
FIELDS = 100
"""Different fields at most; JSON answers that have more are no records of labels."""


class Label(msgspec.Struct, frozen=True):
    """One value, and the rows of each side that have it."""

    value: str
    sides: dict[str, int]

    @property
    def rows(self) -> int:
        """Rows of all sides together."""
        return sum(self.sides.values())


class Labels(msgspec.Struct, frozen=True):
    """The values of one field, or of whole answers, the most frequent first."""

    field: str | None
    """None for whole answers."""
    labels: list[Label]
    without: int
    """Rows whose answer has no such field."""

    @property
    def rows(self) -> int:
        """Rows that have a value."""
        return sum(label.rows for label in self.labels)


class Tally:
    """Count labels, answer by answer, in memory that does not grow with the rows; their order changes nothing.

    A value is text, a whole number, true or false; a row whose answer holds anything else there counts as without.
    """

    def __init__(self, field: str | None) -> None:
        """Count `field` alone, or, where it is None, whatever looks like labels."""
        self._named = field
        self._counts: dict[str | None, dict[str, Counter[str]]] = {}
        self._rows = 0
        self._free: set[str | None] = set()
        """Fields that are free text: too many values, or one that is too long."""

    def add(self, side: str, answer: str, rows: int = 1) -> None:
        """Count an answer that this many rows of a side give."""
        self._rows += rows
        if self._named is None:
            self._count(None, side, answer, rows)
        # Whole answers have a place of their own beside the fields.
        record = _parsed(answer) if len(self._counts) <= FIELDS + 1 else {}
        for name in record if self._named is None else {self._named} & record.keys():
            if (value := _value(record[name])) is not None:
                self._count(name, side, value, rows)

    def _count(self, field: str | None, side: str, value: str, rows: int) -> None:
        if field in self._free:
            return
        found = self._counts.setdefault(field, {}).setdefault(side, Counter())
        found[value] += rows
        if self._named is None and (len(found) > LABELS or len(value) > LONGEST):
            self._free.add(field)
            self._counts[field] = {}

    def labels(self) -> list[Labels]:
        """Give the named field, found or not; else whole answers, or else the fields that look like labels."""
        if self._named is not None:
            return [self._labels(self._named)]
        if _are_labels(whole := self._labels(None), self._rows):
            return [whole]
        fields = sorted(name for name in self._counts if name is not None)
        found = [self._labels(name) for name in fields] if len(fields) <= FIELDS else []
        return [labels for labels in found if _are_labels(labels, self._rows)]

    def _labels(self, field: str | None) -> Labels:
        sides = self._counts.get(field, {})
        total = sum(sides.values(), Counter[str]())
        ranked = sorted(total, key=lambda value: (-total[value], value))
        labels = [Label(value, {side: found[value] for side, found in sides.items()}) for value in ranked]
        return Labels(field, labels, self._rows - total.total())


def warnings_of(labels: Labels, settings: BalanceSettings) -> Iterator[str]:
    """Say, with the numbers, which values have too large or too small a share, or are tested and never trained."""
    if not labels.labels:
        yield f"balance: no answer has the field `{labels.field}`; name one that they have in page.balance.field"
        return
    first, last, rows = labels.labels[0], labels.labels[-1], labels.rows
    if first.rows > settings.warn_above * rows:
        yield (
            f"balance: {_called(first, labels)} has {first.rows:,} of {rows:,} rows ({first.rows / rows:.1%}); the "
            f"limit is {percent(settings.warn_above)} (page.balance.warn_above). A model that always gives it is right "
            "as often"
        )
    least = least_share(labels, settings)
    if rare := sum(label.rows < least * rows for label in labels.labels):
        yield (
            f"balance: {rare:,} of {len(labels.labels):,} values of {named(labels)} {'has' if rare == 1 else 'have'} "
            f"less than {percent(least)} of {rows:,} rows (page.balance.warn_below); the rarest, "
            f"{_called(last, labels)}, has {last.rows:,}"
        )
    if unseen := [label for label in labels.labels if label.sides.get("test") and not label.sides.get("train")]:
        yield (
            f"balance: {len(unseen):,} of {len(labels.labels):,} values of {named(labels)} "
            f"{'is' if len(unseen) == 1 else 'are'} tested and never trained, e.g. {_called(unseen[0], labels)}; add "
            "rows"
        )


def least_share(labels: Labels, settings: BalanceSettings) -> float:
    """Give the share below which a value is told as rare."""
    return settings.warn_below or 0.2 / len(labels.labels)


def crowd_warning(what: str, rows: int, of: int, settings: BalanceSettings) -> Iterator[str]:
    """Warn where `rows` of `of` are one cluster or group, and more than allowed."""
    if of and rows > settings.warn_cluster_above * of:
        yield (
            f"balance: {what} {rows:,} of {of:,} rows ({rows / of:.1%}); the limit is "
            f"{percent(settings.warn_cluster_above)} (page.balance.warn_cluster_above)"
        )


def percent(share: float) -> str:
    """Write a share with three digits: 0.26%, 1.5%, 80%."""
    return f"{100 * share:.3g}%"


def named(labels: Labels) -> str:
    """Say what the values are."""
    return f"`{labels.field}`" if labels.field else "the answer"


def _called(label: Label, labels: Labels) -> str:
    value = label.value if len(label.value) <= LONGEST else label.value[: LONGEST - 1] + "…"
    return f"{named(labels)} {value!r}"


def _are_labels(labels: Labels, rows: int) -> bool:
    """Tell labels from free text: few, each given several times on average, and by most rows."""
    few = 1 <= len(labels.labels) <= LABELS and labels.rows >= ROWS * len(labels.labels)
    return few and 2 * labels.rows >= rows


def _value(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode() if isinstance(value, bool | int) else None


def _parsed(answer: str) -> dict[str, Any]:
    if not answer.lstrip().startswith("{"):
        return {}
    try:
        record = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return {}
    return record if isinstance(record, dict) else {}
