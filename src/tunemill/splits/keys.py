"""Know rows again by 128 bits of hash: of a billion rows two share them with a chance of about 1e-21."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tunemill.dedup.components import Ints

if TYPE_CHECKING:
    import pyarrow as pa

Keys = npt.NDArray[np.uint64]


def keys(table: "pa.Table", names: Sequence[str]) -> Keys:
    """Hash what stands in some columns of each row, (rows, 2); nothing and an empty text are the same."""
    found = np.zeros((table.num_rows, 2), np.uint64)
    found[:, 1] = 1
    for name in names:
        _add(found, table[name])
    return found


def _add(found: Keys, column: "pa.ChunkedArray") -> None:
    """Hash a column of text into the keys, or one of whole numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from tunemill.splits import key_kernels as kernels

    first = 0
    for chunk in column.chunks:
        here = found[first : first + len(chunk)]
        first += len(chunk)
        if pa.types.is_integer(chunk.type):
            data = chunk.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint8)
            kernels.added(data, np.arange(len(chunk) + 1) * 8, here)
            continue
        chunk = pc.fill_null(chunk.cast(pa.string()), "")
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        kernels.added(np.frombuffer(data or b"", np.uint8), ends, here)


def matched(mine: Keys, theirs: Keys) -> Ints:
    """Find for each key the first place where it stands among the others, -1 where it does not."""
    if not len(theirs) or not len(mine):
        return np.full(len(mine), -1)
    order = np.argsort(theirs[:, 0], kind="stable")
    asked = np.argsort(mine[:, 0], kind="stable")
    at = np.searchsorted(theirs[order, 0], mine[asked, 0])
    place = order[np.minimum(at, order.size - 1)]
    found = np.empty(len(mine), np.int64)
    found[asked] = np.where((theirs[place] == mine[asked]).all(axis=1), place, -1)
    return found
