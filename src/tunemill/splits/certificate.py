"""Count what stands on two sides, tonight and among all that was ever dealt."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import numpy as np

from tunemill.dedup.components import Ints
from tunemill.dedup.crossings import Crossings, Method
from tunemill.splits.columns import Columns
from tunemill.splits.dealing import moment
from tunemill.splits.keys import keys, matched
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
    benchmarks: tuple[str, ...] = ()
    """sha256 of the files whose items were looked for."""

    @property
    def leaks(self) -> int:
        """Everything that stands on two sides."""
        shared = self.shared_conversations + self.shared_users + self.shared_rows
        return self.cross_split_near_duplicates + shared


@dataclass(frozen=True)
class Stand:
    """Where tonight's rows stand."""

    sides: Ints
    """Side of each row by its place in SIDES; len(SIDES) where it was left out."""
    groups: Ints
    """Number of each row's group."""
    times: Sequence[str | None]
    """Time of each row; only looked at where the newest are held out."""
    dealt: Columns
    """Rows that were dealt tonight; of the others it was certified already that nothing of theirs stands elsewhere."""
    dealt_sides: Ints
    """Side of each of these."""


def certificate(
    stand: Stand, settings: SplitSettings, crossed: Crossings, ledger: Ledger, newest: datetime | None = None
) -> Certificate:
    """Count what stands on two sides.

    Args:
        ledger: as it is after tonight.
        newest: time of the newest row.
    """
    stands = stand.sides < len(SIDES)
    sides, groups = stand.sides[stands], stand.groups[stands]
    return Certificate(
        rows=_by_side(sides),
        groups={side: _different(groups[sides == number]) for number, side in enumerate(SIDES)},
        largest_group=int(np.bincount(groups).max(initial=0)),
        threshold=settings.group_threshold,
        cross_split_near_duplicates=len(crossed.pairs.left),
        highest_similarity=None if crossed.highest is None else round(crossed.highest, 4),
        method=crossed.method,
        shared_conversations=_shared(stand, ledger, "conversation") if settings.by_conversation else 0,
        shared_users=_shared(stand, ledger, "user") if settings.by_user else 0,
        shared_rows=_shared(stand, ledger, "row_id"),
        bridges=int((~stands).sum()),
        by_time=_aged(stand, settings.by_time, newest) if settings.by_time and newest else None,
        ledger=_whole(ledger, settings),
    )


def _by_side(sides: Ints) -> dict[str, int]:
    return dict(zip(SIDES, np.bincount(sides, minlength=len(SIDES)).tolist(), strict=True))


def _different(numbers: Ints) -> int:
    return int((np.bincount(numbers) > 0).sum())


def _shared(stand: Stand, ledger: Ledger, name: Literal["conversation", "user", "row_id"]) -> int:
    """Count the names of dealt rows that stand on more than one side, tonight or in the ledger."""
    import pyarrow as pa

    mine = np.flatnonzero(stand.dealt_sides < len(SIDES))
    own = keys(stand.dealt.table.select([name]).take(mine), (name,))
    number = matched(own, own)
    known = matched(keys(ledger.table, (name,)), own)
    seen = np.zeros((len(SIDES), len(own)), np.bool_)
    seen[stand.dealt_sides[mine], number] = True
    seen[ledger.sides[known >= 0], known[known >= 0]] = True
    nameless = matched(keys(pa.table({name: pa.array([None], pa.string())}), (name,)), own)
    seen[:, nameless[nameless >= 0]] = False
    return int((seen.sum(axis=0) > 1).sum())


def _aged(stand: Stand, by_time: ByTime, newest: datetime) -> Aged:
    times = [(moment(time), side) for time, side in zip(stand.times, stand.sides.tolist(), strict=True)]
    times = [one for one in times if one[1] < len(SIDES)]
    begin = newest - timedelta(days=by_time.days) if by_time.days else None
    recent = sum(bool(begin and time and time > begin) for time, side in times if side == SIDES.index("train"))
    return Aged(recent if begin else None, sum(time is None for time, _ in times))


def _whole(ledger: Ledger, settings: SplitSettings) -> Whole:
    assert ledger.grouping is not None, "a ledger that holds tonight has a grouping"
    count, rows, groups = len(ledger), _by_side(ledger.sides), ledger.groups
    sides = ledger.sides[np.unique(groups)]
    asked = {side: float(getattr(settings, side)) for side in SIDES}
    return Whole(
        nights=ledger.nights,
        rows=rows,
        groups=_by_side(sides),
        largest_group=int(np.bincount(groups).max(initial=0)),
        asked=asked,
        got={side: round(rows[side] / count, 4) for side in SIDES},
        off_by=round(max(abs(rows[side] - asked[side] * count) for side in SIDES), 1),
        grouping=ledger.grouping,
    )
