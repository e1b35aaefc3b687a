"""Compiled loops over code points: band keys, exact Jaccard similarity, and the walk through the buckets.

Imported inside functions only, since numba is heavy. A shingle is known by a 64-bit hash: two different shingles of one
pair of texts of 1,000 characters share one with a chance of about 1e-13.
"""

import numpy as np
from numba import njit, uint32, uint64

LANES = 64
"""Hashes that one turn of the unrolled vector loop takes."""


@njit(cache=True)
def mix(z):
    """Spread every bit of z over all 64 (the finaliser of splitmix64)."""
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31))


@njit(cache=True)
def shingle_at(points, place, shingle):
    """Hash the `shingle` code points that begin at `place`."""
    h = uint64(0)
    for k in range(shingle):
        h = h * uint64(0x9E3779B97F4A7C15) + uint64(points[place + k])
    return mix(h)


@njit(cache=True)
def mask_for(length):
    """Give the mask of a table with at least two slots for each of `length` shingles."""
    size = 2
    while size < 2 * length:
        size *= 2
    return uint64(size - 1)


@njit(cache=True)
def fill(points, start, end, shingle, shingles, owner, stamp):
    """Put the shingles of one text into the table under `stamp`.

    The table is never cleared: a slot with another stamp counts as free.
    """
    mask = mask_for(end - start)
    for place in range(start, end - shingle + 1):
        h = shingle_at(points, place, shingle)
        slot = h & mask
        while owner[slot] == stamp and shingles[slot] != h:
            slot = (slot + uint64(1)) & mask
        if owner[slot] != stamp:
            owner[slot] = stamp
            shingles[slot] = h


