"""Find the pairs of texts that are nearly the same: MinHash proposes, an exact comparison decides."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunemill.dedup.components import Ints, components
from tunemill.dedup.overlap import Pairs, alike
from tunemill.dedup.signatures import MISS, bands_for, encode, enough_agreeing, sign

CROWD = 400
"""Comparisons for each member that a bucket may ask for in one band before it is left to the exact search."""
SEED = 20_240_229
"""Draws the hash functions; another one gives an independent second look."""


def near_pairs(
    texts: Sequence[str], threshold: float, shingle: int = 5, *, seed: int = SEED, miss: float = MISS
) -> Pairs:
    """Give every pair of texts whose sets of shingles reach the threshold, with its exact Jaccard similarity.

    No pair below the threshold is ever given. A pair exactly at it is missed with a chance of at most `miss` (see
    `bands_for`), one above it less often. Shingles are `shingle` characters of the text as it is: normalise first.
    Texts shorter than that pair only where they are identical, at 1.0; empty ones never do. What is given can be
    quadratic where many texts are alike; `clusters` is not.
    """
    long = np.array([i for i, text in enumerate(texts) if len(text) >= shingle], np.int64)
    found = _search([texts[int(i)] for i in long], threshold, shingle, seed, miss, unite=False)[0]
    short = _identical(texts, shingle)
    left = np.concatenate([long[found.left], short[:, 0]])
    right = np.concatenate([long[found.right], short[:, 1]])
    similarity = np.concatenate([found.similarity, np.ones(len(short))])
    order = np.lexsort((right, left))
    return Pairs(left[order], right[order], similarity[order])


def _identical(texts: Sequence[str], shingle: int) -> Ints:
    """Pair the identical ones among the texts that are shorter than a shingle."""
    places: dict[str, list[int]] = {}
    pairs: list[tuple[int, int]] = []
    for i, text in enumerate(texts):
        if 0 < len(text) < shingle:
            earlier = places.setdefault(text, [])
            pairs += [(j, i) for j in earlier]
            earlier.append(i)
    return np.array(pairs, np.int64).reshape(-1, 2)


def near_components(texts: Sequence[str], threshold: float, shingle: int = 5) -> Ints:
    """Give each text the smallest index that it is connected to by pairs at the threshold; texts must be distinct.

    Work grows with the number of texts, not of pairs: what is connected already is not compared again.
    """
    long = np.array([i for i, text in enumerate(texts) if len(text) >= shingle], np.int64)
    pairs, parent = _search([texts[int(i)] for i in long], threshold, shingle, SEED, MISS, unite=True)
    left, right = np.concatenate([pairs.left, np.arange(long.size)]), np.concatenate([pairs.right, parent])
    labels = np.arange(len(texts))
    labels[long] = long[components(long.size, left, right)]
    return labels


def _search(
    texts: Sequence[str], threshold: float, shingle: int, seed: int, miss: float, unite: bool
) -> tuple[Pairs, Ints]:
    """Walk the buckets band by band, then look through what was too crowded.

    With `unite` the pairs are no more than the components need, some of which stand in the second value only: for each
    text one of smaller or equal index that it is connected to.
    """
    from tunemill.dedup import minhash_kernels as kernels

    bands, rows = bands_for(threshold, miss)
    codes = encode(texts)
    keys, sketches, sizes = sign(codes, shingle, bands, rows, seed)
    enough = enough_agreeing(sketches.shape[1], threshold, miss / 10)
    walk = kernels.new_walk(codes.offsets)
    corpus = (*codes, sizes)
    found = []
    for band in range(bands):
        column = np.ascontiguousarray(keys[:, band])
        order = np.argsort(column)
        found.append(
            kernels.compare_band(
                order, column[order], keys, band, sketches, enough, corpus, threshold, shingle, CROWD, unite, walk
            )
        )
    parent, crowded = walk[:2]
    if crowded.any():
        rows_left = np.flatnonzero(crowded)
        parts = components(len(texts), np.arange(len(texts)), parent)[rows_left]
        more = alike([texts[int(i)] for i in rows_left], parts, threshold, shingle)
        found.append((rows_left[more.left], rows_left[more.right], more.similarity))
    left, right, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    return _distinct(left, right, similarity), parent


def _distinct(left: Ints, right: Ints, similarity: npt.NDArray[np.float64]) -> Pairs:
    """Turn each pair to left < right and keep one of each."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, once = np.unique(np.stack([low, high], axis=1), axis=0, return_index=True)
    return Pairs(low[once], high[once], similarity[once])
