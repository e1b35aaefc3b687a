"""Keep each side as segments: last night's files, what tonight added, and which of the older rows no longer count."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunemill import segments
from tunemill.dedup.components import Ints
from tunemill.files import link
from tunemill.segments import Positions
from tunemill.splits.columns import SLIM
from tunemill.splits.keys import keys, matched

if TYPE_CHECKING:
    import pyarrow as pa

SAME = ("row_id", "source", "line", "conversation", "user")
"""What makes a row the same as one that stood on a side before."""


@dataclass(frozen=True)
class Table:
    """Rows of a table of segments, with where each stands."""

    rows: "pa.Table"
    names: tuple[str, ...]
    """Segments, in their order."""
    segment: Ints
    """Segment of each row, by its place in `names`."""
    position: Ints
    """Position of each row in its segment."""

    @classmethod
    def of(cls, path: Path, columns: Iterable[str] = SLIM) -> "Table":
        """Read some columns of all rows that count."""
        import pyarrow as pa

        names, tables, positions = zip(*segments.located(path, list(columns)), strict=True)
        numbers = np.repeat(np.arange(len(names)), [table.num_rows for table in tables])
        return cls(pa.concat_tables(tables), names, numbers, np.concatenate(positions))

    def places(self, some: Ints) -> dict[str, Positions]:
        """Give the positions of some rows, segment by segment, ascending."""
        found = {}
        for number, name in enumerate(self.names):
            here = self.position[some[self.segment[some] == number]]
            if here.size:
                found[name] = np.sort(here)
        return found


def stayed(before: Table | None, rows: "pa.Table") -> tuple[Ints, Ints]:
    """Tell which of a side's rows stood on it before, and which of those that did no longer do.

    Gives the places of the new rows, and the places in `before` of those that are gone.
    """
    if before is None:
        return np.arange(rows.num_rows), np.empty(0, np.int64)
    found = matched(keys(rows, SAME), keys(before.rows, SAME))
    gone = np.ones(before.rows.num_rows, np.bool_)
    gone[found[found >= 0]] = False
    return np.flatnonzero(found < 0), np.flatnonzero(gone)


def begin(folder: Path, last: Path | None, gone: Mapping[str, Positions]) -> Path:
    """Make a side's folder with what stays of last night's; give the path of the segment that comes next.

    Last night's segments get second names, but for those of which nothing is left. `gone` counts the positions too that
    last night's side had lost.
    """
    import pyarrow.parquet as pq

    folder.mkdir()
    old = segments.files(last) if last else []
    kept = [path for path in old if len(gone.get(path.name, ())) < pq.read_metadata(path).num_rows]
    link(kept, folder)
    segments.write_deleted(folder, {path.name: gone[path.name] for path in kept if path.name in gone})
    return folder / segments.name(max((int(path.stem) for path in kept), default=-1) + 1)


def add(path: Path, every: Table, new: Mapping[Path, Ints]) -> None:
    """Copy rows of the table of segments at `path` to the files in `new`; each group of rows there is read once.

    Where a file gets none, none is written, unless its folder has no other.
    """
    import pyarrow.parquet as pq

    from tunemill import rows

    places = np.concatenate(list(new.values()))
    files = np.repeat(np.arange(len(new)), [some.size for some in new.values()])
    order = np.lexsort((every.position[places], every.segment[places]))
    files, begin = files[order], 0
    with ExitStack() as stack:
        writers = {
            number: stack.enter_context(pq.ParquetWriter(file, rows.schema(), compression="zstd"))
            for number, (file, some) in enumerate(new.items())
            if some.size or not any(file.parent.iterdir())
        }
        for table in segments.picked(path, every.places(places)):
            here = files[begin : begin + table.num_rows]
            begin += table.num_rows
            for number in np.unique(here).tolist():
                writers[number].write_table(table.filter(here == number).cast(rows.schema()))
