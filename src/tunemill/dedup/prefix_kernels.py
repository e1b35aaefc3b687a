"""Compiled loops that look texts up by their rarest shingles; imported inside functions only.

A token stands for a shingle: six bits of how often it is met, then bits of its hash. Tokens are ordered by number, so
the rarest come first, and a text that has two shingles of one token has that token twice. What shares a shingle shares
its token; the reverse need not be, so candidates are compared exactly afterwards.
"""

import numpy as np
from numba import njit, uint32, uint64

from tunemill.dedup.band_kernels import WORDS, may_reach, noted, toggled, whole
from tunemill.dedup.minhash_kernels import mask_for, mix, room_for, shingle_hashes

BUCKETS = 20
"""Bits of a shingle's hash that its frequency is counted by."""
LEVEL = 26
"""Bits of a token below its level of frequency."""


@njit(cache=True)
def distinct(points, start, end, shingle, shingles, owner, stamp, every, out):
    """Write the hash of each distinct shingle of one text to `out`; a shorter text is one shingle of its own kind."""
    if end - start < shingle:
        out[0] = whole(points, start, end)
        return min(end - start, 1)
    mask = mask_for(end - start)
    count = 0
    for place in range(shingle_hashes(points, start, end, shingle, every)):
        h = every[place]
        slot = h & mask
        while owner[slot] == stamp and shingles[slot] != h:
            slot = (slot + uint64(1)) & mask
        if owner[slot] != stamp:
            owner[slot] = stamp
            shingles[slot] = h
            out[count] = h
            count += 1
    return count


@njit(cache=True)
def tally(points, offsets, shingle, counts):
    """Add the shingles of all texts to `counts`, which has 2**BUCKETS places."""
    for i in range(offsets.size - 1):
        for place in range(offsets[i], offsets[i + 1] - shingle + 1):
            h = uint64(0)
            for k in range(shingle):
                h = h * uint64(0x9E3779B97F4A7C15) + uint64(points[place + k])
            counts[mix(h) >> uint64(64 - BUCKETS)] += 1


@njit(cache=True)
def tokens(points, offsets, shingle, levels, threshold, more):
    """Give what each text is looked up by: (tokens end to end, where each text's begin, sizes, bitmaps).

    Of a text with n distinct shingles these are the n - ceil(threshold * n) + more rarest, in ascending order. The
    bitmap has a bit for every shingle: where two differ in k bits, at least k shingles stand in one of the texts alone.
    """
    count = offsets.size - 1
    room = max(room_for(offsets), 2)
    shingles, owner = np.empty(room, np.uint64), np.full(room, -1, np.int64)
    every, own = np.empty(room, np.uint64), np.empty(room, np.uint64)
    named, placed = np.empty(room, np.uint32), np.empty(room, np.uint32)
    found = np.empty(points.size + count, np.uint32)
    starts, sizes = np.zeros(count + 1, np.int64), np.empty(count, np.int32)
    bitmaps = np.zeros((count, WORDS), np.uint64)
    ends = np.empty(65, np.int64)
    for i in range(count):
        size = distinct(points, offsets[i], offsets[i + 1], shingle, shingles, owner, i, every, own)
        ends[:] = 0
        for k in range(size):
            h = own[k]
            level = uint64(levels[h >> uint64(64 - BUCKETS)])
            named[k] = uint32(level << uint64(LEVEL) | (h >> uint64(8)) & uint64((1 << LEVEL) - 1))
            ends[level + uint64(1)] += 1
            toggled(bitmaps, i, h)
        for level in range(64):
            ends[level + 1] += ends[level]
        for k in range(size):
            level = named[k] >> uint32(LEVEL)
            placed[ends[level]] = named[k]
            ends[level] += 1
        wanted = min(size, size - int(np.ceil(threshold * size - 1e-9)) + more)
        written, level, begin = starts[i], 0, 0
        while begin < wanted:
            end = ends[level]
            for k in range(begin + 1, end):
                token, at = placed[k], k
                while at > begin and placed[at - 1] > token:
                    placed[at] = placed[at - 1]
                    at -= 1
                placed[at] = token
            begin, level = end, level + 1
        found[written : written + wanted] = placed[:wanted]
        starts[i + 1], sizes[i] = written + wanted, size
    return found[: starts[count]], starts, sizes, bitmaps


