"""Records of what is known of some rows, and how they are merged: in order, so that neither blocks nor threads show.

A record is three arrays with a column for each column: float64 sums, int64 counts, and extremes in the values' dtype.
"""

from __future__ import annotations

import math

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.describe_merge import (
    CLASS,
    COUNT,
    LANES,
    LIMB,
    M2,
    M2_LOW,
    M3,
    M4,
    PLACE,
    TOTAL,
    TOTAL_LOW,
    merge_moments,
)
from mlpipe.kernels.describe_strips import HALF, stay_apart
from mlpipe.kernels.scalars import fma

SPACING, LAST_CLASS = 300, 3
"""Values of class c are multiplied by 2^(-300 c), into 2^±150: neither fourth powers nor their sums overflow, nor do
they vanish."""

MASK = (1 << HALF) - 1


@kernel
def two_sum(a, b):
    """a + b, and what rounding drops."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@kernel
def quotient(high, low, count):
    """(high + low) / count as two float64."""
    about = high / count
    rest = (fma(-about, count, high) + low) / count
    return two_sum(about, rest)


@kernel
def _rescale(floats, counts, c, level):
    """Bring the moments of a column to a higher class."""
    scale = math.ldexp(1.0, SPACING * (counts[CLASS, c] - level))
    floats[TOTAL, c] *= scale
    floats[TOTAL_LOW, c] *= scale
    floats[M2, c] *= scale * scale
    floats[M2_LOW, c] *= scale * scale
    floats[M3, c] *= scale * scale * scale
    floats[M4, c] *= scale * scale * scale * scale
    counts[CLASS, c] = level


@kernel
def _merge_moments(floats, counts, more_floats, more_counts):
    """Merge the moments, once both are of one class."""
    stay_apart()
    for c in range(floats.shape[1]):
        if counts[CLASS, c] != more_counts[CLASS, c]:
            level = max(counts[CLASS, c], more_counts[CLASS, c])
            _rescale(floats, counts, c, level)
            _rescale(more_floats, more_counts, c, level)
    for c in range(0, floats.shape[1], LANES):
        merge_moments(c, floats, counts, more_floats, more_counts)


@kernel
def _merge_extremes(counts, extremes, more_counts, more_extremes):
    """Smaller minima and larger maxima, and where they are; of equal ones the first and the last row."""
    stay_apart()
    for c in range(extremes.shape[1]):
        for which in range(2):
            value, other = extremes[which, c], more_extremes[which, c]
            first, last = PLACE + 2 * which, PLACE + 2 * which + 1
            beyond = other < value if which == 0 else other > value
            if beyond:
                extremes[which, c] = other
                counts[first, c], counts[last, c] = more_counts[first, c], more_counts[last, c]
            elif other == value:
                if counts[first, c] < 0:
                    counts[first, c] = more_counts[first, c]
                if more_counts[last, c] >= 0:
                    counts[last, c] = more_counts[last, c]


@kernel
def merge(floats, counts, extremes, more_floats, more_counts, more_extremes):
    """Take the record of the rows that follow into a record; its scale may change on the way."""
    _merge_moments(floats, counts, more_floats, more_counts)
    for row in range(PLACE):
        for c in range(counts.shape[1]):
            counts[row, c] += more_counts[row, c]
    for c in range(counts.shape[1]):
        low = counts[LIMB, c] + more_counts[LIMB, c]
        middle = counts[LIMB + 1, c] + more_counts[LIMB + 1, c] + (low >> HALF)
        counts[LIMB, c], counts[LIMB + 1, c] = low & MASK, middle & MASK
        counts[LIMB + 2, c] += more_counts[LIMB + 2, c] + (middle >> HALF)
    _merge_extremes(counts, extremes, more_counts, more_extremes)


@kernel
def merge_columns(
    columns, floats, counts, extremes, one_floats, one_counts, one_extremes, floats_of_all, counts_of_all, all_extremes
):
    """Take all columns, one after the other, into a record of one column; their places are passed over."""
    for c in range(columns):
        for row in range(floats.shape[0]):
            one_floats[row, 0] = floats[row, c]
        for row in range(counts.shape[0]):
            one_counts[row, 0] = -1 if PLACE <= row < LIMB else counts[row, c]
        for row in range(2):
            one_extremes[row, 0] = extremes[row, c]
        merge(floats_of_all, counts_of_all, all_extremes, one_floats, one_counts, one_extremes)


@kernel
def finish(floats, counts, results):
    """Sum, mean, variance, standard deviation, skewness and excess kurtosis of each column: rows of `results`.

    NaN of a column without finite values. A variance below 2⁻¹⁶⁰ of the squared mean is what rounding left of 0, as
    float64 values that differ at all have a larger one.
    """
    for c in range(counts.shape[1]):
        level = SPACING * counts[CLASS, c]
        n = float(counts[COUNT, c])
        results[0, c] = math.ldexp(floats[TOTAL, c], level)
        for row in range(1, results.shape[0]):
            results[row, c] = math.nan
        if n == 0.0:
            continue
        mean = quotient(floats[TOTAL, c], floats[TOTAL_LOW, c], n)[0]
        variance = (floats[M2, c] + floats[M2_LOW, c]) / n
        if variance <= mean * mean * 2.0**-160:
            variance = 0.0
        results[1, c] = math.ldexp(mean, level)
        results[2, c] = math.ldexp(variance, 2 * level)
        results[3, c] = math.ldexp(math.sqrt(variance), level)
        if variance > 0.0:
            results[4, c] = floats[M3, c] / n / (variance * math.sqrt(variance))
            results[5, c] = floats[M4, c] / n / (variance * variance) - 3.0
