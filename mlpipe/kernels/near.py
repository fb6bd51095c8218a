"""The k nearest by squared differences: who may be near by rounded rows, and the distances of those alone.

A row of data is passed over only when the rounded rows prove that it is not among the k nearest; the distances of all
others are computed by difference, as everywhere. So the result is that of computing all distances, to the bit.
"""

from __future__ import annotations

import math

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.bytewise import ROWS, UNBOUNDED, WIDTH, near_tile
from mlpipe.kernels.nearest import cut, smallest, to_keys
from mlpipe.kernels.pairs import HALF, SQUARE, pair_distances

CHUNK_BYTES = 384 << 10
"""Of rounded rows of data that one query after the other meets, in the second-level cache."""

LOOSE = 1.0 + 1e-6
"""Bounds are a little wider than they need be, for they are computed with rounding themselves."""


@kernel
def _steps(distance, moved, step):
    """The squared distance of rounded rows, in steps, up to which the true distance may be as small as this one."""
    most = (distance + moved) / step
    squared = most * most * LOOSE + 1.0
    return np.int32(squared) if squared < UNBOUNDED else np.int32(UNBOUNDED)


@kernel
def _limit(q, limit, norms, limits, reach):
    """Set up to which squared distance rows may be near a query."""
    limits[q] = min(limits[q], limit)
    reach[q] = (norms[q] - limits[q]) >> 1


@kernel
def _true_length(value, how, slack):
    """At most the true distance, in the space of the rows, of two rows whose computed distance is this."""
    if how == SQUARE:
        length = math.sqrt(value)
    elif how == HALF:
        length = math.sqrt(2.0 * value) if value < 2.0 else math.inf
    else:
        length = value
    return length * (1.0 + slack[0]) + slack[1]


@kernel
def _evaluate(
    q, g, x, rows, first, how, own, low, high, near, near_places, count, k, keys, places, counts, spare, four
):
    """Compute the distances of the candidates of a query whose rounded distance is above `low` and up to `high`."""
    values, bits, made = four
    index = np.empty(4, np.int64)
    waiting = 0
    for i in range(count + 1):
        last = i == count
        if not last and low < near[g, i] <= high and first + near_places[g, i] != own + q:
            index[waiting] = near_places[g, i]
            waiting += 1
        if waiting == 4 or (last and waiting > 0):
            for n in range(waiting, 4):
                index[n] = index[0]
            pair_distances(x, rows, index[0], index[1], index[2], index[3], how, values)
            to_keys(values, bits, False, made)
            for n in range(waiting):
                keys[q, counts[q]], places[q, counts[q]] = made[n], first + index[n]
                counts[q] += 1
                if counts[q] == keys.shape[1] - 16:
                    counts[q], _ = cut(keys[q], places[q], counts[q], k, k, spare)
            waiting = 0


@kernel
def _kth(q, k, how, slack, keys, places, counts, spare, four):
    """The true distance beyond which nothing is wanted any more: that of the k-th nearest so far."""
    if counts[q] < k:
        return math.inf
    values, bits, _made = four
    if counts[q] > k:
        counts[q], _ = cut(keys[q], places[q], counts[q], k, k, spare)
    worst = keys[q, 0]
    for i in range(1, k):
        worst = max(worst, keys[q, i])
    bits[0] = worst  # distances are not negative: a key is its bits
    return _true_length(values[0], how, slack)


@kernel
def _drop(g, low, limit, near, near_places, near_counts):
    """Forget the candidates of a query whose rounded distance is not above `low` and up to `limit`."""
    kept = 0
    for i in range(near_counts[g]):
        if low < near[g, i] <= limit:
            near[g, kept], near_places[g, kept] = near[g, i], near_places[g, i]
            kept += 1
    near_counts[g] = kept


