"""Deal groups to sides so that the shares come out, over everything that was ever dealt."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from tunemill.dedup.components import Ints
from tunemill.errors import DataError
from tunemill.splits.columns import Columns
from tunemill.splits.settings import SIDES, SplitSettings

CROWDING = 0.1
"""Largest part of a side that one group may fill while another side can take it: few groups make a poor verdict."""
TOLERANCE = 0.1
"""How far the share of a side may lie from the one asked for."""
MANY = 10
"""Rows from which that is held against a split: of five, one row more is a fifth."""
TEST = SIDES.index("test")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """The groups of rows, in the order of their labels."""

    labels: Ints
    sizes: Ints
    names: list[str]
    """Smallest row id of each."""
    of: Ints
    """Group of each row by its place among the groups; -1 where it has none."""


def gathered(rows: Columns, labels: Ints) -> Groups:
    """Gather groups by the labels of their rows; a row without one is labelled -1."""
    inside = np.flatnonzero(labels >= 0)
    counts = np.bincount(labels[inside], minlength=1)
    found = np.flatnonzero(counts)
    place = np.full(counts.size, -1)
    place[found] = np.arange(found.size)
    of = np.full(labels.size, -1)
    of[inside] = place[labels[inside]]
    order = rows.by_id[of[rows.by_id] >= 0]
    least = np.empty(found.size, np.int64)
    least[of[order][::-1]] = order[::-1]  # of several the last one stands, which has the smallest id
    return Groups(found, counts[found], rows.table["row_id"].take(least).to_pylist(), of)


def deal(
    rows: Columns,
    labels: Ints,
    settings: SplitSettings,
    joined: Mapping[int, int] | None = None,
    held: Mapping[str, int] | None = None,
    newest: datetime | None = None,
) -> Ints:
    """Give each row its side by its place in SIDES: the largest groups first, so that single rows fill the shares.

    A group is known by its smallest row id and dealt in salted order among those of its size, so neither the files'
    order nor their names matter. Every side gets groups of every size that it has room for: a test set of single rows
    alone would leave out whatever is asked often.

    Args:
        labels: group of each row; the side of a row without one (-1) is len(SIDES).
        joined: label → side, of the groups that stand on one already.
        held: rows that each side holds from earlier nights; the shares are those of all rows.
        newest: time of the newest row, from which `by_time.days` count back.

    Raises:
        DataError: on the first night, there are too few groups for three sides, or one is so large that the shares
            cannot be met.
    """
    joined, held = joined or {}, held or {}
    groups = gathered(rows, labels)
    if not held and groups.sizes.size < len(SIDES):
        raise DataError(
            f"split: {len(rows):,} rows form {groups.sizes.size} groups, and three sides need at least three; "
            "add rows, or raise split.group_threshold"
        )
    count = sum(held.values()) + int(groups.sizes.sum())
    asked = np.array([getattr(settings, side) * count for side in SIDES])
    where = np.full(groups.sizes.size, -1)
    where[np.searchsorted(groups.labels, list(joined))] = list(joined.values())
    stands = where >= 0
    placed = np.array([held.get(side, 0) for side in SIDES])
    placed += np.bincount(where[stands], groups.sizes[stands], len(SIDES)).astype(np.int64)
    if settings.by_time:
        _hold_out_newest(rows, groups, where, asked, placed, settings, newest)
    _deal_rest(groups, where, asked, placed, settings)
    if not held:
        _check_shares(placed, asked, groups, settings)
    sides: Ints = np.append(where, len(SIDES))[groups.of]
    return sides


def _deal_rest(groups: Groups, where: Ints, asked: Floats, placed: Ints, settings: SplitSettings) -> None:
    from tunemill.splits.dealing_kernels import dealt

    left = np.flatnonzero(where < 0)
    salt = b"".join(_salted(groups.names[i], settings.seed) for i in left.tolist())
    high, low = np.frombuffer(salt, ">u8").reshape(-1, 4).astype(np.uint64).T[:2]
    left = left[np.lexsort((low, high, -groups.sizes[left]))]
    allowed = np.array([n for n, side in enumerate(SIDES) if not (settings.by_time and side == "test")])
    where[left] = dealt(groups.sizes[left], asked, placed, allowed, CROWDING)


def _hold_out_newest(
    rows: Columns,
    groups: Groups,
    where: Ints,
    asked: Floats,
    placed: Ints,
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
    first, days = not placed.any(), settings.by_time.days
    times: dict[int, datetime] = {}
    for group, text in zip(groups.of.tolist(), rows.names("time"), strict=True):
        time = moment(text)
        if group >= 0 and time and where[group] < 0:
            times[group] = max(time, times.get(group, time))
    aged = sorted((-time.timestamp(), groups.names[group], group) for group, time in times.items())
    for _, _, group in aged:
        size = int(groups.sizes[group])
        recent = first and days is not None
        fits = placed[TEST] + size <= asked[TEST] + 1e-6
        if times[group] > newest - timedelta(days=days or 0) if recent else fits:
            where[group] = TEST
            placed[TEST] += size
    held_out = int((where >= 0).sum())
    if first and (not placed[TEST] or where.size - held_out < 2):
        raise DataError(
            f"split.by_time: {held_out:,} of {where.size:,} groups are held out, and each side needs one at least; "
            "change split.by_time.days, or add rows"
        )
    if first and days is not None:
        count = asked.sum()
        asked[TEST] = placed[TEST]
        for number, side in enumerate(SIDES[:TEST]):
            asked[number] = (count - asked[TEST]) * getattr(settings, side) / (settings.train + settings.validation)


def moment(time: str | None) -> datetime | None:
    """Give the time of a row, in UTC where it names no zone; None where it has none that is ISO 8601."""
    try:
        found = datetime.fromisoformat(time or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _check_shares(placed: Ints, asked: Floats, groups: Groups, settings: SplitSettings) -> None:
    count = int(placed.sum())
    if count < MANY:
        return
    worst = int(np.argmax(np.abs(placed - asked)))
    if abs(placed[worst] - asked[worst]) > TOLERANCE * count:
        raise DataError(
            f"split: {SIDES[worst]} would get {placed[worst] / count:.0%} of {count:,} rows, not "
            f"{asked[worst] / count:.0%}: {groups.sizes.size:,} groups, the largest of {int(groups.sizes.max()):,} "
            f"rows; raise split.group_threshold (now {settings.group_threshold}), or add rows"
        )


def _salted(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
