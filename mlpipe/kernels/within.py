"""Which distances lie within a radius: counted, collected, or only asked for.

Hits, a query and a row of data each, have one order of all: by query, then distance, then row. Distances are compared
as the integers of `mlpipe.kernels.nearest.to_keys`. Where there is no room for all hits, the first ones in that order
are kept, so that what is left out is known by its place in the order alone.
"""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel

CHUNK = 64
"""Distances that are compared at once, before any of them is looked at."""

FEW = 16
"""So many hits are put in order by insertion."""


@kernel
def _any(values, start, stop, radius, largest):
    """Whether any of these values lies within; NaN never does.

    Counted in 32 bits, which is done by vectors: 0.07 ns a distance, where joining truth values takes 0.5.
    """
    found = np.int32(0)
    if largest:
        for c in range(start, stop):
            found += np.int32(values[c] >= radius)
    else:
        for c in range(start, stop):
            found += np.int32(values[c] <= radius)
    return found != 0


@kernel
def _before(query, key, place, bound):
    """Whether a hit comes before, or is, the one that a bound (query, key, place) names."""
    if query != bound[0]:
        return query < bound[0]
    return key < bound[1] or (key == bound[1] and place <= bound[2])


@kernel
def count_within(tile, first, left, own, radius, largest, few, counts):
    """Add to the counts of queries how many rows of a tile lie within.

    Parameters
    ----------
    tile : ndarray, shape (rows, columns)
        Distances of data row first + r to query left + c.
    first, left : int
        The first row of data, the first query.
    own : int
        Query q is row own + q of the data, and does not count itself; far below 0 if queries are other rows.
    radius : float
        Of the tile's type.
    largest : bool
        Whether values from `radius` up lie within, and not those up to it.
    few : ndarray of int32, shape (at least columns,)
        Scratch.
    counts : ndarray of int64, shape (queries,)
        One for each query.
    """
    rows, columns = tile.shape
    few[:columns] = 0
    for r in range(rows):
        if largest:
            for c in range(columns):
                few[c] += tile[r, c] >= radius
        else:
            for c in range(columns):
                few[c] += tile[r, c] <= radius
        itself = first + r - own - left
        if 0 <= itself < columns:
            few[itself] -= _any(tile[r], itself, itself + 1, radius, largest)
    for c in range(columns):
        counts[left + c] += few[c]


@kernel
def collect_within(
    tile, bits, row, first, left, own, radius, largest, lower, upper, queries, places, keys, count,
):  # fmt: skip
    """Add the hits of a tile to a buffer, row after row, as long as there is room for a whole row.

    Parameters
    ----------
    tile, bits : ndarray, shape (rows, columns)
        Distances of data row first + r to query left + c, and the same memory as integers.
    row : int
        Rows of the tile that were looked at before.
    first, left, own, radius, largest
        As for `count_within`.
    lower, upper : ndarray of int64, shape (3,)
        Only hits after the one, and up to the other: query, key and place each.
    queries, places, keys : ndarray, shape (capacity,)
        The buffer: int32, int64, and integers as long as a distance.
    count : int
        How full it is.

    Returns
    -------
    row, count : int
        Rows that were looked at, and how full the buffer is.
    """
    rows, columns = tile.shape
    lowest = np.iinfo(bits.dtype).min
    while row < rows and count + columns <= len(keys):
        some = _any(tile[row], 0, columns, radius, largest)
        for start in range(0, columns if some else 0, CHUNK):
            stop = min(start + CHUNK, columns)
            if not _any(tile[row], start, stop, radius, largest):
                continue
            for c in range(start, stop):
                value = tile[row, c]
                if not (value >= radius if largest else value <= radius):
                    continue
                query, place = left + c, first + row
                key = bits[row, c] ^ lowest if largest else bits[row, c]
                key = key if key >= 0 else lowest - key
                if place == own + query or query < lower[0] or query > upper[0]:
                    continue
                if query == lower[0] and _before(query, key, place, lower):
                    continue
                if query == upper[0] and not _before(query, key, place, upper):
                    continue
                queries[count], places[count], keys[count] = query, place, key
                count += 1
        row += 1
    return row, count


@kernel
def drop_after(upper, queries, places, keys, count):
    """Forget the hits of a buffer that come after `upper`; return how many are left, in their order."""
    kept = 0
    for i in range(count):
        if _before(queries[i], keys[i], places[i], upper):
            queries[kept], places[kept], keys[kept] = queries[i], places[i], keys[i]
            kept += 1
    return kept


@kernel
def _less(i, query, key, place, queries, places, keys):
    """Whether hit i comes before another."""
    if queries[i] != query:
        return queries[i] < query
    return keys[i] < key or (keys[i] == key and places[i] < place)


@kernel
def keep_first(queries, places, keys, count, k, upper):
    """Move the first k of a buffer's hits, of all `count` of them, to its front; `upper` becomes the last of these.

    Hoare's selection: no two hits are equal, and nothing is copied elsewhere.
    """
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) >> 1
        query, key, place = queries[middle], keys[middle], places[middle]
        i, j = low, high
        while i <= j:
            while _less(i, query, key, place, queries, places, keys):
                i += 1
            while (
                query < queries[j]
                or (query == queries[j] and (key < keys[j] or (key == keys[j] and place < places[j])))
            ):  # fmt: skip
                j -= 1
            if i <= j:
                queries[i], queries[j] = queries[j], queries[i]
                places[i], places[j] = places[j], places[i]
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    last = 0
    for i in range(1, k):
        if not _less(i, queries[last], keys[last], places[last], queries, places, keys):
            last = i
    upper[0], upper[1], upper[2] = queries[last], keys[last], places[last]


