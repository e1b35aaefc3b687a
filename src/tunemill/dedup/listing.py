"""Keep a file of JSON lines, and know of each line what it was made from: what still holds is copied as it stands."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tunemill.dedup.segments import Array

END = "end"


class Listing(NamedTuple):
    """Lines, and beside them columns of numbers, one a line."""

    path: Path | None
    columns: dict[str, Array]
    """`end`: place of the byte behind the line; the others are the writer's own."""

    def lines(self, places: Array) -> list[bytes]:
        """Read some lines."""
        if self.path is None or not places.size:
            return []
        data, ends = np.memmap(self.path, np.uint8, "r"), self.columns[END]
        return [data[(ends[at - 1] if at else 0) : ends[at]].tobytes() for at in places.tolist()]


def read(path: Path | None, names: Iterable[str]) -> Listing:
    """Open what `write` wrote; where there is no path it has no lines."""
    if path is None:
        return Listing(None, {name: np.empty(0, np.int64) for name in (*names, END)})
    found = np.load(_beside(path))
    return Listing(path, dict(zip((*names, END), found, strict=True)))


def write(path: Path, before: Listing, holds: Array, records: Iterable[Any], columns: Mapping[str, Array]) -> Listing:
    """Write the lines of `before` that hold as they stand, and a line for each new record behind them.

    Args:
        holds: (lines of `before`,) whether each still says what is true.
        columns: of the new records; those of `before` stay with its lines.
    """
    lengths = np.diff(before.columns[END], prepend=0)[holds].tolist()
    with path.open("wb") as file:
        for stretch in _stretches(before, holds):
            file.write(stretch)
        for record in records:
            lengths.append(file.write(msgspec.json.encode(record) + b"\n"))
    found = {name: np.concatenate([before.columns[name][holds], column]) for name, column in columns.items()}
    found[END] = np.cumsum(np.array(lengths, np.int64))
    _beside(path).parent.mkdir(exist_ok=True)
    np.save(_beside(path), np.stack([column.astype(np.int64) for column in found.values()]))
    return Listing(path, found)


def _beside(path: Path) -> Path:
    return path.parent / "listed" / f"{path.stem}.npy"


def _stretches(before: Listing, holds: Array) -> Iterable[Any]:
    """Yield the bytes of each run of lines that hold."""
    if before.path is None or not holds.any():
        return
    data, ends = np.memmap(before.path, np.uint8, "r"), np.concatenate([[0], before.columns[END]])
    edges = np.flatnonzero(np.diff(holds.astype(np.int8), prepend=0, append=0))
    for first, last in edges.reshape(-1, 2).tolist():
        yield data[ends[first] : ends[last]]
