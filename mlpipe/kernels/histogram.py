"""Kernels that sort values into bins, count them there or add up weights, and count digits of ordered numbers.

Values go by in chunks that stay in the first cache: one loop finds the bin of each, which is vectorised, another one
counts. Behind the bins of a histogram are two more, for what lies outside and for NaN, so that nothing branches.
"""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel

CHUNK = 1024
"""Values whose bins are found before any is counted: with them and their bins 16 KiB."""

COPIES = 4
"""Counters a bin may have, taken in turn: of equal neighbours, one need not wait for the other."""


@kernel
def _guess(values, low, high, base, span, scale, slack, edges, places):
    """Bins of equal width by scaling alone; returns whether any value is too close to an edge to be sure of it.

    Scaling never decreases, rounding included. So a value that is scaled to more than an edge is lies above it, and
    `slack` is how far at most edges are scaled to the side of their place. What may be wrong is negated.
    """
    number = edges.dtype.type
    bins = edges.size - 1
    zero, last, near, far = number(0), number(bins - 0.5), number(slack), number(1.0 - slack)
    doubts = np.int64(0)
    for i in range(values.size):
        x = number(values[i])
        at = number((x - base) / span * scale)
        at = at if at > zero else zero  # NaN, too
        at = at if at < last else last
        place = np.int64(at)
        part = at - number(place)
        inside = (values[i] >= low) & (values[i] <= high)
        doubt = inside & (((part <= near) & (place > 0)) | ((part >= far) & (place < bins - 1)))
        doubts |= np.int64(doubt)
        found = place if inside else np.int64(bins) + np.int64(x != x)
        places[i] = ~found if doubt else found
    return doubts != 0


@kernel
def _uniform(values, low, high, base, span, scale, slack, edges, places, unsure):
    """Bins of equal width, right to the last bit of the edges: guesses, and a look at the edges where in doubt."""
    if not _guess(values, low, high, base, span, scale, slack, edges, places):
        return
    number, bins, n = edges.dtype.type, edges.size - 1, np.int64(0)
    for i in range(values.size):
        unsure[n] = i
        n += np.int64(places[i] < 0)
    for k in range(n):
        i = unsure[k]
        x, place = number(values[i]), ~places[i]
        place -= np.int64((x < edges[place]) & (place > 0))
        place += np.int64((x >= edges[place + 1]) & (place < bins - 1))
        places[i] = place


@kernel
def _between(values, edges, places):
    """Bins of any width: halving, one level for all values of the chunk at a time, so that it is vectorised."""
    bins = edges.size - 1
    for i in range(values.size):
        places[i] = 0
    left = bins
    while left > 1:
        half = left // 2
        for i in range(values.size):
            x = edges.dtype.type(values[i])
            places[i] += half if edges[places[i] + half] <= x else 0
        left -= half
    for i in range(values.size):
        x = edges.dtype.type(values[i])
        inside = (x >= edges[0]) & (x <= edges[bins])
        places[i] = places[i] if inside else bins + np.int64(x != x)


@kernel
def _tally(places, counts):
    """Count what is in each bin, in the copies of the counters by turns."""
    if counts.shape[0] == COPIES:
        whole = places.size // COPIES * COPIES
        for i in range(0, whole, COPIES):
            counts[0, places[i]] += 1
            counts[1, places[i + 1]] += 1
            counts[2, places[i + 2]] += 1
            counts[3, places[i + 3]] += 1
        for i in range(whole, places.size):
            counts[0, places[i]] += 1
    else:
        for i in range(places.size):
            counts[0, places[i]] += 1


@kernel
def _weigh(places, weights, sums, outside):
    """Add the weights of each bin, in order, and count what is in none."""
    bins = sums.size - 2
    for i in range(places.size):
        place = places[i]
        sums[place] += weights[i]
        if place >= bins:
            outside[place - bins] += 1


@kernel
def count_uniform(values, low, high, base, span, scale, slack, edges, counts):
    """Count values in bins of equal width.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Of any type of 32 or 64 bits.
    low, high : scalar
        What lies outside is not counted; compared with the values as they are.
    base, span : scalar
        The first edge, and how far the last one is from it.
    scale : float
        Number of bins.
    slack : float
        How far, of the width of a bin, an edge is scaled to the side of its place at most; half of it or more makes
        every value doubtful.
    edges : ndarray of float32 or float64, shape (bins + 1,)
        Strictly increasing; values are cast to this type.
    counts : ndarray of int64, shape (1 or COPIES, bins + 2)
        Added to.
    """
    places, unsure = np.empty(CHUNK, np.int64), np.empty(CHUNK + 1, np.int64)
    for start in range(0, values.size, CHUNK):
        part = values[start : start + CHUNK]
        _uniform(part, low, high, base, span, scale, slack, edges, places[: part.size], unsure)
        _tally(places[: part.size], counts)


