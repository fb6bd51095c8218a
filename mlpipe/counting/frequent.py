"""Small tables in front of the partitions, one for each worker, which count what is frequent."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels.count_tables import compress
from mlpipe.link import Array

PATIENCE = 0.6
"""Share of values missing in the table up to which asking it pays: a miss costs five times what it saves."""

MOST_PAUSE = 64
"""Blocks of values for which the table is left alone at most."""

MOST_EVICTIONS = 32


class Frequent:
    """The table of one worker.

    Parameters
    ----------
    slots : int
        A power of two.
    """

    def __init__(self, slots: int) -> None:
        self.table = np.zeros((slots, 2), np.uint64)
        self._pause = self._left = self._evictions = 0
        self._evicted: list[tuple[Array, Array]] = []

    @property
    def patience(self) -> float:
        """What to tell the kernel for the next block."""
        if self._left:
            self._left -= 1
            return -1.0
        return PATIENCE

    def learn(self, missing: float, used: Array) -> None:
        """Take notice of the share of values that were missing; `used[1]` is how many keys there are."""
        if missing <= PATIENCE:
            self._pause = self._pause if missing < 0 else 0
            return
        self._pause = self._left = min(MOST_PAUSE, 2 * self._pause + 1)
        if self._evictions < MOST_EVICTIONS:  # what is frequent may have changed; but rare keys may be all there are
            self._evictions += 1
            self._evicted.append(self._held())
            self.table[:] = 0
            used[1] = 0

    def _held(self) -> tuple[Array, Array]:
        keys, counts = np.empty(len(self.table) + 1, np.uint64), np.empty(len(self.table) + 1, np.int64)
        found = compress(self.table, keys, counts)
        return keys[:found].copy(), counts[:found].copy()

    def pairs(self) -> list[tuple[Array, Array]]:
        """Keys and counts, some keys more than once."""
        return [*self._evicted, self._held()]


def merged(pairs: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Keys and counts by key, each once.

    Examples
    --------
    >>> pair = np.array([7, 5], np.uint64), np.array([1, 2])
    >>> merged([pair, pair])
    (array([5, 7], dtype=uint64), array([4, 2]))
    """
    keys = np.concatenate([keys for keys, _ in pairs] or [np.empty(0, np.uint64)])
    counts = np.concatenate([counts for _, counts in pairs] or [np.empty(0, np.int64)])
    if not len(keys):
        return keys, counts
    order = np.argsort(keys, kind="stable" if counts.dtype.kind == "f" else None)  # sums of floats have an order
    keys, counts = keys[order], counts[order]
    firsts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[firsts], np.add.reduceat(counts, firsts)
