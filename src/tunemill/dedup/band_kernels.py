"""Compiled loops over MinHash bands and bitmaps; imported inside functions only.

In a bitmap every shingle of a text turns one of 1,024 bits over. Where two differ in k bits, at least k shingles stand
in one of the texts alone, so most candidates are turned down at a glance, and never one that reaches the threshold.
"""

import numpy as np
from numba import njit, uint32, uint64

from tunemill.dedup.minhash_kernels import (
    LANES,
    distinct_hashes,
    find,
    gather,
    jaccard,
    least,
    mix,
    room_for,
)

WORDS = 16
"""64-bit words of a bitmap."""
LOW = 0xFFFFFFFF
MANY = 24
"""Members from which a bucket's bitmaps are laid side by side before they are compared."""


@njit(cache=True)
def whole(points, start, end):
    """Hash a text that is shorter than a shingle: it is one shingle of its own kind."""
    h = uint64(end - start)
    for place in range(start, end):
        h = mix(h + uint64(points[place]) * uint64(0x9E3779B97F4A7C15))
    return h


@njit(cache=True)
def toggled(bitmaps, i, h):
    """Turn over the bit of a shingle, so that what two texts share cancels out between their bitmaps."""
    bit = mix(h ^ uint64(0xC2B2AE3D27D4EB4F)) >> uint64(54)
    bitmaps[i, bit >> uint64(6)] ^= uint64(1) << (bit & uint64(63))


@njit(cache=True)
def sign(points, offsets, shingle, factors, shifts, bands):
    """Give band keys (bands, texts), bitmaps (texts, WORDS) and numbers of distinct shingles (texts,)."""
    count, rows = offsets.size - 1, factors.size // bands
    room = max(room_for(offsets), 2)
    shingles, owner = np.empty(room, np.uint64), np.full(room, -1, np.int64)
    every, hashes = np.empty(room, np.uint64), np.empty(room + LANES, np.uint32)
    keys = np.empty((bands, count), np.uint32)
    bitmaps, sizes = np.zeros((count, WORDS), np.uint64), np.empty(count, np.int32)
    for i in range(count):
        start, end = offsets[i], offsets[i + 1]
        if end - start < shingle:
            size = min(end - start, 1)
            hashes[0] = uint32(whole(points, start, end) >> uint64(32))
        else:
            size = distinct_hashes(points, start, end, shingle, shingles, owner, i, every, hashes)
        sizes[i] = size
        for k in range(size):
            toggled(bitmaps, i, uint64(hashes[k]))
        padded = (size + LANES - 1) // LANES * LANES
        hashes[size:padded] = hashes[0]  # a repeated hash changes no minimum
        for band in range(bands):
            key = uint64(band + 1)
            for k in range(band * rows, band * rows + rows):
                key = mix(key * uint64(0x9E3779B97F4A7C15) + uint64(least(hashes, padded, factors[k], shifts[k])))
            keys[band, i] = uint32(key >> uint64(32))
    return keys, bitmaps, sizes


@njit(cache=True)
def popcount(word):
    """Count the bits of a word."""
    word = word - ((word >> uint64(1)) & uint64(0x5555555555555555))
    word = (word & uint64(0x3333333333333333)) + ((word >> uint64(2)) & uint64(0x3333333333333333))
    word = (word + (word >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * uint64(0x0101010101010101)) >> uint64(56))


@njit(cache=True)
def may_reach(one, a, other, b, together, threshold):
    """Tell from two bitmaps whether texts that have so many shingles `together` may reach the threshold."""
    apart = together - 2 * int(np.ceil(threshold / (1 + threshold) * together - 1e-9))
    differ = 0
    for w in range(WORDS):
        differ += popcount(one[a, w] ^ other[b, w])
    return differ <= apart


@njit(cache=True)
def reached(corpus, a, b, threshold, shingle, table, state):
    """Compute the similarity of two texts, or give 0 where it is below the threshold."""
    points, offsets, sizes = corpus
    one, other = offsets[a + 1] - offsets[a], offsets[b + 1] - offsets[b]
    if one >= shingle and other >= shingle:
        return jaccard(points, offsets, sizes, shingle, a, b, threshold, table, state)
    if one != other or one == 0:
        return 0.0
    for k in range(one):
        if points[offsets[a] + k] != points[offsets[b] + k]:
            return 0.0
    return 1.0


@njit(cache=True)
def new_table(offsets):
    """Make the table and the state that comparisons carry on."""
    room = max(room_for(offsets), 2)
    table = (np.empty(room, np.uint64), np.full(room, -1, np.int64), np.full(room, -1, np.int64))
    return table, np.array([-1, 0, 0], np.int64)


@njit(cache=True)
def bucket_end(packed, start):
    """Give the place after the last entry of the bucket that begins at `start`."""
    end = start + 1
    while end < packed.size and packed[end] >> uint64(32) == packed[start] >> uint64(32):
        end += 1
    return end