@kernel
def weigh_uniform(values, low, high, base, span, scale, slack, edges, weights, sums, outside):
    """Add up weights in bins of equal width; as `count_uniform` and `weigh_lookup`."""
    places, unsure = np.empty(CHUNK, np.int64), np.empty(CHUNK + 1, np.int64)
    for start in range(0, values.size, CHUNK):
        part = values[start : start + CHUNK]
        _uniform(part, low, high, base, span, scale, slack, edges, places[: part.size], unsure)
        _weigh(places[: part.size], weights[start : start + CHUNK], sums, outside)


@kernel
def count_between(values, edges, counts):
    """Count values between edges that do not decrease; they are compared in the type of the edges."""
    places = np.empty(CHUNK, np.int64)
    for start in range(0, values.size, CHUNK):
        part = values[start : start + CHUNK]
        _between(part, edges, places[: part.size])
        _tally(places[: part.size], counts)


@kernel
def weigh_between(values, edges, weights, sums, outside):
    """Add up weights between edges; as `count_between` and `weigh_lookup`."""
    places = np.empty(CHUNK, np.int64)
    for start in range(0, values.size, CHUNK):
        part = values[start : start + CHUNK]
        _between(part, edges, places[: part.size])
        _weigh(places[: part.size], weights[start : start + CHUNK], sums, outside)


@kernel
def count_lookup(codes, table, counts):
    """Count values of 8 or 16 bits, whose bins a table knows.

    Parameters
    ----------
    codes : ndarray of uint8 or uint16, shape (n,)
        Bits of the values.
    table : ndarray of int64
        The bin of each code.
    counts : ndarray of int64, shape (1 or COPIES, bins + 2)
        Added to.
    """
    places = np.empty(CHUNK, np.int64)
    for start in range(0, codes.size, CHUNK):
        part = codes[start : start + CHUNK]
        for i in range(part.size):
            places[i] = table[part[i]]
        _tally(places[: part.size], counts)


@kernel
def weigh_lookup(codes, table, weights, sums, outside):
    """Add up weights of values of 8 or 16 bits.

    Parameters
    ----------
    codes, table
        As for `count_lookup`.
    weights : ndarray, shape (n,)
        Of the type of the sums.
    sums : ndarray of int64 or float64, shape (bins + 2,)
        Added to, in order.
    outside : ndarray of int64, shape (2,)
        How many values are in no bin, and how many are NaN; added to.
    """
    places = np.empty(CHUNK, np.int64)
    for start in range(0, codes.size, CHUNK):
        part = codes[start : start + CHUNK]
        for i in range(part.size):
            places[i] = table[part[i]]
        _weigh(places[: part.size], weights[start : start + CHUNK], sums, outside)


@kernel
def ordered(bits, sign, floating):
    """An unsigned integer that orders as the number of these bits does."""
    if floating and bits & sign:
        return ~bits
    return bits ^ sign


@kernel
def count_digit(bits, sign, floating, shift, width, prefixes, counts):
    """Count, among values that begin with one of the prefixes, the digit that follows.

    Parameters
    ----------
    bits : ndarray of uint32 or uint64, shape (n,)
        Of the values.
    sign : unsigned integer
        The bit of the sign in the same type, 0 for unsigned integers.
    floating : bool
        Whether they are floats.
    shift : unsigned integer
        Bits after the digit.
    width : unsigned integer
        Bits of the digit.
    prefixes : ndarray, shape (m,)
        All different.
    counts : ndarray of int64, shape (m, 2 ** width)
        Added to.
    """
    mask = bits.dtype.type(counts.shape[1] - 1)
    for i in range(bits.size):
        key = ordered(bits[i], sign, floating) >> shift
        prefix = key >> width
        for m in range(prefixes.size):
            if prefix == prefixes[m]:
                counts[m, np.int64(key & mask)] += 1


@kernel
def collect(bits, sign, floating, shift, prefixes, found):
    """Ordered integers of the values that begin with one of the prefixes; returns how many.

    Parameters
    ----------
    bits, sign, floating, prefixes
        As for `count_digit`.
    shift : unsigned integer
        Bits after the prefix.
    found : ndarray of the type of the bits
        The result, long enough.
    """
    n = 0
    for i in range(bits.size):
        key = ordered(bits[i], sign, floating)
        prefix = key >> shift
        for m in range(prefixes.size):
            if prefix == prefixes[m]:
                found[n] = key
                n += 1
                break
    return n
