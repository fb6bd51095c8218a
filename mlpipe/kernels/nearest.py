"""The k nearest of many rows to each of some queries: what is kept of tiles of distances.

Distances are compared as integers that order as they do (`key`), so that one comparison serves all of them, NaN last.
What may be among the k nearest is kept in a buffer for each query; a full buffer is cut down to k, which lowers the
bound that decides what is kept. Rows come in ascending order, so of equal distances the first ones stay.
"""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel


@kernel
def to_keys(values, bits, largest, out):
    """Integers that order as values do, or the other way round; NaN is above all.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (n,)
        −0 counts as 0, as all NaN have the one bit pattern that kernels store.
    bits : ndarray of int32 or int64, shape (n,)
        The same memory.
    largest : bool
        Whether larger values come first.
    out : ndarray of int32 or int64, shape (n,)
        The keys.
    """
    top = np.iinfo(out.dtype).max
    for i in range(values.shape[0]):
        value = bits[i]
        if largest:
            value = value ^ np.iinfo(out.dtype).min
        key = value if value >= 0 else np.iinfo(out.dtype).min - value
        out[i] = key if values[i] == values[i] else top - 1


@kernel
def from_keys(keys, largest, bits):
    """The bits of the values that `to_keys` made these of, NaN from the largest."""
    top = np.iinfo(keys.dtype).max
    for i in range(keys.shape[0]):
        key = keys[i]
        value = key if key >= 0 else np.iinfo(keys.dtype).min - key
        if largest:
            value = value ^ np.iinfo(keys.dtype).min
        bits[i] = value if key < top - 1 else top


@kernel
def smallest(values, count, k):
    """The k-th smallest (from 1) of the first `count` integers.

    Halves the range of values and counts, which vectors do: four times as fast as Hoare's selection on 250 of them,
    whose branches nobody can predict.
    """
    low, high = values[0], values[0]
    for i in range(1, count):
        low, high = min(low, values[i]), max(high, values[i])
    while low < high:
        middle = (low & high) + ((low ^ high) >> 1)
        below = 0
        for i in range(count):
            below += values[i] <= middle
        if below >= k:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def cut(keys, places, count, k, spare):
    """Keep the k smallest of the first `count` keys, of equal ones those of the smallest places; return the largest.

    What is kept stays in its order. `spare` is scratch, int64, as long as a buffer.
    """
    bound = smallest(keys, count, k)
    below, equal = 0, 0
    for i in range(count):
        below += keys[i] < bound
        if keys[i] == bound:
            spare[equal] = places[i]
            equal += 1
    last = spare[0] if equal == 1 else smallest(spare, equal, k - below)
    kept = 0
    for i in range(count):
        if keys[i] < bound or (keys[i] == bound and places[i] <= last):
            keys[kept], places[kept] = keys[i], places[i]
            kept += 1
    return bound


@kernel
def look_through(tile, bits, row_keys, first, left, own, largest, k, keys, places, counts, bounds, spare):
    """Take a tile of distances into the buffers of its queries.

    Parameters
    ----------
    tile, bits : ndarray, shape (rows, columns)
        Distances of data row first + r to query left + c, and the same memory as integers.
    row_keys : ndarray of the integers' type, shape (at least columns,)
        Scratch.
    first, left : int
        The first row of data, the first query.
    own : int
        Query q is row own + q of the data, and not its own neighbour; far below 0 if queries are other rows.
    largest : bool
        Whether the largest values are wanted.
    k : int
        How many.
    keys, places : ndarray, shape (queries, more than k)
        Buffers: keys, and int64 indices of rows.
    counts, bounds : ndarray, shape (queries,)
        How full each is, and below which key a row is kept.
    spare : ndarray of int64, as long as a buffer
        Scratch.
    """
    columns = tile.shape[1]
    for r in range(tile.shape[0]):
        to_keys(tile[r], bits[r], largest, row_keys)
        found = 0
        for c in range(columns):
            found |= row_keys[c] < bounds[left + c]
        if not found:
            continue
        for c in range(columns):
            q = left + c
            if row_keys[c] < bounds[q] and first + r != own + q:
                keys[q, counts[q]], places[q, counts[q]] = row_keys[c], first + r
                counts[q] += 1
                if counts[q] == keys.shape[1]:
                    bounds[q] = cut(keys[q], places[q], counts[q], k, spare)
                    counts[q] = k
