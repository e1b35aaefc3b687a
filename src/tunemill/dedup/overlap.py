"""Find similar texts by counting every shingle that they share: exact, with no chance in it.

It serves two ends: it looks through the few crowded buckets where MinHash tells nothing apart, and it checks a split
without relying on the hashes by which the split was made.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunemill.dedup.components import Ints
from tunemill.dedup.signatures import encode


class Pairs(NamedTuple):
    """Pairs of texts with left < right, in ascending order."""

    left: Ints
    right: Ints
    similarity: npt.NDArray[np.float64]


class Shingled(NamedTuple):
    """Texts as sets of numbered shingles: 0 stands in the fewest texts."""

    shingles: Ints
    """Sorted within a text; text i has shingles[offsets[i]:offsets[i + 1]]."""
    offsets: Ints
    kinds: int
    """How many different shingles there are."""


class Plan(NamedTuple):
    """What a search would look at, before it is run."""

    indexed: Ints
    """How many of its rarest shingles each text is looked up by."""
    probes: Ints
    """Texts that look others up: all but those of the largest part, which no pair needs twice."""
    postings: Ints
    """Which texts hold each indexed shingle, by shingle and part."""
    heads: Ints
    """Postings of shingle w are postings[heads[w]:heads[w + 1]]."""
    skips: Ints
    """For each posting, where the stretch of its part ends."""
    cost: int
    """Additions that the search takes at most; about a nanosecond each."""


def shingled(texts: Sequence[str], shingle: int) -> Shingled:
    """Number the shingles of all texts by rarity; a text shorter than a shingle is one shingle of its own kind."""
    from tunemill.dedup import overlap_kernels

    hashes, offsets = hashed(texts, shingle)
    lengths = np.diff(offsets)
    numbers, sizes, kinds, _ = overlap_kernels.number(hashes, offsets[:-1], np.maximum(lengths - shingle + 1, 0))
    short = np.flatnonzero((lengths > 0) & (lengths < shingle))
    names: dict[str, int] = {}
    extra = np.array([kinds + names.setdefault(texts[int(i)], len(names)) for i in short], np.int64)
    owners = np.concatenate([np.repeat(np.arange(len(texts)), sizes), short])
    return _by_rarity(owners, np.concatenate([numbers, extra]), len(texts), max(kinds + len(names), 1))


def hashed(texts: Sequence[str], shingle: int) -> tuple[npt.NDArray[np.uint64], Ints]:
    """Hash what begins at each character of the texts laid end to end; also give where each text begins."""
    points, offsets = encode(texts)
    hashes = np.zeros(max(points.size - shingle + 1, 0), np.uint64)
    for k in range(shingle):
        hashes = hashes * np.uint64(0xD6E8FEB86659FD93) + points[k : k + hashes.size]
    return hashes, offsets


def _by_rarity(owners: Ints, numbers: Ints, texts: int, kinds: int) -> Shingled:
    rank = np.empty(kinds, np.int64)
    rank[np.argsort(np.bincount(numbers, minlength=kinds), kind="stable")] = np.arange(kinds)
    order = np.sort(owners * kinds + rank[numbers])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=texts))])
    return Shingled(order % kinds, offsets, kinds)


def plan(sets: Shingled, parts: Ints, threshold: float, whole: bool) -> Plan:
    """Lay out a search for pairs from different parts.

    A set of n shingles reaches Jaccard t with another only where they share t * n, so at least one of its rarest
    n - ceil(t * n) + 1 is among the rarest of the other: that many are looked up. With `whole` all are, which costs
    more and sees the similarity of every pair that shares anything.
    """
    sizes = np.diff(sets.offsets)
    indexed = sizes if whole else np.minimum(sizes, sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1)
    owners = np.repeat(np.arange(sizes.size), sizes)
    chosen = np.arange(sets.shingles.size) - sets.offsets[owners] < indexed[owners]
    owners, numbers = owners[chosen], sets.shingles[chosen]
    _, ranks = np.unique(parts, return_inverse=True)
    kinds = int(ranks.max(initial=0)) + 1
    block = numbers * kinds + ranks[owners]
    order = np.argsort(block, kind="stable")
    block = block[order]
    begins = np.flatnonzero(np.diff(block, prepend=-1))
    ends = np.append(begins, block.size)[1:]
    heads = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=sets.kinds))])
    probes = np.flatnonzero(ranks != np.argmax(np.bincount(ranks, minlength=1)))
    looks = np.isin(owners, probes)
    cost = int(np.diff(heads)[numbers[looks]].sum())
    return Plan(indexed, probes, owners[order], heads, np.repeat(ends, ends - begins), cost)


def crossing(sets: Shingled, parts: Ints, threshold: float, laid: Plan) -> tuple[Pairs, float]:
    """Give every pair from different parts that reaches the threshold, and the highest similarity computed.

    Where the plan is whole, that is the highest of all pairs; else no pair that was not met reaches the threshold.
    """
    from tunemill.dedup import overlap_kernels

    left, right, similarity, highest = overlap_kernels.search(
        sets.shingles, sets.offsets, laid.indexed, parts, laid.probes, laid.postings, laid.heads, laid.skips, threshold
    )
    order = np.lexsort((right, left))
    return Pairs(left[order], right[order], similarity[order]), float(highest)


def alike(texts: Sequence[str], parts: Ints, threshold: float, shingle: int) -> Pairs:
    """Give every pair of texts from different parts that reaches the threshold."""
    sets = shingled(texts, shingle)
    return crossing(sets, parts, threshold, plan(sets, parts, threshold, whole=False))[0]