@njit(cache=True)
def slots_of(token, bits):
    """Give the list of an index that a token stands in."""
    return np.int64((uint64(token) * uint64(0x9E3779B97F4A7C15)) >> uint64(64 - bits))


@njit(cache=True)
def reach_of(size, at, threshold, more):
    """Give the largest size of a text to whose pair with this one the token at place `at` counts."""
    c = threshold / (1 + threshold)
    return np.int64(np.floor(((1 - c) * size - at + more - 1 + 1e-9) / c))


@njit(cache=True)
def indexed(found, starts, sizes, threshold, more, bits):
    """Lay out lists of texts by token: (heads, texts, reaches), in each list the farthest reach first.

    Texts must come in ascending order of size.
    """
    heads = np.zeros((1 << bits) + 1, np.int64)
    for k in range(found.size):
        heads[slots_of(found[k], bits) + 1] += 1
    for s in range(1 << bits):
        heads[s + 1] += heads[s]
    order = np.empty(found.size, np.int64)
    reaches = np.empty(found.size, np.int64)
    for i in range(sizes.size):
        for k in range(starts[i], starts[i + 1]):
            reaches[k] = reach_of(sizes[i], k - starts[i], threshold, more)
            order[k] = i
    by_reach = np.argsort(-reaches, kind="mergesort")
    texts, farthest = np.empty(found.size, np.int32), np.empty(found.size, np.int32)
    free = heads[:-1].copy()
    for k in by_reach:
        slot = slots_of(found[k], bits)
        texts[free[slot]], farthest[free[slot]] = order[k], reaches[k]
        free[slot] += 1
    return heads, texts, farthest


@njit(cache=True)
def candidates(many, parts, few, few_parts, index, bits, threshold, more):
    """Give the pairs (few, many) of different parts that may reach the threshold, and how many entries were looked at.

    `many` and `few` are what `tokens` gives of each; the few come in ascending order of size, and `index` is theirs.
    Two texts that share `o` shingles share `more` among the first n - o + more of each, or all `o` if they are fewer."""
    found, starts, sizes, bitmaps = many
    heads, texts, reaches = index
    few_sizes, few_bitmaps = few[2], few[3]
    largest = few_sizes.max() if few_sizes.size else 0
    below = np.zeros(largest + 2, np.int64)  # texts of `few` up to a size
    for i in range(few_sizes.size):
        below[few_sizes[i] + 1] += 1
    for size in range(largest + 1):
        below[size + 1] += below[size]
    counts, met = np.zeros(few_sizes.size, np.uint16), np.empty(few_sizes.size + 1, np.int64)
    left, right = np.empty(64, np.int64), np.empty(64, np.int64)
    made, looked, epoch = 0, 0, 0
    for b in range(sizes.size):
        size = sizes[b]
        enough = min(more, int(np.ceil(threshold * size - 1e-9)))
        epoch += 1
        if epoch == 256:
            counts[:] = 0
            epoch = 1
        fresh, hits = epoch << 8, 0
        for k in range(starts[b], starts[b + 1]):
            reach = min(reach_of(size, k - starts[b], threshold, more), largest)
            if reach < 0:
                break
            if below[reach + 1] == 0:
                break
            slot = slots_of(found[k], bits)
            first, q, end = heads[slot], heads[slot], heads[slot + 1]
            while q < end and reaches[q] >= size:
                a = texts[q]
                q += 1
                have = max(np.int64(counts[a]), fresh) + 1
                counts[a] = min(have, fresh + 254)
                met[hits] = a
                hits += have == fresh + enough
            looked += q - first
        kept = 0
        for a in met[:hits]:
            if few_parts[a] != parts[b] and may_reach(few_bitmaps, a, bitmaps, b, few_sizes[a] + size, threshold):
                met[kept] = a
                kept += 1
        right, left, made = noted(right, left, made, b, met[:kept])
    return left[:made], right[:made], looked
