"""Keep rows as segments, and know where each row of the index stands in them.

rows/0000.parquet    rows, from old to new
placed/0000.npy      the numbers of these rows in the index
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunemill import rows as row_files
from tunemill import segments as files
from tunemill.dedup.segments import Array, Segment, gathered, oldest_first, tables_of
from tunemill.files import link

if TYPE_CHECKING:
    import pyarrow as pa

ROWS, PLACED = "rows", "placed"
STRETCH = 16_384
"""Rows that are written at once."""


class Tables:
    """Tables of rows in one folder, of which those that were read already are held."""

    def __init__(self, folder: Path, new: Sequence[str]) -> None:
        import pyarrow.parquet as pq

        self.folder = folder
        # One thread: two take twice the CPU seconds, most of them for memory, and on two cores no less time.
        self.held: dict[str, pa.Table] = {name: pq.read_table(folder / name, use_threads=False) for name in new}

    def take(self, segments: Sequence[Segment], numbers: Array) -> "pa.Table":
        """Read rows by their numbers in the index, in the order asked for."""
        import pyarrow as pa

        number, names = tables_of(segments, numbers)
        at = gathered(segments, numbers, ("at",))["at"]
        order = np.lexsort((at, number))
        parts = [row_files.schema().empty_table()]
        for each in np.unique(number).tolist():
            parts += self._parts(names[each], at[order][number[order] == each])
        found = pa.concat_tables([part.cast(row_files.schema()) for part in parts]).combine_chunks()
        if (np.diff(order) == 1).all():
            return found
        back = np.empty(order.size, np.int64)
        back[order] = np.arange(order.size)
        return found.take(pa.array(back)).combine_chunks()

    def _parts(self, name: str, at: Array) -> Iterator["pa.Table"]:
        """Yield the rows in these places, which ascend: chunk by chunk, as a chunk holds 2 GB of text at most."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if name in self.held:
            start = 0
            for batch in self.held[name].to_batches():
                first, stop = np.searchsorted(at, (start, start + batch.num_rows))
                inside = at[first:stop] - start
                start += batch.num_rows
                if inside.size and inside[-1] - inside[0] == inside.size - 1:
                    yield pa.Table.from_batches([batch.slice(inside[0], inside.size)])
                elif inside.size:
                    yield pa.Table.from_batches([batch]).take(pa.array(inside))
            return
        with pq.ParquetFile(self.folder / name) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            starts = np.concatenate([[0], np.cumsum(sizes)])
            group = np.searchsorted(starts, at, side="right") - 1
            for each in np.unique(group).tolist():
                yield file.read_row_group(each).take(pa.array(at[group == each] - starts[each]))


class Standing:
    """The row segments of an earlier night: what stands where, and what of it still counted."""

    def __init__(self, folder: Path | None) -> None:
        self.files = [] if folder is None else files.files(folder / ROWS)
        self.numbers = [np.load(folder / PLACED / f"{each.stem}.npy") for each in self.files] if folder else []
        gone = files.deleted(folder / ROWS) if folder else {}
        self.counts = [np.ones(part.size, np.bool_) for part in self.numbers]
        for each, counts in zip(self.files, self.counts, strict=True):
            counts[gone.get(each.name, np.empty(0, np.int64))] = False

    def carry(self, folder: Path, kept: Array, segments: Sequence[Segment], tables: Tables) -> Array:
        """Let the segments in `folder` hold the rows that are `kept` (a mask over the index).

        Earlier ones get a second name there; of their rows those that stay no longer are named as deleted; a segment
        is added for the rows that did not stay before, even one that had stayed some nights earlier. Gives the numbers
        of the added rows.
        """
        for name, paths in ((ROWS, self.files), (PLACED, [_numbers(path) for path in self.files])):
            (folder / name).mkdir()
            link(paths, folder / name)
        left = kept.copy()
        gone = {}
        for path, numbers, counts in zip(self.files, self.numbers, self.counts, strict=True):
            stays = counts & kept[numbers]
            left[numbers[stays]] = False
            gone[path.name] = np.flatnonzero(~stays)
        files.write_deleted(folder / ROWS, gone)
        added = oldest_first(segments, np.flatnonzero(left))
        if added.size or not self.files:
            _write(folder, files.name(len(self.files)), added, segments, tables)
        return added


def _numbers(path: Path) -> Path:
    return path.parent.parent / PLACED / f"{path.stem}.npy"


def _write(folder: Path, name: str, numbers: Array, segments: Sequence[Segment], tables: Tables) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(folder / ROWS / name, row_files.schema(), compression="zstd") as file:
        for start in range(0, numbers.size, STRETCH):
            file.write_table(tables.take(segments, numbers[start : start + STRETCH]), row_group_size=STRETCH)
    np.save(_numbers(folder / ROWS / name), numbers)
