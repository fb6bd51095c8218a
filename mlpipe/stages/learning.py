"""What fitting stages learn from rows that pass by: exact, the same for any blocks and threads, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from mlpipe.errors import MemoryCeilingError
from mlpipe.kernels import moments as kernels
from mlpipe.link import Array
from mlpipe.stages.fitting import Learned, Learning
from mlpipe.workers import Workers

LANES = 64
"""Sums kept side by side at least: of few columns, those of several rows."""

GROUP_ROWS = 256
GROUP_VALUES = 1 << 16
"""A group has so many rows at least, and about so many values: what a worker adds up at a time."""

TASK_VALUES = 1 << 16
COLUMNS = 16
"""Columns a worker counts: a cache line of them."""

COUNT_BYTES = 128 << 20
"""More counters than this leave the caches for good, and save few passes."""


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


class Quantiles:
    """Exact quantiles of each column, NaN passed over, interpolated as `numpy.percentile` does.

    The bits of a number, in an order that is that of the numbers, are taken as digits. Each pass counts one digit of
    the values that share those before it with an order statistic that is looked for, and so finds that digit of it.

    Parameters
    ----------
    columns : int
        How many.
    dtype : numpy.dtype
        Of the values.
    at : sequence of float
        Which quantiles, 0 to 1.
    names : sequence of str
        Of the results.
    passes : int
        In how many passes.

    Examples
    --------
    >>> quantiles = Quantiles(1, np.dtype("u1"), [0.5], ["median"], passes=1)
    >>> with Workers(1) as workers:
    ...     quantiles.add(np.array([[1], [9], [2], [3]], "u1"), workers)
    >>> {name: values.tolist() for name, values in quantiles.finish().items()}
    {'count': [4], 'median': [2.5]}
    """

    def __init__(
        self, columns: int, dtype: np.dtype[Any], at: Sequence[float], names: Sequence[str], passes: int
    ) -> None:
        self._dtype, self._at, self._names = dtype, at, names
        self._bits = 8 * dtype.itemsize
        self._sign = np.uint64(0 if dtype.kind in "bu" else 1 << (self._bits - 1))
        unsigned = np.dtype(f"u{dtype.itemsize}")
        self._infinity = np.uint64(np.array([np.inf], dtype).view(unsigned)[0] if dtype.kind == "f" else 0)
        self._widths = _digits(self._bits, passes)
        self._left = self._bits
        targets = 2 * len(at)
        self._prefixes, self._slots = np.zeros((columns, targets), np.uint64), np.ones(columns, np.int64)
        self._targets, self._ranks = np.zeros((columns, targets), np.uint64), np.zeros((columns, targets), np.int64)
        self._slot_of = np.zeros((columns, targets), np.int64)
        self._counts = np.zeros((columns, targets, 1 << self._widths[0]), np.int64)
        self._present = np.zeros(columns, np.int64)

    @staticmethod
    def learning(columns: int, dtype: np.dtype[Any], at: Sequence[float], names: Sequence[str], room: int) -> Learning:
        """The fewest passes whose counters fit the room.

        Raises
        ------
        MemoryCeilingError
            When not even digits of two bits do.
        """
        bits, nbytes = 8 * dtype.itemsize, 0
        for passes in range(-(-bits // 16), bits // 2 + 1):
            nbytes = 2 * len(at) * columns * (8 * (1 << _digits(bits, passes)[0]) + 32) + 32 * columns
            if nbytes <= min(room, COUNT_BYTES) or (passes >= bits // 8 and nbytes <= room):
                return Learning(partial(Quantiles, dtype=dtype, at=at, names=names, passes=passes), nbytes, passes)
        raise MemoryCeilingError("counters of two bits do not fit", needs=nbytes)

    def add(self, rows: Array, workers: Workers) -> None:
        """Count one digit of the rows."""
        bits, width = rows.view(f"u{self._dtype.itemsize}"), self._widths[0]
        present = self._present if self._left == self._bits else np.empty_like(self._present)

        def add(first: int, _worker: int) -> None:
            kernels.count_digits(
                bits, first, min(first + COLUMNS, rows.shape[1]), self._sign, self._infinity, np.uint64(width),
                np.uint64(self._left - width), self._prefixes, self._slots, self._counts, present,
            )  # fmt: skip

        workers.run(add, range(0, rows.shape[1], COLUMNS))

    def finish(self) -> Learned | None:
        """Find one digit of each order statistic; after the last, interpolate."""
        count = self._present
        places = [fraction * np.maximum(count - 1, 0) for fraction in self._at]
        if self._left == self._bits:
            for t, place in enumerate(places):
                self._ranks[:, 2 * t] = np.floor(place)
                self._ranks[:, 2 * t + 1] = np.minimum(np.floor(place) + 1, np.maximum(count - 1, 0))
            self._slots[count == 0] = 0
        width = self._widths.pop(0)
        kernels.narrow(
            self._counts, np.uint64(width), self._ranks, self._targets, self._prefixes, self._slots, self._slot_of
        )
        self._counts[:] = 0
        self._left -= width
        if self._widths:
            return None
        values = self._numbers()
        learned = {"count": count}
        for t, (name, place) in enumerate(zip(self._names, places, strict=True)):
            found = _between(values[:, 2 * t], values[:, 2 * t + 1], place - np.floor(place))
            found[count == 0] = np.nan
            learned[name] = found
        return learned

    def _numbers(self) -> Array:
        """The order statistics as float64."""
        bits = self._targets ^ self._sign
        if self._infinity:
            bits = np.where(self._targets & self._sign, bits, ~self._targets)
        values: Array = bits.astype(f"u{self._dtype.itemsize}").view(self._dtype).astype(np.float64)
        return values + 0.0


def _supported(rows: Array) -> Array:
    """Rows in a dtype that kernels know."""
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows


def _digits(bits: int, passes: int) -> list[int]:
    """Widths of digits, the widest first.

    Examples
    --------
    >>> _digits(32, 3)
    [11, 11, 10]
    """
    return [bits // passes + (place < bits % passes) for place in range(passes)]


def _between(low: Array, high: Array, part: Array) -> Array:
    """Part of the way from low to high, exact at both ends."""
    with np.errstate(invalid="ignore", over="ignore"):
        step = high - low
        found: Array = np.where(part < 0.5, low + step * part, high - step * (1 - part))
    return np.where((part == 0) | (low == high), low, found)
