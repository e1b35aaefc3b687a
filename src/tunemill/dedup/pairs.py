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

    No pair below the threshold is ever given. A pair exactly at it is missed with a chance of at most 1.1 `miss` (see
    `bands_for`), one above it less often. Shingles are `shingle` characters of the text as it is: normalise first.
    Texts shorter than that pair only where they are identical, at 1.0; empty ones never do. Where many texts are alike
    there are quadratically many pairs: `linking_pairs` gives fewer.
    """
    return _every_length(texts, threshold, shingle, seed, miss, unite=False)


def linking_pairs(
    texts: Sequence[str], threshold: float, shingle: int = 5, *, seed: int = SEED, miss: float = MISS
) -> Pairs:
    """Give as many of the `near_pairs` as connect what they all connect.

    Work grows with the number of texts, not of pairs: what is connected already is not compared again.
    """
    return _every_length(texts, threshold, shingle, seed, miss, unite=True)


def _every_length(texts: Sequence[str], threshold: float, shingle: int, seed: int, miss: float, unite: bool) -> Pairs:
    long = np.array([i for i, text in enumerate(texts) if len(text) >= shingle], np.int64)
    short = _identical(texts, shingle, unite)
    if not long.size:
        return Pairs(short[:, 0], short[:, 1], np.ones(len(short)))
    found = _search([texts[int(i)] for i in long], threshold, shingle, seed, miss, unite)
    left = np.concatenate([long[found.left], short[:, 0]])
    right = np.concatenate([long[found.right], short[:, 1]])
    return _in_order(left, right, np.concatenate([found.similarity, np.ones(len(short))]))


def _identical(texts: Sequence[str], shingle: int, unite: bool) -> Ints:
    """Pair the identical ones among the texts that are shorter than a shingle, each with the first or with all."""
    places: dict[str, list[int]] = {}
    pairs: list[tuple[int, int]] = []
    for i, text in enumerate(texts):
        if 0 < len(text) < shingle:
            earlier = places.setdefault(text, [])
            pairs += [(j, i) for j in earlier]
            if not (unite and earlier):
                earlier.append(i)
    return np.array(pairs, np.int64).reshape(-1, 2)


def _search(texts: Sequence[str], threshold: float, shingle: int, seed: int, miss: float, unite: bool) -> Pairs:
    """Walk the buckets band by band, then look through what was too crowded; no text is shorter than a shingle."""
    from tunemill.dedup import minhash_kernels as kernels

    bands, rows = bands_for(threshold, miss)
    codes = encode(texts)
    signatures = sign(codes, shingle, bands, rows, seed)
    corpus = (*codes, signatures.sizes)
    enough = enough_agreeing(signatures.sketches.shape[1], threshold, miss / 10)
    walk = kernels.new_walk(codes.offsets)
    found = []
    for band in range(bands):
        column = np.ascontiguousarray(signatures.keys[:, band])
        order = np.argsort(column)
        look = (order, column[order], signatures.keys, band, signatures.sketches, enough)
        found.append(kernels.compare_band(*look, corpus, threshold, shingle, CROWD, unite, walk))
    (parent, edges, strength), crowded = walk[:2]
    if unite:
        absorbed = np.flatnonzero(parent != np.arange(len(texts)))
        found.append((edges[absorbed, 0], edges[absorbed, 1], strength[absorbed]))
    if crowded.any():
        members = np.flatnonzero(crowded)
        parts = components(len(texts), np.arange(len(texts)), parent)[members]
        more = alike([texts[int(i)] for i in members], parts, threshold, shingle)
        found.append((members[more.left], members[more.right], more.similarity))
    left, right, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    return _in_order(left, right, similarity)


def _in_order(left: Ints, right: Ints, similarity: npt.NDArray[np.float64]) -> Pairs:
    """Turn each pair to left < right, sort, and keep one of each."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, once = np.unique(low << 32 | high, return_index=True)
    return Pairs(low[once], high[once], similarity[once])
