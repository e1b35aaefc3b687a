"""Choose what a training that is bounded sees: the newest rows, group by group."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from tunemill import segments
from tunemill.dedup.components import Ints
from tunemill.rows import Row
from tunemill.splits.columns import ordered
from tunemill.splits.ledger import NAME, groups_in

if TYPE_CHECKING:
    import pyarrow as pa

SLIM = (*NAME, "time", "source", "line")


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
        dealt: folder of the split, whose ledger knows the groups.

    Raises:
        DataError: a row was never dealt there.
    """
    import pyarrow as pa

    slim = segments.table(table, SLIM)
    groups = groups_in(dealt, slim)
    chosen = choose(slim, groups, most)
    these = segments.table(table).take(pa.array(chosen, pa.int64()))
    return Newest(msgspec.convert(these.to_pylist(), list[Row]), slim.num_rows, np.unique(groups[chosen]).size)


def choose(rows: "pa.Table", groups: Ints, most: int) -> Ints:
    """Give the places of the rows that are chosen, ascending; the order of the rows decides nothing else."""
    age = np.empty(rows.num_rows, np.int64)
    age[ordered(rows)] = np.arange(rows.num_rows)
    last = np.full(int(groups.max(initial=-1)) + 1, -1, np.int64)
    np.maximum.at(last, groups, age)
    return np.sort(np.lexsort((-age, -last[groups]))[:most])
