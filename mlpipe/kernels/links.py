"""Edges of a graph from lists of neighbours: who names a row is put beside whom it names.

Links without a distance (NaN), or without an index (below 0), are none.
"""

from __future__ import annotations

from mlpipe.kernels._jit import kernel

_GAPS = (701, 301, 132, 57, 23, 10, 4, 1)  # of Ciura; a list of few neighbours is sorted by insertion alone


@kernel
def count_links(indices, distances, counts):
    """How often each row is named.

    Parameters
    ----------
    indices : ndarray of int64, shape (rows, k)
        Neighbours of some rows.
    distances : ndarray of float32 or float64, shape (rows, k)
        Theirs.
    counts : ndarray of int64, shape (all rows,)
        Counted on.
    """
    for i in range(indices.shape[0]):
        for t in range(indices.shape[1]):
            if indices[i, t] >= 0 and distances[i, t] == distances[i, t]:
                counts[indices[i, t]] += 1


@kernel
def turn_links(indices, distances, first, low, high, ends, sources, weights):
    """Put down who names the rows low … high − 1, each where its row's next place is.

    Parameters
    ----------
    indices, distances
        As for `count_links`.
    first : int
        Number of their first row.
    low, high : int
        Which rows are looked for.
    ends : ndarray of int64, shape (high − low,)
        The next place of each; moved on.
    sources : ndarray of int64
        Who names them; in order, if rows come in order.
    weights : ndarray of float32 or float64
        At which distance.
    """
    for i in range(indices.shape[0]):
        for t in range(indices.shape[1]):
            row = indices[i, t]
            if low <= row < high and distances[i, t] == distances[i, t]:
                place = ends[row - low]
                sources[place], weights[place] = first + i, distances[i, t]
                ends[row - low] = place + 1


@kernel
def sort_links(indices, distances):
    """Sort the neighbours of each row by index; what is no link comes first, as −1."""
    for i in range(indices.shape[0]):
        for t in range(indices.shape[1]):
            if distances[i, t] != distances[i, t]:
                indices[i, t] = -1
        for gap in _GAPS:
            for t in range(gap, indices.shape[1]):
                index, distance, at = indices[i, t], distances[i, t], t
                while at >= gap and indices[i, at - gap] > index:
                    indices[i, at], distances[i, at] = indices[i, at - gap], distances[i, at - gap]
                    at -= gap
                indices[i, at], distances[i, at] = index, distance


@kernel
def merge_links(indices, distances, starts, sources, weights, mutual, counting, places, neighbours, lengths):
    """Join whom each row names and who names it, in order of index, each once.

    Parameters
    ----------
    indices, distances : ndarray, shape (rows, k)
        Whom each row names, sorted by `sort_links`.
    starts : ndarray of int64, shape (rows + 1,)
        Where those who name each row begin in `sources`, and where they end.
    sources, weights : ndarray
        Who they are, in order, and at which distance.
    mutual : bool
        Whether only those count that name each other.
    counting : bool
        Whether only to count; then `neighbours` and `lengths` are not touched.
    places : ndarray of int64, shape (rows,)
        Counting, how many there are; else where each row begins in `neighbours`.
    neighbours, lengths : ndarray
        Where they go, and their distances; of two the larger.
    """
    k = indices.shape[1]
    for i in range(indices.shape[0]):
        place = 0 if counting else places[i]
        t, s, stop = 0, starts[i], starts[i + 1]
        while t < k and indices[i, t] < 0:
            t += 1
        while t < k or s < stop:
            named = t < k and (s == stop or indices[i, t] <= sources[s])
            names = s < stop and (t == k or sources[s] <= indices[i, t])
            if (named and names) or not mutual:
                if not counting:
                    neighbours[place] = indices[i, t] if named else sources[s]
                    if named and names:
                        lengths[place] = max(distances[i, t], weights[s])
                    else:
                        lengths[place] = distances[i, t] if named else weights[s]
                place += 1
            t += named
            s += names
        if counting:
            places[i] = place


@kernel
def join_parts(first, counts, neighbours, parents):
    """Join the parts of a graph in which edges end.

    Parameters
    ----------
    first : int
        The first of some rows.
    counts, neighbours : ndarray of int64
        How many neighbours each has, and who they are, one row after the other.
    parents : ndarray of int64, shape (all rows,)
        A smaller row of the same part, or the row itself, which is the smallest.
    """
    place = 0
    for i in range(counts.shape[0]):
        for _ in range(counts[i]):
            low, high = first + i, neighbours[place]
            place += 1
            while low != high:
                if low > high:
                    low, high = high, low
                above = parents[high]  # which is low by and by, or lower
                if above == high:
                    parents[high] = low
                    break
                parents[high] = min(low, above)
                high = above
