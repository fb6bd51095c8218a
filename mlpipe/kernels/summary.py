"""Kernels that summarise tiles of a matrix, whatever the tiles.

Sums run over groups of `GROUP` columns, whose position does not depend on tiles, in a fixed order; the
sums of groups are then added exactly, as integers, so that their order does not matter either.
"""

from __future__ import annotations

from mlpipe.kernels._jit import kernel

GROUP = 64
"""Columns summed at a time; tiles must begin and end at multiples of it, or at the end of the row."""

LANES = 8
"""Sums kept side by side within a group: enough for the widest vectors to work."""

EXPONENTS = 2048
"""Bins of an exact sum: one per exponent of a float64."""

SPLIT = 26
"""Bits of the lower half of a significand: 2³⁶ sums fit before a bin of 64 bits overflows."""


@kernel
def add_exactly(values, count, low, high):
    """Add finite float64 values, given as bits, to the bins of an exact sum.

    Parameters
    ----------
    values : ndarray of int64
        Bits of the values.
    count : int
        How many of them.
    low, high : ndarray of int64, shape (EXPONENTS,)
        Sum of the lower and of the upper bits of the significands, per exponent.
    """
    for i in range(count):
        bits = values[i]
        exponent = (bits >> 52) & 0x7FF
        significand = bits & 0xFFFFFFFFFFFFF
        if exponent > 0:
            significand |= 0x10000000000000
        lower = significand & ((1 << SPLIT) - 1)
        upper = significand >> SPLIT
        if bits < 0:
            lower, upper = -lower, -upper
        low[exponent] += lower
        high[exponent] += upper


@kernel
def summarise(tile, row, column, above, sums, bits, lanes, low, high, found, at):
    """Take a tile into the running summary.

    Parameters
    ----------
    tile : ndarray, 2-D
        Its values.
    row, column : int
        Its position in the matrix.
    above : bool
        Only what lies above the diagonal counts.
    sums, bits : ndarray, shape (columns / GROUP + 2,)
        The same memory as float64 and as int64: scratch for the sums of one row.
    lanes : ndarray of float64, shape (3, LANES)
        Scratch.
    low, high : ndarray of int64
        Bins of the exact sum.
    found : ndarray of float64, shape (2,)
        Smallest and largest value so far.
    at : ndarray of int64, shape (7,)
        Row and column of the smallest, of the largest, number of values that were finite, NaN, infinite.
    """
    height, width = tile.shape
    for i in range(height):
        groups = 0
        first = max(0, row + i + 1 - column) if above else 0
        start = first
        while start < width:
            stop = min(width, (column + start) // GROUP * GROUP + GROUP - column)
            _group(tile, i, start, stop, column, lanes)
            total, smallest, largest = 0.0, lanes[1, 0], lanes[2, 0]
            for lane in range(LANES):
                total += lanes[0, lane]
                smallest = min(smallest, lanes[1, lane])
                largest = max(largest, lanes[2, lane])
            sums[groups] = total
            if abs(total) < float("inf"):
                at[4] += stop - start
                groups += 1
            else:
                _careful(tile, i, start, stop, sums[groups : groups + 1], bits[groups : groups + 1], low, high, at)
            if smallest <= found[0]:
                _note(tile, i, start, stop, row, column, smallest, found, at, 0)
            if largest >= found[1]:
                _note(tile, i, start, stop, row, column, largest, found, at, 1)
            start = stop
        add_exactly(bits, groups, low, high)


@kernel
def _group(tile, i, start, stop, column, lanes):
    """Sum, smallest and largest per lane; the lane of a value depends on its column alone."""
    lanes[0, :] = 0.0
    lanes[1, :] = float("inf")
    lanes[2, :] = -float("inf")
    j = start
    while j < stop and (column + j) % LANES != 0:
        _one(tile[i, j], lanes, (column + j) % LANES)
        j += 1
    while j + LANES <= stop:
        for lane in range(LANES):
            _one(tile[i, j + lane], lanes, lane)
        j += LANES
    while j < stop:
        _one(tile[i, j], lanes, (column + j) % LANES)
        j += 1


@kernel
def _one(value, lanes, lane):
    lanes[0, lane] += value
    lanes[1, lane] = value if value < lanes[1, lane] else lanes[1, lane]
    lanes[2, lane] = value if value > lanes[2, lane] else lanes[2, lane]


@kernel
def _careful(tile, i, start, stop, one, bits, low, high, at):
    """Add the finite values one by one, of a group that has others (which are counted) or that overflows."""
    for j in range(start, stop):
        value = float(tile[i, j])
        if value != value:
            at[5] += 1
        elif abs(value) == float("inf"):
            at[6] += 1
        else:
            one[0] = value
            add_exactly(bits, 1, low, high)
            at[4] += 1


@kernel
def _note(tile, i, start, stop, row, column, value, found, at, which):
    """Remember where an extreme is: of equal ones the first, by row, then column."""
    for j in range(start, stop):
        if tile[i, j] == value:
            here_row, here_column = row + i, column + j
            earlier = here_row < at[2 * which] or (here_row == at[2 * which] and here_column < at[2 * which + 1])
            if found[which] != value or at[2 * which] < 0 or earlier:
                found[which] = value
                at[2 * which] = here_row
                at[2 * which + 1] = here_column
            return