@njit(cache=True)
def unite(packed, bitmaps, corpus, threshold, shingle, crowd, parent, walk):
    """Join in the forest `parent` what shares a bucket of one band and reaches the threshold.

    `packed` holds the key of each text above its number, sorted. What is connected already is not compared. In a bucket
    that asks for more than `crowd` comparisons a member, only neighbours are.
    """
    scratch, table, state = walk
    sizes = corpus[2]
    end = 0
    while end < packed.size:
        start = end
        end = bucket_end(packed, start)
        if end - start == 1:
            continue
        bucket = np.empty(end - start, np.int64)
        for k in range(start, end):
            bucket[k - start] = np.int64(packed[k] & uint64(LOW))
        ends = np.arange(1, bucket.size + 1)
        if bucket.size > MANY:
            for k in range(1, bucket.size):
                for other in (bucket[0], bucket[k - 1]):
                    join(parent, bucket[k], other, bitmaps, corpus, threshold, shingle, table, state)
            ends = gather(bucket, parent, scratch)
            if (bucket.size - ends).sum() > crowd * bucket.size:
                continue
        near = np.empty((bucket.size, WORDS), np.uint64)
        for k in range(bucket.size):
            near[k] = bitmaps[bucket[k]]
        for p in range(bucket.size):
            for q in range(ends[p], bucket.size):
                if may_reach(near, p, near, q, sizes[bucket[p]] + sizes[bucket[q]], threshold):
                    join(parent, bucket[p], bucket[q], bitmaps, corpus, threshold, shingle, table, state)


@njit(cache=True)
def join(parent, a, b, bitmaps, corpus, threshold, shingle, table, state):
    """Connect two texts that reach the threshold and are not connected yet; the root is the smallest number."""
    one, other = find(parent, a), find(parent, b)
    if one == other or not may_reach(bitmaps, a, bitmaps, b, corpus[2][a] + corpus[2][b], threshold):
        return
    if reached(corpus, a, b, threshold, shingle, table, state) > 0:
        parent[max(one, other)] = min(one, other)


@njit(cache=True)
def apart(packed, parts, bitmaps, sizes, threshold):
    """Give the pairs of one band whose parts differ and whose bitmaps may reach the threshold."""
    left, right = np.empty(64, np.int64), np.empty(64, np.int64)
    made, end = 0, 0
    while end < packed.size:
        start = end
        end = bucket_end(packed, start)
        size = end - start
        if size == 1:
            continue
        one = parts[packed[start] & uint64(LOW)]
        several = False
        for k in range(start + 1, end):
            several |= parts[packed[k] & uint64(LOW)] != one
        if not several:
            continue
        members, own = np.empty(size, np.int64), np.empty(size, np.int8)
        for k in range(size):
            members[k] = np.int64(packed[start + k] & uint64(LOW))
            own[k] = parts[members[k]]
        order = np.argsort(own, kind="mergesort")
        members, own = members[order], own[order]
        near, met = np.empty((size, WORDS), np.uint64), np.empty(size, np.int64)
        for k in range(size):
            near[k] = bitmaps[members[k]]
        other = 0
        for p in range(size):
            while other < size and own[other] == own[p]:
                other += 1
            hits = 0
            for q in range(other, size):
                if may_reach(near, p, near, q, sizes[members[p]] + sizes[members[q]], threshold):
                    met[hits] = members[q]
                    hits += 1
            left, right, made = noted(left, right, made, members[p], met[:hits])
    return left[:made], right[:made]


@njit(cache=True)
def noted(left, right, made, one, met):
    """Add the pairs of one text with those that it met; arrays are replaced here, where no inner loop counts them."""
    while made + met.size > left.size:
        left, right = np.concatenate((left, left)), np.concatenate((right, right))
    left[made : made + met.size] = one
    right[made : made + met.size] = met
    return left, right, made + met.size


@njit(cache=True)
def meet(few, few_bitmaps, few_sizes, many, many_bitmaps, many_sizes, bits, threshold):
    """Give the pairs (few, many) that share the key of one band and whose bitmaps may reach the threshold.

    `few` is packed and sorted as for `unite`; `many` are keys in the order of their texts, walked past once.
    """
    heads, taken = np.zeros((1 << bits) + 1, np.int32), np.zeros((1 << bits) // 8, np.uint8)
    for k in range(few.size):
        slot = few[k] >> uint64(64 - bits)
        heads[slot + uint64(1)] += 1
        taken[slot >> uint64(3)] |= np.uint8(1 << (slot & uint64(7)))
    for s in range(1 << bits):
        heads[s + 1] += heads[s]
    left, right = np.empty(64, np.int64), np.empty(64, np.int64)
    met, made = np.empty(few.size, np.int64), 0
    for b in range(many.size):
        slot = many[b] >> uint32(32 - bits)
        if not taken[slot >> uint32(3)] >> np.uint8(slot & uint32(7)) & np.uint8(1):
            continue
        hits = 0
        for q in range(heads[slot], heads[slot + uint32(1)]):
            if few[q] >> uint64(32) == uint64(many[b]):
                a = np.int64(few[q] & uint64(LOW))
                if may_reach(few_bitmaps, a, many_bitmaps, b, few_sizes[a] + many_sizes[b], threshold):
                    met[hits] = a
                    hits += 1
        if hits:
            right, left, made = noted(right, left, made, b, met[:hits])
    return left[:made], right[:made]


@njit(cache=True)
def compare(points, offsets, left, right, threshold, shingle):
    """Give the similarity of each pair of texts, 0 where it is below the threshold."""
    table, state = new_table(offsets)
    room, sizes = table[0].size, np.empty(offsets.size - 1, np.int64)
    shingles, owner, every, hashes = (
        np.empty(room, np.uint64),
        np.full(room, -1, np.int64),
        np.empty(room, np.uint64),
        np.empty(room, np.uint32),
    )
    for i in range(sizes.size):
        sizes[i] = distinct_hashes(points, offsets[i], offsets[i + 1], shingle, shingles, owner, i, every, hashes)
    corpus, similarity = (points, offsets, sizes), np.zeros(left.size)
    for k in range(left.size):
        similarity[k] = reached(corpus, left[k], right[k], threshold, shingle, table, state)
    return similarity
