"""Keep the prompts of each night and what they are looked up by, so that a later night reads those alone that it meets.

    prompts/0000-texts.npy · -ends.npy                        prompts end to end in UTF-8, and where each begins
    prompts/0000-52x3-keys.npy · -bitmaps.npy · -sizes.npy    their bands: twice 52 of 3 values at 0.5

Arrays stand in the order of the night's entries in the ledger; they are mapped, not read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunemill.dedup.bands import Bands, band_shape

if TYPE_CHECKING:
    import pyarrow as pa


def write(folder: Path, night: int, texts: Sequence[str], bands: Bands, threshold: float) -> None:
    """Write a night's prompts and their bands."""
    for name, array in bands._asdict().items():
        np.save(folder / _band_file(night, threshold, name), array)
    parts = [text.encode() for text in texts]
    ends = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=ends[1:])
    np.save(folder / f"{night:04}-texts.npy", np.frombuffer(b"".join(parts), np.uint8))
    np.save(folder / f"{night:04}-ends.npy", ends)


def read_texts(folder: Path, night: int) -> "pa.Array | None":
    """Open the prompts of a night, which are not read before they are asked for; None where they stand elsewhere."""
    import pyarrow as pa

    data, ends = folder / f"{night:04}-texts.npy", folder / f"{night:04}-ends.npy"
    if not ends.is_file():
        return None
    begins, mapped = np.load(ends), np.load(data, mmap_mode="r")
    return pa.LargeStringArray.from_buffers(begins.size - 1, pa.py_buffer(begins), pa.py_buffer(np.asarray(mapped)))


def read_bands(folder: Path, night: int, threshold: float) -> Bands | None:
    """Open what a night's prompts are looked up by; None where it was made for another threshold, or never."""
    paths = [folder / _band_file(night, threshold, name) for name in Bands._fields]
    if not all(path.is_file() for path in paths):
        return None
    return Bands(*(np.asarray(np.load(path, mmap_mode="r")) for path in paths))


def _band_file(night: int, threshold: float, name: str) -> str:
    bands, rows = band_shape(threshold)
    return f"{night:04}-{bands}x{rows}-{name}.npy"
