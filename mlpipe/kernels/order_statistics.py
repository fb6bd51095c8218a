"""Kernels that count digits of values, by which order statistics are found exactly."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel


@kernel
def _ordered(bits, sign, infinity):
    """An unsigned integer that orders as the number of these bits does; without a branch on the sign."""
    negative = bits & sign
    flipped = negative | (negative - np.uint64(1)) if infinity != 0 and negative != 0 else sign
    return bits ^ flipped


@kernel
def count_digits(rows, first, stop, sign, infinity, width, after, prefixes, slots, counts, present):
    """Count, for columns first … stop, the next digit of the values that begin with one of the prefixes.

    Parameters
    ----------
    rows : ndarray of unsigned integers, shape (rows, columns)
        Bits of the values.
    sign, infinity : uint64
        The bit of the sign, 0 for unsigned integers; the bits of a float's infinity, 0 for integers. NaN, which has
        more than those, is passed over.
    width, after : uint64
        Bits of the digit, and after it.
    prefixes : ndarray of uint64, shape (columns, slots)
        What precedes the digit.
    slots : ndarray of int64, shape (columns,)
        How many prefixes a column has.
    counts : ndarray of int64, shape (columns, slots, at least 2^width)
        The result.
    present : ndarray of int64, shape (columns,)
        Number of values that are not NaN.
    """
    mask = (np.uint64(1) << width) - np.uint64(1)
    for i in range(rows.shape[0]):
        for k in range(first, stop):
            bits = np.uint64(rows[i, k])
            if infinity != 0 and (bits & ~sign) > infinity:
                continue
            present[k] += 1
            value = _ordered(bits, sign, infinity) >> after
            for slot in range(slots[k]):
                if value >> width == prefixes[k, slot]:
                    counts[k, slot, np.int64(value & mask)] += 1


@kernel
def narrow(counts, width, ranks, targets, prefixes, slots, slot_of):
    """Follow each target into the digit that holds its rank, and make the prefixes of the next pass of them.

    Parameters
    ----------
    counts, width, prefixes, slots
        As for `count_digits`; the last two are changed.
    ranks : ndarray of int64, shape (columns, targets)
        Rank of each target among the values with its prefix; changed to that among those with the longer one.
    targets : ndarray of uint64, shape (columns, targets)
        The longer prefixes.
    slot_of : ndarray of int64, shape (columns, targets)
        Which prefix is a target's; changed.
    """
    for k in range(ranks.shape[0]):
        if slots[k] == 0:
            continue
        for t in range(ranks.shape[1]):
            slot, digit = slot_of[k, t], 0
            while ranks[k, t] >= counts[k, slot, digit]:
                ranks[k, t] -= counts[k, slot, digit]
                digit += 1
            targets[k, t] = (prefixes[k, slot] << width) | np.uint64(digit)
        slots[k] = 0
        for t in range(ranks.shape[1]):
            slot = 0
            while slot < slots[k] and prefixes[k, slot] != targets[k, t]:
                slot += 1
            prefixes[k, slot] = targets[k, t]
            slots[k] = max(slots[k], slot + 1)
            slot_of[k, t] = slot
