"""Moments and extremes of columns, group of rows by group of rows, each looked at twice while it is in the cache.

The first look finds extremes, zeros and the sum, the second one the powers of the deviations from the mean, which is
known by then to twice the digits of a float64. Groups are merged in order by the formulas of Chan and Pébay (P. Pébay,
SAND2008-6212). Groups lie at fixed rows, so neither blocks nor threads show.
"""

from __future__ import annotations

import math

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.describe_merge import (
    CLASS,
    COUNT,
    INFINITIES,
    LIMB,
    M2,
    M2_LOW,
    M3,
    M4,
    NANS,
    NOUGHTS,
    PLACE,
    TOTAL,
    TOTAL_LOW,
)
from mlpipe.kernels.describe_records import LAST_CLASS, MASK, SPACING, merge, quotient, two_sum
from mlpipe.kernels.describe_strips import (
    CENTRE,
    CENTRE_HIGH,
    CENTRE_LOW,
    CUBE,
    FOURTH,
    HALF,
    HIGH_32,
    INFINITE,
    LOW_32,
    MISSING,
    SCALE,
    SQUARE,
    STRIP,
    SUM,
    SUM_LOW,
    TOP,
    ZEROS,
    add_up,
    deviate,
    deviate_carefully,
    find,
    look,
    odd,
    stay_apart,
)
from mlpipe.kernels.scalars import from_half

