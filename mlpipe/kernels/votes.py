"""What k neighbours say of a query: the class most of them have, or the mean of their values.

A neighbour without a distance (NaN), or without an index (below 0), says nothing. Weighted, a neighbour says the more
the nearer it is: the least distance that is not 0, over its own; and where there are distances of 0, those alone count.
Sums run over the neighbours in their order.
"""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel

EVEN, NEARER, ZEROS = 0, 1, 2
"""How neighbours of one query are weighed: all alike, by distance, or those at distance 0 alone."""

NOBODY = -1
"""The place of the winner where there are no votes."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


@kernel
def weighing(indices, distances, i, weighted):
    """How the neighbours of query i are weighed, and the distance that counts as 1."""
    least = np.inf
    if weighted:
        for t in range(indices.shape[1]):
            distance = np.float64(distances[i, t])
            if indices[i, t] < 0 or distance != distance:
                continue
            if distance <= 0:
                return ZEROS, 1.0
            least = min(least, distance)
    # Where all are infinitely far, none is nearer than another.
    return (NEARER if least < np.inf else EVEN), least


@kernel
def weight(index, distance, mode, least):
    """What one neighbour counts."""
    if index < 0 or distance != distance:
        return 0.0
    if mode == EVEN:
        return 1.0
    if mode == ZEROS:
        return 1.0 if distance <= 0 else 0.0
    return least / np.float64(distance)


@kernel
def vote(indices, distances, codes, weighted, votes, out):
    """The class of most votes, of equal ones the smallest; few classes, numbered from 0.

    Parameters
    ----------
    indices : ndarray of int64, shape (queries, k)
        Neighbours.
    distances : ndarray of float32 or float64, shape (queries, k)
        Theirs.
    codes : ndarray of unsigned integers, shape (rows,)
        The class of each row.
    weighted : bool
        Whether near neighbours count more.
    votes : ndarray of float64, shape (classes,)
        Scratch, of zeros, and zeros again afterwards.
    out : ndarray of int64, shape (queries,)
        The class of each query; `NOBODY` without votes.
    """
    for i in range(indices.shape[0]):
        mode, least = weighing(indices, distances, i, weighted)
        for t in range(indices.shape[1]):
            counts = weight(indices[i, t], distances[i, t], mode, least)
            if counts > 0:
                votes[codes[indices[i, t]]] += counts
        winner, most = np.int64(NOBODY), 0.0
        for t in range(indices.shape[1]):
            if weight(indices[i, t], distances[i, t], mode, least) > 0:
                code = np.int64(codes[indices[i, t]])
                if votes[code] > most or (votes[code] == most and code < winner):
                    winner, most = code, votes[code]
        for t in range(indices.shape[1]):
            if indices[i, t] >= 0:
                votes[codes[indices[i, t]]] = 0.0
        out[i] = winner


@kernel
def vote_among_many(indices, distances, labels, weighted, keys, users, votes, out, found):
    """As `vote`, for any integers as classes: votes are counted in a small table of those that neighbours have.

    Parameters
    ----------
    indices, distances, weighted
        As for `vote`.
    labels : ndarray of int32 or int64, shape (rows,)
        The class of each row.
    keys, users : ndarray of int64, shape (a power of two above k,)
        Scratch: which class is counted in each slot, and for which query.
    votes : ndarray of float64
        Scratch, as long as `keys`.
    out : ndarray of int64, shape (queries,)
        The class of each query.
    found : ndarray of bool, shape (queries,)
        Whether there were votes.
    """
    mask, shift = keys.shape[0] - 1, np.uint64(32)
    users[:] = NOBODY
    for i in range(indices.shape[0]):
        mode, least = weighing(indices, distances, i, weighted)
        winner, most = np.int64(0), 0.0
        for t in range(indices.shape[1]):
            counts = weight(indices[i, t], distances[i, t], mode, least)
            if counts > 0:
                label = np.int64(labels[indices[i, t]])
                slot = np.int64((np.uint64(label) * _MIX) >> shift) & mask
                while users[slot] == i and keys[slot] != label:
                    slot = (slot + 1) & mask
                if users[slot] != i:
                    users[slot], keys[slot], votes[slot] = i, label, 0.0
                votes[slot] += counts
        for slot in range(keys.shape[0]):
            if users[slot] == i and (votes[slot] > most or (votes[slot] == most and keys[slot] < winner)):
                winner, most = keys[slot], votes[slot]
        out[i], found[i] = winner, most > 0


@kernel
def mean(indices, distances, values, weighted, out):
    """The mean of the values of the neighbours; NaN where there are none.

    Parameters
    ----------
    indices, distances, weighted
        As for `vote`.
    values : ndarray of float32 or float64, shape (rows, outputs)
        Of each row.
    out : ndarray of float64, shape (queries, outputs)
        The means.
    """
    for i in range(indices.shape[0]):
        mode, least = weighing(indices, distances, i, weighted)
        total = 0.0
        out[i] = 0.0
        for t in range(indices.shape[1]):
            counts = weight(indices[i, t], distances[i, t], mode, least)
            if counts > 0:
                total += counts
                row = indices[i, t]
                for j in range(out.shape[1]):
                    out[i, j] += counts * values[row, j]
        for j in range(out.shape[1]):
            out[i, j] = out[i, j] / total if total > 0 else np.nan
