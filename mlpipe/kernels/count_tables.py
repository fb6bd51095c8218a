"""Tables of keys and counts that stay in the cache, and keys put in order with their counts."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.count_parts import collect

_ONE, _ZERO = np.uint64(1), np.uint64(0)

LEAST_SLOTS = 256
FULL = 0.5
"""How full a table may become: fuller ones are smaller, but nobody can predict how far one has to look."""

DENSE_SPAN = 1 << 17
"""Widest range of a partition that is counted in counters, if it has enough keys."""


@kernel
def _shift_of(slots):
    shift = np.uint64(64)
    while slots > 1:
        slots >>= 1
        shift -= _ONE
    return shift


@kernel
def fold(keys, table, distinct, mix, limit):
    """Count keys in a table with linear probing, as far as there is room.

    Parameters
    ----------
    keys : ndarray of uint64, shape (count,)
        What is counted.
    table : ndarray of uint64, shape (a power of two, 2)
        Keys with their counts, 0 where there is none.
    distinct : int
        How many there are.
    mix : uint64
        An odd number by which keys are hashed: the upper bits of their product are the place.
    limit : int
        Distinct keys at which to stop.

    Returns
    -------
    int, int
        Keys that were counted, and how many distinct ones there are.
    """
    mask, shift = np.uint64(table.shape[0] - 1), _shift_of(table.shape[0])
    for i in range(keys.shape[0]):
        key = keys[i]
        place = (key * mix) >> shift
        # A new key and a known one take the same way, for which of them comes nobody can predict.
        while table[place, 1] != _ZERO and table[place, 0] != key:
            place = (place + _ONE) & mask
        count = table[place, 1]
        distinct += count == _ZERO
        table[place, 0] = key
        table[place, 1] = count + _ONE
        if distinct >= limit:
            return i + 1, distinct
    return keys.shape[0], distinct


@kernel
def fold_pairs(keys, counts, table, distinct, mix):
    """Add keys with counts to a table that has room for them."""
    mask, shift = np.uint64(table.shape[0] - 1), _shift_of(table.shape[0])
    for i in range(keys.shape[0]):
        place = (keys[i] * mix) >> shift
        while table[place, 1] != _ZERO and table[place, 0] != keys[i]:
            place = (place + _ONE) & mask
        distinct += table[place, 1] == _ZERO
        table[place, 0] = keys[i]
        table[place, 1] += counts[i]
    return distinct


@kernel
def _move(table, larger, mix):
    """Put all that is in a table into one that is empty."""
    mask, shift = np.uint64(larger.shape[0] - 1), _shift_of(larger.shape[0])
    for i in range(table.shape[0]):
        if table[i, 1] != _ZERO:
            place = (table[i, 0] * mix) >> shift
            while larger[place, 1] != _ZERO:
                place = (place + _ONE) & mask
            larger[place, 0], larger[place, 1] = table[i, 0], table[i, 1]


@kernel
def grown(table, mix, factor):
    """A table so many times as large, with the same in it."""
    larger = np.zeros((table.shape[0] * factor, 2), np.uint64)
    _move(table, larger, mix)
    return larger


@kernel
def compress(table, keys, counts):
    """What is in a table, in no order."""
    count = np.int64(0)
    for i in range(table.shape[0]):
        if table[i, 1] != _ZERO:
            keys[count], counts[count] = table[i, 0], np.int64(table[i, 1])
            count += 1
    return count


@kernel
def _shell_sort(keys, counts, start, stop):
    """Sort a few keys with their counts; never quadratic."""
    gap = stop - start
    while gap > 1:
        gap = max(1, gap * 5 // 11)
        for i in range(start + gap, stop):
            key, count, j = keys[i], counts[i], i - gap
            while j >= start and keys[j] > key:
                keys[j + gap], counts[j + gap] = keys[j], counts[j]
                j -= gap
            keys[j + gap], counts[j + gap] = key, count


@kernel
def _insertion_sort(keys, counts, start, stop):
    for i in range(start + 1, stop):
        key, count, j = keys[i], counts[i], i - 1
        while j >= start and keys[j] > key:
            keys[j + 1], counts[j + 1] = keys[j], counts[j]
            j -= 1
        keys[j + 1], counts[j + 1] = key, count


@kernel
def sort_by_key(keys, counts, spare_keys, spare_counts, bounds):
    """Sort distinct keys with their counts: into many buckets of equal widths, then each.

    Parameters
    ----------
    keys : ndarray of uint64, shape (count,)
        Sorted in place.
    counts : ndarray of int64, shape (count,)
        They go with the keys.
    spare_keys, spare_counts : ndarray
        Scratch of at least that size.
    bounds : ndarray of int64
        Scratch of 4 to count + 2.
    """
    count = keys.shape[0]
    if count < 2:
        return
    low, high = keys[0], keys[0]
    for i in range(count):
        low, high = min(low, keys[i]), max(high, keys[i])
    # Two buckets at least: for one, keys at both ends of their range were to be shifted by 64, which nothing does.
    shift, most = _ZERO, np.uint64(min(bounds.shape[0] - 2, max(2, count // 2)))
    while ((high - low) >> shift) >= most:
        shift += _ONE
    number = np.int64((high - low) >> shift) + 1
    for i in range(number + 1):
        bounds[i] = 0
    for i in range(count):
        bounds[((keys[i] - low) >> shift) + _ONE] += 1
    for i in range(number):
        bounds[i + 1] += bounds[i]
    for i in range(count):
        bucket = (keys[i] - low) >> shift
        place = np.uint64(bounds[bucket])
        bounds[bucket] += 1
        spare_keys[place], spare_counts[place] = keys[i], counts[i]
    start = np.int64(0)
    for b in range(number):
        stop = bounds[b]
        if stop - start > 24:
            _shell_sort(spare_keys, spare_counts, start, stop)
        elif stop - start > 1:
            _insertion_sort(spare_keys, spare_counts, start, stop)
        start = stop
    for i in range(count):  # assigning slices takes ten times as long to compile, and 25 MiB
        keys[i], counts[i] = spare_keys[i], spare_counts[i]


@kernel
def _count_dense(keys, low, span, counters, out_keys, out_counts):
    """Count keys of a short range, and give them out in order."""
    for i in range(span):
        counters[i] = 0
    for i in range(keys.shape[0]):
        counters[keys[i] - low] += 1
    count = np.int64(0)
    for i in range(span):
        out_keys[count], out_counts[count] = low + np.uint64(i), counters[i]
        count += counters[i] != 0
    return count


@kernel
def _clear(table):
    for i in range(table.shape[0]):
        table[i, 0] = table[i, 1] = _ZERO


@kernel
def _slots_for(keys):
    """Slots of a table for so many keys."""
    slots = LEAST_SLOTS
    while slots * FULL < keys:
        slots *= 2
    return slots


@kernel
def _count_keys(keys, heavy_keys, heavy_counts, mix, guess, tables, out_keys, out_counts):
    """Count keys in one of two tables, and in the other one once it is full; they come out in no order."""
    rows, which = keys.shape[0], 0
    table = tables[0, : _slots_for(heavy_keys.shape[0] + min(rows, np.int64(rows * guess) + 64))]
    _clear(table)
    found = fold_pairs(heavy_keys, heavy_counts, table, np.int64(0), mix)
    done = np.int64(0)
    while done < rows:
        limit = np.int64(table.shape[0] * FULL)
        more, found = fold(keys[done:], table, found, mix, limit)
        done += more
        if found >= limit:
            which = 1 - which
            larger = tables[which, : table.shape[0] * 2]
            _clear(larger)
            _move(table, larger, mix)
            table = larger
    return compress(table, out_keys, out_counts)


@kernel
def digest(first, stop, counts, current, lines, previous, arena, chunk, heavy_keys, heavy_counts, bounds, mix,
           stage, guess, in_order, out_keys, out_counts, tables, counters, spare_keys, spare_counts,
           edges):  # fmt: skip
    """Count what the workers have of partitions `first` to `stop`, all of which fit into `stage`.

    Parameters
    ----------
    first, stop : int
        Which partitions.
    counts, current, lines, previous, arena, chunk
        As `collect` takes them.
    heavy_keys, heavy_counts : ndarray of uint64
        What was counted elsewhere, by key.
    bounds : ndarray of int64, shape (partitions + 1,)
        Where those of each partition begin.
    mix : uint64
        See `fold`.
    stage : ndarray of uint64
        Scratch.
    guess : float
        Distinct keys for a key, as a first guess.
    in_order : bool
        Whether keys come out in order.
    out_keys, out_counts : ndarray
        What comes out; one more than there can be.
    tables : ndarray of uint64, shape (2, slots, 2)
        Scratch for four times as many keys as there can be.
    counters : ndarray of int64, shape (DENSE_SPAN,)
        Scratch.
    spare_keys, spare_counts, edges : ndarray
        Scratch of `sort_by_key`.

    Returns
    -------
    int
        Distinct keys of all of them.
    """
    total = np.int64(0)
    for part in range(first, stop):
        rows = collect(part, np.int64(1), counts, current, lines, previous, arena, chunk, np.int64(0), stage)
        begin, end = bounds[part], bounds[part + 1]
        keys = stage[:rows]
        if rows and begin == end:
            low, high = keys[0], keys[0]
            for i in range(rows):
                low, high = min(low, keys[i]), max(high, keys[i])
            if high - low < np.uint64(min(DENSE_SPAN, 4 * rows)):
                span = np.int64(high - low) + 1
                total += _count_dense(keys, low, span, counters, out_keys[total:], out_counts[total:])
                continue
        found = _count_keys(
            keys,
            heavy_keys[begin:end],
            heavy_counts[begin:end],
            mix,
            guess,
            tables,
            out_keys[total:],
            out_counts[total:],
        )
        guess = min(1.0, found / max(1, rows))
        if in_order:
            last = total + found
            sort_by_key(out_keys[total:last], out_counts[total:last], spare_keys, spare_counts, edges)
        total += found
    return total
