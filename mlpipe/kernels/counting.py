"""Counters of values of a short range, and sums of weights."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.count_keys import ordered
from mlpipe.kernels.count_parts import BLOCK
from mlpipe.kernels.count_tables import _shift_of

SETS = 4
"""Counters of a value, taken by turns: an increment need not wait for the one before it to reach memory."""

_ONE, _ZERO = np.uint64(1), np.uint64(0)


@kernel
def extremes(values):
    """Least and largest of at least one integer."""
    low, high = values[0], values[0]
    for i in range(values.shape[0]):
        low, high = min(low, values[i]), max(high, values[i])
    return low, high


@kernel
def key_extremes(values):
    """Least and largest key of at least one value of 32 or 64 bits."""
    low = ordered(values[0])
    high = low
    for i in range(values.shape[0]):
        key = ordered(values[i])
        low, high = min(low, key), max(high, key)
    return low, high


@kernel
def _count_by_turns(values, low, counters):
    """Count values, all in range, in the sets of counters by turns."""
    whole = values.shape[0] // SETS * SETS
    for i in range(0, whole, SETS):
        a, b = ordered(values[i]) - low, ordered(values[i + 1]) - low
        c, d = ordered(values[i + 2]) - low, ordered(values[i + 3]) - low
        counters[0, a] += 1
        counters[1, b] += 1
        counters[2, c] += 1
        counters[3, d] += 1
    for i in range(whole, values.shape[0]):
        counters[0, ordered(values[i]) - low] += 1


@kernel
def count_range(values, start, low, counters):
    """Count integers of 32 or 64 bits, block by block, up to a block with one out of range.

    Parameters
    ----------
    values : ndarray
        What is counted.
    start : int
        The first to count.
    low : uint64
        Key of the first counter.
    counters : ndarray of uint32, shape (1 or SETS, span)
        One for each key from there on.

    Returns
    -------
    int
        How far it came.
    """
    span, stop = np.uint64(counters.shape[1]), values.shape[0]
    while start < stop:
        # A slice, whose indices are known not to be negative: with them, this is four times as fast.
        block = values[start : start + BLOCK]
        least, most = extremes(block)
        # Below `low`, the difference wraps round to a large one.
        if ordered(least) - low >= span or ordered(most) - low >= span:
            return start
        if counters.shape[0] == SETS:
            _count_by_turns(block, low, counters)
        else:
            for i in range(block.shape[0]):
                counters[0, ordered(block[i]) - low] += 1
        start += block.shape[0]
    return start


@kernel
def count_bits(values, counters):
    """Count unsigned integers of 8 or 16 bits; counters as `count_range` has them, one for every value."""
    whole = values.shape[0] // SETS * SETS
    if counters.shape[0] == SETS:
        for i in range(0, whole, SETS):
            counters[0, np.uint64(values[i])] += 1
            counters[1, np.uint64(values[i + 1])] += 1
            counters[2, np.uint64(values[i + 2])] += 1
            counters[3, np.uint64(values[i + 3])] += 1
    else:
        whole = 0
    for i in range(whole, values.shape[0]):
        counters[0, np.uint64(values[i])] += 1


@kernel
def present(counters, low, keys, counts):
    """Keys and counts of the counters that are not 0."""
    count = np.int64(0)
    for i in range(counters.shape[0]):
        keys[count], counts[count] = low + np.uint64(i), np.int64(counters[i])
        count += counters[i] != 0
    return count


@kernel
def run_lengths(keys, out_keys, out_counts):
    """Each of the keys, which ascend, once, and how often it occurs."""
    count = np.int64(-1)
    for i in range(keys.shape[0]):
        if count < 0 or keys[i] != out_keys[count]:
            count += 1
            out_keys[count], out_counts[count] = keys[i], 0
        out_counts[count] += 1
    return count + 1


@kernel
def add_exactly(words, weights, table, sums, distinct, mix, limit):
    """Add integer weights of keys, which lie in turns with them; `table` holds keys and places in `sums` from 1 on."""
    mask, shift = np.uint64(table.shape[0] - 1), _shift_of(table.shape[0])
    for i in range(words.shape[0] // 2):
        key = words[2 * i]
        place = (key * mix) >> shift
        while table[place, 1] != _ZERO and table[place, 0] != key:
            place = (place + _ONE) & mask
        if table[place, 1] == _ZERO:
            if distinct == limit:
                return i, distinct
            sums[distinct, 0] = 0
            distinct += 1
            table[place, 0], table[place, 1] = key, distinct
        sums[table[place, 1] - _ONE, 0] += weights[2 * i + 1]
    return words.shape[0] // 2, distinct


@kernel
def compensated(total, rest, value):
    """A sum with what rounding took from it (Neumaier 1974)."""
    after = total + value
    if abs(total) >= abs(value):
        return after, rest + ((total - after) + value)
    return after, rest + ((value - after) + total)


@kernel
def add_compensated(words, weights, table, sums, distinct, mix, limit):
    """The same with float weights, whose rounding errors are kept in the second column of `sums`."""
    mask, shift = np.uint64(table.shape[0] - 1), _shift_of(table.shape[0])
    for i in range(words.shape[0] // 2):
        key = words[2 * i]
        place = (key * mix) >> shift
        while table[place, 1] != _ZERO and table[place, 0] != key:
            place = (place + _ONE) & mask
        if table[place, 1] == _ZERO:
            if distinct == limit:
                return i, distinct
            sums[distinct, 0], sums[distinct, 1] = 0.0, 0.0
            distinct += 1
            table[place, 0], table[place, 1] = key, distinct
        at = table[place, 1] - _ONE
        sums[at, 0], sums[at, 1] = compensated(sums[at, 0], sums[at, 1], weights[2 * i + 1])
    return words.shape[0] // 2, distinct


@kernel
def add_up(weights, total):
    """Add weights one after the other to a compensated sum of two numbers."""
    for i in range(weights.shape[0]):
        total[0], total[1] = compensated(total[0], total[1], weights[i])


@kernel
def unpack(table, out_keys):
    """The keys of a table, each at its place."""
    for i in range(table.shape[0]):
        if table[i, 1] != _ZERO:
            out_keys[table[i, 1] - _ONE] = table[i, 0]
