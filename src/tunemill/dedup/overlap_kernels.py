"""Compiled loop that counts, shingle by shingle, what two texts share; imported inside functions only.

It knows nothing of MinHash: shingles are numbers in order of rarity, and every count is exact.
"""

import numpy as np
from numba import njit, uint64


@njit(cache=True)
def number(hashes, starts, counts):
    """Number shingles in the order of their first appearance; give each text's distinct ones.

    Text i has hashes[starts[i]:starts[i] + counts[i]]. Returns the numbers of all texts end to end, how many each text
    has, how many there are, and the table (slots, names, bits) that `slot_of` looks a hash up in.
    """
    bits = 16
    slots, names = np.empty(1 << bits, np.uint64), np.full(1 << bits, -1, np.int64)
    owner = np.empty(1 << (bits - 1), np.int64)
    numbers, sizes = np.empty(counts.sum(), np.int64), np.zeros(starts.size, np.int64)
    kinds, written = 0, 0
    for i in range(starts.size):
        for place in range(starts[i], starts[i] + counts[i]):
            if kinds == owner.size:
                bits += 1
                slots, names = grown(slots, names, bits)
                owner = np.concatenate((owner, owner))
            slot = slot_of(hashes[place], slots, names, bits)
            if names[slot] < 0:
                slots[slot], names[slot] = hashes[place], kinds
                owner[kinds] = -1
                kinds += 1
            name = names[slot]
            if owner[name] != i:
                owner[name] = i
                numbers[written] = name
                written += 1
                sizes[i] += 1
    return numbers[:written], sizes, kinds, (slots, names, bits)


@njit(cache=True)
def slot_of(h, slots, names, bits):
    """Find where h stands in the table, or the free slot where it should."""
    slot = (h * uint64(0xC2B2AE3D27D4EB4F)) >> uint64(64 - bits)
    while names[slot] >= 0 and slots[slot] != h:
        slot = (slot + uint64(1)) & uint64(slots.size - 1)
    return slot


@njit(cache=True)
def grown(slots, names, bits):
    """Move a table to one of 2**bits slots."""
    wider, renamed = np.empty(1 << bits, np.uint64), np.full(1 << bits, -1, np.int64)
    for s in range(slots.size):
        if names[s] >= 0:
            slot = slot_of(slots[s], wider, renamed, bits)
            wider[slot], renamed[slot] = slots[s], names[s]
    return wider, renamed


@njit(cache=True)
def most_shared(sizes, indexed, last, a, b, counted):
    """Bound what a and b share from above, given what was counted among their indexed shingles.

    Shingles are in one order for all rows, so what was not counted lies beyond the last indexed shingle of one of them.
    """
    rest_a, rest_b = sizes[a] - indexed[a], sizes[b] - indexed[b]
    if last[a] == last[b]:
        rest = min(rest_a, rest_b)
    else:
        rest = rest_a if last[a] < last[b] else rest_b
    return min(counted + rest, sizes[a], sizes[b])


@njit(cache=True)
def measured(shingles, offsets, indexed):
    """Give each row's number of shingles, and the last one that it is looked up by, -1 where there is none."""
    rows = offsets.size - 1
    sizes, last = np.empty(rows, np.int32), np.full(rows, -1, np.int32)
    for a in range(rows):
        sizes[a] = offsets[a + 1] - offsets[a]
        if indexed[a] > 0:
            last[a] = shingles[offsets[a] + indexed[a] - 1]
    return sizes, last


@njit(cache=True)
def met_by(a, shingles, offsets, indexed, parts, postings, heads, skips, counts, touched):
    """Count in `counts`, which must be 0, the indexed shingles that row a shares with each row of another part.

    Returns how many rows share any: afterwards they are the first in `touched`.
    """
    met = 0
    for p in range(offsets[a], offsets[a] + indexed[a]):
        q = heads[shingles[p]]
        while q < heads[shingles[p] + 1]:
            b = postings[q]
            if parts[b] == parts[a]:
                q = skips[q]
                continue
            if counts[b] == 0:
                touched[met] = b
                met += 1
            counts[b] += 1
            q += 1
    return met


@njit(cache=True)
def search(shingles, offsets, indexed, parts, probes, postings, heads, skips, threshold):
    """Find the pairs from different parts that reach the threshold, and the highest similarity that was computed.

    Args:
        shingles: numbers of the shingles of all rows, rarest first within a row; row i has offsets[i]:offsets[i + 1].
        indexed: how many of its rarest shingles each row looks up and is found by.
        probes: the rows that look others up, ascending.
        postings: the rows of each indexed shingle, by part; shingle w has heads[w]:heads[w + 1].
        skips: for each posting, where the stretch of its part ends.
    """
    sizes, last = measured(shingles, offsets, indexed)
    counts, touched = np.zeros(sizes.size, np.int32), np.empty(sizes.size, np.int64)
    probing = np.zeros(sizes.size, np.bool_)
    probing[probes] = True
    left, right, similarity = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.float64)
    found, highest = 0, 0.0
    for a in probes:
        for b in touched[: met_by(a, shingles, offsets, indexed, parts, postings, heads, skips, counts, touched)]:
            most = most_shared(sizes, indexed, last, a, b, counts[b])
            counts[b] = 0
            together = sizes[a] + sizes[b]
            bound = most / (together - most)
            if indexed[a] == sizes[a] and indexed[b] == sizes[b]:
                highest = max(highest, bound)  # all was counted, so the bound is the similarity
            if bound < threshold or (probing[b] and b < a):
                continue
            needed = np.ceil(threshold / (1 + threshold) * together - 1e-9)
            shared = shared_between(
                shingles[offsets[a] : offsets[a + 1]], shingles[offsets[b] : offsets[b + 1]], needed
            )
            reached = shared / (together - shared)
            highest = max(highest, reached)
            if reached >= threshold:
                if found == left.size:
                    left = np.concatenate((left, left))
                    right = np.concatenate((right, right))
                    similarity = np.concatenate((similarity, similarity))
                left[found], right[found], similarity[found] = min(a, b), max(a, b), reached
                found += 1
    return left[:found], right[:found], similarity[:found], highest


@njit(cache=True)
def shared_between(one, other, needed):
    """Count what two ascending lists share, or give 0 once it is known that it is less than `needed`."""
    p, q, shared = 0, 0, 0
    while p < one.size and q < other.size:
        if shared + min(one.size - p, other.size - q) < needed:
            return 0
        if one[p] == other[q]:
            shared += 1
            p += 1
            q += 1
        elif one[p] < other[q]:
            p += 1
        else:
            q += 1
    return shared
