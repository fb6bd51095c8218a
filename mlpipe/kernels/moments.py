"""Kernels that learn from columns: means and variances, and extremes.

Sums run over groups of rows whose position does not depend on blocks, value after value, in two float64 each: one
for the sum, one for what rounding dropped. Groups are then added in order. So neither blocks nor threads show.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel

COUNT, INFINITE, SUM, SUM_LOW, SQUARE, SQUARE_LOW = range(6)
"""Rows of a group's sums."""

SUMS = 6


@intrinsic
def _fma(typing, a, b, c):
    """a · b + c, rounded once: the exact error of a product is ``_fma(a, b, -(a * b))``."""

    def generate(context, builder, signature, values):
        return builder.fma(*values)

    return types.float64(types.float64, types.float64, types.float64), generate


@kernel
def first_finite(rows, shift):
    """Give each column whose shift is NaN the first finite value it has, if any."""
    for k in range(rows.shape[1]):
        if math.isnan(shift[k]):
            for i in range(rows.shape[0]):
                if math.isfinite(rows[i, k]):
                    shift[k] = rows[i, k]
                    break


@kernel
def _add_rows(values, shift, count, infinite, total, low, square, square_low):
    """Add rows as long as the other arrays: deviations from the shift, and their squares."""
    lanes = shift.size
    for at in range(0, values.size, lanes):
        row = values[at : at + lanes]
        for k in range(lanes):
            x = np.float64(row[k])
            finite = x - x == 0.0
            infinite[k] += 1.0 if x == x and not finite else 0.0
            count[k] += 1.0 if finite else 0.0
            d = x - shift[k]
            back = d - x
            lost = (x - (d - back)) - (shift[k] + back)  # of the difference, by rounding (Knuth)
            d = d if finite else 0.0
            lost = lost if finite else 0.0
            before = total[k]
            after = before + d
            part = after - before
            low[k] += ((before - (after - part)) + (d - part)) + lost
            total[k] = after
            product = d * d
            before = square[k]
            after = before + product
            part = after - before
            error = _fma(d, d, -product) + 2.0 * d * lost
            square_low[k] += ((before - (after - part)) + (product - part)) + error
            square[k] = after


@kernel
def add_moments(values, offset, shift, sums):
    """Add consecutive values to the sums of a group.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Rows, flat.
    offset : int
        Lane of the first value.
    shift : ndarray of float64, shape (lanes,)
        A number near the values of each lane's column; the closer, the less is lost.
    sums : ndarray of float64, shape (SUMS, lanes)
        A lane is a column, or, of few columns, those of several rows side by side.
    """
    lanes = sums.shape[1]
    head = min((lanes - offset) % lanes, values.size)
    whole = head + (values.size - head) // lanes * lanes
    for start, stop, lane in ((0, head, offset), (head, whole, 0), (whole, values.size, 0)):
        if start < stop:
            part = slice(lane, min(lanes, lane + stop - start))
            _add_rows(
                values[start:stop], shift[part], sums[COUNT, part], sums[INFINITE, part], sums[SUM, part],
                sums[SUM_LOW, part], sums[SQUARE, part], sums[SQUARE_LOW, part],
            )  # fmt: skip


@kernel
def _merge(one, k, total, c):
    """Add lane k of some sums to lane c of others."""
    total[COUNT, c] += one[COUNT, k]
    total[INFINITE, c] += one[INFINITE, k]
    for high in (SUM, SQUARE):
        before = total[high, c]
        after = before + one[high, k]
        part = after - before
        total[high + 1, c] += ((before - (after - part)) + (one[high, k] - part)) + one[high + 1, k]
        total[high, c] = after


@kernel
def merge_groups(groups, count, total):
    """Add the sums of the first `count` groups to the total, in order."""
    for group in range(count):
        for k in range(total.shape[1]):
            _merge(groups[group], k, total, k)


@kernel
def finish_moments(sums, shift, columns, mean, variance):
    """Mean and variance (divided by the number of values) of each column; NaN for a column without finite values.

    Parameters
    ----------
    sums : ndarray of float64, shape (SUMS, lanes)
        Of all groups; the lanes of each column are added up in its first one.
    shift : ndarray of float64, shape (lanes,)
        As for `add_moments`.
    columns : int
        How many.
    mean, variance : ndarray of float64, shape (columns,)
        The results.
    """
    for c in range(columns):
        for k in range(c + columns, sums.shape[1], columns):
            _merge(sums, k, sums, c)
        n = sums[COUNT, c]
        if n == 0.0:
            mean[c] = variance[c] = math.nan
            continue
        total = sums[SUM, c] + sums[SUM_LOW, c]
        rest = sums[SUM_LOW, c] - (total - sums[SUM, c])
        quotient = total / n
        about = shift[c] + quotient
        part = about - shift[c]
        lost = (shift[c] - (about - part)) + (quotient - part)
        mean[c] = about + (lost + (_fma(-quotient, n, total) + rest) / n)
        square = total * total
        square_rest = _fma(total, total, -square) + 2.0 * total * rest
        expected = square / n
        expected_rest = (_fma(-expected, n, square) + square_rest) / n
        deviation = (sums[SQUARE, c] - expected) + (sums[SQUARE_LOW, c] - expected_rest)
        variance[c] = max(0.0, deviation) / n


@kernel
def _extremes_of_row(values, low, high, count):
    """Take one row into the extremes."""
    for k in range(values.size):
        value = np.float64(values[k])
        low[k] = value if value < low[k] else low[k]
        high[k] = value if value > high[k] else high[k]
        count[k] += 1 if value == value else 0


@kernel
def add_extremes(rows, low, high, count):
    """Take rows into the smallest and largest value of each column and their number; NaN is passed over."""
    for i in range(rows.shape[0]):
        _extremes_of_row(rows[i], low, high, count)
