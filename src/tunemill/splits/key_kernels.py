"""Compiled loops that hash columns of strings and find rows again; imported inside functions only."""

import numpy as np
from numba import njit, uint64

from tunemill.dedup.minhash_kernels import mask_for, mix


@njit(cache=True)
def valued(data, offsets):
    """Give two hashes of each value, which is data[offsets[i]:offsets[i + 1]]."""
    lanes = np.empty((offsets.size - 1, 2), np.uint64)
    for i in range(offsets.size - 1):
        one, other, word = uint64(0), uint64(1), uint64(0)
        start, end = offsets[i], offsets[i + 1]
        for k in range(start, end):
            word = word << uint64(8) | uint64(data[k])
            if (k - start) & 7 == 7:
                one, other = mix(one ^ word), mix(other + word * uint64(0x9E3779B97F4A7C15))
                word = uint64(0)
        word ^= uint64(end - start) << uint64(56)
        lanes[i, 0], lanes[i, 1] = mix(one ^ word), mix(other + word * uint64(0x9E3779B97F4A7C15))
    return lanes


@njit(cache=True)
def added(keys, lanes, values):
    """Mix into the keys of each row the hashes of its value."""
    for i in range(values.size):
        keys[i, 0] = mix(keys[i, 0] * uint64(0x9E3779B97F4A7C15) + lanes[values[i], 0])
        keys[i, 1] = mix(keys[i, 1] * uint64(0xC2B2AE3D27D4EB4F) + lanes[values[i], 1])


@njit(cache=True)
def matched(mine, theirs):
    """Give for each key the first place where it stands among the others, -1 where it does not."""
    mask = mask_for(len(theirs))
    table = np.full(np.int64(mask) + 1, -1, np.int32)
    for i in range(len(theirs)):
        slot = slot_of(theirs[i], theirs, table, mask)
        if table[slot] < 0:
            table[slot] = i
    found = np.empty(len(mine), np.int64)
    for i in range(len(mine)):
        found[i] = table[slot_of(mine[i], theirs, table, mask)]
    return found


@njit(cache=True)
def slot_of(key, theirs, table, mask):
    """Find where a key stands in the table, or the free slot where it should."""
    slot = key[0] & mask
    while table[slot] >= 0 and (theirs[table[slot], 0] != key[0] or theirs[table[slot], 1] != key[1]):
        slot = (slot + uint64(1)) & mask
    return slot
