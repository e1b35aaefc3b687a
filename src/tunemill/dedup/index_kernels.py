"""Compiled loops over the segments of an index: equal texts, buckets within a segment and between two, the oldest.

Imported inside functions only, since numba is heavy. `texts` is always (blob, offsets, sizes, sketches) of one segment,
text i being blob[offsets[i]:offsets[i + 1]] in UTF-8; a packed entry is a 32-bit key above a 32-bit number of a text.
"""

import numpy as np
from numba import njit, uint64

from tunemill.dedup.minhash_kernels import fill, find, mask_for, shingle_at
from tunemill.dedup.text_kernels import decode, same_bytes

LOW = 0xFFFFFFFF
FEW = 64
"""Pairs of a bucket up to which sorting its members by component costs more than it saves."""


@njit(cache=True)
def advance(packed, key, at):
    """Give the first place from `at` on whose key is at least `key`: steps that double, then halve."""
    step, n = 1, packed.size
    low = at
    while low < n and packed[low] >> uint64(32) < key:
        at = low + 1
        low += step
        step *= 2
    high = min(low, n)
    while at < high:
        middle = (at + high) // 2
        if packed[middle] >> uint64(32) < key:
            at = middle + 1
        else:
            high = middle
    return at


@njit(cache=True)
def run_end(packed, start):
    """Give the place after the last entry that has the key of the one at `start`."""
    key, end = packed[start] >> uint64(32), start + 1
    while end < packed.size and packed[end] >> uint64(32) == key:
        end += 1
    return end


@njit(cache=True)
def equal_texts(mine, my_texts, other, their_texts, known, base):
    """Write to known[a] the number (from `base` on) of the other segment's text that equals text a."""
    i = j = 0
    while i < mine.size and j < other.size:
        j = advance(other, mine[i] >> uint64(32), j)
        if j == other.size:
            break
        if other[j] >> uint64(32) == mine[i] >> uint64(32):
            a = int(mine[i] & uint64(LOW))
            for k in range(j, run_end(other, j)):
                b = int(other[k] & uint64(LOW))
                if same_bytes(my_texts, a, their_texts, b):
                    known[a] = base + b
                    break
        i += 1


@njit(cache=True)
def new_scratch(longest):
    """Make what a comparison needs for texts of up to `longest` code points: (points, table, state).

    `table` is (shingles, owner, seen); `state` is [text in the table, its mask, its stamp, number of this look].
    """
    room = int(mask_for(longest)) + 1
    points = np.empty(longest + 1, np.uint32)
    table = (np.empty(room, np.uint64), np.full(room, -1, np.int64), np.full(room, -1, np.int64))
    return points, table, np.array([-1, 0, 0, 0], np.int64)


@njit(cache=True)
def similarity(one, a, name, other, b, floor, shingle, scratch):
    """Compute the Jaccard similarity of two texts exactly, or 0 as soon as it is known to be below `floor`.

    The table keeps the shingles of text a, known over all segments as `name`: comparing it with many fills it once.
    """
    points, table, state = scratch
    shingles, owner, seen = table
    size, together = one[2][a], one[2][a] + other[2][b]
    needed = np.ceil(floor / (1 + floor) * together - 1e-9)
    if min(size, other[2][b]) < max(needed, 1):
        return 0.0
    if state[0] != name:
        length = decode(one[0], one[1][a], one[1][a + 1], points)
        state[0], state[1] = name, int(mask_for(length))
        state[2] += 1
        fill(points, 0, length, shingle, shingles, owner, state[2])
    state[3] += 1
    mask = uint64(state[1])
    last = decode(other[0], other[1][b], other[1][b + 1], points) - shingle + 1
    shared = 0
    for place in range(last):
        if shared + last - place < needed:
            return 0.0
        h = shingle_at(points, place, shingle)
        slot = h & mask
        while owner[slot] == state[2] and shingles[slot] != h:
            slot = (slot + uint64(1)) & mask
        if owner[slot] == state[2] and seen[slot] != state[3]:
            seen[slot] = state[3]
            shared += 1
    reached = shared / (together - shared)
    return reached if reached >= floor else 0.0


@njit(cache=True)
def similarities(one, my_base, left, other, their_base, right, shingle, scratch, out, where):
    """Write to out[where[k]] the similarity of the texts numbered left[k] and right[k], of one segment and another."""
    for k in range(left.size):
        a, b = left[k] - my_base, right[k] - their_base
        out[where[k]] = similarity(one, a, left[k], other, b, 0.0, shingle, scratch)


@njit(cache=True)
def agreeing(one, a, other, b):
    """Count the MinHash values on which two sketches agree."""
    agree = 0
    for k in range(one.shape[1]):
        agree += one[a, k] == other[b, k]
    return agree


@njit(cache=True)
def unite(parent, a, b):
    """Put a and b into one component, whose root is its smallest member."""
    one, other = find(parent, a), find(parent, b)
    parent[max(one, other)] = min(one, other)


