"""Let new rows join the side on which their group stands, and leave out those that would tie two sides together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from tunemill.dedup.components import Ints
from tunemill.splits.grouping import By, Newcomers, Touch
from tunemill.splits.ledger import Ledger
from tunemill.splits.settings import SIDES

ONE_SIDE = (0, 1, 2, 4)
"""Sets of sides, as bits, that hold at most one."""


class Neighbour(msgspec.Struct, frozen=True):
    """A row that stands on a side, and what it shares with the row that was left out."""

    row_id: str
    source: str
    line: int
    side: str
    by: By


class Bridge(msgspec.Struct, frozen=True):
    """A row that was left out, since its neighbours stand on two sides."""

    row_id: str
    source: str
    line: int
    neighbours: tuple[Neighbour, Neighbour]


@dataclass(frozen=True)
class Joined:
    """Where the groups of new rows stand before any is dealt."""

    labels: Ints
    """Smallest row of each row's group; -1 where the row is left out."""
    sides: dict[int, int]
    """Label → side, of the groups that join one."""
    names: dict[int, str]
    """Label → name of the group that they join."""
    bridges: dict[int, tuple[Neighbour, Neighbour]]


def join(new: Newcomers, labels: Ints, touches: Sequence[Touch], ledger: Ledger) -> Joined:
    """Give each group of new rows the one side that it touches, or none; tear apart those that touch two.

    Of a group that touches two sides a row is left out whose own neighbours stand on two. Then what can be test is, at
    the expense of validation, and that at the expense of train: a row that has a neighbour on another side than its own
    is left out, so the held-out sides lose none of their groups to a train row.
    """
    reach = np.zeros(len(new.rows), np.int64)
    for touch in touches:
        reach[touch.row] |= 1 << ledger.sides[touch.entry]
    of_group = np.zeros(len(new.rows), np.int64)
    np.bitwise_or.at(of_group, labels, reach)
    torn = np.flatnonzero(~np.isin(of_group[labels], ONE_SIDE))
    labels, bridges = labels.copy(), dict[int, tuple[Neighbour, Neighbour]]()
    if torn.size:
        labels[torn] = -1
        bridges = _torn(new, [int(i) for i in torn], labels, reach, touches, ledger)
    sides: dict[int, int] = {}
    names: dict[int, str] = {}
    of_entry = ledger.table["group"].take(np.array([touch.entry for touch in touches], np.int64)).to_pylist()
    for touch, group in zip(touches, of_entry, strict=True):
        label = int(labels[touch.row])
        if label >= 0:
            sides[label] = int(ledger.sides[touch.entry])
            names[label] = min(names.get(label, group), group)
    return Joined(labels, sides, names, bridges)


def _torn(
    new: Newcomers, left: list[int], labels: Ints, reach: Ints, touches: Sequence[Touch], ledger: Ledger
) -> dict[int, tuple[Neighbour, Neighbour]]:
    """Label the rows of groups that touch two sides anew, and give those that stay out."""
    known: dict[int, dict[str, Neighbour]] = {i: {} for i in left}
    for touch in touches:
        if touch.row in known:
            neighbour = _standing(ledger, touch)
            known[touch.row].setdefault(neighbour.side, neighbour)
    bridges = {i: _two(known[i].values()) for i in left if reach[i] not in ONE_SIDE}
    left = [i for i in left if i not in bridges]
    for side in reversed(range(len(SIDES))):
        free = [i for i in left if reach[i] in (0, 1 << side)]
        grouped = dict(zip(free, new.group(free).tolist(), strict=True))
        mine = {grouped[i] for i in free if reach[i]}
        claimed = [i for i in free if grouped[i] in mine]
        labels[claimed] = [grouped[i] for i in claimed]
        taken = set(claimed)
        others = [i for i in left if i not in taken and reach[i]]
        for i, j, by in new.beside(others, claimed) if others and claimed else ():
            there = Neighbour(*new.rows.origin(j), SIDES[side], by)
            bridges.setdefault(i, _two([*known[i].values(), there]))
        left = [i for i in left if i not in taken and i not in bridges]
    labels[left] = new.group(left)
    return bridges


def _standing(ledger: Ledger, touch: Touch) -> Neighbour:
    names = ("row_id", "source", "line", "side")
    row_id, source, line, side = (ledger.at(np.array([touch.entry]), name)[0] for name in names)
    return Neighbour(row_id, source, line, side, touch.by)


def _two(neighbours: Iterable[Neighbour]) -> tuple[Neighbour, Neighbour]:
    first, second = sorted(neighbours, key=lambda one: SIDES.index(one.side))[:2]
    return first, second
