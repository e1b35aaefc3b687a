"""Look for similar texts that stand on two sides, as exactly as their number allows."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tunemill.dedup.bands import Bands, across, signed
from tunemill.dedup.components import Ints
from tunemill.dedup.meetings import meetings
from tunemill.dedup.overlap import Pairs, crossing, plan, shingled

Method = Literal["every pair", "every pair at the threshold", "MinHash, another seed", "every new row at the threshold"]

CHARACTERS = 1_500_000
"""Characters up to which every pair is counted, which takes about 90 bytes for each."""
ADDITIONS = 50_000_000
"""Additions that counting every pair may take, about a nanosecond each."""
COMPARISONS = 2_000_000_000
"""Pairs of texts on two sides up to which they are looked up by their rare shingles: about 2 s."""


class Crossings(NamedTuple):
    """What was found on two sides, and how it was looked for."""

    pairs: Pairs
    """Pairs from different parts that reach the threshold."""
    highest: float | None
    """Highest similarity of a pair from different parts; None where only pairs at the threshold are looked for and
    there are none."""
    method: Method


def crossings(
    texts: Sequence[str], parts: Ints, threshold: float, shingle: int = 5, bands: Bands | None = None
) -> Crossings:
    """Find the pairs of texts from different parts whose shingles reach the threshold.

    The first method that the size allows is taken. "every pair" counts what any two texts share. "every pair at the
    threshold" looks texts up by their rarest shingles, which misses none that reach it. "MinHash, another seed" takes
    the second half of the texts' bands, which no grouping has looked at: it misses a given pair at the threshold with a
    chance of at most 1e-3, and so does the grouping, by other hashes.
    """
    if sum(map(len, texts)) <= CHARACTERS:
        sets = shingled(texts, shingle)
        laid = plan(sets, parts, threshold, whole=True)
        if laid.cost <= ADDITIONS:
            return Crossings(*crossing(sets, parts, threshold, laid), "every pair")
    counts = np.bincount(parts)
    if int(counts.sum()) ** 2 - int((counts.astype(object) ** 2).sum()) <= 2 * COMPARISONS:
        return _known(_every(texts, parts, threshold, shingle), "every pair at the threshold")
    bands = signed(texts, threshold, shingle) if bands is None else bands
    return _known(across(texts, bands, parts, threshold, shingle), "MinHash, another seed")


def _known(pairs: Pairs, method: Method) -> Crossings:
    return Crossings(pairs, float(pairs.similarity.max()) if len(pairs.left) else None, method)


def _every(texts: Sequence[str], parts: Ints, threshold: float, shingle: int) -> Pairs:
    """Walk all larger parts past each part but the largest."""
    found = list(_walked(texts, parts, threshold, shingle))
    left, right, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    low, high = np.minimum(left, right), np.maximum(left, right)
    order = np.lexsort((high, low))
    return Pairs(low[order], high[order], similarity[order])


def _walked(texts: Sequence[str], parts: Ints, threshold: float, shingle: int) -> Iterator[Pairs]:
    yield Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    larger: list[int] = []
    for part in np.argsort(-np.bincount(parts), kind="stable"):
        own = np.flatnonzero(parts == part)
        if larger and own.size:
            others = np.flatnonzero(np.isin(parts, larger))
            few, many = ([texts[i] for i in some.tolist()] for some in (own, others))
            met = meetings(few, many, threshold, shingle)
            yield Pairs(own[met.left], others[met.right], met.similarity)
        larger.append(int(part))
