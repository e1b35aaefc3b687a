"""Compiled loop that hashes columns of strings; imported inside functions only."""

from numba import njit, uint64

from tunemill.dedup.minhash_kernels import mix


@njit(cache=True)
def added(data, offsets, keys):
    """Mix a column's values into two hashes of each row; where they end counts, so that columns do not run together."""
    for i in range(offsets.size - 1):
        one, other = keys[i, 0], keys[i, 1]
        start, end = offsets[i], offsets[i + 1]
        word = uint64(0)
        for k in range(start, end):
            word = word << uint64(8) | uint64(data[k])
            if (k - start) & 7 == 7:
                one, other = mix(one ^ word), mix(other + word * uint64(0x9E3779B97F4A7C15))
                word = uint64(0)
        word ^= uint64(end - start) << uint64(56)
        keys[i, 0] = mix(one ^ word)
        keys[i, 1] = mix(other + word * uint64(0x9E3779B97F4A7C15))
