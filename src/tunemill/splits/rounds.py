"""Deal until no leak is found: what the grouping missed is tied together, and the new rows are dealt again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from tunemill.dedup import jaccard
from tunemill.dedup.components import Ints, components
from tunemill.dedup.crossings import Crossings, crossings
from tunemill.dedup.meetings import meetings
from tunemill.dedup.overlap import Pairs
from tunemill.errors import DataError
from tunemill.splits.dealing import deal
from tunemill.splits.grouping import SHINGLE, Newcomers, Touch
from tunemill.splits.joining import Joined, join
from tunemill.splits.ledger import Ledger
from tunemill.splits.settings import SIDES

ROUNDS = 10
"""How often leaks that the grouping missed are merged and the rows dealt again."""


LEFT_OUT = len(SIDES)
"""Number of no side."""


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
        crossed = searched(new, sides, ledger, touches)
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


def searched(new: Newcomers, sides: Sequence[str], ledger: Ledger, touches: Sequence[Touch] = ()) -> Crossings:
    """Look for prompts on two sides: among all rows on the first night, then of each new row among all ever dealt.

    `touches` name of each group in the ledger a prompt that a new row is like, if there is any; a group stands on one
    side, so what they do not tell cannot be.
    """
    threshold, here = new.settings.group_threshold, numbered(sides)
    if not len(ledger):
        return crossings(new.texts, here, threshold, SHINGLE)
    dealt = np.flatnonzero(here < LEFT_OUT)
    few, parts = [new.texts[int(i)] for i in dealt], here[dealt]
    met = meetings(few, few, threshold, SHINGLE, parts=(parts, parts))
    once = met.left < met.right
    alike = [(touch.row, touch.entry) for touch in touches if touch.by == "prompt" and here[touch.row] != LEFT_OUT]
    old = [(i, j) for i, j in alike if here[i] != ledger.sides[j]]
    across = np.array(old, np.int64).reshape(-1, 2)
    similarity = [jaccard(new.texts[i], ledger.entries.text[j], SHINGLE) for i, j in old]
    pairs = Pairs(
        np.concatenate([across[:, 0], dealt[met.left[once]]]),
        np.concatenate([across[:, 1], dealt[met.right[once]] + len(ledger)]),
        np.concatenate([similarity, met.similarity[once]]),
    )
    highest = float(pairs.similarity.max()) if len(pairs.left) else None
    return Crossings(pairs, highest, "every new row at the threshold")


def numbered(sides: Sequence[str]) -> Ints:
    """Give each side its number."""
    numbers = {side: number for number, side in enumerate((*SIDES, ""))}
    return np.array([numbers[side] for side in sides], np.int64)


def _place(place: int, new: Newcomers, ledger: Ledger) -> str:
    if place < len(ledger):
        return f"{ledger.entries.source[place][:12]}:{ledger.entries.line[place]}"
    row = new.rows[place - len(ledger)]
    return f"{row.source[:12]}:{row.line}"
