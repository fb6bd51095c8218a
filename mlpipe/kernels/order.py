"""Keyed bijections between positions and rows, by which rows are shuffled and sampled."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.randoms import pair

ROUNDS = 8

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_UNIT = np.uint64(1)
_ZERO = np.uint64(0)


@kernel
def _mix(value, key):
    """The word that SplitMix64 (Steele, Lea and Flood 2014) makes of a state `value` steps after `key`."""
    word = value * _GOLDEN + key
    word = (word ^ (word >> _SHIFT_1)) * _FIRST
    word = (word ^ (word >> _SHIFT_2)) * _SECOND
    return word ^ (word >> _SHIFT_3)


@kernel
def below(word, bound):
    """A number in [0, bound) of a word: the upper half of their product; `bound` is at most 2³²."""
    return ((word >> _HALF) * bound + (((word & _LOW) * bound) >> _HALF)) >> _HALF


@kernel
def _there(left, right, key, other, mask, lefts):
    """Two rounds of the Feistel network: add to each half what depends on the other half."""
    left += below(_mix(right, key), lefts)
    left -= lefts if left >= lefts else _ZERO
    return left, (right + _mix(left, other)) & mask


@kernel
def _back(left, right, key, other, mask, lefts):
    """Undo `_there`."""
    right = (right - _mix(left, other)) & mask
    left += lefts - below(_mix(right, key), lefts)
    return left - (lefts if left >= lefts else _ZERO), right


@kernel
def _all_there(words, bits, lefts, values):
    """Send all values through all rounds, which are written out so that the loop over the values is vectorised."""
    a, b, c, d, e, f, g, h = words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7]
    mask = (_UNIT << bits) - _UNIT
    for i in range(values.shape[0]):
        left, right = values[i] >> bits, values[i] & mask
        left, right = _there(left, right, a, b, mask, lefts)
        left, right = _there(left, right, c, d, mask, lefts)
        left, right = _there(left, right, e, f, mask, lefts)
        left, right = _there(left, right, g, h, mask, lefts)
        values[i] = (left << bits) | right


@kernel
def _all_back(words, bits, lefts, values):
    """Undo `_all_there`."""
    a, b, c, d, e, f, g, h = words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7]
    mask = (_UNIT << bits) - _UNIT
    for i in range(values.shape[0]):
        left, right = values[i] >> bits, values[i] & mask
        left, right = _back(left, right, g, h, mask, lefts)
        left, right = _back(left, right, e, f, mask, lefts)
        left, right = _back(left, right, c, d, mask, lefts)
        left, right = _back(left, right, a, b, mask, lefts)
        values[i] = (left << bits) | right


@kernel
def permute(words, count, bits, lefts, values, backward):
    """Send each of `values` to where a keyed bijection of [0, count) has it, or back.

    A Feistel network (Luby and Rackoff 1988) permutes [0, lefts · 2^bits); a value that lands outside of [0, count)
    is sent on until it is inside (Black and Rogaway 2002), which happens to one in about √count.

    Parameters
    ----------
    words : ndarray of uint64, shape (8,)
        Key of each round.
    count : uint64
        Size of the domain.
    bits, lefts : uint64
        How a value is split: bits of the right half, values of the left one, at most 2³².
    values : ndarray of uint64
        Replaced in place.
    backward : bool
        The inverse.
    """
    if backward:
        _all_back(words, bits, lefts, values)
    else:
        _all_there(words, bits, lefts, values)
    for i in range(values.shape[0]):
        while values[i] >= count:
            if backward:
                _all_back(words, bits, lefts, values[i : i + 1])
            else:
                _all_there(words, bits, lefts, values[i : i + 1])


@kernel
def shuffle_table(key, table):
    """Put the numbers 0, 1, … into `table` in a keyed order, all orders equally likely (Fisher and Yates 1938)."""
    for i in range(table.shape[0]):
        table[i] = i
    for i in range(table.shape[0] - 1, 0, -1):
        word, _ = pair(key[0], key[1], np.uint64(i), _ZERO)
        j = np.int64(below(word, np.uint64(i + 1)))
        table[i], table[j] = table[j], table[i]


@kernel
def invert_table(table, out):
    """The position of each number in `table`."""
    for i in range(table.shape[0]):
        out[table[i]] = i


CHUNK = 256
"""Rows of which one count is kept, to find the n-th row of a sample."""

_RANK_BITS = np.uint64(32)
_RANK_LEFTS = np.uint64(1 << 32)


@kernel
def ranks(words, start, out):
    """Where rows from `start` on are in a keyed order of all 64-bit numbers; `out` is uint64, and no two are equal."""
    for i in range(out.shape[0]):
        out[i] = start + i
    _all_there(words, _RANK_BITS, _RANK_LEFTS, out)


@kernel
def count_chosen(words, total, last, counts):
    """How many rows of each chunk have a rank up to `last`."""
    found = np.empty(CHUNK, np.uint64)
    for chunk in range(counts.shape[0]):
        rows = min(CHUNK, total - chunk * CHUNK)
        ranks(words, chunk * CHUNK, found[:rows])
        count = 0
        for i in range(rows):
            count += found[i] <= last
        counts[chunk] = count


@kernel
def choose(words, total, last, starts, positions, out):
    """Find the n-th rows of a sample.

    Parameters
    ----------
    words : ndarray of uint64, shape (8,)
        Key of the ranks.
    total : int
        Rows to choose from.
    last : uint64
        The highest rank in the sample.
    starts : ndarray of int64, shape (chunks + 1,)
        Rows in the sample before each chunk.
    positions, out : ndarray of int64
        Places in the sample, and the rows there.
    """
    found, rows = np.empty(CHUNK, np.uint64), np.empty(CHUNK, np.int64)
    chunk = -1
    for i in range(positions.shape[0]):
        position = positions[i]
        if chunk < 0 or not starts[chunk] <= position < starts[chunk + 1]:
            chunk, high = 0, starts.shape[0] - 1
            while high - chunk > 1:
                middle = (chunk + high) // 2
                if starts[middle] <= position:
                    chunk = middle
                else:
                    high = middle
            count = 0
            size = min(CHUNK, total - chunk * CHUNK)
            ranks(words, chunk * CHUNK, found[:size])
            for j in range(size):
                rows[count] = chunk * CHUNK + j
                count += found[j] <= last
        out[i] = rows[position - starts[chunk]]


@kernel
def draw_slots(key, start, size, shrinks, out):
    """A place in a buffer for each row that leaves it.

    Parameters
    ----------
    key : ndarray of uint64, shape (2,)
        From `mlpipe.keys.key`.
    start : int
        How many rows left before.
    size : int
        Rows in the buffer, below 2³².
    shrinks : bool
        Whether nothing follows: then the n-th draw is among n rows fewer.
    out : ndarray of int64
        At most `size` places, if it shrinks.
    """
    for i in range(out.shape[0]):
        word, _ = pair(key[0], key[1], np.uint64(start + i), _ZERO)
        out[i] = below(word, np.uint64(size - i if shrinks else size))
