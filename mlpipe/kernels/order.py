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
