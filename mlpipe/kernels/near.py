"""The k nearest by rounded rows: who may be near, and the distances of those alone.

A row of data is passed over only when the rounded rows prove that it is not among the k nearest; the distances of all
others are computed by difference, as everywhere. So the result is that of computing all distances, to the bit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.bytewise import LANES, ROWS, WIDTH, byte_tile, sad_tile
from mlpipe.kernels.nearest import bound_of, cut, to_keys
from mlpipe.kernels.pairs import ABSOLUTE, HALF, SQUARE, TOGETHER, fold, pair_distances
from mlpipe.kernels.picking import pick

LOOSE = 1.0 + 1e-6
"""Bounds are a little wider than they need be, for they are computed with rounding themselves."""

ALL = 2**31 - 1
"""A bound above what any sum is."""


class Room(NamedTuple):
    """Scratch of one thread.

    Parameters
    ----------
    out : ndarray of int32, shape (4, rows of a chunk)
        Sums of rounded rows.
    least : ndarray of int32, shape (4, groups of a chunk)
        The least sums of groups of rows.
    near, near_places : ndarray of int32 and int64, shape (at least rows of a chunk + 80,)
        Candidates: their sums, and which rows.
    near_count : ndarray of int64, shape (1,)
        How many.
    folded, x : ndarray, shape (1, width) and (width,)
        The same memory: a folded query; zeros.
    index : ndarray of int64, shape (8,)
        Rows whose distances are computed.
    sums, values : ndarray, shape (8, chunks) and (8,)
        Of chunks, and distances in the type of the output.
    bits, made : ndarray of integers, shape (8,)
        The distances' memory, and their keys.
    spare : ndarray of int64, as long as a query's buffer
    evaluated : ndarray of int64, shape (1,)
        Distances computed.
    """

    out: Any
    least: Any
    near: Any
    near_places: Any
    near_count: Any
    folded: Any
    x: Any
    index: Any
    sums: Any
    values: Any
    bits: Any
    made: Any
    spare: Any
    evaluated: Any


@kernel
def _computed(length, slack):
    """At most the computed length of two rows whose true one is this; or the other way round."""
    return length * (1.0 + slack[0]) + slack[1]


@kernel
def _length(value, how):
    """The distance in the space of the rows that a computed one stands for; infinite where many have the same."""
    if how == SQUARE:
        return math.sqrt(value)
    if how == HALF:
        return math.sqrt(2.0 * value) if value < 2.0 else math.inf
    return value


@kernel
def _reach(length, norm, moved, step, how):
    """Below which sum of rounded rows the true distance of two rows may be as small as this one."""
    most = (length + moved) / step * LOOSE
    bound = most + 2.0 if how == ABSOLUTE else (most * most * LOOSE + 1.0 - norm) * 0.5 + 2.0
    return np.int32(bound) if bound < ALL else np.int32(ALL)


@kernel
def _farthest(total, norm, moved, step, how, slack):
    """As far as a row may be, at most, whose sum is this; that a computed distance as small can mean."""
    if how == ABSOLUTE:
        length = np.float64(total) * step
    else:
        length = math.sqrt(max(0.0, np.float64(norm) + 2.0 * np.float64(total) + 1.0)) * step
    length = _computed(_computed(length * LOOSE + moved, slack), slack)
    if length > slack[2] or (how == HALF and length * length >= 3.99):
        return math.inf  # computed distances end at infinity, or at 2, and are equal there
    return length


@kernel
def _known(q, k, how, slack, keys, counts, bounds, room):
    """Beyond which true distance nothing is wanted any more: that of the k-th nearest so far."""
    if counts[q] < k:
        return math.inf
    kth, _ = bound_of(keys[q], counts[q], k, k)
    bounds[q] = min(bounds[q], kth)
    room.bits[0] = kth  # distances are not negative: a key is its bits
    return _computed(_length(np.float64(room.values[0]), how), slack)


@kernel
def _evaluate(q, rows, lanes, first, how, low, high, k, limit, keys, places, counts, bounds, room):
    """Compute the distances of the candidates whose sums are above `low` and up to `high`."""
    count = room.near_count[0]
    waiting = 0
    for i in range(count + 1):
        last = i == count
        if not last and low < room.near[i] <= high:
            room.index[waiting] = room.near_places[i]
            waiting += 1
        if waiting == TOGETHER or (last and waiting > 0):
            for n in range(waiting, TOGETHER):
                room.index[n] = room.index[0]
            pair_distances(room.x, rows, room.index, lanes, how, room.sums, room.values)
            to_keys(room.values, room.bits, False, room.made)
            for n in range(waiting):
                keys[q, counts[q]], places[q, counts[q]] = room.made[n], first + room.index[n]
                counts[q] += room.made[n] <= bounds[q]
            room.evaluated[0] += waiting
            waiting = 0
            if counts[q] > limit:
                counts[q], bounds[q] = cut(
                    keys[q], places[q], counts[q], k, k + (limit - k) // 4, room.spare
                )  # fmt: skip


@kernel
def _take(
    q, r, queries, norm, moved, rows, lanes, first, left, columns, entries, own, step, how, slack, k, limit, keys,
    places, counts, bounds, room,
):  # fmt: skip
    """Take the rows of a chunk into the buffer of a query; their sums are ``room.out[r]``."""
    sums = room.out[r]
    itself, wanted = own + q - first - left, k
    if own >= 0:
        wanted += 1  # the row itself may be among those counted
    if 0 <= itself < columns:
        sums[itself] = ALL
    far, middle = _known(q, k, how, slack, keys, counts, bounds, room), np.int32(ALL)
    if far == math.inf and columns >= wanted:
        if entries >= 2 * wanted:
            # Each of so many groups has a row that near: the k-th least of groups is no less than that of rows.
            middle, _ = bound_of(room.least[r], entries, wanted, wanted + wanted // 4)
        else:
            middle, _ = bound_of(sums, columns, wanted, wanted + wanted // 4)
        far = _farthest(middle, norm, moved, step, how, slack)
    bound = _reach(far, norm, moved, step, how)
    room.near_count[0] = 0
    pick(sums, 0, columns, left, bound, room.near, room.near_places, room.near_count, 0, ALL)
    count = room.near_count[0]
    if count == 0:
        return
    if count <= wanted + TOGETHER:
        middle = np.int32(ALL)
    elif middle == ALL and count > 2 * k:
        middle, _ = bound_of(room.near, count, k, k + k // 4)
    fold(queries, q, q + 1, len(lanes), room.folded)
    _evaluate(q, rows, lanes, first, how, np.int32(-ALL), middle, k, limit, keys, places, counts, bounds, room)
    if middle < ALL:
        bound = _reach(_known(q, k, how, slack, keys, counts, bounds, room), norm, moved, step, how)
        _evaluate(
            q, rows, lanes, first, how, middle, np.int32(bound - 1), k, limit, keys, places, counts, bounds, room
        )  # fmt: skip


@kernel
def search_near(
    queries, moved, rounded, norms, start, stop, rows, lanes, first, count, panels, halves, per_chunk, merged, own,
    step, how, slack, k, limit, keys, places, counts, bounds, room,
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
    rows : ndarray, shape (rows, width)
        Prepared rows of data, folded.
    lanes : tuple of int
        As for `pair_distances`.
    first, count : int
        Index of the first, and how many.
    panels, halves : ndarray
        The same rounded, from `pack_quads`.
    per_chunk : int
        Panels that one query after the other meets, in the second-level cache.
    merged : int
        Panels of which the least sums are kept together.
    own : int
        Query q is row own + q of the data; below 0 if queries are other rows.
    step : float
        Of the grid.
    how : int
        As for `pair_distances`.
    slack : ndarray of float64, shape (3,)
        By how much a computed distance may be off: relatively, and besides; and up to which length it is surely finite.
    k : int
        How many are wanted.
    limit, keys, places, counts, bounds
        As for `mlpipe.kernels.nearest.look_through`.
    room : Room
        Scratch.
    """
    for chunk in range(0, panels.shape[0], per_chunk):
        end = min(chunk + per_chunk, panels.shape[0])
        left = chunk * WIDTH
        columns = min(count, end * WIDTH) - left
        entries = (end - chunk + merged - 1) // merged * LANES
        for i in range(start, stop, ROWS):
            for p in range(chunk, end):
                n = p - chunk
                group, fresh = n // merged * LANES, n % merged == 0
                if how == ABSOLUTE:
                    sad_tile(rounded, i, stop - 1, panels, p, halves, room.out, n * WIDTH, room.least, group, fresh)
                else:
                    byte_tile(rounded, i, stop - 1, panels, p, halves, room.out, n * WIDTH, room.least, group, fresh)
            for q in range(i, min(i + ROWS, stop)):
                _take(
                    q, q - i, queries, norms[q], moved[q], rows, lanes, first, left, columns, entries, own, step, how,
                    slack, k, limit, keys, places, counts, bounds, room,
                )  # fmt: skip
