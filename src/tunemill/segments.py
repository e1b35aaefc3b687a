"""Read a table that is only ever added to: what a later night knows stands beside what earlier ones wrote.

    train/0000.parquet      what the first night wrote; later nights have it as a second name of the same bytes
    train/0001.parquet      what the second night added
    train/deleted.parquet   (file, position) of each row that no longer counts; absent where all do

Files are read in the order of their names, whatever these are. A single file is a table of one segment.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tunemill import rows
from tunemill.rows import DISLIKED, PassedOver, Row

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

PASSED, KEPT_APART = "passed_over", "disliked"
"""Tables of an ingest's folder beside its rows."""
DELETED = "deleted.parquet"
BATCH = 8_192

Positions = npt.NDArray[np.int64]


def name(number: int) -> str:
    """Name the segment of a night, counted from 0."""
    return f"{number:04}.parquet"


def files(path: Path) -> list[Path]:
    """List the segments in their order.

    Raises:
        FileNotFoundError: there is no such table.
    """
    return (
        sorted(path / name for name in os.listdir(path) if name.endswith(".parquet") and name != DELETED)
        if path.is_dir()
        else [_there(path)]
    )


def _there(path: Path) -> Path:
    path.stat()
    return path


def deleted(path: Path) -> dict[str, Positions]:
    """Give for each file the positions of its rows that no longer count, ascending; files without any are left out."""
    import pyarrow.parquet as pq

    if not (path / DELETED).is_file():
        return {}
    table = pq.read_table(path / DELETED)
    named, positions = table.column("file").to_numpy(), table.column("position").to_numpy()
    return {str(each): np.sort(positions[named == each]) for each in np.unique(named)}


def write_deleted(path: Path, gone: Mapping[str, Sequence[int] | Positions]) -> None:
    """Say which rows no longer count, of all segments; where there are none no file is written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pairs = [(each, int(at)) for each in sorted(gone) for at in sorted(gone[each])]
    if pairs:
        kinds = pa.schema([("file", pa.string()), ("position", pa.int64())])
        columns = dict(zip(kinds.names, map(list, zip(*pairs, strict=True)), strict=True))
        pq.write_table(pa.table(columns, schema=kinds), path / DELETED, compression="zstd")


def count(path: Path) -> int:
    """Count the rows without reading them."""
    import pyarrow.parquet as pq

    written = sum(int(pq.read_metadata(each).num_rows) for each in files(path))
    return written - sum(map(len, deleted(path).values()))


def batches(path: Path, columns: Sequence[str] | None = None) -> Iterator["pa.RecordBatch"]:
    """Yield the rows that count, some thousands at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    gone = deleted(path)
    for each in files(path):
        start, out = 0, gone.get(each.name)
        with pq.ParquetFile(each) as file:
            for batch in file.iter_batches(BATCH, columns=columns):
                start += batch.num_rows
                if out is not None:
                    stays = np.ones(batch.num_rows, np.bool_)
                    first = start - batch.num_rows
                    stays[out[(out >= first) & (out < start)] - first] = False
                    batch = batch.filter(pa.array(stays))
                yield batch


def table(path: Path, columns: Sequence[str] | None = None, where: "pc.Expression | None" = None) -> "pa.Table":
    """Read the rows that count, all columns or some, all rows or those that an expression is true of."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found, gone = [], deleted(path)
    columns = None if columns is None else list(columns)
    for each in files(path):
        out = gone.get(each.name)
        if out is None:
            found.append(pq.read_table(each, columns=columns, filters=where))
            continue
        whole = pq.read_table(each)
        stays = np.ones(whole.num_rows, np.bool_)
        stays[out] = False
        whole = whole.filter(pa.array(stays))
        whole = whole if where is None else whole.filter(where)
        found.append(whole if columns is None else whole.select(columns))
    # A segment of an earlier night may lack a column that rows have since: its rows have nothing there.
    return pa.concat_tables(found, promote_options="permissive")


def located(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, "pa.Table", Positions]]:
    """Yield of each segment its name, some columns of the rows that count, and the positions of these."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    gone = deleted(path)
    for each in files(path):
        found, out = pq.read_table(each, columns=list(columns)), gone.get(each.name)
        stays = np.ones(found.num_rows, np.bool_)
        if out is not None:
            stays[out] = False
            found = found.filter(pa.array(stays))
        yield each.name, found, np.flatnonzero(stays)


def picked(path: Path, places: Mapping[str, Positions], columns: Sequence[str] | None = None) -> Iterator["pa.Table"]:
    """Yield the rows that stand at ascending positions of each segment, a group of rows at a time; others are not read.

    Segments come in their order.
    """
    import pyarrow.parquet as pq

    for each in files(path):
        wanted = places.get(each.name, np.empty(0, np.int64))
        if not wanted.size:
            continue
        with pq.ParquetFile(each) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            for number, first in enumerate(np.cumsum([0, *sizes])[:-1]):
                here = wanted[(wanted >= first) & (wanted < first + sizes[number])] - first
                if here.size:
                    found = file.read_row_group(number, columns=None if columns is None else list(columns))
                    yield found if here.size == found.num_rows else found.take(here)


def read(path: Path) -> list[Row]:
    """Read the rows that count, in the order of the segments."""
    gone = deleted(path)
    found: list[Row] = []
    for each in files(path):
        here, out = rows.read(each), set(gone.get(each.name, np.empty(0, np.int64)).tolist())
        found += [row for at, row in enumerate(here) if at not in out] if out else here
    return found


def set_aside(folder: Path) -> Iterator[PassedOver]:
    """Yield what an ingest's folder holds beside rows and rejections: records passed over, and those kept apart."""
    for name, columns in ((PASSED, ["source", "line", "reason", "detail"]), (KEPT_APART, ["source", "line"])):
        for batch in batches(folder / name, columns) if (folder / name).is_dir() else ():
            for record in batch.to_pylist():
                yield PassedOver(**{"reason": DISLIKED, "detail": f"stands in {name}", **record})


def write(path: Path, new: Iterable[Row]) -> int:
    """Write a table of one segment; return how many rows it has."""
    path.mkdir()
    return rows.write(path / name(0), new)


def write_passed(path: Path, records: Sequence[PassedOver]) -> int:
    """Write records that a filter left out as a table of one segment; return how many."""
    path.mkdir()
    return rows.write_passed(path / name(0), records)
