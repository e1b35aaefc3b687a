"""Choose what a training that is bounded sees: the newest rows, group by group."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from tunemill import segments
from tunemill.dedup.components import Ints
from tunemill.rows import Row
from tunemill.splits import ledger

SLIM = ("row_id", "source", "line", "conversation", "user", "time")


class Newest(NamedTuple):
    """The rows that were chosen, and among how many."""

    rows: list[Row]
    held: int
    """Rows of the table."""
    groups: int
    """Groups that gave rows."""


def newest(table: Path, dealt: Path, most: int) -> Newest:
    """Read the newest `most` rows of a side, in the order in which they stand there.

    Groups come in the order of their newest rows, each as a whole, so that a conversation is not torn; the last one
    gives only its newest rows where all would be too many.

    Args:
        dealt: the folder of the split's ledger, which knows the groups.
    """
    import pyarrow as pa

    columns = (segments.table(table, SLIM).column(name).to_pylist() for name in SLIM)
    known = [Row(messages=(), **dict(zip(SLIM, values, strict=True))) for values in zip(*columns, strict=True)]
    groups = ledger.groups_of(dealt, known)
    chosen = choose(known, groups, most)
    these = segments.table(table).take(pa.array(chosen, pa.int64()))
    rows = msgspec.convert(these.to_pylist(), list[Row])
    return Newest(rows, len(known), len({groups[place] for place in chosen}))


def choose(rows: Sequence[Row], groups: Sequence[str], most: int) -> Ints:
    """Give the places of the rows that are chosen, ascending; the order of the rows decides nothing else."""
    old_to_new = sorted(range(len(rows)), key=lambda i: (rows[i].place, rows[i].row_id))
    age = {place: age for age, place in enumerate(old_to_new)}
    last = {groups[place]: age[place] for place in old_to_new}
    first = sorted(old_to_new, key=lambda i: (last[groups[i]], age[i]), reverse=True)
    return np.sort(np.array(first[:most], np.int64))
