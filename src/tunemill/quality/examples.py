"""Choose rows to show from a table of many files, without reading more than their times."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tunemill import segments
from tunemill.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLES = 3
"""Rows that are shown: the oldest, the middle and the newest, so that nobody picked them."""


def spread(path: Path) -> list[Row]:
    """Read the oldest, the middle and the newest row; each file holds its rows from old to new."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    files = segments.files(path) if path.is_dir() else []
    if not files:
        return []
    times = [_times(file) for file in files]
    sizes = [len(column) for column in times]
    time = pc.fill_null(pa.chunked_array([chunk for column in times for chunk in column.chunks], pa.string()), "")
    file, position = np.repeat(np.arange(len(files)), sizes), np.concatenate([np.arange(size) for size in sizes])
    table = pa.table({"time": time, "file": file, "position": position})
    # Of equal times the file decides and then the line, as everywhere: both stand in that order already.
    order = pc.sort_indices(table, [("time", "ascending"), ("file", "ascending"), ("position", "ascending")])
    last = len(table) - 1
    chosen = [order[at].as_py() for at in sorted({round(last * step / (EXAMPLES - 1)) for step in range(EXAMPLES)})]
    return [_row(files[file[at]], int(position[at])) for at in chosen]


def _times(file: Path) -> "pa.ChunkedArray":
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:  # a third of what `read_table` costs, where files are small and many
        return opened.read(columns=["time"], use_threads=False).column(0)


def _row(file: Path, position: int) -> Row:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(segments.BATCH):
            if position < batch.num_rows:
                return msgspec.convert(batch.slice(position, 1).to_pylist()[0], Row)
            position -= batch.num_rows
    raise IndexError(f"{file} has no row {position:,}")