@njit(cache=True)
def unite_all(parent, left, right):
    """Put every left[k] and right[k] into one component."""
    for k in range(left.size):
        unite(parent, left[k], right[k])


@njit(cache=True)
def flatten(parent):
    """Let every member point at the root of its component."""
    for i in range(parent.size):
        parent[i] = parent[parent[i]]


@njit(cache=True)
def compare(one, a, my_base, other, b, their_base, rule, scratch, parent, links, count):
    """Link two texts where they reach the threshold; whether they do depends on these two texts alone.

    `rule` is (threshold, shingle, sketch values that must agree); `links` is (left, right, similarity), of which
    count[0] are written.
    """
    threshold, shingle, enough = rule
    size, other_size = one[2][a], other[2][b]
    if min(size, other_size) < np.floor(threshold * max(size, other_size)):
        return
    if agreeing(one[3], a, other[3], b) < enough:
        return
    reached = similarity(one, a, my_base + a, other, b, threshold, shingle, scratch)
    if reached > 0:
        left, right, strength = links
        unite(parent, my_base + a, their_base + b)
        left[count[0]], right[count[0]], strength[count[0]] = my_base + a, their_base + b, reached
        count[0] += 1


@njit(cache=True)
def by_component(run, base, parent):
    """Give the texts of a bucket sorted by component, and for each place where its component ends."""
    roots = np.empty(run.size, np.int64)
    for k in range(run.size):
        roots[k] = find(parent, base + int(run[k] & uint64(LOW)))
    order = np.argsort(roots, kind="mergesort")
    members, ends = np.empty(run.size, np.int64), np.empty(run.size, np.int64)
    end = run.size
    for k in range(run.size - 1, -1, -1):
        if k + 1 < run.size and roots[order[k]] != roots[order[k + 1]]:
            end = k + 1
        members[k], ends[k] = int(run[order[k]] & uint64(LOW)), end
    return members, ends


@njit(cache=True)
def against(one, a, my_base, other, members, ends, start, their_base, rule, scratch, parent, links, count):
    """Compare text a with members[start:], one component after another, each only until a is part of it."""
    at = start
    while at < members.size:
        end = ends[at]
        while at < end and find(parent, my_base + a) != find(parent, their_base + members[at]):
            compare(one, a, my_base, other, members[at], their_base, rule, scratch, parent, links, count)
            at += 1
        at = end


@njit(cache=True)
def within(packed, texts, base, rule, scratch, parent, links, count):
    """Compare what shares a bucket of one band of one segment, but for what is connected already."""
    end = 0
    while end < packed.size:
        start = end
        end = run_end(packed, start)
        size = end - start
        if size * (size - 1) // 2 <= FEW:
            for p in range(start, end):
                a = int(packed[p] & uint64(LOW))
                for q in range(p + 1, end):
                    b = int(packed[q] & uint64(LOW))
                    if find(parent, base + a) != find(parent, base + b):
                        compare(texts, a, base, texts, b, base, rule, scratch, parent, links, count)
            continue
        for p in range(start + 1, end):  # copies of one text lie in one component after this, and are not paired
            a = int(packed[p] & uint64(LOW))
            for q in (start, p - 1):
                b = int(packed[q] & uint64(LOW))
                if find(parent, base + a) != find(parent, base + b):
                    compare(texts, a, base, texts, b, base, rule, scratch, parent, links, count)
        members, ends = by_component(packed[start:end], base, parent)
        for p in range(size):
            against(texts, members[p], base, texts, members, ends, ends[p], base, rule, scratch, parent, links, count)


@njit(cache=True)
def across(mine, texts, base, other, their_texts, their_base, rule, scratch, parent, links, count):
    """Compare what shares a bucket of one band between a new segment and an earlier one."""
    end, at = 0, 0
    while end < mine.size and at < other.size:
        start = end
        end = run_end(mine, start)
        key = mine[start] >> uint64(32)
        at = advance(other, key, at)
        if at == other.size or other[at] >> uint64(32) != key:
            continue
        stop = run_end(other, at)
        if (end - start) * (stop - at) <= FEW:
            for p in range(start, end):
                a = int(mine[p] & uint64(LOW))
                for q in range(at, stop):
                    b = int(other[q] & uint64(LOW))
                    if find(parent, base + a) != find(parent, their_base + b):
                        compare(texts, a, base, their_texts, b, their_base, rule, scratch, parent, links, count)
        else:
            members, ends = by_component(other[at:stop], their_base, parent)
            for p in range(start, end):
                a = int(mine[p] & uint64(LOW))
                against(texts, a, base, their_texts, members, ends, 0, their_base, rule, scratch, parent, links, count)
        at = stop


@njit(cache=True)
def first_rows(component, order, number, seen):
    """Give the first row in `order` of every component of one segment, whose `number` marks `seen`."""
    out = np.empty(order.size, np.int64)
    count = 0
    for k in range(order.size):
        row = order[k]
        if seen[component[row]] != number:
            seen[component[row]] = number
            out[count] = row
            count += 1
    return out[:count]
