"""Compiled loops from the turns of a table to what rows are compared by; no row becomes an object of Python.

Imported inside functions only, since numba is heavy. Texts lie end to end as bytes, text i being data[starts[i]:ends[i]].
"""

import numpy as np
from numba import njit, uint64

from tunemill.dedup.text_kernels import hash_bytes

FOREIGN, SPOKEN, SILENT = 0, 1, 2
"""A turn beyond ASCII, one with letters or digits, and one without."""


@njit(cache=True)
def fixed(data, offsets, width):
    """Lay strings in fields of `width` bytes, zeros behind them."""
    out = np.zeros((offsets.size - 1, width), np.uint8)
    for i in range(offsets.size - 1):
        for k in range(offsets[i + 1] - offsets[i]):
            out[i, k] = data[offsets[i] + k]
    return out


@njit(cache=True)
def joined(data, start, end, table, out, written):
    """Put bytes through `table` behind what is written, spaces joined to one and none at the rim; give the new end."""
    begun, before = written, np.uint8(32)
    for at in range(start, end):
        letter = table[data[at]]
        out[written] = letter
        written += letter != 32 or before != 32
        before = letter
    return written - (written > begun and before == 32)


@njit(cache=True)
def plain_turns(data, offsets, words, spaces):
    """Normalise the turns that are ASCII: `words` keeps letters and digits, `spaces` all where there are none.

    Gives the new bytes, where each turn ends, and its kind.
    """
    count = offsets.size - 1
    out = np.empty(offsets[count] - offsets[0] + 1, np.uint8)
    ends, kinds = np.empty(count, np.int64), np.empty(count, np.uint8)
    written = 0
    for i in range(count):
        start, end = offsets[i], offsets[i + 1]
        high = np.uint8(0)
        for at in range(start, end):
            high |= data[at]
        kinds[i] = FOREIGN
        if high < 128:
            after = joined(data, start, end, words, out, written)
            kinds[i] = SPOKEN if after > written else SILENT
            written = after if after > written else joined(data, start, end, spaces, out, written)
        ends[i] = written
    return out[:written], ends, kinds


@njit(cache=True)
def append(data, start, end, out, written):
    """Copy bytes behind what is written; give the new end."""
    for at in range(start, end):
        out[written] = data[at]
        written += 1
    return written


@njit(cache=True)
def conversations(data, starts, ends, kinds, roles, names, name_ends, offsets, system, user, assistant):
    """Give of each row its conversation's text, where it ends, the hash of its prompt (0: none) and of its answer.

    Row i has the turns offsets[i]:offsets[i + 1]; names[name_ends[r]:name_ends[r + 1]] is the name of role r.
    """
    count, room, longest = offsets.size - 1, 1, 1
    for i in range(count):
        size = 0
        for j in range(offsets[i], offsets[i + 1]):
            size += ends[j] - starts[j] + names.size + 2
        longest, room = max(longest, size), room + size
    out, scratch = np.empty(room, np.uint8), np.empty(longest, np.uint8)
    stops, prompts, answers = np.empty(count, np.int64), np.zeros(count, np.uint64), np.empty(count, np.uint64)
    written = 0
    for i in range(count):
        first, stop = offsets[i], offsets[i + 1]
        spoken, last = False, stop
        for j in range(first, stop):
            spoken |= kinds[j] == SPOKEN and roles[j] != system
            last = j if roles[j] == assistant else last
        begun = written
        for j in range(first, stop):
            if roles[j] != system and ends[j] > starts[j] and (kinds[j] == SPOKEN or not spoken):
                if written > begun:
                    out[written] = 32
                    written += 1
                written = append(data, starts[j], ends[j], out, written)
        stops[i] = written
        size, asked = 0, False
        for j in range(first, last):
            if j > first:
                scratch[size] = 10
                size += 1
            size = append(names, name_ends[roles[j]], name_ends[roles[j] + 1], scratch, size)
            scratch[size] = 32
            size = append(data, starts[j], ends[j], scratch, size + 1)
            asked |= roles[j] == user and ends[j] > starts[j]
        if asked:
            prompts[i] = max(hash_bytes(scratch, 0, size), uint64(1))
        answers[i] = hash_bytes(data, starts[last], ends[last]) if last < stop else hash_bytes(data, 0, 0)
    return out[:written].copy(), stops, prompts, answers


@njit(cache=True)
def disagreeing(prompts, answers):
    """Give the rows whose prompt has more than one answer, and for each the first row with its prompt."""
    count = prompts.size
    room = 2
    while room < 2 * count:
        room *= 2
    mask = uint64(room - 1)
    slots, first = np.full(room, -1, np.int64), np.full(count, -1, np.int64)
    several = np.zeros(count, np.bool_)
    for i in range(count):
        if prompts[i] == 0:
            continue
        slot = prompts[i] & mask
        while slots[slot] >= 0 and prompts[slots[slot]] != prompts[i]:
            slot = (slot + uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = i
        first[i] = slots[slot]
        several[first[i]] |= answers[first[i]] != answers[i]
    rows = np.array([i for i in range(count) if first[i] >= 0 and several[first[i]]], np.int64)
    return rows, first[rows]
