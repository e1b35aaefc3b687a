"""Deal groups to sides so that the shares come out, over everything that was ever dealt."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tunemill.dedup.components import Ints
from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.splits.settings import SIDES, SplitSettings

CROWDING = 0.1
"""Largest part of a side that one group may fill while another side can take it: few groups make a poor verdict."""
TOLERANCE = 0.1
"""How far the share of a side may lie from the one asked for."""
MANY = 10
"""Rows from which that is held against a split: of five, one row more is a fifth."""

Members = dict[int, list[int]]


def deal(
    rows: Sequence[Row],
    labels: Ints,
    settings: SplitSettings,
    joined: Mapping[int, int] | None = None,
    held: Mapping[str, int] | None = None,
    newest: datetime | None = None,
) -> list[str]:
    """Give each row its side, the largest groups first, so that single rows fill the shares exactly.

    A group is known by its smallest row id and dealt in salted order among those of its size, so neither the files'
    order nor their names matter. Every side gets groups of every size that it has room for: a test set of single rows
    alone would leave out whatever is asked often.

    Args:
        labels: group of each row; the side of a row without one (-1) is "".
        joined: label → side, of the groups that stand on one already.
        held: rows that each side holds from earlier nights; the shares are those of all rows.
        newest: time of the newest row, from which `by_time.days` count back.

    Raises:
        DataError: on the first night, there are too few groups for three sides, or one is so large that the shares
            cannot be met.
    """
    joined, held = joined or {}, held or {}
    members: Members = defaultdict(list)
    for i, label in enumerate(labels):
        if label >= 0:
            members[int(label)].append(i)
    if not held and len(members) < len(SIDES):
        raise DataError(
            f"split: {len(rows):,} rows form {len(members)} groups, and three sides need at least three; "
            "add rows, or raise split.group_threshold"
        )
    count = sum(held.values()) + sum(map(len, members.values()))
    asked = {side: getattr(settings, side) * count for side in SIDES}
    placed = {side: held.get(side, 0) for side in SIDES}
    where = {label: SIDES[side] for label, side in joined.items()}
    for label, side in where.items():
        placed[side] += len(members[label])
    if settings.by_time:
        _hold_out_newest(rows, members, where, asked, placed, settings, newest)
    _deal_rest(rows, members, where, asked, placed, settings)
    if not held:
        _check_shares(placed, asked, members, settings)
    return [where.get(int(label), "") for label in labels]


def _deal_rest(
    rows: Sequence[Row],
    members: Members,
    where: dict[int, str],
    asked: dict[str, float],
    placed: dict[str, int],
    settings: SplitSettings,
) -> None:
    salted = {label: _salted(min(rows[i].row_id for i in inside), settings.seed) for label, inside in members.items()}
    left = sorted(members.keys() - where.keys(), key=lambda one: (-len(members[one]), salted[one]))
    sides = [side for side in SIDES if not (settings.by_time and side == "test")]
    for dealt, label in enumerate(left):
        side = _side(len(members[label]), len(left) - dealt, sides, asked, placed)
        placed[side] += len(members[label])
        where[label] = side


def _side(size: int, left: int, sides: Sequence[str], asked: dict[str, float], placed: dict[str, int]) -> str:
    """Choose the side of the next group: the emptiest for its share of those it fits, else the one that lacks most."""
    empty = [side for side in sides if not placed[side]]
    if left <= len(empty):
        return empty[0]
    fits = [
        side
        for side in sides
        if placed[side] + size <= asked[side] + 1e-6 and (size == 1 or size <= CROWDING * asked[side])
    ]
    if fits:
        return max(fits, key=lambda side: round(1 - placed[side] / asked[side], 9))
    return max(sides, key=lambda side: round(asked[side] - placed[side], 6))


def _hold_out_newest(
    rows: Sequence[Row],
    members: Members,
    where: dict[int, str],
    asked: dict[str, float],
    placed: dict[str, int],
    settings: SplitSettings,
    newest: datetime | None,
) -> None:
    """Put the newest groups into test, and ask train and validation for their parts of the rest.

    Raises:
        DataError: no row has a time, or nothing is left for the two other sides.
    """
    if newest is None or settings.by_time is None:
        raise DataError(
            "split.by_time: no row has an ISO 8601 time; name its column in ingest.map, or leave by_time out"
        )
    first, days = not any(placed.values()), settings.by_time.days
    times = {label: max(filter(None, (moment(rows[i]) for i in members[label])), default=None) for label in members}
    aged = sorted(
        ((time, label) for label, time in times.items() if time and label not in where),
        key=lambda one: (-one[0].timestamp(), min(rows[i].row_id for i in members[one[1]])),
    )
    for time, label in aged:
        size = len(members[label])
        recent = first and days is not None
        if time > newest - timedelta(days=days or 0) if recent else placed["test"] + size <= asked["test"] + 1e-6:
            where[label] = "test"
            placed["test"] += size
    count = sum(asked.values())
    if first and (not placed["test"] or len(members.keys() - where.keys()) < 2):
        raise DataError(
            f"split.by_time: {len(where):,} of {len(members):,} groups are held out, and each side needs one at least; "
            "change split.by_time.days, or add rows"
        )
    if first and days is not None:
        asked["test"] = placed["test"]
        for side in ("train", "validation"):
            asked[side] = (count - asked["test"]) * getattr(settings, side) / (settings.train + settings.validation)


def moment(row: Row) -> datetime | None:
    """Give the time of a row, in UTC where it names no zone; None where it has none that is ISO 8601."""
    try:
        found = datetime.fromisoformat(row.time or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _check_shares(placed: dict[str, int], asked: dict[str, float], members: Members, settings: SplitSettings) -> None:
    count = sum(placed.values())
    if count < MANY:
        return
    side = max(SIDES, key=lambda name: abs(placed[name] - asked[name]))
    if abs(placed[side] - asked[side]) > TOLERANCE * count:
        largest = max(map(len, members.values()), default=0)
        raise DataError(
            f"split: {side} would get {placed[side] / count:.0%} of {count:,} rows, not {asked[side] / count:.0%}: "
            f"{len(members):,} groups, the largest of {largest:,} rows; raise split.group_threshold "
            f"(now {settings.group_threshold}), or add rows"
        )


def _salted(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
