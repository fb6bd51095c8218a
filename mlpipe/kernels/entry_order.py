"""Entries of `mlpipe.kernels.entries` in order: sorting, merging, and copying them out one after the other."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.entries import body_words, fetch

FEW = 12
"""So few are sorted by insertion."""

MANY, PARTS = 4096, 256
"""More entries than that are put in so many parts first."""

AHEAD = 8
"""Entries of a list by which memory is asked for before it is needed."""

STACK = 4 * 256
"""More than twice the logarithm of how many there may be, four numbers each."""


@kernel
def _letters(heap, entry, width):
    """Words of an entry that are compared."""
    return width if width else (np.int64(heap[entry + 1]) + 7) >> 3


@kernel
def _first(width):
    """Where they begin in an entry."""
    return 1 if width else 2


@kernel
def less(heap, a, b, depth, width):
    """Whether the first of two entries comes before the other; `depth` words of both are known to be equal."""
    many, more = _letters(heap, a, width), _letters(heap, b, width)
    first = _first(width)
    for k in range(depth, max(many, more)):
        left = heap[a + first + k] if k < many else np.uint64(0)
        right = heap[b + first + k] if k < more else np.uint64(0)
        if left != right:
            return left < right
    # Only zero bytes at the end tell them apart: the shorter one is a beginning of the other.
    return heap[a + 1] < heap[b + 1]


@kernel
def _load(heap, entries, keys, low, high, depth, width):
    """Keys of entries: their words at a depth, or, where all have ended, their lengths, which is told by -1."""
    first = _first(width)
    if depth >= 0:
        ended = True
        for i in range(low, high):
            many = _letters(heap, entries[i], width)
            ended &= depth >= many
            keys[i] = heap[entries[i] + first + depth] if depth < many else np.uint64(0)
        if not ended:
            return depth
    for i in range(low, high):
        keys[i] = heap[entries[i] + 1]
    return -1


@kernel
def _insert(heap, entries, keys, low, high, depth, width):
    """Sort a few entries whose keys are loaded."""
    for i in range(low + 1, high):
        entry, key, j = entries[i], keys[i], i
        while j > low:
            if key > keys[j - 1]:
                break
            if key == keys[j - 1] and not less(heap, entry, entries[j - 1], max(depth, 0), width):
                break
            entries[j], keys[j] = entries[j - 1], keys[j - 1]
            j -= 1
        entries[j], keys[j] = entry, key


@kernel
def _push(stack, top, low, high, depth, fresh):
    """Put a part on the stack; `fresh` if its keys are to be loaded."""
    stack[top], stack[top + 1], stack[top + 2], stack[top + 3] = low, high, depth, fresh
    return top + 4


@kernel
def _divide(keys, entries, low, high, pivot):
    """Put entries before and behind those whose keys are the pivot; return where these begin and end."""
    before, i, after = low, low, high
    while i < after:
        if keys[i] < pivot:
            keys[i], keys[before] = keys[before], keys[i]
            entries[i], entries[before] = entries[before], entries[i]
            before += 1
            i += 1
        elif keys[i] > pivot:
            after -= 1
            keys[i], keys[after] = keys[after], keys[i]
            entries[i], entries[after] = entries[after], entries[i]
        else:
            i += 1
    return before, after


@kernel
def _spread(keys, entries, low, high, bounds):
    """Put entries in 256 parts by the highest bits in which their keys differ, in place (an American flag).

    `bounds`, of shape (257,), says afterwards where parts begin.
    """
    least, most = keys[low], keys[low]
    for i in range(low, high):
        least, most = min(least, keys[i]), max(most, keys[i])
    shift = np.uint64(0)
    while (most - least) >> shift >= np.uint64(PARTS):
        shift += np.uint64(1)
    bounds[:] = 0
    for i in range(low, high):
        bounds[np.int64((keys[i] - least) >> shift) + 1] += 1
    bounds[0] = low
    for part in range(PARTS):
        bounds[part + 1] += bounds[part]
    heads = bounds.copy()
    for part in range(PARTS):
        while heads[part] < bounds[part + 1]:
            key, entry = keys[heads[part]], entries[heads[part]]
            own = np.int64((key - least) >> shift)
            while own != part:
                place = heads[own]
                heads[own] += 1
                key, keys[place] = keys[place], key
                entry, entries[place] = entries[place], entry
                own = np.int64((key - least) >> shift)
            keys[heads[part]], entries[heads[part]] = key, entry
            heads[part] += 1


@kernel
def _sort_part(heap, entries, keys, low, high, fresh, width, seed):
    """Sort entries within bounds; `fresh` if their keys are to be loaded."""
    stack = np.empty(STACK, np.int64)
    state = np.uint64(seed)
    depth, top = 0, 0
    while True:
        if fresh and high - low > 1:
            depth = _load(heap, entries, keys, low, high, depth, width)
        if high - low <= FEW:
            _insert(heap, entries, keys, low, high, depth, width)
            if top == 0:
                return
            top -= 4
            low, high, depth, fresh = stack[top], stack[top + 1], stack[top + 2], stack[top + 3]
            continue
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        pivot = keys[low + np.int64(state % np.uint64(high - low))]
        before, after = _divide(keys, entries, low, high, pivot)
        sizes = (before - low, after - before, high - after)
        lows, highs = (low, before, after), (before, after, high)
        depths, loads = (depth, depth + 1, depth), (0, 1, 0)
        # The smallest part goes first, so that the stack stays short.
        small = 0
        for n in range(1, 3):
            if sizes[n] < sizes[small]:
                small = n
        large = 2 if small == 0 else 0
        middle = 3 - small - large
        if sizes[middle] > sizes[large]:
            large, middle = middle, large
        if sizes[large] > 1:
            top = _push(stack, top, lows[large], highs[large], depths[large], loads[large])
        if sizes[middle] > 1:
            top = _push(stack, top, lows[middle], highs[middle], depths[middle], loads[middle])
        low, high, depth = lows[small], highs[small], depths[small]
        fresh = loads[small]


@kernel
def sort_entries(heap, entries, keys, width, seed):
    """Sort entries that all differ.

    By the highest bits of their first words, twice, which halves the time of millions; then by three-way quicksort,
    word after word (Bentley and Sedgewick 1997).

    Parameters
    ----------
    heap : ndarray of uint64
        The entries.
    entries : ndarray of int64, shape (count,)
        Where each begins; sorted.
    keys : ndarray of uint64, shape (at least count,)
        Scratch.
    width : int
        Words of a body; 0 for any length.
    seed : int
        Positive. For the choice of pivots, so that no input is known to be slow.
    """
    count = entries.shape[0]
    if count <= MANY:
        _sort_part(heap, entries, keys, 0, count, 1, width, seed)
        return
    _load(heap, entries, keys, 0, count, 0, width)
    outer, inner = np.empty(PARTS + 1, np.int64), np.empty(PARTS + 1, np.int64)
    _spread(keys, entries, 0, count, outer)
    for part in range(PARTS):
        low, high = outer[part], outer[part + 1]
        if high - low <= MANY:
            _sort_part(heap, entries, keys, low, high, 0, width, seed)
            continue
        _spread(keys, entries, low, high, inner)
        for piece in range(PARTS):
            _sort_part(heap, entries, keys, inner[piece], inner[piece + 1], 0, width, seed)


@kernel
def _sift(heap, entries, at, heads, tree, size, place, width):
    """Restore the order of a heap of lists below a place; `heads` are the first words of what is next in each."""
    chosen = tree[place]
    entry, head = entries[at[chosen]], heads[chosen]
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size:
            left, right = heads[tree[child]], heads[tree[child + 1]]
            if right < left or (
                right == left and less(heap, entries[at[tree[child + 1]]], entries[at[tree[child]]], 0, width)
            ):
                child += 1
        other = heads[tree[child]]
        if other > head or (other == head and not less(heap, entries[at[tree[child]]], entry, 0, width)):
            break
        tree[place] = tree[child]
        place = child
    tree[place] = chosen


@kernel
def merge(heap, entries, at, stop, more, out, room, width):
    """Merge sorted lists of entries, until `out` is full, or a list ends of which there is more elsewhere.

    Parameters
    ----------
    heap : ndarray of uint64
        The entries.
    entries : ndarray of int64
        Where entries begin, list after list.
    at, stop : ndarray of int64, shape (lists,)
        What is left of each list; `at` is moved on.
    more : ndarray of bool, shape (lists,)
        Whether the list goes on elsewhere.
    out : ndarray of int64
        Filled with entries in order.
    room : int
        Words the entries may take that are handed out; one is, whatever it takes.
    width : int
        Words of a body; 0 for any length.

    Returns
    -------
    int
        How many were handed out.
    """
    heads, first = np.empty(at.shape[0], np.uint64), _first(width)
    tree, size = np.empty(at.shape[0], np.int64), 0
    for n in range(at.shape[0]):
        if at[n] < stop[n]:
            entry = entries[at[n]]
            heads[n] = heap[entry + first] if _letters(heap, entry, width) else np.uint64(0)
            tree[size] = n
            size += 1
    for place in range(size // 2 - 1, -1, -1):
        _sift(heap, entries, at, heads, tree, size, place, width)
    count, taken = 0, 0
    while size and count < out.shape[0]:
        chosen = tree[0]
        entry = entries[at[chosen]]
        taken += 1 + body_words(heap, entry + 1, width)
        if count and taken > room:
            break
        out[count] = entry
        count += 1
        at[chosen] += 1
        if at[chosen] == stop[chosen]:
            if more[chosen]:
                break
            size -= 1
            tree[0] = tree[size]
        else:
            fetch(heap, entries[min(at[chosen] + AHEAD, stop[chosen] - 1)])
            entry = entries[at[chosen]]
            heads[chosen] = heap[entry + first] if _letters(heap, entry, width) else np.uint64(0)
        if size > 1:
            _sift(heap, entries, at, heads, tree, size, 0, width)
    return count


@kernel
def pack(heap, entries, first, width, out):
    """Copy entries from the one called `first` on, one after the other, as long as there is room.

    Returns
    -------
    next, words : int
        The entry that comes next, and the words of `out` that were filled.
    """
    filled = 0
    for i in range(first, entries.shape[0]):
        size = 1 + body_words(heap, entries[i] + 1, width)
        if filled + size > out.shape[0]:
            return i, filled
        for k in range(size):
            out[filled + k] = heap[entries[i] + k]
        filled += size
    return entries.shape[0], filled


@kernel
def take_bodies(heap, entries, out):
    """Copy the bodies of entries of one width to the rows of `out`."""
    for i in range(entries.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = heap[entries[i] + 1 + k]


@kernel
def take_counts(counts, entries, out):
    """Copy the counts of entries."""
    for i in range(entries.shape[0]):
        out[i] = counts[entries[i]]
