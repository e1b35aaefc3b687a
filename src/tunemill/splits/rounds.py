"""Deal until no leak is found: what the grouping missed is tied together, and the new rows are dealt again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from tunemill.dedup.components import Ints, components
from tunemill.dedup.crossings import Crossings, crossings
from tunemill.dedup.meetings import meetings
from tunemill.dedup.overlap import Pairs
from tunemill.errors import DataError
from tunemill.splits.dealing import deal
from tunemill.splits.grouping import SHINGLE, Newcomers
from tunemill.splits.joining import Joined, join
from tunemill.splits.ledger import Ledger
from tunemill.splits.settings import SIDES

ROUNDS = 10
"""How often leaks that the grouping missed are merged and the rows dealt again."""


@dataclass(frozen=True)
class Found:
    """Sides of the new rows, and what the search for leaks came to."""

    sides: list[str]
    joined: Joined
    crossed: Crossings
    """Pairs on two sides: a new row, and an entry of the ledger or, from its length on, a new row."""


def certified(new: Newcomers, labels: Ints, ledger: Ledger, newest: datetime | None = None) -> Found:
    """Join and deal new rows, and look for leaks; while twins are found on two sides, tie their groups together.

    Raises:
        DataError: leaks are left, or the shares cannot be met.
    """
    touches = new.touches(ledger)
    held = (
        dict(zip(SIDES, np.bincount(ledger.sides, minlength=len(SIDES)).tolist(), strict=True)) if len(ledger) else {}
    )
    for _ in range(ROUNDS):
        joined = join(new, labels, touches, ledger)
        sides = deal(new.rows, joined.labels, new.settings, joined.sides, held, newest)
        crossed = searched(new, sides, ledger)
        one, other = crossed.pairs.left, crossed.pairs.right
        if not len(one):
            return Found(sides, joined, crossed)
        tonight = other >= len(ledger)
        left, right = one[tonight], other[tonight] - len(ledger)
        new = replace(new, twins=(*new.twins, *zip(left.tolist(), right.tolist(), strict=True)))
        here = np.arange(len(new.rows))
        labels = components(len(new.rows), np.concatenate([here, left]), np.concatenate([labels, right]))
    first, second = (_place(int(place), new, ledger) for place in (one[0] + len(ledger), other[0]))
    raise DataError(
        f"split: {len(one)} leaks are left after dealing {ROUNDS} times, the first between the rows {first} and "
        f"{second}; change split.group_threshold (now {new.settings.group_threshold})"
    )


def searched(new: Newcomers, sides: Sequence[str], ledger: Ledger) -> Crossings:
    """Look for prompts on two sides: among all rows on the first night, then of each new row among all ever dealt."""
    threshold, here = new.settings.group_threshold, numbered(sides)
    if not len(ledger):
        return crossings(new.texts, here, threshold, SHINGLE)
    dealt = np.flatnonzero(here < len(SIDES))
    few = [new.texts[int(i)] for i in dealt]
    everywhere = np.concatenate([ledger.sides, here[dealt]])
    met = meetings(few, [*ledger.entries.text, *few], threshold, SHINGLE, parts=(here[dealt], everywhere))
    back = met.right - len(ledger)
    right = met.right.copy()
    right[back >= 0] = len(ledger) + dealt[back[back >= 0]]
    once = (back < 0) | (met.left < back)
    pairs = Pairs(dealt[met.left][once], right[once], met.similarity[once])
    highest = float(pairs.similarity.max()) if len(pairs.left) else None
    return Crossings(pairs, highest, "every new row at the threshold")


def numbered(sides: Sequence[str]) -> Ints:
    """Give each side its number, 3 to a row that was left out."""
    numbers = {side: number for number, side in enumerate((*SIDES, ""))}
    return np.array([numbers[side] for side in sides], np.int64)


def _place(place: int, new: Newcomers, ledger: Ledger) -> str:
    if place < len(ledger):
        return f"{ledger.entries.source[place][:12]}:{ledger.entries.line[place]}"
    row = new.rows[place - len(ledger)]
    return f"{row.source[:12]}:{row.line}"
