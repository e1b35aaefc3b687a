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
    from tunemill.splits import key_kernels as kernels

    found = np.zeros((table.num_rows, 2), np.uint64)
    for name in names:
        first = 0
        for chunk in table[name].chunks:
            kernels.added(found[first : first + len(chunk)], *_lanes(chunk))
            first += len(chunk)
    return found


def _lanes(chunk: "pa.Array") -> tuple[Keys, Ints]:
    """Hash the values of a column, texts or whole numbers; also give the value of each row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from tunemill.splits import key_kernels as kernels

    every = np.arange(len(chunk))
    if pa.types.is_dictionary(chunk.type):
        return _lanes(chunk.dictionary)[0], chunk.indices.to_numpy().astype(np.int64)
    if pa.types.is_integer(chunk.type):
        numbers = chunk.to_numpy(zero_copy_only=False).astype(np.int64)
        return kernels.valued(numbers.view(np.uint8), np.arange(len(chunk) + 1) * 8), every
    if chunk.null_count == len(chunk):
        return kernels.valued(np.empty(0, np.uint8), np.zeros(2, np.int64)), np.zeros(len(chunk), np.int64)
    chunk = pc.fill_null(chunk, "")
    _, offsets, data = chunk.buffers()
    ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
    return kernels.valued(np.frombuffer(data, np.uint8), ends), every


def matched(mine: Keys, theirs: Keys) -> Ints:
    """Find for each key the first place where it stands among the others, -1 where it does not."""
    from tunemill.splits import key_kernels as kernels

    found: Ints = kernels.matched(mine, theirs)
    return found


def numbered(column: "pa.ChunkedArray") -> Ints:
    """Give each row the first one that has the same name; what has none, or an empty one, stands for itself."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return np.arange(len(column))
    own = keys(pa.table({"name": column}), ("name",))
    nothing = pc.fill_null(pc.equal(column, ""), True).to_numpy()
    return np.where(nothing, np.arange(len(column)), matched(own, own))
