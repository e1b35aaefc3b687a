"""Count what stands on two sides, tonight and among all that was ever dealt."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from tunemill.dedup.crossings import Crossings, Method
from tunemill.rows import Row
from tunemill.splits.dealing import moment
from tunemill.splits.ledger import Grouping, Ledger
from tunemill.splits.settings import SIDES, ByTime, SplitSettings


class Whole(msgspec.Struct, frozen=True):
    """What stands in the ledger after tonight: every row that was ever dealt."""

    nights: int
    rows: dict[str, int]
    groups: dict[str, int]
    largest_group: int
    asked: dict[str, float]
    """Shares as set."""
    got: dict[str, float]
    """Shares of all rows, to four digits."""
    off_by: float
    """Rows by which the worst side misses its share."""
    grouping: Grouping
    """What was kept together among all of them."""


class Aged(msgspec.Struct, frozen=True):
    """What holding the newest rows out could not do."""

    recent_train_rows: int | None
    """Rows of train from the last `days`: their groups trained before. None where no days are named."""
    rows_without_time: int


class Certificate(msgspec.Struct, frozen=True):
    """What was counted after the rows were dealt, by a search that shares no hash with the grouping."""

    rows: dict[str, int]
    """Rows that stand on each side tonight."""
    groups: dict[str, int]
    largest_group: int
    threshold: float
    cross_split_near_duplicates: int
    """Pairs of prompts on two sides that reach the threshold: tonight's new rows against all that were ever dealt."""
    highest_similarity: float | None
    """Of the prompts on two sides; None where there were too many to look at more than pairs at the threshold."""
    method: Method
    """How pairs were looked for; all but MinHash are exact."""
    shared_conversations: int
    shared_users: int
    shared_rows: int
    bridges: int
    """Rows left out since their neighbours stand on two sides."""
    by_time: Aged | None
    """None where the newest are not held out."""
    ledger: Whole
    contaminated: int = 0
    """Rows left out of train since they hold an item of a benchmark; the ledger counts them."""

    @property
    def leaks(self) -> int:
        """Everything that stands on two sides."""
        shared = self.shared_conversations + self.shared_users + self.shared_rows
        return self.cross_split_near_duplicates + shared


def certificate(
    rows: Sequence[Row],
    sides: Sequence[str],
    settings: SplitSettings,
    crossed: Crossings,
    ledger: Ledger,
    newest: datetime | None = None,
) -> Certificate:
    """Count what stands on two sides.

    Args:
        sides: of each row, "" where it was left out.
        ledger: as it is after tonight.
        newest: time of the newest row.
    """
    stand = [(row, side) for row, side in zip(rows, sides, strict=True) if side]
    named = [(ledger.entries.group[ledger.place(row)], side) for row, side in stand]
    return Certificate(
        rows={side: sum(own == side for own in sides) for side in SIDES},
        groups={side: len({group for group, own in named if own == side}) for side in SIDES},
        largest_group=max(Counter(group for group, _ in named).values(), default=0),
        threshold=settings.group_threshold,
        cross_split_near_duplicates=len(crossed.pairs.left),
        highest_similarity=None if crossed.highest is None else round(crossed.highest, 4),
        method=crossed.method,
        shared_conversations=_shared(stand, ledger, "conversation") if settings.by_conversation else 0,
        shared_users=_shared(stand, ledger, "user") if settings.by_user else 0,
        shared_rows=_shared(stand, ledger, "row_id"),
        bridges=len(rows) - len(stand),
        by_time=_aged(stand, settings.by_time, newest) if settings.by_time and newest else None,
        ledger=_whole(ledger, settings),
    )


def _shared(stand: Sequence[tuple[Row, str]], ledger: Ledger, name: Literal["conversation", "user", "row_id"]) -> int:
    """Count the names of tonight's rows that stand on more than one side, tonight or in the ledger."""
    found: dict[str, set[str]] = defaultdict(set)
    for row, side in stand:
        if (own := getattr(row, name)) is not None:
            found[own].add(side)
    for known, side in zip(getattr(ledger.entries, name), ledger.entries.side, strict=True):
        if known in found:
            found[known].add(side)
    return sum(len(sides) > 1 for sides in found.values())


def _aged(stand: Sequence[tuple[Row, str]], by_time: ByTime, newest: datetime) -> Aged:
    times = [(moment(row), side) for row, side in stand]
    begin = newest - timedelta(days=by_time.days) if by_time.days else None
    recent = sum(bool(begin and time and time > begin) for time, side in times if side == "train")
    return Aged(recent if begin else None, sum(time is None for time, _ in times))


def _whole(ledger: Ledger, settings: SplitSettings) -> Whole:
    entries, count = ledger.entries, len(ledger)
    assert ledger.grouping is not None, "a ledger that holds tonight has a grouping"
    rows, sizes = Counter(entries.side), Counter(entries.group)
    groups = Counter(dict(zip(entries.group, entries.side, strict=True)).values())
    asked = {side: float(getattr(settings, side)) for side in SIDES}
    return Whole(
        nights=ledger.nights,
        rows={side: rows[side] for side in SIDES},
        groups={side: groups[side] for side in SIDES},
        largest_group=max(sizes.values(), default=0),
        asked=asked,
        got={side: round(rows[side] / count, 4) for side in SIDES},
        off_by=round(max(abs(rows[side] - asked[side] * count) for side in SIDES), 1),
        grouping=ledger.grouping,
    )
