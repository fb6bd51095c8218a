"""Histograms of a few columns for a plot: counted finely between known ends, then put together to as many as suit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlpipe.link import Array
from mlpipe.workers import Workers

FINE = 1 << 12
"""Bins that are counted."""

MOST_BINS = 1 << 7
"""Bins that are shown, at most."""

MOST_PLOTTED = 16
"""Columns of one plot."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values lie between edges.

    Parameters
    ----------
    counts : ndarray of int64, shape (bins,)
        Values in each bin; the last one holds its right edge, too.
    edges : ndarray of float64, shape (bins + 1,)
        Ascending; empty, as the counts, where there was no finite value.
    """

    counts: Array
    edges: Array


class Histograms:
    """Counts finite values of columns between their smallest and largest ones.

    Parameters
    ----------
    low, high : ndarray of float64, shape (columns,)
        Smallest and largest finite value of each column; NaN for a column without any.
    whole : bool
        Whether values are whole numbers: each gets a bin of its own, while there are few.

    Examples
    --------
    >>> histograms = Histograms(np.array([0.0]), np.array([3.0]), whole=True)
    >>> with Workers(1) as workers:
    ...     histograms.add(np.array([[0], [3], [3], [1]]), workers)
    >>> [histogram] = histograms.finish()
    >>> histogram.counts.tolist(), histogram.edges.tolist()
    ([1, 1, 0, 2], [-0.5, 0.5, 1.5, 2.5, 3.5])
    """

    def __init__(self, low: Array, high: Array, *, whole: bool) -> None:
        self._low, self._high, self._whole = low, high, whole
        self._counts = np.zeros((len(low), FINE), np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            extent = high / 2 - low / 2  # half of it, which cannot overflow
        self._units = whole & (extent < FINE / 2)
        # Values are halved, too, and the largest one falls into the last bin.
        self._scale = np.where(self._units, 2.0, FINE / np.where(extent > 0, extent, 1.0))

    @staticmethod
    def nbytes(columns: int, threads: int, block_rows: int) -> int:
        """Bytes held."""
        return 8 * FINE * columns * 2 + threads * block_rows * 32

    def add(self, rows: Array, workers: Workers) -> None:
        """Take in rows, of which the first columns are counted."""

        def count(column: int, _worker: int) -> None:
            values = rows[:, column].astype(np.float64)
            values = values if self._whole else values[np.isfinite(values)]
            if not len(values) or math.isnan(self._low[column]):
                return
            values /= 2
            values -= self._low[column] / 2
            values *= self._scale[column]
            places = np.minimum(values.astype(np.int64), FINE - 1)
            self._counts[column] += np.bincount(places, minlength=FINE)

        workers.run(count, range(len(self._low)))

    def finish(self) -> list[Histogram]:
        """The histogram of each column."""
        return [self._put_together(column) for column in range(len(self._low))]

    def _put_together(self, column: int) -> Histogram:
        counts, low, high = self._counts[column], float(self._low[column]), float(self._high[column])
        if math.isnan(low):
            return Histogram(np.empty(0, np.int64), np.empty(0))
        if self._units[column]:
            span = round(high - low) + 1
            each = -(-span // MOST_BINS)
            bins = -(-span // each)
            counts, start, width = counts[: bins * each], low - 0.5, float(each)
        elif low == high:
            return Histogram(counts[:1], np.array([low - 0.5, low + 0.5]))
        else:
            bins = _suitable(counts)
            each, part = FINE // bins, np.arange(bins + 1) / bins
            return Histogram(counts.reshape(bins, each).sum(1), low * (1 - part) + high * part)
        edges = start + np.arange(bins + 1) * width
        return Histogram(counts.reshape(bins, each).sum(1), edges)


def _suitable(counts: Array) -> int:
    """Bins by the rules of NumPy's ``auto``, as a power of two: of Sturges, and of Freedman and Diaconis."""
    total = int(counts.sum())
    below = np.cumsum(counts)
    quartile = np.searchsorted(below, [total / 4, 3 * total / 4])
    width = 2.0 * float(quartile[1] - quartile[0]) / total ** (1 / 3)
    wanted = max(math.log2(total) + 1, FINE / width if width > 0 else 1)
    return min(MOST_BINS, 1 << max(0, math.ceil(math.log2(wanted))))
