"""Exact quantiles of columns larger than memory, digit by digit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.errors import MemoryCeilingError
from mlpipe.kernels import order_statistics as kernels
from mlpipe.link import Array
from mlpipe.workers import Workers

COLUMNS = 16
"""Columns a worker counts: a cache line of them."""

PIECE_VALUES = 1 << 16
"""Values a worker counts at a time, where every worker has counters of its own."""

COUNT_BYTES = 128 << 20
"""More counters than this leave the caches for good, and save few passes."""


@dataclass(frozen=True, slots=True)
class Passes:
    """How quantiles will be found.

    Parameters
    ----------
    passes : int
        Passes over the rows.
    copies : int
        Sets of counters: one, or one for each worker, where there are too few columns to share out.
    nbytes : int
        What the counters hold.
    """

    passes: int
    copies: int
    nbytes: int


def plan_passes(columns: int, dtype: np.dtype[Any], quantiles: int, room: int, threads: int = 1) -> Passes:
    """The fewest passes whose counters fit the room.

    Parameters
    ----------
    columns : int
        How many.
    dtype : numpy.dtype
        Of the values.
    quantiles : int
        How many of each column.
    room : int
        Bytes.
    threads : int
        Workers there are; each gets counters of its own where columns are few and these fit, too.

    Raises
    ------
    MemoryCeilingError
        When not even digits of two bits fit.

    Examples
    --------
    >>> plan_passes(64, np.dtype("f4"), 3, 64 << 20).passes, plan_passes(64, np.dtype("f4"), 3, 1 << 20).passes
    (3, 4)
    """
    bits, nbytes = 8 * dtype.itemsize, 0
    copies = threads if columns < COLUMNS * threads else 1
    for passes in range(-(-bits // 16), bits // 2 + 1):
        counters = 16 * quantiles * columns << digits(bits, passes)[0]
        rest = columns * (64 * quantiles + 32)
        for count in dict.fromkeys((copies, 1)):
            nbytes = count * counters + rest
            if nbytes <= min(room, COUNT_BYTES) or (passes >= bits // 8 and nbytes <= room):
                return Passes(passes, count, nbytes)
    raise MemoryCeilingError("counters of two bits do not fit", needs=nbytes)


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
    passes : int
        In how many passes.
    copies : int
        Sets of counters, as in `Passes`.

    Examples
    --------
    >>> quantiles = Quantiles(1, np.dtype("u1"), [0.5], passes=1)
    >>> with Workers(1) as workers:
    ...     quantiles.add(np.array([[1], [9], [2], [3]], "u1"), workers)
    >>> quantiles.end_pass(), quantiles.values().tolist()
    (False, [[2.5]])
    """

    def __init__(self, columns: int, dtype: np.dtype[Any], at: Sequence[float], passes: int, copies: int = 1) -> None:
        self._dtype, self._at = dtype, list(at)
        self._bits = 8 * dtype.itemsize
        self._sign = np.uint64(0 if dtype.kind in "bu" else 1 << (self._bits - 1))
        unsigned = np.dtype(f"u{dtype.itemsize}")
        self._infinity = np.uint64(np.array([np.inf], dtype).view(unsigned)[0] if dtype.kind == "f" else 0)
        self._widths = digits(self._bits, passes)
        self._left = self._bits
        targets = 2 * len(self._at)
        self._prefixes, self._slots = np.zeros((columns, targets), np.uint64), np.ones(columns, np.int64)
        self._targets, self._ranks = np.zeros((columns, targets), np.uint64), np.zeros((columns, targets), np.int64)
        self._slot_of = np.zeros((columns, targets), np.int64)
        self._counts = np.zeros((copies, columns, targets, 1 << self._widths[0]), np.int64)
        self._present = np.zeros((copies, columns), np.int64)
        self.count = np.zeros(columns, np.int64)
        """Values of each column that are not NaN; known after the first pass."""

    def add(self, rows: Array, workers: Workers) -> None:
        """Count one digit of the rows."""
        bits, width = rows.view(f"u{self._dtype.itemsize}"), self._widths[0]
        apart = len(self._counts) >= workers.threads  # each worker has its own, so that rows can be shared out

        def add(task: tuple[slice, int], worker: int) -> None:
            part, first = task
            copy = worker if apart else 0
            kernels.count_digits(
                bits[part], first, min(first + COLUMNS, rows.shape[1]), self._sign, self._infinity, np.uint64(width),
                np.uint64(self._left - width), self._prefixes, self._slots, self._counts[copy], self._present[copy],
            )  # fmt: skip

        workers.run(add, _tasks(len(rows), rows.shape[1], apart))

    def end_pass(self) -> bool:
        """Find one digit of each order statistic; say whether another pass is needed."""
        if self._left == self._bits:
            self.count = self._present.sum(0)
            last = np.maximum(self.count - 1, 0)
            for t, place in enumerate(self._places()):
                self._ranks[:, 2 * t] = np.floor(place)
                self._ranks[:, 2 * t + 1] = np.minimum(np.floor(place) + 1, last)
            self._slots[self.count == 0] = 0
        width = self._widths.pop(0)
        for copy in self._counts[1:]:
            self._counts[0] += copy
        kernels.narrow(
            self._counts[0], np.uint64(width), self._ranks, self._targets, self._prefixes, self._slots, self._slot_of
        )
        self._left -= width
        if self._widths:
            self._counts[:] = 0
        return bool(self._widths)

    def _places(self) -> list[Array]:
        """Where each quantile lies among the values in order, for each column."""
        return [fraction * np.maximum(self.count - 1, 0) for fraction in self._at]

    def values(self) -> Array:
        """The quantiles after the last pass, float64 of shape (quantiles, columns); NaN for a column without values."""
        statistics, found = self._numbers(), np.empty((len(self._at), len(self.count)))
        for t, place in enumerate(self._places()):
            found[t] = _between(statistics[:, 2 * t], statistics[:, 2 * t + 1], place - np.floor(place))
        found[:, self.count == 0] = np.nan
        return found

    def _numbers(self) -> Array:
        """The order statistics as float64."""
        bits = self._targets ^ self._sign
        if self._infinity:
            bits = np.where(self._targets & self._sign, bits, ~self._targets)
        values: Array = bits.astype(f"u{self._dtype.itemsize}").view(self._dtype).astype(np.float64)
        return values + 0.0


def digits(bits: int, passes: int) -> list[int]:
    """Widths of digits, the widest first.

    Examples
    --------
    >>> digits(32, 3)
    [11, 11, 10]
    """
    return [bits // passes + (place < bits % passes) for place in range(passes)]


def _tasks(rows: int, columns: int, apart: bool) -> Iterator[tuple[slice, int]]:
    """Rows, and the first column of what a worker counts; all rows where workers share their counters."""
    step = max(1, PIECE_VALUES // max(1, min(COLUMNS, columns)) if apart else rows)
    for start in range(0, rows, step):
        for first in range(0, columns, COLUMNS):
            yield slice(start, start + step), first


def _between(low: Array, high: Array, part: Array) -> Array:
    """Part of the way from low to high, exact at both ends."""
    with np.errstate(invalid="ignore", over="ignore"):
        step = high - low
        found: Array = np.where(part < 0.5, low + step * part, high - step * (1 - part))
    return np.where((part == 0) | (low == high), low, found)