@kernel
def tally(queries, count, first, counts):
    """Count the hits of each query from `first` on."""
    for i in range(count):
        counts[queries[i] - first] += 1


@kernel
def distribute(queries, places, keys, count, first, ends, out_places, out_keys):
    """Copy hits to where those of their query are; `ends`, of each query from `first` on, moves on with them."""
    for i in range(count):
        query = queries[i] - first
        at = ends[query]
        out_places[at], out_keys[at] = places[i], keys[i]
        ends[query] = at + 1


@kernel
def _sift(keys, places, start, root, count):
    """Let a hit sink in a heap to where it belongs."""
    key, place = keys[start + root], places[start + root]
    while 2 * root + 1 < count:
        child = 2 * root + 1
        at = start + child
        if child + 1 < count and (
            keys[at] < keys[at + 1] or (keys[at] == keys[at + 1] and places[at] < places[at + 1])
        ):  # fmt: skip
            child, at = child + 1, at + 1
        if not (key < keys[at] or (key == keys[at] and place < places[at])):
            break
        keys[start + root], places[start + root] = keys[at], places[at]
        root = child
    keys[start + root], places[start + root] = key, place


@kernel
def _insert(keys, places, start, stop):
    """Put a few hits in order."""
    for i in range(start + 1, stop):
        key, place = keys[i], places[i]
        j = i - 1
        while j >= start and (key < keys[j] or (key == keys[j] and place < places[j])):
            keys[j + 1], places[j + 1] = keys[j], places[j]
            j -= 1
        keys[j + 1], places[j + 1] = key, place


@kernel
def _sort(keys, places, start, stop, waiting):
    """Put hits in order by (key, place): by partitions, and by a heap where these turn out to be uneven."""
    waiting[0, 0], waiting[0, 1], waiting[0, 2] = start, stop, 0
    depth = 1
    while depth:
        depth -= 1
        low, high, level = waiting[depth]
        count = high - low
        if count <= FEW:
            _insert(keys, places, low, high)
            continue
        if level > 48:
            for root in range(count // 2 - 1, -1, -1):
                _sift(keys, places, low, root, count)
            for last in range(count - 1, 0, -1):
                keys[low], keys[low + last] = keys[low + last], keys[low]
                places[low], places[low + last] = places[low + last], places[low]
                _sift(keys, places, low, 0, last)
            continue
        middle = (low + high) >> 1
        key, place = keys[middle], places[middle]
        i, j = low, high - 1
        while i <= j:
            while keys[i] < key or (keys[i] == key and places[i] < place):
                i += 1
            while key < keys[j] or (key == keys[j] and place < places[j]):
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                places[i], places[j] = places[j], places[i]
                i += 1
                j -= 1
        # The longer part waits below the shorter one, so that what waits stays few.
        left, right = j + 1 - low, high - i
        a, b = (low, j + 1), (i, high)
        if left < right:
            a, b = b, a
        waiting[depth, 0], waiting[depth, 1], waiting[depth, 2] = a[0], a[1], level + 1
        waiting[depth + 1, 0], waiting[depth + 1, 1], waiting[depth + 1, 2] = b[0], b[1], level + 1
        depth += 2


@kernel
def sort_hits(bounds, start, stop, keys, places):
    """Put the hits of queries start … stop in order, by key and then by place.

    Parameters
    ----------
    bounds : ndarray of int64, shape (queries + 1,)
        Where those of each query begin, and the last end.
    keys, places : ndarray, shape (hits,)
        Sorted in place.
    """
    waiting = np.empty((128, 3), np.int64)
    for query in range(start, stop):
        _sort(keys, places, bounds[query], bounds[query + 1], waiting)


@kernel
def mark_within(tile, radius, largest, marks):
    """Set the marks of the rows of a tile that lie within the radius of any column."""
    for r in range(tile.shape[0]):
        if not marks[r]:
            marks[r] = _any(tile[r], 0, tile.shape[1], radius, largest)


@kernel
def mark_later(tile, first, radius, largest, dropped):
    """Drop rows of a tile that lie within the radius of an earlier row, a column, that is not dropped itself.

    Parameters
    ----------
    tile : ndarray, shape (rows, columns)
        Distances of row first + r to row c, of the same rows.
    first : int
        Position of the tile's first row.
    radius, largest
        As for `count_within`.
    dropped : ndarray of bool, shape (at least first + rows,)
        Known of the rows before `first`; those of the tile follow.
    """
    for r in range(tile.shape[0]):
        row = first + r
        if dropped[row] or not _any(tile[r], 0, row, radius, largest):
            continue
        for start in range(0, row, CHUNK):
            stop = min(start + CHUNK, row)
            if not _any(tile[r], start, stop, radius, largest):
                continue
            for c in range(start, stop):
                value = tile[r, c]
                within = value >= radius if largest else value <= radius
                dropped[row] |= within and not dropped[c]
            if dropped[row]:
                break
