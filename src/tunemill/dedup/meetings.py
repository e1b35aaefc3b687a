"""Find what a few new texts are like among many old ones: exact, and the many are only walked past."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from tunemill.dedup.components import Ints
from tunemill.dedup.overlap import Pairs, hashed

STRETCH = 8_000_000
"""Characters of the many that are held as hashes at a time, about 30 bytes each."""


def meetings(
    few: Sequence[str],
    many: Sequence[str],
    threshold: float,
    shingle: int = 5,
    *,
    parts: tuple[Ints, Ints] | None = None,
    runs: Ints | None = None,
) -> Pairs:
    """Pair texts of `few` (left) with texts of `many` (right) whose sets of shingles reach the threshold.

    No pair is missed: a text is looked up by the rarest of its shingles, of which two that reach the threshold share
    one. Texts shorter than a shingle pair where they are identical; empty ones never do. Time grows with the characters
    of `many`, memory with those of `few`.

    Args:
        parts: a number for each of the few and of the many; only texts with different numbers pair.
        runs: a number for each of the many, equal ones next to each other: a text of `few` is paired with the first
            of each run that it reaches. Without it every pair is given.
    """
    few_parts, many_parts = parts or (np.full(len(few), -1), np.zeros(len(many), np.int64))
    runs = np.arange(len(many)) if runs is None else runs
    long = np.array([i for i, text in enumerate(few) if len(text) >= shingle], np.int64)
    found = [_identical(few, many, few_parts, many_parts, shingle)]
    if long.size:
        met = _met([few[int(i)] for i in long], many, few_parts[long], many_parts, runs, threshold, shingle)
        found += [Pairs(long[pairs.left], pairs.right, pairs.similarity) for pairs in met]
    left, right, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((right, left))
    left, right, similarity = left[order], right[order], similarity[order]
    _, once = np.unique(np.stack([left, runs[right]], axis=1), axis=0, return_index=True)
    return Pairs(left[once], right[once], similarity[once])


def _met(
    few: Sequence[str],
    many: Sequence[str],
    few_parts: Ints,
    many_parts: Ints,
    runs: Ints,
    threshold: float,
    length: int,
) -> Iterator[Pairs]:
    """Walk stretches of `many` past `few`, none of which is shorter than a shingle."""
    from tunemill.dedup import overlap_kernels

    hashes, offsets = hashed(few, length)
    numbers, sizes, kinds, table = overlap_kernels.number(hashes, offsets[:-1], np.diff(offsets) - length + 1)
    order = np.empty(kinds, np.int64)
    order[np.argsort(np.bincount(numbers, minlength=kinds), kind="stable")] = np.arange(kinds)
    owners = np.repeat(np.arange(len(few)), sizes)
    ranks = np.sort(owners * kinds + order[numbers]) % kinds
    begins = np.concatenate([[0], np.cumsum(sizes)])
    indexed = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
    rare = np.arange(ranks.size) - begins[owners] < indexed[owners]
    heads = np.concatenate([[0], np.cumsum(np.bincount(ranks[rare], minlength=kinds))])
    postings = owners[rare][np.argsort(ranks[rare], kind="stable")]
    for start, end in _stretches(many):
        points, places = hashed(many[start:end], length)
        counts = np.maximum(np.diff(places) - length + 1, 0)
        left, right, similarity = overlap_kernels.meet(
            *(points, places[:-1], counts, many_parts[start:end], runs[start:end]),
            *(table, order, ranks, begins, indexed, heads, postings, few_parts, threshold),
        )
        yield Pairs(left, right + start, similarity)


def _stretches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + STRETCH, "right")))
        yield start, end
        start = end


def _identical(few: Sequence[str], many: Sequence[str], few_parts: Ints, many_parts: Ints, shingle: int) -> Pairs:
    """Pair the texts that are shorter than a shingle with those that are identical."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(few):
        if 0 < len(text) < shingle:
            places[text].append(i)
    pairs = [
        (i, j)
        for j, text in enumerate(many if places else ())
        if len(text) < shingle
        for i in places.get(text, ())
        if few_parts[i] != many_parts[j]
    ]
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return Pairs(found[:, 0], found[:, 1], np.ones(len(found)))
