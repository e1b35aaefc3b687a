"""Rows as columns: what is asked of a million rows is asked of arrays, not of a million objects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tunemill.dedup.components import Ints
from tunemill.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

SLIM = ("row_id", "source", "line", "conversation", "user", "time")
"""What is read of every row; of those that are dealt tonight the messages are."""


@dataclass(frozen=True)
class Columns:
    """What is known of rows beside their messages: a table with the columns of `SLIM`."""

    table: "pa.Table"

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Columns":
        """Take the columns of rows."""
        import pyarrow as pa

        kinds = pa.schema([(name, pa.int64() if name == "line" else pa.string()) for name in SLIM])
        found = [(r.row_id, r.source, r.line, r.conversation, r.user, r.time) for r in rows]
        columns = zip(*found, strict=True) if found else ([] for _ in SLIM)
        return cls(pa.table([list(column) for column in columns], schema=kinds))

    def take(self, places: "Sequence[int] | Ints") -> "Columns":
        """Give the rows in these places."""
        return Columns(self.table.take(np.asarray(places, np.int64)))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def names(self, column: str) -> list[str | None]:
        """Give a column as objects."""
        return list(self.table[column].to_pylist())

    def origin(self, row: int) -> tuple[str, str, int]:
        """Give the row id, the source and the line of one row."""
        row_id, source, line = (self.table[name][row].as_py() for name in ("row_id", "source", "line"))
        return row_id, source, line

    @cached_property
    def by_id(self) -> Ints:
        """The places of the rows in ascending order of their ids; equal ones stay in theirs."""
        return ranked(self.table["row_id"].to_pylist())


def prompts_of(table: "pa.Table") -> list[str]:
    """Join every user turn of each row, one a line, as `dedup.text.prompt_text` does of one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: list[str] = []
    for chunk in table["messages"].chunks:
        turns = chunk.flatten()
        asked = pc.equal(turns.field("role"), "user").to_numpy(zero_copy_only=False)
        begins = np.concatenate([[0], np.cumsum(asked)])[np.asarray(chunk.offsets) - chunk.offsets[0].as_py()]
        content = turns.field("content").filter(pa.array(asked))
        found += pc.binary_join(pa.ListArray.from_arrays(pa.array(begins, pa.int32()), content), "\n").to_pylist()
    return found


def ordered(table: "pa.Table") -> Ints:
    """Give the places of rows from old to new: by time, source, line and row id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = ("time", "source", "line", "row_id")
    columns = [pc.fill_null(table[name], "") if name == "time" else table[name] for name in keys]
    slim = pa.table(dict(zip(keys, columns, strict=True))).combine_chunks()
    if not _sorted(slim):
        return np.asarray(pc.sort_indices(slim, [(name, "ascending") for name in keys]).to_numpy()).astype(np.int64)
    return np.arange(table.num_rows)


def _sorted(table: "pa.Table") -> bool:
    """Tell whether no row comes before one that is older."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.num_rows < 2:
        return True
    level = pa.array(np.ones(table.num_rows - 1, np.bool_))
    for name in table.column_names:
        before, after = table[name].slice(0, table.num_rows - 1), table[name].slice(1)
        if pc.any(pc.and_(level, pc.greater(before, after))).as_py():
            return False
        level = pc.and_(level, pc.equal(before, after))
        if not pc.any(level).as_py():
            return True
    return True


def ranked(names: Sequence[str]) -> Ints:
    """Give the places of names in ascending order; equal ones stay in theirs."""
    words = _words(names)
    order = np.argsort(words[:, 0], kind="stable")
    first = words[order, 0]
    tied = first[1:] == first[:-1]
    if (words[order[1:]][tied] != words[order[:-1]][tied]).any():
        order = np.lexsort(words.T[::-1])
    found: Ints = order
    return found


def _words(names: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Lay names out as big-endian words, whose order is theirs: UTF-8 keeps the order of code points."""
    column = np.array([name.encode("utf-8", "surrogatepass") for name in names], "S")
    width = -(-max(column.dtype.itemsize, 1) // 8) * 8
    words = np.ascontiguousarray(column.astype(f"S{width}")).view(">u8").reshape(column.size, width // 8)
    return words.astype(np.uint64)
