"""What fitting stages learn from rows that pass by: exact, the same for any blocks and threads, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from mlpipe.kernels import moments as kernels
from mlpipe.link import Array
from mlpipe.stages.fitting import Learned, Learning
from mlpipe.statistics import quantiles
from mlpipe.workers import Workers

LANES = 64
"""Sums kept side by side at least: of few columns, those of several rows."""

GROUP_ROWS = 256
GROUP_VALUES = 1 << 16
"""A group has so many rows at least, and about so many values: what a worker adds up at a time."""

TASK_VALUES = 1 << 16


class Moments:
    """Number, mean and variance of each column's finite values, with more digits than float64 has on the way.

    The values minus the first one of their column, and the squares of that, are added up in pairs of float64. As the
    first value is one of them, hardly any digit is lost, however far from zero they are.

    Parameters
    ----------
    columns : int
        How many.

    Examples
    --------
    >>> moments = Moments(1)
    >>> with Workers(1) as workers:
    ...     moments.add(np.array([[1e9], [1e9 + 1], [np.nan]]), workers)
    >>> {name: values.tolist() for name, values in moments.finish().items()}
    {'count': [2], 'mean': [1000000000.5], 'variance': [0.25], 'infinite': [0]}
    """

    def __init__(self, columns: int) -> None:
        self._columns, self._rows = columns, 0
        self._side = max(1, LANES // max(1, columns))  # rows side by side
        self._group = max(GROUP_ROWS, GROUP_VALUES // max(1, columns)) // self._side * self._side
        lanes = self._side * columns
        self._total, self._groups = np.zeros((kernels.SUMS, lanes)), np.zeros((1, kernels.SUMS, lanes))
        self._shift = np.full(columns, np.nan)

    @staticmethod
    def nbytes(columns: int, block_rows: int) -> int:
        """Bytes held while blocks of so many rows come in."""
        lanes = 8 * kernels.SUMS * max(LANES, columns)
        return lanes * (3 + block_rows * max(1, columns) // GROUP_VALUES + block_rows // GROUP_ROWS)

    def add(self, rows: Array, workers: Workers) -> None:
        """Take in the rows that follow."""
        rows = _supported(rows)
        kernels.first_finite(rows, self._shift)
        shift, before = np.tile(self._shift, self._side), self._rows % self._group
        complete = (before + len(rows)) // self._group
        if complete >= len(self._groups):
            more = np.zeros((complete + 1 - len(self._groups), *self._total.shape))
            self._groups = np.concatenate([self._groups, more])

        def add(task: tuple[int, int, int], _worker: int) -> None:
            group, start, stop = task
            offset = (before + start) % self._side * self._columns
            kernels.add_moments(rows[start:stop].reshape(-1), offset, shift, self._groups[group])

        workers.run(add, self._pieces(before, len(rows)))
        self._rows += len(rows)
        if complete:
            kernels.merge_groups(self._groups, complete, self._total)
            self._groups[0] = self._groups[complete]
            self._groups[1:] = 0

    def _pieces(self, before: int, rows: int) -> Iterator[tuple[int, int, int]]:
        """Parts of a block that lie in one group each: the group and the rows."""
        start = 0
        while start < rows:
            group = (before + start) // self._group
            stop = min(rows, (group + 1) * self._group - before)
            yield group, start, stop
            start = stop

    def finish(self) -> Learned:
        """What was learned."""
        mean, variance = np.empty((2, self._columns))
        kernels.merge_groups(self._groups, 1, self._total)
        shift = np.tile(self._shift, self._side)
        kernels.finish_moments(self._total, shift, self._columns, mean, variance)
        count, infinite = self._total[[kernels.COUNT, kernels.INFINITE], : self._columns].astype(np.int64)
        return {"count": count, "mean": mean, "variance": variance, "infinite": infinite}


class Extremes:
    """Number, smallest and largest of each column's values that are not NaN."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._by_worker: dict[int, tuple[Array, Array, Array]] = {}

    @staticmethod
    def nbytes(columns: int, threads: int) -> int:
        """Bytes held."""
        return 24 * columns * (threads + 1)

    def add(self, rows: Array, workers: Workers) -> None:
        """Take in rows."""
        rows = _supported(rows)
        step = max(1, TASK_VALUES // max(1, self._columns))

        def add(start: int, worker: int) -> None:
            if worker not in self._by_worker:
                self._by_worker[worker] = self._nothing()
            kernels.add_extremes(rows[start : start + step], *self._by_worker[worker])

        workers.run(add, range(0, len(rows), step))

    def _nothing(self) -> tuple[Array, Array, Array]:
        shape = self._columns
        return np.full(shape, np.inf), np.full(shape, -np.inf), np.zeros(shape, np.int64)

    def finish(self) -> Learned:
        """What was learned; NaN for a column without values."""
        lows, highs, counts = zip(self._nothing(), *self._by_worker.values(), strict=True)
        count = np.sum(counts, axis=0)
        low, high = np.min(lows, axis=0) + 0.0, np.max(highs, axis=0) + 0.0  # not -0.0: threads would show
        none = count == 0
        low[none] = high[none] = np.nan
        return {"count": count, "minimum": low, "maximum": high}


class Quantiles(quantiles.Quantiles):
    """Exact quantiles of each column by name; see `mlpipe.statistics.quantiles`.

    Parameters
    ----------
    columns, dtype, at, passes
        As there.
    names : sequence of str
        Of the results.

    Examples
    --------
    >>> quantiles = Quantiles(1, np.dtype("u1"), [0.5], ["median"], passes=1)
    >>> with Workers(1) as workers:
    ...     quantiles.add(np.array([[1], [9], [2], [3]], "u1"), workers)
    >>> {name: values.tolist() for name, values in quantiles.finish().items()}
    {'count': [4], 'median': [2.5]}
    """

    def __init__(
        self,
        columns: int,
        dtype: np.dtype[Any],
        at: Sequence[float],
        names: Sequence[str],
        passes: int,
        copies: int = 1,
    ) -> None:
        super().__init__(columns, dtype, at, passes, copies)
        self._names = names

    @staticmethod
    def learning(
        columns: int, dtype: np.dtype[Any], at: Sequence[float], names: Sequence[str], room: int, threads: int = 1
    ) -> Learning:
        """The fewest passes whose counters fit the room.

        Raises
        ------
        MemoryCeilingError
            When not even digits of two bits do.
        """
        how = quantiles.plan_passes(columns, dtype, len(at), room, threads)
        make = partial(Quantiles, dtype=dtype, at=at, names=names, passes=how.passes, copies=how.copies)
        return Learning(make, how.nbytes, how.passes)

    def finish(self) -> Learned | None:
        """End a pass; after the last, what was learned."""
        if self.end_pass():
            return None
        return {"count": self.count, **dict(zip(self._names, self.values(), strict=True))}


def _supported(rows: Array) -> Array:
    """Rows in a dtype that kernels know."""
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows
