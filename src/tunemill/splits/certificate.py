"""Count what stands on two sides, tonight and among all that was ever dealt."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

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
    """Rows of train from the last `days`: their groups trained before, or test has its share. None without days."""
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


class Placed(NamedTuple):
    """A row and where it went."""

    row: Row
    side: str
    """"" where it was left out."""
    group: str
    looked_at: bool
    """Whether it was dealt tonight; of the others it was certified already that nothing of theirs stands elsewhere."""


def certificate(
    placed: Sequence[Placed],
    settings: SplitSettings,
    crossed: Crossings,
    ledger: Ledger,
    newest: datetime | None = None,
) -> Certificate:
    """Count what stands on two sides.

    Args:
        ledger: as it is after tonight.
        newest: time of the newest row.
    """
    stand = [one for one in placed if one.side]
    dealt = [one for one in stand if one.looked_at]
    groups = {side: {one.group for one in stand if one.side == side} for side in SIDES}
    return Certificate(
        rows={side: sum(one.side == side for one in stand) for side in SIDES},
        groups={side: len(found) for side, found in groups.items()},
        largest_group=max(Counter(one.group for one in stand).values(), default=0),
        threshold=settings.group_threshold,
        cross_split_near_duplicates=len(crossed.pairs.left),
        highest_similarity=None if crossed.highest is None else round(crossed.highest, 4),
        method=crossed.method,
        shared_conversations=_shared(dealt, ledger, "conversation") if settings.by_conversation else 0,
        shared_users=_shared(dealt, ledger, "user") if settings.by_user else 0,
        shared_rows=_shared(dealt, ledger, "row_id"),
        bridges=len(placed) - len(stand),
        by_time=_aged(stand, settings.by_time, newest) if settings.by_time and newest else None,
        ledger=_whole(ledger, settings),
    )


def _shared(dealt: Sequence[Placed], ledger: Ledger, name: Literal["conversation", "user", "row_id"]) -> int:
    """Count the names of rows that stand on more than one side, tonight or in the ledger."""
    found: dict[str, set[str]] = {}
    for one in dealt:
        if (own := getattr(one.row, name)) is not None:
            found.setdefault(own, set()).add(one.side)
    for known, side in zip(getattr(ledger.entries, name), ledger.entries.side, strict=True):
        if known in found:
            found[known].add(side)
    return sum(len(sides) > 1 for sides in found.values())


def _aged(stand: Sequence[Placed], by_time: ByTime, newest: datetime) -> Aged:
    times = [(moment(one.row), one.side) for one in stand]
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
