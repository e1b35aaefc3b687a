"""Find what a few new texts are like among many old ones: exact, and the many are only walked past."""

from collections.abc import Sequence

import numpy as np

from tunemill.dedup.bands import compared_with
from tunemill.dedup.components import Ints
from tunemill.dedup.overlap import Pairs
from tunemill.dedup.prefixes import levels_of, proposed


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
    some. Texts shorter than a shingle pair where they are identical; empty ones never do. Time grows with the product
    of the two numbers, memory with the characters of `few`.

    Args:
        parts: a number for each of the few and of the many; only texts with different numbers pair.
        runs: a number for each of the many, equal ones next to each other: a text of `few` is paired with the first
            of each run that it reaches. Without it every pair is given.
    """
    few_parts, many_parts = parts or (np.full(len(few), -1), np.zeros(len(many), np.int64))
    left, right, _ = proposed(few, few_parts, many, many_parts, levels_of(many, shingle), threshold, shingle)
    found = compared_with(few, many, left, right, threshold, shingle)
    if runs is None:
        return found
    order = np.lexsort((found.right, runs[found.right], found.left))
    left, right = found.left[order], found.right[order]
    first = (np.diff(left, prepend=-1) != 0) | (np.diff(runs[right], prepend=-1) != 0)
    kept = np.sort(order[first])
    return Pairs(found.left[kept], found.right[kept], found.similarity[kept])
