"""Look for similar texts by MinHash bands that are kept from night to night: half of them group, half check.

Either half misses a pair exactly at the threshold with a chance of `MISS`, and a pair above it less often; the halves
are drawn apart, so both miss it with a chance of `MISS` squared. Whatever they propose is compared exactly.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tunemill.dedup.components import Ints
from tunemill.dedup.overlap import Pairs
from tunemill.dedup.pairs import SEED
from tunemill.dedup.signatures import bands_for, encode

MISS = 1e-3
"""Chance that a pair exactly at the threshold shares no band of one half."""
STRETCH = 16_000_000
"""Characters that are signed at once."""
CROWD = 4_000
"""Comparisons for each member that a bucket may ask for in one band before only its neighbours are compared."""

TRIES = 8
"""Texts of a run that one band may propose for a text: those that it turns down are few, and there are many bands."""

Half = Literal[0, 1]


class Bands(NamedTuple):
    """What is kept of texts: it depends on each text and the threshold alone, whatever stands beside it."""

    keys: npt.NDArray[np.uint32]
    """(both halves' bands, texts): texts that share a key are candidates."""
    bitmaps: npt.NDArray[np.uint64]
    """(texts, 8): a bit for every shingle, by which most candidates are turned down."""
    sizes: npt.NDArray[np.int32]
    """(texts,): distinct shingles."""

    def half(self, which: Half) -> npt.NDArray[np.uint32]:
        """Give the keys of one half."""
        middle = len(self.keys) // 2
        return self.keys[:middle] if which == 0 else self.keys[middle:]

    def take(self, places: Ints) -> "Bands":
        """Give those of some texts."""
        if np.array_equal(places, np.arange(self.sizes.size)):
            return self
        return Bands(np.take(self.keys, places, axis=1), self.bitmaps[places], self.sizes[places])


def band_shape(threshold: float) -> tuple[int, int]:
    """Give the bands of one half and the MinHash values in each."""
    return bands_for(threshold, MISS)


def signed(texts: Sequence[str], threshold: float, shingle: int) -> Bands:
    """Sign texts, which are normalised already; one that is shorter than a shingle is one shingle of its own kind."""
    from tunemill.dedup import band_kernels as kernels

    bands, rows = band_shape(threshold)
    draw = np.random.RandomState(SEED)  # its stream is frozen by numpy's policy
    factors = draw.randint(0, 2**32, 2 * bands * rows, dtype=np.uint32) | np.uint32(1)
    shifts = draw.randint(0, 2**32, 2 * bands * rows, dtype=np.uint32)
    parts = [kernels.sign(*encode(part), shingle, factors, shifts, 2 * bands) for part in stretches(texts)]
    if not parts:
        return Bands(np.empty((2 * bands, 0), np.uint32), np.empty((0, 16), np.uint64), np.empty(0, np.int32))
    keys, bitmaps, sizes = zip(*parts, strict=True)
    return Bands(np.concatenate(keys, axis=1), np.concatenate(bitmaps), np.concatenate(sizes))


def stretches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut texts into parts of some million characters."""
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + STRETCH, "right")))
        yield texts[start:end]
        start = end


def linked(texts: Sequence[str], bands: Bands, threshold: float, shingle: int) -> Ints:
    """Label each text with the smallest index that pairs of the first half at the threshold connect it to.

    Empty ones stand alone. Only in a bucket that is too crowded to be compared does the order of the texts matter.
    """
    from tunemill.dedup import band_kernels as kernels
    from tunemill.dedup import index_kernels

    corpus = (*encode(texts), bands.sizes)
    parent = np.arange(len(texts))
    walk = (np.zeros(len(texts), np.int64), *kernels.new_table(corpus[1]))
    for keys in bands.half(0):
        kernels.unite(packed(keys, bands.sizes), bands.bitmaps, corpus, threshold, shingle, CROWD, parent, walk)
    index_kernels.flatten(parent)
    return parent


def across(texts: Sequence[str], bands: Bands, parts: Ints, threshold: float, shingle: int) -> Pairs:
    """Give the pairs from different parts that reach the threshold, looked for by the second half."""
    from tunemill.dedup import band_kernels as kernels

    sides = parts.astype(np.int8)
    found = [
        kernels.apart(packed(keys, bands.sizes), sides, bands.bitmaps, bands.sizes, threshold) for keys in bands.half(1)
    ]
    left, right = (np.concatenate(column) for column in zip(*found, strict=True))
    return compared(texts, left, right, threshold, shingle)


def met(few: Bands, many: Bands, runs: Ints, threshold: float) -> tuple[Ints, Ints]:
    """Give pairs (few, many) that either half proposes and whose bitmaps may reach the threshold.

    In each band a text of `few` is given with the first `TRIES` of each run; `runs` has a number for each of `many`.
    """
    from tunemill.dedup import band_kernels as kernels

    bits = int(np.clip(np.log2(max(few.sizes.size, 1)) + 3, 8, 22))
    found = [np.empty((2, 0), np.int64)]
    for mine, theirs in zip(few.keys, many.keys, strict=True):
        own = (packed(mine, few.sizes), few.bitmaps, few.sizes)
        left, right = kernels.meet(*own, theirs, many.bitmaps, many.sizes, bits, threshold)
        order = np.lexsort((right, runs[right], left))
        left, right = left[order], right[order]
        begins = np.flatnonzero((np.diff(left, prepend=-1) != 0) | (np.diff(runs[right], prepend=-1) != 0))
        place = np.arange(left.size) - np.repeat(begins, np.diff(begins, append=left.size))
        found.append(np.stack([left, right])[:, place < TRIES])
    left, right = np.unique(np.concatenate(found, axis=1), axis=1)
    return left, right


def compared(texts: Sequence[str], left: Ints, right: Ints, threshold: float, shingle: int) -> Pairs:
    """Keep one of each pair of texts that reaches the threshold, left < right, in ascending order."""
    return compared_with(texts, texts, np.minimum(left, right), np.maximum(left, right), threshold, shingle)


def compared_with(
    few: Sequence[str], many: Sequence[str], left: Ints, right: Ints, threshold: float, shingle: int
) -> Pairs:
    """Keep one of each pair of a text of `few` and one of `many` that reaches the threshold, in ascending order."""
    from tunemill.dedup import band_kernels as kernels

    pairs = np.unique(left << 32 | right)
    left, right = pairs >> 32, pairs & 0xFFFFFFFF
    mine, one = np.unique(left, return_inverse=True)
    theirs, other = np.unique(right, return_inverse=True)
    codes = encode([*(few[int(i)] for i in mine), *(many[int(i)] for i in theirs)])
    similarity = kernels.compare(*codes, one, other + mine.size, threshold, shingle)
    reach = similarity > 0
    return Pairs(left[reach], right[reach], similarity[reach])


def packed(keys: npt.NDArray[np.uint32], sizes: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """Put each key above the number of its text and sort; empty texts are left out."""
    filled = np.flatnonzero(sizes > 0)
    both = keys[filled].astype(np.uint64) << np.uint64(32) | filled.astype(np.uint64)
    both.sort()
    return both
