"""Look texts up by their rarest shingles: no pair that reaches the threshold is missed, whatever is hashed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunemill.dedup.bands import stretches
from tunemill.dedup.components import Ints
from tunemill.dedup.signatures import encode

MORE = 4
"""Shingles that two texts must share among those that they are looked up by; each costs one more of them."""
BLOCK = 8_000
"""Texts that are indexed at once: their counters stay in the processor's first cache."""
SAMPLE = 50_000
"""Texts by which it is judged which shingles are rare."""

Levels = npt.NDArray[np.uint8]


class Tokens(NamedTuple):
    """What texts are looked up by, and what candidates are turned down by; see `prefix_kernels.tokens`."""

    found: npt.NDArray[np.uint32]
    starts: Ints
    sizes: npt.NDArray[np.int32]
    bitmaps: npt.NDArray[np.uint64]


def levels_of(texts: Sequence[str], shingle: int) -> Levels:
    """Say how often shingles are met, in thirds of an octave, by bits of their hash. Any order of shingles is exact."""
    from tunemill.dedup import prefix_kernels as kernels

    counts = np.zeros(1 << kernels.BUCKETS, np.int64)
    for part in stretches(texts[:: max(1, len(texts) // SAMPLE)]):
        kernels.tally(*encode(part), shingle, counts)
    found: Levels = np.minimum(3 * np.log2(1 + counts), 63).astype(np.uint8)
    return found


def tokens_of(texts: Sequence[str], levels: Levels, threshold: float, shingle: int) -> Tokens:
    """Give the rarest shingles of each text."""
    from tunemill.dedup import prefix_kernels as kernels

    return Tokens(*kernels.tokens(*encode(texts), shingle, levels, threshold, MORE))


def proposed(
    few: Sequence[str],
    few_parts: Ints,
    many: Sequence[str],
    many_parts: Ints,
    levels: Levels,
    threshold: float,
    shingle: int,
) -> tuple[Ints, Ints, int]:
    """Give every pair (few, many) of different parts that may reach the threshold, and how many entries it took."""
    from tunemill.dedup import prefix_kernels as kernels

    by_size = np.argsort(np.fromiter(map(len, few), np.int64, len(few)), kind="stable")
    blocks = []
    for start in range(0, len(few), BLOCK):
        chosen = by_size[start : start + BLOCK]
        own = tokens_of([few[int(i)] for i in chosen], levels, threshold, shingle)
        order = np.argsort(own.sizes, kind="stable")
        own = tokens_of([few[int(i)] for i in chosen[order]], levels, threshold, shingle)
        bits = int(np.clip(np.log2(max(own.found.size, 1)), 8, 19))
        blocks.append((chosen[order], own, kernels.indexed(*own[:3], threshold, MORE, bits), bits))
    left, right, looked, first = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0, 0
    for part in stretches(many):
        theirs = tokens_of(part, levels, threshold, shingle)
        parts = many_parts[first : first + len(part)]
        for place, own, index, bits in blocks:
            one, other, cost = kernels.candidates(theirs, parts, own, few_parts[place], index, bits, threshold, MORE)
            left.append(place[one])
            right.append(other + first)
            looked += cost
        first += len(part)
    return np.concatenate(left), np.concatenate(right), looked