LEAST, MOST = 2.0 ** -(SPACING // 2 + 1), 2.0 ** (SPACING // 2 - 1)
"""Magnitudes of class 0."""

FLOAT, SHORT, LONG = range(3)
"""Kinds of values: floats, integers of up to 32 bits, of 64 bits."""

RADIX = 2.0**HALF


@kernel
def _look(kind, x, start, stride, rows, lanes, width, extremes, floats, counts):
    """The first look. Strips overlap where the lanes are no multiple: a lane seen twice comes out the same."""
    stay_apart()
    for k in range(0, lanes, STRIP):
        place = min(k, lanes - STRIP)
        look(x, start + place, stride, rows, place, extremes, floats, counts)
        if kind == FLOAT and _inexact(place, rows, extremes, floats):
            for lane in range(place, place + STRIP):
                floats[SCALE, lane] = 1.0
            add_up(x, start + place, stride, rows, place, floats, counts)
    for first in range(width, lanes, width):
        for c in range(width):
            k = first + c
            low, high = extremes[0, k], extremes[1, k]
            extremes[0, c] = low if low < extremes[0, c] else extremes[0, c]
            extremes[1, c] = high if high > extremes[1, c] else extremes[1, c]
            counts[ZEROS, c] += counts[ZEROS, k]
            counts[LOW_32, c] += counts[LOW_32, k]
            counts[HIGH_32, c] += counts[HIGH_32, k]


@kernel
def _inexact(place, rows, extremes, floats):
    """Whether the plain sums of a strip may have been rounded; not if one is not finite, for then they are made again.

    Values are multiples of more than 2⁻²⁴ of the smallest one, and float64 holds 2⁵³ of those.
    """
    top, tiny, finite = 0.0, math.inf, True
    for lane in range(place, place + STRIP):
        top = max(top, max(-float(extremes[0, lane]), float(extremes[1, lane])))
        tiny = min(tiny, floats[TOP, lane])
        finite &= floats[SUM, lane] - floats[SUM, lane] == 0.0
    return finite and rows * top > tiny * 2.0**29


@kernel
def _look_carefully(x, start, stride, rows, lanes, width, floats, counts):
    """The sum of finite values, scaled, after what is not finite was counted."""
    stay_apart()
    for k in range(0, lanes, STRIP):
        place = min(k, lanes - STRIP)
        odd(x, start + place, stride, rows, place, floats, counts)
    for k in range(width, lanes):
        c = k % width
        floats[TOP, c] = max(floats[TOP, c], floats[TOP, k])
        counts[MISSING, c] += counts[MISSING, k]
        counts[INFINITE, c] += counts[INFINITE, k]
    for k in range(lanes):
        floats[SCALE, k] = math.ldexp(1.0, -SPACING * _class_of(floats[TOP, k % width]))
    for k in range(0, lanes, STRIP):
        place = min(k, lanes - STRIP)
        add_up(x, start + place, stride, rows, place, floats, counts)


@kernel
def _class_of(top):
    """The class of the largest magnitude; zeros are of the lowest one."""
    if top == 0.0:
        return -LAST_CLASS
    exponent = math.frexp(top)[1]
    return max(-LAST_CLASS, min(LAST_CLASS, (exponent + SPACING // 2) // SPACING))


@kernel
def _join_sums(lanes, width, floats):
    """Add the sums of rows side by side."""
    stay_apart()
    for first in range(width, lanes, width):
        for c in range(width):
            total, lost = two_sum(floats[SUM, c], floats[SUM, first + c])
            floats[SUM, c] = total
            floats[SUM_LOW, c] += lost + floats[SUM_LOW, first + c]


@kernel
def _ordinary(width, extremes, floats):
    """Whether all values are finite, and need no scale."""
    stay_apart()
    ordinary = True
    for c in range(width):
        total = floats[SUM, c] + floats[SUM_LOW, c]
        top = max(-float(extremes[0, c]), float(extremes[1, c]))
        ordinary &= (total - total == 0.0) & (((top >= LEAST) & (top < MOST)) | (top == 0.0))
    return ordinary


@kernel
def _centres(kind, lanes, width, floats, counts, record_floats, record_counts):
    """What deviations are from, for all lanes; the rest of the mean is left in the record, where its M2 will be."""
    stay_apart()
    for c in range(width):
        if kind != FLOAT:
            floats[SUM, c], floats[SUM_LOW, c] = two_sum(RADIX * counts[HIGH_32, c], float(counts[LOW_32, c]))
        centre, rest = quotient(floats[SUM, c], floats[SUM_LOW, c], float(max(1, record_counts[COUNT, c])))
        if kind == LONG:
            near = math.floor(centre + 0.5) if abs(centre) < 2.0**52 else centre
            rest += centre - near
            upper = math.floor(near / RADIX)
            step = math.floor(rest + 0.5)
            counts[CENTRE_HIGH, c] = int(upper)
            counts[CENTRE_LOW, c] = int(near - upper * RADIX) + int(step)
            rest -= step
        floats[CENTRE, c] = centre
        record_floats[M2, c] = rest
    for k in range(width, lanes):
        floats[CENTRE, k] = floats[CENTRE, k - width]
        counts[CENTRE_LOW, k] = counts[CENTRE_LOW, k - width]
        counts[CENTRE_HIGH, k] = counts[CENTRE_HIGH, k - width]


@kernel
def _deviate(careful, x, start, stride, rows, lanes, floats, counts):
    """The second look."""
    stay_apart()
    for k in range(0, lanes, STRIP):
        place = min(k, lanes - STRIP)
        if careful:
            deviate_carefully(x, start + place, stride, rows, place, floats, counts)
        else:
            deviate(x, start + place, stride, rows, place, floats, counts)


@kernel
def _moments(lanes, width, floats, record_floats, record_counts):
    """Moments about the mean, from those about the centre; whose rest is in the record (see `_centres`)."""
    stay_apart()
    for first in range(width, lanes, width):
        for c in range(width):
            for row in (SQUARE, CUBE, FOURTH):
                floats[row, c] += floats[row, first + c]
    for c in range(width):
        n, rest = float(record_counts[COUNT, c]), record_floats[M2, c]
        square, cube, fourth = floats[SQUARE, c], floats[CUBE, c], floats[FOURTH, c]
        more = n * rest * rest
        record_floats[TOTAL, c], record_floats[TOTAL_LOW, c] = two_sum(floats[SUM, c], floats[SUM_LOW, c])
        record_floats[M2, c] = max(0.0, square - more)
        record_floats[M2_LOW, c] = 0.0
        record_floats[M3, c] = cube - 3.0 * rest * square + 2.0 * rest * more
        record_floats[M4, c] = fourth - 4.0 * rest * cube + 6.0 * rest * rest * square - 3.0 * rest * rest * more


@kernel
def _places(x, start, stride, rows, lanes, width, first_row, best, extremes, places, record_counts):
    """First and last row of the extremes of columns where they reach the best so far; -1 of others."""
    stay_apart()
    wanted = False
    for c in range(width):
        for row in range(4):
            record_counts[PLACE + row, c] = -1
        present = record_counts[COUNT, c] + record_counts[INFINITIES, c] > 0
        wanted |= present and (extremes[0, c] <= best[0, c] or extremes[1, c] >= best[1, c])
        best[0, c] = min(best[0, c], extremes[0, c])
        best[1, c] = max(best[1, c], extremes[1, c])
    if not wanted:
        return
    for k in range(width, lanes):
        extremes[0, k], extremes[1, k] = extremes[0, k - width], extremes[1, k - width]
    side = lanes // width
    for k in range(0, lanes, STRIP):
        place = min(k, lanes - STRIP)
        if not _reached(place, width, best, extremes):
            continue
        find(x, start + place, stride, rows, place, extremes, places)
        for lane in range(place, place + STRIP):
            c = lane % width
            for which in (0, 2):
                if places[which, lane] >= 0:
                    first = first_row + places[which, lane] * side + lane // width
                    last = first_row + places[which + 1, lane] * side + lane // width
                    known = record_counts[PLACE + which, c]
                    record_counts[PLACE + which, c] = first if known < 0 else min(known, first)
                    record_counts[PLACE + which + 1, c] = max(record_counts[PLACE + which + 1, c], last)


@kernel
def _reached(place, width, best, extremes):
    """Whether a lane of a strip has an extreme that no value seen so far goes beyond."""
    for lane in range(place, place + STRIP):
        c = lane % width
        if extremes[0, c] == best[0, c] or extremes[1, c] == best[1, c]:
            return True
    return False


@kernel
def _begin_record(
    careful, kind, values, width, extremes, floats, counts, record_floats, record_counts, record_extremes
):
    """What is known after the first look."""
    stay_apart()
    for c in range(width):
        missing = counts[MISSING, c] if careful else 0
        infinite = counts[INFINITE, c] if careful else 0
        record_counts[COUNT, c] = values - missing - infinite
        record_counts[NANS, c], record_counts[INFINITIES, c] = missing, infinite
        record_counts[NOUGHTS, c] = counts[ZEROS, c]
        only_zeros = kind == FLOAT and extremes[0, c] == 0 and extremes[1, c] == 0
        level = _class_of(floats[TOP, c]) if careful else 0
        record_counts[CLASS, c] = -LAST_CLASS if only_zeros else level
        record_extremes[0, c], record_extremes[1, c] = extremes[0, c], extremes[1, c]
        if kind == SHORT:
            counts[HIGH_32, c] = counts[LOW_32, c] >> HALF
            counts[LOW_32, c] &= MASK
        record_counts[LIMB, c] = counts[LOW_32, c] if kind != FLOAT else 0
        record_counts[LIMB + 1, c] = counts[HIGH_32, c] if kind != FLOAT else 0
        record_counts[LIMB + 2, c] = 0


@kernel
def _widen_row(bits, out):
    """Convert the bits of float16 to float32."""
    for k in range(bits.size):
        out[k] = from_half(bits[k])


@kernel
def widen(bits, first, out):
    """Convert columns `first` on of float16, given as bits: 0.1 ns a value; NumPy takes 1.5."""
    for i in range(out.shape[0]):
        _widen_row(bits[i, first : first + out.shape[1]], out[i])


@kernel
def describe_groups(
    x, start, stride, rows, width, side, kind, groups, first_row, best, extremes, floats, counts, places,
    group_floats, group_counts, group_extremes, record_floats, record_counts, record_extremes,
):  # fmt: skip
    """Take groups of rows that follow each other into a record.

    Parameters
    ----------
    x : ndarray, flat
        Values.
    start, stride : int
        Where the first group begins, and from one row, or several side by side, to the next.
    rows : int
        Of a group: so many times `side` rows.
    width : int
        Columns.
    side : int
        Rows side by side; at least STRIP lanes in all.
    kind : int
        FLOAT, SHORT or LONG.
    groups : int
        How many.
    first_row : int
        Number of the first row.
    best : ndarray of x's dtype, shape (2, width)
        Extremes seen so far, of any rows; updated.
    extremes, floats, counts, places : ndarray, shape (2, FLOATS, COUNTS, PLACES; lanes)
        Scratch, see `describe_strips`; the row ONE holds ones. Extremes are of x's dtype, floats float64, others int64.
    group_floats, group_counts, group_extremes : ndarray
        A record as scratch.
    record_floats, record_counts, record_extremes : ndarray
        The record.
    """
    lanes = width * side
    for _ in range(groups):
        _look(kind, x, start, stride, rows, lanes, width, extremes, floats, counts)
        careful = False
        if kind == FLOAT:
            _join_sums(lanes, width, floats)
            careful = not _ordinary(width, extremes, floats)
            if careful:
                _look_carefully(x, start, stride, rows, lanes, width, floats, counts)
                _join_sums(lanes, width, floats)
        _begin_record(
            careful, kind, rows * side, width, extremes, floats, counts, group_floats, group_counts, group_extremes
        )
        _centres(kind, lanes, width, floats, counts, group_floats, group_counts)
        _deviate(careful, x, start, stride, rows, lanes, floats, counts)
        _moments(lanes, width, floats, group_floats, group_counts)
        _places(x, start, stride, rows, lanes, width, first_row, best, extremes, places, group_counts)
        merge(record_floats, record_counts, record_extremes, group_floats, group_counts, group_extremes)
        start += rows * stride
        first_row += rows * side
