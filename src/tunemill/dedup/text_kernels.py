"""Compiled loops over texts that lie end to end: normalised, hashed, told apart, copied and decoded.

Imported inside functions only, since numba is heavy. Text i is blob[offsets[i]:offsets[i + 1]], in UTF-8.
"""

import numpy as np
from numba import njit, uint32, uint64

from tunemill.dedup.minhash_kernels import mix


@njit(cache=True)
def plain_words(data, offsets, table):
    """Put each ASCII text's bytes through `table`, its spaces joined to one and none at the rim.

    Gives the new bytes end to end and where each text ends.
    """
    out = np.empty(data.size, np.uint8)
    ends = np.empty(offsets.size - 1, np.int64)
    written = 0
    for i in range(ends.size):
        start, before = written, np.uint8(32)
        for at in range(offsets[i], offsets[i + 1]):
            letter = table[data[at]]
            out[written] = letter
            written += letter != 32 or before != 32
            before = letter
        written -= written > start and before == 32
        ends[i] = written
    return out[:written], ends


@njit(cache=True)
def hash_bytes(data, start, end):
    """Hash data[start:end] to 64 bits."""
    h, at = uint64(end - start), start
    while at + 8 <= end:
        word = uint64(0)
        for k in range(8):
            word |= uint64(data[at + k]) << uint64(8 * k)
        h = mix(h * uint64(0x9E3779B97F4A7C15) + word)
        at += 8
    while at < end:
        h = h * uint64(0x100000001B3) + uint64(data[at])
        at += 1
    return mix(h)


@njit(cache=True)
def hashes(blob, offsets, texts):
    """Hash some texts to 64 bits each."""
    out = np.empty(texts.size, np.uint64)
    for k in range(texts.size):
        out[k] = hash_bytes(blob, offsets[texts[k]], offsets[texts[k] + 1])
    return out


@njit(cache=True)
def same_bytes(one, a, other, b):
    """Tell whether two texts are equal."""
    length = one[1][a + 1] - one[1][a]
    if other[1][b + 1] - other[1][b] != length:
        return False
    for k in range(length):
        if one[0][one[1][a] + k] != other[0][other[1][b] + k]:
            return False
    return True


@njit(cache=True)
def distinct(blob, offsets, hashed, order):
    """Number the texts as they come in `order`, equal ones alike and empty ones each for itself.

    Gives each text's number in that order, and of each number its first text.
    """
    room = 2
    while room < 2 * order.size:
        room *= 2
    mask, texts = uint64(room - 1), (blob, offsets)
    slots = np.full(room, -1, np.int64)
    numbers, firsts = np.empty(order.size, np.int64), np.empty(order.size, np.int64)
    found = 0
    for k in range(order.size):
        i = order[k]
        slot = hashed[i] & mask
        if offsets[i + 1] > offsets[i]:
            while slots[slot] >= 0:
                other = firsts[slots[slot]]
                if hashed[other] == hashed[i] and same_bytes(texts, i, texts, other):
                    break
                slot = (slot + uint64(1)) & mask
            if slots[slot] >= 0:
                numbers[k] = slots[slot]
                continue
            slots[slot] = found
        numbers[k], firsts[found] = found, i
        found += 1
    return numbers, firsts[:found].copy()


@njit(cache=True)
def gather(blob, offsets, texts):
    """Copy some texts end to end; give their bytes and where each begins and the last ends."""
    starts = np.zeros(texts.size + 1, np.int64)
    for k in range(texts.size):
        starts[k + 1] = starts[k] + offsets[texts[k] + 1] - offsets[texts[k]]
    out = np.empty(starts[texts.size], np.uint8)
    for k in range(texts.size):
        out[starts[k] : starts[k + 1]] = blob[offsets[texts[k]] : offsets[texts[k] + 1]]
    return out, starts


@njit(cache=True)
def characters(blob, offsets):
    """Count the code points of every text: the bytes that continue none."""
    out = np.zeros(offsets.size - 1, np.int64)
    for i in range(out.size):
        for at in range(offsets[i], offsets[i + 1]):
            out[i] += blob[at] & 0xC0 != 0x80
    return out


@njit(cache=True)
def decode(blob, start, end, points):
    """Write the code points of UTF-8 bytes (lone surrogates too) to `points`; return how many."""
    count, at = 0, start
    while at < end:
        first = uint32(blob[at])
        more = 0 if first < 0x80 else 1 if first < 0xE0 else 2 if first < 0xF0 else 3
        point = first if more == 0 else first & uint32(0x3F >> more)
        for k in range(1, more + 1):
            point = (point << uint32(6)) | (uint32(blob[at + k]) & uint32(0x3F))
        points[count] = point
        count += 1
        at += more + 1
    return count


@njit(cache=True)
def decoded(blob, offsets, lengths, texts):
    """Lay some texts end to end as code points; give these and where each begins and the last ends."""
    starts = np.zeros(texts.size + 1, np.int64)
    for k in range(texts.size):
        starts[k + 1] = starts[k] + lengths[texts[k]]
    points = np.empty(starts[texts.size], np.uint32)
    for k in range(texts.size):
        decode(blob, offsets[texts[k]], offsets[texts[k] + 1], points[starts[k] :])
    return points, starts
