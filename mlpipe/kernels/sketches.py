"""A kernel that keeps what was seen lately from a sketch that takes values one by one."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel

TABLE_BITS = 14
"""Of a table of 128 KiB: beyond the first cache, within the second."""


@kernel
def _slot(key):
    """Where in the table a key belongs: the upper bits of a product with 2⁶⁴ / golden ratio."""
    return np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - TABLE_BITS))


@kernel
def prepare(table):
    """Fill a table with keys that are never looked for in their places."""
    table[:] = 0
    table[_slot(np.uint64(0))] = 1


@kernel
def not_lately(keys, table, found):
    """Keys that are not the last one of their slot, in order; returns how many.

    Parameters
    ----------
    keys : ndarray of uint64, shape (n,)
        Any numbers.
    table : ndarray of uint64, shape (2 ** TABLE_BITS,)
        The last key of each slot; changed.
    found : ndarray of uint64, shape (n + 1,)
        The result.
    """
    n = 0
    for i in range(keys.size):
        slot = _slot(keys[i])
        found[n] = keys[i]
        n += 1 if table[slot] != keys[i] else 0
        table[slot] = keys[i]
    return n
