"""Look for similar texts that stand on two sides, as exactly as their number allows."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tunemill.dedup.components import Ints
from tunemill.dedup.overlap import Pairs, crossing, plan, shingled
from tunemill.dedup.pairs import SEED, linking_pairs

Method = Literal["every pair", "every pair at the threshold", "MinHash, another seed", "every new row at the threshold"]

CHARACTERS = 30_000_000
"""Characters that an exact search holds in memory, about 90 bytes each."""
ADDITIONS = 1_000_000_000
"""Additions that an exact search may take: 2 s where all is counted, 10 s where only the rare shingles are."""


class Crossings(NamedTuple):
    """What was found on two sides, and how it was looked for."""

    pairs: Pairs
    """Pairs from different parts that reach the threshold."""
    highest: float | None
    """Highest similarity of a pair from different parts; None where only pairs at the threshold are looked for and
    there are none."""
    method: Method


def crossings(texts: Sequence[str], parts: Ints, threshold: float, shingle: int = 5) -> Crossings:
    """Find the pairs of texts from different parts whose shingles reach the threshold.

    The first method that the size allows is taken. "every pair" counts what any two texts share. "every pair at the
    threshold" looks texts up by their rarest shingles, which misses none that reach it. "MinHash, another seed" misses
    a given pair with a chance of about 1e-6, and gives no more pairs than connect what is connected.
    """
    if sum(map(len, texts)) <= CHARACTERS:
        sets = shingled(texts, shingle)
        methods: list[Method] = ["every pair", "every pair at the threshold"]
        for method in methods:
            laid = plan(sets, parts, threshold, whole=method == "every pair")
            if laid.cost <= ADDITIONS:
                pairs, highest = crossing(sets, parts, threshold, laid)
                known = method == "every pair" or len(pairs.left) > 0
                return Crossings(pairs, highest if known else None, method)
    pairs = linking_pairs(texts, threshold, shingle, seed=SEED + 1)
    across = parts[pairs.left] != parts[pairs.right]
    pairs = Pairs(pairs.left[across], pairs.right[across], pairs.similarity[across])
    return Crossings(pairs, float(pairs.similarity.max()) if across.any() else None, "MinHash, another seed")
