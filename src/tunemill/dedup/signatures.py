"""Turn texts into arrays, and choose how many MinHash bands find the pairs that matter."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

HASHES = 320
"""Hash values a row may cost: more rows a band mean fewer false candidates, and each row more needs more bands."""
SKETCH = 128
"""Bytes of a sketch: two cache lines, on which unrelated texts at 0.7 agree too rarely to be mistaken."""
MISS = 1e-6
"""Chance that a pair exactly at the threshold shares no band; a pair above it is missed less often."""


class Codes(NamedTuple):
    """Texts laid end to end, so that a compiled loop can walk them."""

    points: npt.NDArray[np.uint32]
    """Unicode code points: a shingle is five characters in every script, not five bytes."""
    offsets: npt.NDArray[np.int64]
    """Text i is points[offsets[i]:offsets[i + 1]]."""


def encode(texts: Sequence[str]) -> Codes:
    """Lay texts end to end as code points; lone surrogates are kept as they are."""
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    return Codes(points, offsets)


def bands_for(threshold: float, miss: float = MISS) -> tuple[int, int]:
    """Choose (bands, rows a band) so that a pair at `threshold` is missed with a chance of at most `miss`.

    Two texts of similarity s agree on one MinHash value with chance s, on a band of r with s^r, and on none of b bands
    with (1 - s^r)^b. The largest r is taken for which the b that it needs stay within `HASHES` values in all: at 0.7
    51 bands of 4 (8.3e-7), at 0.5 104 bands of 3 (9.3e-7).
    """
    best = (1, 1)
    for rows in range(1, 17):
        agree = threshold**rows
        bands = 1 if agree == 1 else math.ceil(math.log(miss) / math.log1p(-agree))
        if rows == 1 or bands * rows <= HASHES:
            best = (bands, rows)
    return best


def enough_agreeing(values: int, threshold: float, miss: float) -> int:
    """Give how many of `values` MinHash values a pair at `threshold` agrees on, but for a chance below `miss`."""
    chance, agree = 0.0, 0
    while agree < values:
        chance += math.comb(values, agree) * threshold**agree * (1 - threshold) ** (values - agree)
        if chance >= miss:
            break
        agree += 1
    return agree


class Signatures(NamedTuple):
    """What MinHash knows of each text; it depends on the text and the seed alone, whatever stands beside it."""

    keys: npt.NDArray[np.uint64]
    """(texts, bands): texts that share a key are candidates."""
    sketches: npt.NDArray[np.uint8]
    """(texts, up to SKETCH): one byte of each of the first values, to turn down most candidates at a glance."""
    sizes: npt.NDArray[np.int64]
    """(texts,): distinct shingles."""


def sign(codes: Codes, shingle: int, bands: int, rows: int, seed: int) -> Signatures:
    """Hash every text; texts must be at least `shingle` characters long."""
    from tunemill.dedup import minhash_kernels

    # RandomState's stream is frozen by numpy's policy; that of the newer generators may change with a version.
    draw = np.random.RandomState(seed)
    factors = draw.randint(0, 2**32, bands * rows, dtype=np.uint32) | np.uint32(1)
    shifts = draw.randint(0, 2**32, bands * rows, dtype=np.uint32)
    sketch = min(bands * rows, SKETCH)
    return Signatures(*minhash_kernels.sign(*codes, shingle, factors, shifts, bands, sketch))
