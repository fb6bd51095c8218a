"""Counting of values of up to 64 bits, in a bounded room, by the method that a first look at them suggests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlpipe.counting.counted import Entries
from mlpipe.counting.dense import FEW, MOST_SPAN, Bits, Dense
from mlpipe.counting.keys import bits_of, check_dtype, from_keys, is_narrow, nan_key, to_keys, values_of_bits, wide_of
from mlpipe.counting.partitions import SAMPLE, Partitions, Room
from mlpipe.counting.results import Results
from mlpipe.counting.weighing import Scale
from mlpipe.errors import MemoryCeilingError
from mlpipe.kernels.counting import present
from mlpipe.link import Array
from mlpipe.workers import Workers

MIB = 1 << 20

LEAST_BYTES = 2 * MIB
LEAST_THREAD_BYTES = MIB
"""With less, partitions on the disk would be read and written a few keys at a time."""

DEFAULT_BYTES = 1 << 30
"""Room where neither a limit nor the number of values is known."""

FIRST = 1 << 16
"""Values to wait for before a method is chosen."""

SPARSE = 4
"""Counters pay as long as there are no more than so many for each value."""


class Tally:
    """Counts values of one dtype: bool, integers, or floats of up to 64 bits.

    Parameters
    ----------
    dtype : dtype
        Of the values.
    room : int, optional
        Bytes to hold, tables and buffers included; None for as many as `rows` take.
    threads : int
        Workers there will be at most.
    directory : str
        Where temporary files go.
    rows : int, optional
        How many values will come, if known.
    weights : dtype, optional
        Of the weights, int64 or float64; without it, values are counted.

    Raises
    ------
    UsageError
        For other dtypes.
    MemoryCeilingError
        If the room is too small.

    Examples
    --------
    >>> with Workers(1) as workers:
    ...     tally = Tally(np.dtype(np.int64), room=8 << 20, threads=1, directory=".")
    ...     tally.add(np.array([3, -1, 3]), workers)
    ...     counted = tally.finish(workers)
    >>> [(entries.keys[0].tolist(), entries.counts.tolist()) for entries in counted.by_value()]
    [([-1, 3], [1, 2])]
    >>> counted.method
    'dense'
    """

    def __init__(
        self,
        dtype: np.dtype,
        *,
        room: int | None,
        threads: int,
        directory: str,
        rows: int | None = None,
        weights: np.dtype | None = None,
    ) -> None:
        self._dtype = check_dtype(np.dtype(dtype))
        if room is not None and room < self.least(self._dtype, threads):
            raise MemoryCeilingError(
                f"{room} bytes are too few to count {self._dtype} with {threads} threads",
                needs=self.least(self._dtype, threads),
            )
        if room is None and rows is None:
            room = DEFAULT_BYTES
        self._room, self._threads, self._directory, self._rows = room, threads, directory, rows
        self._bits: Bits | None = None
        self._dense: Dense | None = None
        self._parts: Partitions | None = None
        self._scale = Scale(weights) if weights is not None else None
        if is_narrow(self._dtype) and weights is None:
            self._bits = Bits(8 * self._dtype.itemsize, threads)
        self._waiting: list[tuple[Array, Array | None]] = []
        self._taken = self._missing = 0
        self._why = "no values"

    @staticmethod
    def least(dtype: np.dtype, threads: int) -> int:
        """The smallest room that works."""
        return LEAST_BYTES + LEAST_THREAD_BYTES * threads

    def add(self, values: Array, workers: Workers, weights: Array | None = None) -> None:
        """Take in a flat, C-contiguous array, which may be reused afterwards; and its weights, given always or never.

        Raises
        ------
        InputError
            For a weight that is negative, NaN or infinite.
        """
        if self._scale is not None and weights is not None:
            weights = self._scale.check(weights, self._taken)
            self._missing += int(np.count_nonzero(np.isnan(values))) if self._dtype.kind == "f" else 0
        self._taken += len(values)
        if self._bits is not None:
            self._bits.add(bits_of(values), workers)
            return
        values = values.astype(wide_of(self._dtype), copy=False)
        if self._dense is None and self._parts is None:
            waiting = sum(len(held) for held, _ in self._waiting) + len(values)
            if waiting < FIRST and waiting != self._rows:
                self._waiting.append((values.copy(), None if weights is None else weights.copy()))
                return
            self._begin(values, workers)
        self._take(values, workers, weights)

    def _take(self, values: Array, workers: Workers, weights: Array | None) -> None:
        left = [(0, len(values))]
        if self._dense is not None:
            left = self._dense.add(values, workers)
            if left:
                self._outgrown(values)
        if self._parts is not None:
            for start, stop in left:
                self._parts.add(values[start:stop], workers, None if weights is None else weights[start:stop])

    def _begin(self, values: Array, workers: Workers) -> None:
        """Choose a method by a look at the first values, and take in those that waited."""
        waiting, self._waiting = self._waiting, []
        looked = _some([*(held for held, _ in waiting), values])
        if len(looked):
            keys = to_keys(looked)
            self._choose(keys, int(keys.min()), int(keys.max()))
        for held, weights in waiting:
            self._take(held, workers, weights)

    def _choose(self, keys: Array, low: int, high: int) -> None:
        """Counters for a short range of integers, else partitions."""
        span = high - low + 1
        first, last = from_keys(np.array([low, high], np.uint64), self._dtype)
        text = f"{first}..{last}"
        most = self._most_span
        if self._dtype.kind != "f" and self._scale is None and span <= most:
            self._dense = Dense(low, high, most, self._threads)
            self._why = f"range {text} needs {_bytes(4 * span)} of counters"
            return
        self._why = f"range {text} is too wide for counters"
        if self._dtype.kind == "f":
            self._why = "floats, each hashed"
        if self._scale is not None:
            self._why = "weights add up in the order of their rows"
        self._parts = self._partitions(keys)

    @property
    def _most_span(self) -> int:
        """The widest range that is worth counters."""
        rows = self._rows if self._rows is not None else MOST_SPAN
        room = MOST_SPAN if self._room is None else self._room // 64 // self._threads
        return max(FEW, min(MOST_SPAN, SPARSE * rows, room))

    def _partitions(self, keys: Array) -> Partitions:
        return Partitions(
            keys, room=Room.of(self._room), threads=self._threads, directory=self._directory, rows=self._rows,
            weights=None if self._scale is None else self._scale.dtype,
        )  # fmt: skip

    def _outgrown(self, values: Array) -> None:
        """Go on with partitions, and with what was counted so far."""
        assert self._dense is not None  # noqa: S101 - that is what has outgrown
        keys, counts = _present(*self._dense.total())
        self._dense = None
        self._parts = self._partitions(np.concatenate([to_keys(_some([values])), _some([keys])]))
        self._parts.loose.append((keys, counts))
        self._why = "the range became too wide for counters"

    def finish(self, workers: Workers, *, in_order: bool = True) -> Finished:
        """The table of all that came in; by value unless nobody wants that."""
        if self._waiting:
            self._begin(np.empty(0, wide_of(self._dtype)), workers)
        results = Results(1 << 62 if self._room is None else self._room // 8, self._directory)
        method = "dense"
        total: int | float = self._taken if self._scale is None else self._scale.total
        if self._bits is not None:
            values, counts = values_of_bits(self._bits.total(), self._dtype)
            results.put((0,), to_keys(values.astype(wide_of(self._dtype))), counts)
            self._why = f"{1 << (8 * self._dtype.itemsize)} values are all there can be"
        elif self._dense is not None:
            results.put((0,), *_present(*self._dense.total()))
        elif self._parts is not None:
            self._parts.finish(results, workers, in_order=in_order)
            method = "partitions on disk" if self._parts.spilled_bytes else "partitions"
        spilled = results.spilled + (self._parts.spilled_bytes if self._parts else 0)
        missing = None if self._scale is None else self._missing
        self.close()
        return Finished(self._dtype, results, total, method, self._why, spilled, missing)

    def close(self) -> None:
        """Give back memory and files; harmless when repeated."""
        if self._parts is not None:
            self._parts.close()
        self._dense = self._bits = self._parts = None
        self._waiting = []


class Finished:
    """A table of counts, as `mlpipe.counting.counted.Counted` describes it."""

    def __init__(
        self,
        dtype: np.dtype,
        results: Results,
        total: int | float,
        method: str,
        why: str,
        spilled: int,
        missing: int | None,
    ) -> None:
        self._dtype, self._results = dtype, results
        self.distinct, self.total, self.method, self.why, self.spilled_bytes = results.rows, total, method, why, spilled
        last = results.last() if missing is None else None  # weights do not say how many there were
        found = int(last[1]) if last is not None and last[0] == nan_key(wide_of(dtype)) else 0
        self.missing: int = found if missing is None else missing

    def by_value(self) -> Iterator[Entries]:
        """The table in bounded pieces, ascending, NaN last; once."""
        for keys, counts in self._results.pieces():
            kind = np.float64 if counts.dtype.kind == "f" else np.int64
            yield Entries((from_keys(keys, self._dtype),), counts.astype(kind, copy=False))

    def held(self) -> list[tuple[Array, Array]]:
        """Keys and counts of all pieces, if there was room for them in memory."""
        return self._results.whole()

    def close(self) -> None:
        """Give back memory and files; harmless when repeated."""
        self._results.close()


def _some(blocks: list[Array]) -> Array:
    """A sample of some blocks, even over all they hold."""
    count = sum(map(len, blocks))
    step = max(1, count // max(SAMPLE // 16, min(SAMPLE, count // 16)))
    return np.concatenate([block[::step] for block in blocks])


def _present(low: int, counts: Array) -> tuple[Array, Array]:
    """Keys and counts of the counters that are not 0."""
    found = int(np.count_nonzero(counts))
    keys, held = np.empty(len(counts), np.uint64), np.empty(len(counts), np.int64)
    present(counts, np.uint64(low), keys, held)
    return keys[:found], held[:found]


def _bytes(count: int) -> str:
    """Bytes for people."""
    return f"{count} B" if count < 1024 else f"{count >> 10} KB" if count < MIB else f"{count >> 20} MB"