@njit(cache=True)
def room_for(offsets):
    """Give the slots that a table needs for the longest text."""
    longest = 0
    for i in range(offsets.size - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    return int(mask_for(longest)) + 1


@njit(cache=True)
def shingle_hashes(points, start, end, shingle, out):
    """Write to `out` what `shingle_at` gives at every place of one text; return how many.

    One character of all shingles after another compiles to vector instructions, one shingle after another does not.
    """
    count = end - start - shingle + 1
    for place in range(count):
        out[place] = uint64(points[start + place])
    for k in range(1, shingle):
        for place in range(count):
            out[place] = out[place] * uint64(0x9E3779B97F4A7C15) + uint64(points[start + place + k])
    for place in range(count):
        out[place] = mix(out[place])
    return count


@njit(cache=True)
def distinct_hashes(points, start, end, shingle, shingles, owner, stamp, every, hashes):
    """Write 32 bits of each distinct shingle of one text to `hashes`; return how many there are."""
    mask = mask_for(end - start)
    distinct = 0
    for place in range(shingle_hashes(points, start, end, shingle, every)):
        h = every[place]
        slot = h & mask
        while owner[slot] == stamp and shingles[slot] != h:
            slot = (slot + uint64(1)) & mask
        if owner[slot] != stamp:
            owner[slot] = stamp
            shingles[slot] = h
            hashes[distinct] = uint32(h >> uint64(32))
            distinct += 1
    return distinct


@njit(cache=True)
def least(hashes, count, factor, shift):
    """Give one MinHash value: the least of the hashes after a permutation of the 32-bit numbers.

    An indexed loop over a multiple of the vector length compiles to vector instructions: eight times faster.
    """
    value = uint32(0xFFFFFFFF)
    for k in range(count):
        value = min(value, uint32(hashes[k] * factor + shift))
    return value


@njit(cache=True)
def sign(points, offsets, shingle, factors, shifts, bands, sketch):
    """Give band keys (texts, bands), sketches (texts, sketch) and numbers of distinct shingles (texts,)."""
    count, rows = offsets.size - 1, factors.size // bands
    room = room_for(offsets)
    shingles, owner = np.empty(room, np.uint64), np.full(room, -1, np.int64)
    every, hashes = np.empty(room, np.uint64), np.empty(room + LANES, np.uint32)
    keys = np.empty((count, bands), np.uint64)
    sketches = np.empty((count, sketch), np.uint8)
    sizes = np.empty(count, np.int64)
    for i in range(count):
        sizes[i] = distinct_hashes(points, offsets[i], offsets[i + 1], shingle, shingles, owner, i, every, hashes)
        padded = (sizes[i] + LANES - 1) // LANES * LANES
        hashes[sizes[i] : padded] = hashes[0]  # a repeated hash changes no minimum
        for band in range(bands):
            key = uint64(band + 1)
            for k in range(band * rows, band * rows + rows):
                value = least(hashes, padded, factors[k], shifts[k])
                key = mix(key * uint64(0x9E3779B97F4A7C15) + uint64(value))
                if k < sketch:
                    sketches[i, k] = value & uint32(0xFF)
            keys[i, band] = key
    return keys, sketches, sizes


@njit(cache=True)
def jaccard(points, offsets, sizes, shingle, a, b, floor, table, state):
    """Compute the similarity of texts a and b exactly, or give 0 as soon as it is known to be below `floor`.

    `table` is (shingles, owner, seen); `state` is [text in the table, its stamp, number of this look]. The table keeps
    a's shingles, so that comparing a with many texts fills it once.
    """
    together = sizes[a] + sizes[b]
    needed = np.ceil(floor / (1 + floor) * together - 1e-9)
    if min(sizes[a], sizes[b]) < max(needed, 1):
        return 0.0
    shingles, owner, seen = table
    if state[0] != a:
        state[0] = a
        state[1] += 1
        fill(points, offsets[a], offsets[a + 1], shingle, shingles, owner, state[1])
    state[2] += 1
    mask = mask_for(offsets[a + 1] - offsets[a])
    last = offsets[b + 1] - shingle + 1
    shared = 0
    for place in range(offsets[b], last):
        if shared + last - place < needed:
            return 0.0
        h = shingle_at(points, place, shingle)
        slot = h & mask
        while owner[slot] == state[1] and shingles[slot] != h:
            slot = (slot + uint64(1)) & mask
        if owner[slot] == state[1] and seen[slot] != state[2]:
            seen[slot] = state[2]
            shared += 1
    similarity = shared / (together - shared)
    return similarity if similarity >= floor else 0.0


@njit(cache=True)
def new_walk(offsets):
    """Make what `compare_band` carries from band to band: (forest, crowded, scratch, table, state)."""
    count = offsets.size - 1
    room = room_for(offsets)
    forest = (np.arange(count), np.zeros((count, 2), np.int64), np.zeros(count, np.float64))
    table = (np.empty(room, np.uint64), np.full(room, -1, np.int64), np.full(room, -1, np.int64))
    return forest, np.zeros(count, np.bool_), np.zeros(count, np.int64), table, np.array([-1, 0, 0], np.int64)


@njit(cache=True)
def find(parent, i):
    """Give the root of i, halving the path on the way."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True)
def join(forest, a, b, similarity):
    """Put a and b into one component, whose root is its smallest member, and keep the pair that did it.

    `forest` is (parent, edges, strength): a root is absorbed once, so the pair finds its place under that root.
    """
    parent, edges, strength = forest
    one, other = find(parent, a), find(parent, b)
    absorbed = max(one, other)
    parent[absorbed] = min(one, other)
    edges[absorbed, 0], edges[absorbed, 1] = a, b
    strength[absorbed] = similarity


@njit(cache=True)
def gather(bucket, parent, place):
    """Sort a bucket by component in linear time; return for each place where the next component begins.

    `place` is scratch space of one zero for every text, and is left so.
    """
    size = bucket.size
    roots = np.empty(size, np.int64)
    for q in range(size):
        roots[q] = find(parent, bucket[q])
        place[roots[q]] += 1
    ends = np.empty(size, np.int64)
    members = np.empty(size, np.int64)
    start = 0
    for q in range(size):
        root = roots[q]
        if place[root] > 0:  # first member seen: reserve the stretch, and hold its next free place as -place - 1
            stretch = place[root]
            ends[start : start + stretch] = start + stretch
            place[root] = -start - 1
            start += stretch
        at = -place[root] - 1
        members[at] = bucket[q]
        place[root] -= 1
    for q in range(size):
        place[roots[q]] = 0
    bucket[:] = members
    return ends


@njit(cache=True)
def link(bucket, corpus, threshold, shingle, forest, table, state):
    """Join each member of a crowded bucket to its first and to the one before it, where they reach the threshold."""
    points, offsets, sizes = corpus
    for q in range(1, bucket.size):
        for other in (bucket[0], bucket[q - 1]):
            if find(forest[0], bucket[q]) != find(forest[0], other):
                reached = jaccard(points, offsets, sizes, shingle, bucket[q], other, threshold, table, state)
                if reached > 0:
                    join(forest, bucket[q], other, reached)


@njit(cache=True)
def agreeing(sketches, a, b):
    """Count the MinHash values on which two sketches agree."""
    agree = 0
    for k in range(sketches.shape[1]):
        agree += sketches[a, k] == sketches[b, k]
    return agree


@njit(cache=True)
def met_before(keys, band, a, b):
    """Tell whether a and b already stood in one bucket of an earlier band."""
    for earlier in range(band):
        if keys[a, earlier] == keys[b, earlier]:
            return True
    return False


@njit(cache=True)
def compare_band(order, column, keys, band, sketches, enough, corpus, threshold, shingle, crowd, unite, walk):
    """Compare what shares a bucket of one band; return the pairs that reach the threshold and their similarity.

    `order` sorts the texts by their key in this band, `column` holds the keys in that order. Sketches that agree on
    fewer than `enough` values are not compared further. With `unite`, pairs that are connected already are passed over,
    new ones are joined in the forest, and none are returned. A bucket whose unconnected pairs number more than `crowd`
    for each member is not compared: its members are marked in `crowded` and left to the exact search.
    """
    points, offsets, sizes = corpus
    forest, crowded, scratch, table, state = walk
    parent = forest[0]
    left, right, similarity = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.float64)
    found, end = 0, 0
    while end < order.size:
        start = end
        while end < order.size and column[end] == column[start]:
            end += 1
        bucket = order[start:end]
        ends = np.arange(1, bucket.size + 1)
        if bucket.size > 2 * crowd + 1:
            if unite:
                link(bucket, corpus, threshold, shingle, forest, table, state)
            ends = gather(bucket, parent, scratch)
            if (bucket.size - ends).sum() > crowd * bucket.size:
                crowded[bucket] = True
                continue
        for q in range(bucket.size):
            a = bucket[q]
            for r in range(ends[q], bucket.size):
                b = bucket[r]
                if unite and find(parent, a) == find(parent, b):
                    continue
                if agreeing(sketches, a, b) < enough or met_before(keys, band, a, b):
                    continue
                reached = jaccard(points, offsets, sizes, shingle, a, b, threshold, table, state)
                if reached == 0:
                    continue
                if unite:
                    join(forest, a, b, reached)
                    continue
                if found == left.size:
                    left = np.concatenate((left, left))
                    right = np.concatenate((right, right))
                    similarity = np.concatenate((similarity, similarity))
                left[found], right[found], similarity[found] = a, b, reached
                found += 1
    return left[:found], right[:found], similarity[:found]
