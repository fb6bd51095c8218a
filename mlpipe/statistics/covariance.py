"""Covariances and correlations of columns, pair by pair, the same for any blocks and threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpipe.link import Array
from mlpipe.workers import Workers

GROUP_VALUES = 1 << 18
LEAST_ROWS, MOST_ROWS = 64, 1024
"""Rows of a group: enough that products take longer than adding them up, few enough that they stay in the cache."""


@dataclass(slots=True)
class _Sums:
    """What some rows amount to.

    Where no value is missing, `count` and `mean` hold one number for each column (and `square` none); else entry (i, j)
    of every array is about column i in the rows that have both i and j.

    Parameters
    ----------
    count : ndarray
        Rows, as float64.
    mean : ndarray
        Of column i.
    square : ndarray or None
        Squared deviations of column i, summed.
    product : ndarray, shape (columns, columns)
        Products of the deviations of i and j, summed.
    """

    count: Array
    mean: Array
    square: Array | None
    product: Array

    def by_pair(self) -> _Sums:
        """The same for every pair."""
        if self.square is not None:
            return self
        shape = self.product.shape
        wide = (np.broadcast_to(one[:, None], shape) for one in (self.count, self.mean, np.diagonal(self.product)))
        count, mean, square = (np.array(one) for one in wide)
        return _Sums(count, mean, square, self.product)


class Covariance:
    """Covariance of each two columns, over the rows in which both are finite.

    Rows are taken in groups that lie where they lie, whatever the blocks: deviations from the means of the group are
    multiplied in float64, and groups are merged in order (Chan, Golub and LeVeque, 1979). So values far from zero lose
    no digits. Products are those of NumPy's BLAS, whose bits depend on the machine, and may depend on its number of
    threads: the command line lets it have one.

    Parameters
    ----------
    columns : int
        How many.
    threads : int
        Groups under way at once.

    Examples
    --------
    >>> covariance = Covariance(2, 1)
    >>> with Workers(1) as workers:
    ...     covariance.add(np.array([[1.0, 2.0], [2.0, 4.0], [3.0, np.nan], [4.0, 9.0]]), workers)
    ...     covariance.finish(workers)
    >>> covariance.covariance(ddof=1).round(3).tolist()
    [[1.667, 5.5], [5.5, 13.0]]
    >>> covariance.correlation().round(3).tolist()
    [[1.0, 0.999], [0.999, 1.0]]
    """

    def __init__(self, columns: int, threads: int) -> None:
        self._group = group_rows(columns)
        self._threads = threads
        self._pending: Array | None = None
        self._filled = 0
        self._total: _Sums | None = None
        self._columns = columns

    @staticmethod
    def nbytes(columns: int, threads: int) -> int:
        """Bytes held at most: where values are missing, with all their copies."""
        values = threads * group_rows(columns) * columns
        return (8 + 4 * 8 + 1) * values + 8 * columns * columns * (5 * threads + 10)

    def add(self, rows: Array, workers: Workers) -> None:
        """Take in the rows that follow."""
        if self._pending is None:
            self._pending = np.empty((self._threads * self._group, self._columns), rows.dtype)
        while len(rows):
            count = min(len(rows), len(self._pending) - self._filled)
            self._pending[self._filled : self._filled + count] = rows[:count]
            self._filled += count
            rows = rows[count:]
            if self._filled == len(self._pending):
                self._take(workers)

    def finish(self, workers: Workers) -> None:
        """No more rows come."""
        self._take(workers)
        self._pending = None

    def _take(self, workers: Workers) -> None:
        """Sum up the groups that are there, and merge them in order."""
        if self._pending is None or not self._filled:
            return
        groups = [self._pending[at : at + self._group] for at in range(0, self._filled, self._group)]
        groups[-1] = groups[-1][: self._filled - (len(groups) - 1) * self._group]
        sums: list[_Sums | None] = [None] * len(groups)

        def sum_up(place: int, _worker: int) -> None:
            sums[place] = _sums(groups[place])

        workers.run(sum_up, range(len(groups)))
        for one in sums:
            if one is not None:
                self._total = one if self._total is None else _merged(self._total, one)
        self._filled = 0

    def covariance(self, ddof: int = 1) -> Array:
        """Covariance of each two columns; NaN where fewer than two rows, or no more than `ddof`, have both."""
        if self._total is None:
            return np.full((self._columns, self._columns), np.nan)
        count = self._total.count
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self._total.product / (count - ddof)
        return np.where(count > ddof, found, np.nan)

    def correlation(self) -> Array:
        """Pearson's correlation of each two columns; NaN where one of them is constant."""
        if self._total is None:
            return np.full((self._columns, self._columns), np.nan)
        total, square = self._total, self._total.by_pair().square
        if square is None:
            raise RuntimeError("sums by pair have squares")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            quotient = total.product / (np.sqrt(square) * np.sqrt(square.T))
        found: Array = np.clip(quotient, -1.0, 1.0)  # NaN stays
        np.fill_diagonal(found, np.where(np.isnan(np.diagonal(found)), np.nan, 1.0))
        return found


def group_rows(columns: int) -> int:
    """Rows of a group, which must depend on nothing else.

    Examples
    --------
    >>> group_rows(1), group_rows(1000), group_rows(1_000_000)
    (1024, 256, 64)
    """
    rows = LEAST_ROWS
    while 2 * rows * columns <= GROUP_VALUES and rows < MOST_ROWS:
        rows *= 2
    return rows


def _sums(rows: Array) -> _Sums:
    """Sums of one group."""
    values = rows.astype(np.float64)
    present = np.isfinite(values)
    count = present.sum(0).astype(np.float64)
    values[~present] = 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = np.where(count > 0, values.sum(0) / np.maximum(count, 1), 0.0)
        values -= mean
        if present.all():
            off = values.mean(0)  # what rounding left of the mean
            values -= off
            return _Sums(count, mean + off, None, values.T @ values)
        values[~present] = 0.0
        there = present.astype(np.float64)
        pairs = there.T @ there
        most = np.maximum(pairs, 1)
        off = (values.T @ there) / most
        square = np.maximum((values * values).T @ there - pairs * off * off, 0.0)
        product = values.T @ values - pairs * off * off.T
        return _Sums(pairs, np.where(pairs > 0, mean[:, None] + off, 0.0), square, product)


def _merged(a: _Sums, b: _Sums) -> _Sums:
    """Sums of the rows of both."""
    if a.square is None and b.square is None:
        count, (weight, part) = a.count + b.count, _weights(a.count, b.count)
        delta = b.mean - a.mean
        product = a.product + b.product
        product += np.outer(weight * delta, delta)
        return _Sums(count, a.mean + delta * part, None, product)
    a, b = a.by_pair(), b.by_pair()
    if a.square is None or b.square is None:
        raise RuntimeError("sums by pair have squares")
    weight, part = _weights(a.count, b.count)
    delta = np.where((a.count > 0) & (b.count > 0), b.mean - a.mean, 0.0)
    mean = np.where(a.count > 0, a.mean + delta * part, b.mean)
    square = a.square + b.square + weight * delta * delta
    return _Sums(a.count + b.count, mean, square, a.product + b.product + weight * (delta * delta.T))


def _weights(a: Array, b: Array) -> tuple[Array, Array]:
    """How much the difference of two means counts, and by which part of it the second moves the first."""
    part = b / np.maximum(a + b, 1.0)
    return a * part, part
