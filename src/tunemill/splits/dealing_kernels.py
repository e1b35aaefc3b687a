"""Compiled loop that deals groups one after another; imported inside functions only."""

import numpy as np
from numba import njit


@njit(cache=True)
def dealt(sizes, asked, placed, allowed, crowding):
    """Choose a side for each group in turn: the emptiest for its share of those it fits, else the one that lacks most.

    `placed` counts the rows of each side, and is kept up to date. Shares that differ by less than a billionth are
    equal, and the first of equal sides is taken.
    """
    sides = np.empty(sizes.size, np.int64)
    for k in range(sizes.size):
        size, left = sizes[k], sizes.size - k
        empty, best, most = 0, -1, 0.0
        for side in allowed:
            empty += placed[side] == 0
        if left <= empty:
            for side in allowed:
                if placed[side] == 0:
                    best = side
                    break
        if best < 0:
            for side in allowed:
                fits = placed[side] + size <= asked[side] + 1e-6 and (size == 1 or size <= crowding * asked[side])
                lack = np.round((1 - placed[side] / asked[side]) * 1e9)
                if fits and (best < 0 or lack > most):
                    best, most = side, lack
        if best < 0:
            for side in allowed:
                lack = np.round((asked[side] - placed[side]) * 1e6)
                if best < 0 or lack > most:
                    best, most = side, lack
        placed[best] += size
        sides[k] = best
    return sides
