"""A counter for every value of a short range, for each worker."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels.count_parts import BLOCK
from mlpipe.kernels.counting import SETS, count_bits, count_range, key_extremes
from mlpipe.link import Array
from mlpipe.workers import Workers

TASK_ROWS = 1 << 18

MOST_SPAN = 1 << 21
"""Widest range: counters of 8 MiB for each worker, in the last cache. Wider ones are faster in partitions."""

FEW = 1 << 11
"""Up to so many values, counters come in four sets, which fit into the nearest cache."""

FLUSH = 1 << 31
"""Values after which counters of 32 bits are emptied."""


class Dense:
    """Counts integers of 32 or 64 bits from a range that grows when it has to.

    Parameters
    ----------
    low, high : int
        Keys of the range, to begin with.
    most : int
        Widest range for which there is room.
    threads : int
        Workers.
    """

    def __init__(self, low: int, high: int, most: int, threads: int) -> None:
        self.most = most
        pad = min((most - (high - low + 1)) // 2, (high - low) // 16 + 64)
        low, high = max(0, low - pad), min((1 << 64) - 1, high + pad)
        self._lows = [low] * threads
        self._counters: list[Array | None] = [None] * threads
        self._spans = [high - low + 1] * threads
        self._since = [0] * threads
        self._totals: list[tuple[int, Array]] = []

    def add(self, values: Array, workers: Workers) -> list[tuple[int, int]]:
        """Count values; return the parts of them, if any, for which the range would become too wide."""
        left: list[tuple[int, int]] = []

        def work(start: int, worker: int) -> None:
            stop = min(start + TASK_ROWS, len(values))
            while start < stop:
                counters = self._of(worker, stop - start)
                done = count_range(values[start:stop], 0, np.uint64(self._lows[worker]), counters)
                self._since[worker] += done
                start += done
                if start < stop and not self._extend(worker, values[start : min(stop, start + BLOCK)]):
                    left.append((start, stop))
                    return

        workers.run(work, range(0, len(values), TASK_ROWS))
        return left

    def _of(self, worker: int, rows: int) -> Array:
        """Counters of a worker that have room for so many more values."""
        counters = self._counters[worker]
        if counters is not None and self._since[worker] + rows > FLUSH:
            self._totals.append((self._lows[worker], counters.sum(axis=0, dtype=np.int64)))
            counters = None
        if counters is None:
            span = self._spans[worker]
            counters = self._counters[worker] = np.zeros((SETS if span <= FEW else 1, span), np.uint32)
            self._since[worker] = 0
        return counters

    def _extend(self, worker: int, values: Array) -> bool:
        """Widen the range of a worker to these values, unless it would become too wide."""
        low, span, counters = self._lows[worker], self._spans[worker], self._counters[worker]
        least, most = map(int, key_extremes(values))
        first, last = min(low, least), max(low + span - 1, most)
        if last - first + 1 > self.most:
            return False
        spare = min(self.most - (last - first + 1), last - first + 1)
        first, last = (max(0, first - spare), last) if least < low else (first, min((1 << 64) - 1, last + spare))
        if counters is not None:
            wider = np.zeros((SETS if last - first < FEW else 1, last - first + 1), np.uint32)
            wider[0, low - first : low - first + span] = counters.sum(axis=0, dtype=np.uint32)
            self._counters[worker] = wider
        self._lows[worker], self._spans[worker] = first, last - first + 1
        return True

    def total(self) -> tuple[int, Array]:
        """The first key, and how often each key from there on occurred."""
        parts = self._totals + [
            (low, counters.sum(axis=0, dtype=np.int64))
            for low, counters in zip(self._lows, self._counters, strict=True)
            if counters is not None
        ]
        if not parts:
            return 0, np.zeros(0, np.int64)
        first = min(low for low, _ in parts)
        total = np.zeros(max(low + len(counts) for low, counts in parts) - first, np.int64)
        for low, counts in parts:
            total[low - first : low - first + len(counts)] += counts
        return first, total


class Bits:
    """Counts values of 8 or 16 bits by their bits.

    Parameters
    ----------
    bits : int
        Of a value.
    threads : int
        Workers.
    """

    def __init__(self, bits: int, threads: int) -> None:
        self._counters = [np.zeros((SETS, 1 << bits) if bits == 8 else (1, 1 << bits), np.uint32)
                          for _ in range(threads)]  # fmt: skip
        self._since = [0] * threads
        self._total = np.zeros(1 << bits, np.int64)

    def add(self, values: Array, workers: Workers) -> None:
        """Count unsigned integers."""

        def work(start: int, worker: int) -> None:
            count_bits(values[start : start + TASK_ROWS], self._counters[worker])
            self._since[worker] += TASK_ROWS

        for start in range(0, len(values), FLUSH // 2):
            self._flush()
            workers.run(work, range(start, min(start + FLUSH // 2, len(values)), TASK_ROWS))

    def _flush(self) -> None:
        for worker, counters in enumerate(self._counters):
            if self._since[worker] > FLUSH // 2:
                self._total += counters.sum(axis=0, dtype=np.int64)
                counters[:] = 0
                self._since[worker] = 0

    def total(self) -> Array:
        """How often each pattern of bits occurred."""
        self._since = [FLUSH] * len(self._counters)
        self._flush()
        return self._total
