"""Rows to the places where they belong, in memory."""

from __future__ import annotations

from mlpipe.kernels._jit import kernel


@kernel
def slots(buckets, filled, capacity, start, out):
    """Give rows from `start` on their places in the buffers of their buckets, until one is full.

    Parameters
    ----------
    buckets : ndarray of int64, shape (rows,)
        To which each row goes.
    filled : ndarray of int64, shape (buckets,)
        Rows in each buffer; counted on.
    capacity : int
        Rows of a buffer. The buffers lie one after the other.
    start : int
        The first row.
    out : ndarray of int64, shape (rows,)
        Places, from `start` on.

    Returns
    -------
    int
        The row after the last one that has a place. If that row filled a buffer, it is the buffer to be emptied.
    """
    for i in range(start, buckets.shape[0]):
        bucket = buckets[i]
        out[i] = bucket * capacity + filled[bucket]
        filled[bucket] += 1
        if filled[bucket] == capacity:
            return i + 1
    return buckets.shape[0]


@kernel
def scatter(rows, targets, out):
    """Copy each row to its target.

    Parameters
    ----------
    rows : ndarray of uint8, shape (count, bytes)
        Bytes of one row lie side by side; rows may lie apart.
    targets : ndarray of int64, shape (count,)
        Rows of `out`.
    out : ndarray of uint8, shape (rows, at least bytes)
        As `rows`.
    """
    for i in range(rows.shape[0]):
        target = targets[i]
        for k in range(rows.shape[1]):
            out[target, k] = rows[i, k]