@kernel
def _refine(
    q, g, x, rows, first, how, slack, step, moved, own, near, near_places, near_counts, k, keys, places, counts, norms,
    limits, reach, spare, four,
):  # fmt: skip
    """Compute the distances of the k candidates that look nearest, which tells what else may still be near."""
    count = near_counts[g]
    # Of not many more than k nothing would be gained by looking at the nearest first.
    middle = smallest(near[g], count, k) if count > 2 * k else np.int32(2**31 - 1)
    _evaluate(
        q, g, x, rows, first, how, own, np.int32(-(2**31)), middle, near, near_places, count, k, keys, places, counts,
        spare, four,
    )  # fmt: skip
    _limit(q, _steps(_kth(q, k, how, slack, keys, places, counts, spare, four), moved, step), norms, limits, reach)
    _drop(g, middle, limits[q], near, near_places, near_counts)


@kernel
def _make_room(
    q, g, x, rows, first, how, slack, step, moved, own, near, near_places, near_counts, k, keys, places, counts, norms,
    limits, reach, spare, four,
):  # fmt: skip
    """Compute distances until half of the candidates can be forgotten."""
    room = near_counts[g]
    while True:
        _refine(
            q, g, x, rows, first, how, slack, step, moved, own, near, near_places, near_counts, k, keys, places, counts,
            norms, limits, reach, spare, four,
        )  # fmt: skip
        if 2 * near_counts[g] <= room:
            return


@kernel
def search_near(
    queries, moved, rounded, norms, start, stop, rows, first, panels, halves, own, step, how, slack, near, near_places,
    near_counts, k, keys, places, counts, limits, reach, spare, four,
):  # fmt: skip
    """Take rows of data into the buffers of the queries start … stop.

    Parameters
    ----------
    queries : ndarray, shape (queries, features)
        Prepared queries.
    moved : ndarray of float64, shape (queries,)
        How far rounding moved each, and any row of data at most.
    rounded : ndarray of uint8, shape (queries, bytes)
        The same queries rounded and shifted.
    norms : ndarray of int32, shape (queries,)
        Their squared lengths, in steps.
    start, stop : int
        Which of them.
    rows : ndarray, shape (rows, features)
        Prepared rows of data.
    first : int
        Index of the first.
    panels, halves : ndarray
        The same rounded, from `pack_quads`.
    own : int
        Query q is row own + q of the data.
    step : float
        Of the grid.
    how : int
        As for `pair_distances`.
    slack : ndarray of float64, shape (2,)
        By how much a computed distance may be off: relatively, and besides.
    near, near_places, near_counts : ndarray, shape (at least stop − start, room) and (at least stop − start,)
        Scratch: candidates, that is squared distances of rounded rows and rows, int32; how many.
    k : int
        How many are wanted.
    keys, places, counts : ndarray
        As for `mlpipe.kernels.nearest.nearest`.
    limits, reach : ndarray of int32, shape (queries,)
        Squared distances up to which rows may be near, in steps; and what sums must reach.
    spare : ndarray of int64
        Scratch, as long as the longer of the buffers.
    four : tuple of ndarray, shape (4,)
        Scratch: of the output's type, the same memory as integers, and keys.
    """
    room = near.shape[1] - WIDTH
    per_chunk = max(1, CHUNK_BYTES // max(1, panels.shape[1] * panels.shape[2]))
    near_counts[:] = 0
    for chunk in range(0, panels.shape[0], per_chunk):
        for i in range(start, stop, ROWS):
            goal = min(room, 2 * k + WIDTH) if chunk == 0 else room
            for p in range(chunk, min(chunk + per_chunk, panels.shape[0])):
                near_tile(
                    rounded, i, stop - 1, panels, p, halves, norms, reach, 0, near, near_places, near_counts, i - start
                )  # fmt: skip
                for q in range(i, min(i + ROWS, stop)):
                    if near_counts[q - start] >= goal:
                        _make_room(
                            q, q - start, queries[q], rows, first, how, slack, step, moved[q], own, near, near_places,
                            near_counts, k, keys, places, counts, norms, limits, reach, spare, four,
                        )  # fmt: skip
                        if q == min(i + ROWS, stop) - 1:
                            goal = room
    for q in range(start, stop):
        while near_counts[q - start] > 0:
            _refine(
                q, q - start, queries[q], rows, first, how, slack, step, moved[q], own, near, near_places, near_counts,
                k, keys, places, counts, norms, limits, reach, spare, four,
            )  # fmt: skip
