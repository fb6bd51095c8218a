"""The k nearest of many rows to each of some queries: what is kept of tiles of distances.

Distances are compared as integers that order as they do (`to_keys`), so that one comparison serves all of them, NaN
last. What may be among the k nearest is kept in a buffer for each query; a full buffer is cut down to about k, which
lowers the bound that decides what is kept. Rows come in ascending order, so of equal distances the first ones stay.
"""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.distances import distances
from mlpipe.kernels.pair_order import order_pairs
from mlpipe.kernels.picking import keep, pick


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
        if largest and value != 0:
            value = value ^ np.iinfo(keys.dtype).min
        bits[i] = value if key < top - 1 else top


@kernel
def up_to(values, count, bound):
    """How many of the first `count` integers are at most the bound: counted in 32 bits, which fills vectors."""
    found = np.int32(0)
    for i in range(count):
        found = np.int32(found + np.int32(values[i] <= bound))
    return np.int64(found)


@kernel
def bound_of(values, count, k, most):
    """A bound that at least k, and if possible no more than `most`, of the first `count` integers do not exceed.

    How many do not exceed it comes second. Halves the range of values and counts,
    which vectors do: four times as fast as Hoare's selection on 250 of them, whose branches nobody can predict.
    """
    low, high = values[0], values[0]
    for i in range(1, count):
        low, high = min(low, values[i]), max(high, values[i])
    below = count
    while low < high:
        middle = (low & high) + ((low ^ high) >> 1)
        found = up_to(values, count, middle)
        if found >= k:
            high, below = middle, found
            if found <= most:
                break
        else:
            low = middle + 1
    return high, below


@kernel
def cut(keys, places, count, k, most, spare):
    """Keep the k smallest of the first `count` keys, and perhaps a few more; what stays keeps its order.

    Of equal keys those of the smallest places stay.

    Parameters
    ----------
    keys, places : ndarray, 1-D
        The buffer.
    count : int
        How full it is; more than k.
    k : int
        How many are wanted.
    most : int
        How many may be kept: exactly k is more work.
    spare : ndarray of int64, as long as the buffer
        Scratch.

    Returns
    -------
    tuple of int
        How many are kept, from k to `most`; and a bound of which it is known that k keys do not exceed it.
    """
    bound, below = bound_of(keys, count, k, most)
    if below <= most:
        return keep(keys, places, count, bound), bound
    # So many are equal to the bound that places decide.
    less, equal = 0, 0
    for i in range(count):
        less += keys[i] < bound
        if keys[i] == bound:
            spare[equal] = places[i]
            equal += 1
    last, _ = bound_of(spare, equal, k - less, k - less)
    kept = 0
    for i in range(count):
        key, place = keys[i], places[i]
        keys[kept], places[kept] = key, place
        kept += key < bound or (key == bound and place <= last)
    return kept, bound


@kernel
def look_through(
    tile, bits, row_keys, columns, first, query, own, largest, k, limit, keys, places, counts, bounds, spare
):
    """Take a tile of distances into the buffers of its queries.

    Parameters
    ----------
    tile, bits : ndarray, shape (rows, at least columns)
        Distances of query `query` + r to data row first + c, and the same memory as integers.
    row_keys : ndarray of the integers' type, shape (at least columns + 64,)
        Scratch.
    columns : int
        Of the tile.
    first, query : int
        The first row of data, the first query.
    own : int
        Query q is row own + q of the data, and not its own neighbour; far below 0 if queries are other rows.
    largest : bool
        Whether the largest values are wanted.
    k : int
        How many.
    limit : int
        A buffer with more is cut down.
    keys, places : ndarray, shape (queries, limit + 80)
        Buffers: keys, and int64 indices of rows.
    counts, bounds : ndarray, shape (queries,)
        How full each is, and below which key a row is kept.
    spare : ndarray of int64, as long as a buffer
        Scratch.
    """
    most = k + (limit - k) // 4
    for r in range(tile.shape[0]):
        q = query + r
        to_keys(tile[r, :columns], bits[r, :columns], largest, row_keys)
        itself = own + q - first
        if 0 <= itself < columns:
            row_keys[itself] = np.iinfo(row_keys.dtype).max
        at = 0
        while at < columns:
            at = pick(row_keys, at, columns, first, bounds[q], keys[q], places[q], counts, q, limit)
            if counts[q] > limit:
                counts[q], bounds[q] = cut(keys[q], places[q], counts[q], k, most, spare)


@kernel
def search_tiles(
    metric, x, x_rows, start, stop, panels, y_rows, columns, weights, constants, shape, scratch, sums, tile, bits,
    nothing, row_keys, first, own, largest, k, limit, keys, places, counts, bounds, spare,
):  # fmt: skip
    """All distances of the queries start … stop to the rows in panels, tile after tile, into buffers.

    Parameters
    ----------
    metric, x, x_rows, panels, y_rows, columns, weights, constants, shape, scratch, sums
        As for `distances`; `x` are the queries.
    tile, bits : ndarray, 2-D
        Scratch: as many rows and columns as are computed at once; and the same memory as integers.
    nothing : ndarray, shape (0, 0)
        Of the tile's type.
    first : int
        Index of the first row in the panels.
    row_keys, own, largest, k, limit, keys, places, counts, bounds, spare
        As for `look_through`.
    """
    width = panels.shape[2]
    at_once = tile.shape[1] // width
    used = (columns + width - 1) // width
    for i in range(start, stop, tile.shape[0]):
        end = min(i + tile.shape[0], stop)
        for p in range(0, used, at_once):
            last = min(p + at_once, used)
            left = p * width
            distances(
                metric, x, x_rows, i, end, panels, y_rows, p, last, columns, weights, constants, shape, scratch, sums,
                tile, 0, -left, nothing, 0, 0, 0,
            )  # fmt: skip
            look_through(
                tile[: end - i], bits, row_keys, min(columns, last * width) - left, first + left, i, own, largest, k,
                limit, keys, places, counts, bounds, spare,
            )  # fmt: skip


@kernel
def finish_queries(
    start, stop, k, largest, keys, places, counts, gathered_keys, gathered_places, spare, other_keys, heads, waiting,
    bits, indices,
):  # fmt: skip
    """The k nearest of some queries, in order.

    Parameters
    ----------
    start, stop : int
        Which queries.
    k : int
        How many are wanted; as many are in the buffers.
    largest : bool
        As for `look_through`.
    keys, places, counts : ndarray, shape (sets, queries, capacity) and (sets, queries)
        Sets of buffers.
    gathered_keys, gathered_places, spare, other_keys : ndarray, as long as all buffers of a query
        Scratch: of the keys' type, int64, int64, and of the keys' type.
    heads, waiting : ndarray
        Scratch of `order_pairs`.
    bits, indices : ndarray, shape (queries, k)
        Distances as integers, and places; filled in place.
    """
    for q in range(start, stop):
        total = 0
        for s in range(keys.shape[0]):
            count = counts[s, q]
            for i in range(count):
                gathered_keys[total + i], gathered_places[total + i] = keys[s, q, i], places[s, q, i]
            total += count
        if total > k:
            total, _bound = cut(gathered_keys, gathered_places, total, k, k + k // 8, spare)
        order_pairs(gathered_keys, gathered_places, total, other_keys, spare, heads, waiting)
        from_keys(gathered_keys[:k], largest, bits[q])
        for i in range(k):
            indices[q, i] = gathered_places[i]
