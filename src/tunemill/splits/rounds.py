"""Deal until no leak is found: what the grouping missed is tied together, and the new rows are dealt again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tunemill.dedup import jaccard
from tunemill.dedup.components import Ints, components
from tunemill.dedup.crossings import Crossings, Method, crossings
from tunemill.dedup.overlap import Pairs
from tunemill.errors import DataError
from tunemill.splits.dealing import deal
from tunemill.splits.grouping import Newcomers, Touch
from tunemill.splits.joining import Joined, join
from tunemill.splits.ledger import SHINGLE, Ledger
from tunemill.splits.settings import SIDES

ROUNDS = 10
"""How often leaks that the grouping missed are merged and the rows dealt again."""


LEFT_OUT = len(SIDES)
"""Number of no side."""


@dataclass(frozen=True)
class Found:
    """Sides of the new rows, and what the search for leaks came to."""

    sides: Ints
    """Side of each row by its place in SIDES; len(SIDES) where it is left out."""
    joined: Joined
    crossed: Crossings
    """Pairs on two sides: a new row, and an entry of the ledger or, from its length on, a new row."""


def certified(new: Newcomers, labels: Ints, ledger: Ledger, newest: datetime | None = None) -> Found:
    """Join and deal new rows, and look for leaks; while twins are found on two sides, tie their groups together.

    Raises:
        DataError: leaks are left, or the shares cannot be met.
    """
    touches, method = new.touches(ledger)
    held = (
        dict(zip(SIDES, np.bincount(ledger.sides, minlength=len(SIDES)).tolist(), strict=True)) if len(ledger) else {}
    )
    for _ in range(ROUNDS):
        joined = join(new, labels, touches, ledger)
        sides = deal(new.rows, joined.labels, new.settings, joined.sides, held, newest)
        crossed = searched(new, sides, ledger, touches, method)
        one, other = crossed.pairs.left, crossed.pairs.right
        if not len(one):
            return Found(sides, joined, crossed)
        tonight = other >= len(ledger)
        left, right = one[tonight], other[tonight] - len(ledger)
        new = new.tied(zip(left.tolist(), right.tolist(), strict=True))
        here = np.arange(len(new.rows))
        labels = components(len(new.rows), np.concatenate([here, left]), np.concatenate([labels, right]))
    first, second = (_place(int(place), new, ledger) for place in (one[0] + len(ledger), other[0]))
    raise DataError(
        f"split: {len(one)} leaks are left after dealing {ROUNDS} times, the first between the rows {first} and "
        f"{second}; change split.group_threshold (now {new.settings.group_threshold})"
    )


def searched(
    new: Newcomers,
    here: Ints,
    ledger: Ledger,
    touches: Sequence[Touch] = (),
    method: Method = "every new row at the threshold",
) -> Crossings:
    """Look for prompts on two sides: among all rows on the first night, then of each new row among all ever dealt.

    `touches` name of each group in the ledger a prompt that a new row is like, if there is any, as `method` finds them;
    a group stands on one side, so what they do not tell cannot be.
    """
    among = _among(new, here)
    if not len(ledger):
        return among
    alike = [(touch.row, touch.entry) for touch in touches if touch.by == "prompt" and here[touch.row] != LEFT_OUT]
    old = [(i, j) for i, j in alike if here[i] != ledger.sides[j]]
    across = np.array(old, np.int64).reshape(-1, 2)
    theirs = [ledger.at(np.array([j]), "text")[0] for _, j in old]
    similarity = [jaccard(new.texts[i], text, SHINGLE) for (i, _), text in zip(old, theirs, strict=True)]
    pairs = Pairs(
        np.concatenate([across[:, 0], among.pairs.left]),
        np.concatenate([across[:, 1], among.pairs.right + len(ledger)]),
        np.concatenate([similarity, among.pairs.similarity]),
    )
    highest = float(pairs.similarity.max()) if len(pairs.left) else None
    weaker = among.method if among.method == "MinHash, another seed" else method
    return Crossings(pairs, highest, weaker)


def _among(new: Newcomers, here: Ints) -> Crossings:
    """Look among the new rows that are dealt, whose different prompts are compared once a side."""
    texts, of = new.distinct
    dealt = np.flatnonzero(here < LEFT_OUT)
    pairs, first = np.unique(of[dealt] * LEFT_OUT + here[dealt], return_index=True)
    some, side = pairs // LEFT_OUT, pairs % LEFT_OUT
    bands = new.bands.take(some)
    found = crossings([texts[i] for i in some.tolist()], side, new.settings.group_threshold, SHINGLE, bands)
    one, other = dealt[first[found.pairs.left]], dealt[first[found.pairs.right]]
    return found._replace(pairs=Pairs(np.minimum(one, other), np.maximum(one, other), found.pairs.similarity))


def _place(place: int, new: Newcomers, ledger: Ledger) -> str:
    if place < len(ledger):
        source, line = (ledger.at(np.array([place]), name)[0] for name in ("source", "line"))
        return f"{source[:12]}:{line}"
    _, source, line = new.rows.origin(place - len(ledger))
    return f"{source[:12]}:{line}"
