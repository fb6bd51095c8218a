"""Histograms with NumPy's meaning, of arrays of any size: the same edges, and the same counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpipe.counting.bins import Bins
from mlpipe.counting.counted import Entries
from mlpipe.counting.edges import EdgesLearner, known_bins, learning_bytes
from mlpipe.counting.facts import Groups
from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.kernels.histogram import COPIES
from mlpipe.link import Array
from mlpipe.measure.host import processors
from mlpipe.measure.sizes import format_size
from mlpipe.workers import Workers

TASK_VALUES = 1 << 17
FEW_BINS = 1 << 11
"""Up to so many bins, each has several counters."""

BIN_BYTES = 56
"""What a bin takes besides counters: its edge, and steps on the way to it."""

RULE_BINS = 1 << 13
"""So many bins have to fit where a rule makes them: nobody knows how many before all values were seen."""

PIECE_ROWS = 1 << 16
SMALL = 1 << 16
"""Values below which starting threads costs more than it brings."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """A table of bins: from where, to where (the last one inclusive), and how many values.

    Parameters
    ----------
    counts : ndarray, shape (bins,)
        Values in each bin, or the sum of their weights.
    edges : ndarray, shape (bins + 1,)
        Where bins begin and end.
    missing : int
        How many values are NaN; they are in no bin.
    outside : int
        How many others are in no bin.
    why : str
        Where the edges come from.
    """

    counts: Array
    edges: Array
    missing: int
    outside: int
    why: str
    method: str = "bins"
    spilled_bytes: int = 0

    @property
    def distinct(self) -> int:
        """Number of bins."""
        return len(self.counts)

    @property
    def total(self) -> int | float:
        """Sum of all counts."""
        total = self.counts.sum().item()
        return float(total) if self.counts.dtype.kind == "f" else int(total)

    def by_value(self) -> Iterator[Entries]:
        """Lower edges, upper edges and counts, in pieces."""
        for start in range(0, len(self.counts), PIECE_ROWS):
            stop = min(start + PIECE_ROWS, len(self.counts))
            keys = (self.edges[start:stop], self.edges[start + 1 : stop + 1])
            yield Entries(keys, self.counts[start:stop])

    def close(self) -> None:
        """Nothing is left behind."""


class HistogramCounter:
    """Counts values in bins, after as many passes over them as it takes to know the bins.

    While `learning`, all values go through `learn`, and `learned` ends the pass. Then all go through `add`, once.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the values: bool, integers or floats of at most 64 bits.
    bins : int or str
        How many bins of equal width, or a rule of `numpy.histogram_bin_edges`; ``stone`` is not one for streams.
    edges : array_like, optional
        Where bins begin and end; instead of a number and a range.
    range : tuple of (float, float), optional
        First and last edge; from the smallest to the largest value when not given. What is outside is not counted.
    threads : int
        How many count at once, at most.
    room : int
        Bytes it may hold, besides `SCRATCH_BYTES` of `mlpipe.counting.edges` for each thread while it learns.
    weights : numpy.dtype, optional
        Of the weights that come along, if they do.

    Raises
    ------
    UsageError
        For bins, edges and ranges that make no sense.
    InputError
        For other dtypes; and, at the end of a pass, for values that give no range, or too many bins for it.
    MemoryCeilingError
        When counters do not fit the room.

    Examples
    --------
    >>> counter = HistogramCounter(np.dtype("f8"), bins=2, threads=1, room=1 << 24)
    >>> values = np.array([0.0, 0.5, 1.5, 2.0])
    >>> with Workers(1) as workers:
    ...     while counter.learning:
    ...         counter.learn(values, workers)
    ...         _ = counter.learned()
    ...     counter.add(values, workers)
    ...     table = counter.finish(workers)
    >>> table.counts.tolist(), table.edges.tolist()
    ([2, 2], [0.0, 1.0, 2.0])
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        *,
        bins: int | str = 10,
        edges: npt.ArrayLike | None = None,
        range: tuple[Any, Any] | None = None,  # noqa: A002 - as numpy.histogram has it
        threads: int = 1,
        room: int,
        weights: np.dtype[Any] | None = None,
    ) -> None:
        _check_dtypes(dtype, weights)
        self._dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        self._weights = weights
        self._threads, self._room = threads, room
        self._learner: EdgesLearner | None = None
        self._why = ""
        if isinstance(bins, str) and edges is None and weights is not None:
            raise UsageError(f"bins {bins!r} does not go with weights; give a number of bins, or edges")
        if edges is not None:
            self._check_room(np.size(edges) - 1)
        elif isinstance(bins, int):
            self._check_room(bins)
        found = known_bins(self._dtype, bins, edges, range)
        if found is not None:
            self._begin(found, "edges as given" if edges is not None else f"{found.number} in the range given")
            return
        if isinstance(bins, str):
            self._check_room(RULE_BINS, learning_bytes(self._dtype, bins, threads, small=True))
        small = learning_bytes(self._dtype, bins, threads) > room
        self._learner = EdgesLearner(self._dtype, bins, range, threads, small=small)

    def _bytes(self, bins: int) -> tuple[int, int]:
        """What so many bins take besides counters, and what one thread's counters take."""
        slots = bins + 2
        if self._weights is None:
            return BIN_BYTES * slots, 8 * slots * (COPIES if bins <= FEW_BINS else 1)
        return BIN_BYTES * slots + Groups.nbytes(self._dtype, np.dtype(np.int64)), 8 * slots

    def _check_room(self, bins: int, learning: int = 0) -> None:
        """Raise MemoryCeilingError if not even one thread can count, or what goes before does not fit."""
        needs = max(sum(self._bytes(bins)), learning)
        if needs > self._room:
            raise MemoryCeilingError(f"a histogram of {bins} bins needs {format_size(needs)}", needs=needs)

    @property
    def passes(self) -> int:
        """Passes before counting, at most."""
        return 0 if self._learner is None else self._learner.passes

    @property
    def learning(self) -> bool:
        """Whether another pass is needed before values are counted."""
        return self._learner is not None

    def learn(self, values: Array, workers: Workers) -> None:
        """Take in values of a pass that comes before counting; NaN and infinite ones raise when it ends."""
        if self._learner is None:
            raise RuntimeError("the bins are known")
        self._learner.add(_flat(values, self._dtype), workers)

    def learned(self) -> bool:
        """End a pass; whether values can now be counted."""
        if self._learner is None:
            raise RuntimeError("the bins are known")
        found = self._learner.finish(most=self._room // (BIN_BYTES + 8) - 2)
        if found is not None:
            asked, self._learner = self._learner.asked, None
            self._begin(
                found, f"{found.number} by the rule {asked}" if isinstance(asked, str) else f"{asked} asked for"
            )
        return found is not None

    def _begin(self, bins: Bins, why: str) -> None:
        """Counters, as many as fit."""
        self._check_room(bins.number)
        fixed, one = self._bytes(bins.number)
        self._bins, self._why, slots = bins, why, bins.number + 2
        self._lanes = min(self._threads, (self._room - fixed) // one)
        self._outside = np.zeros((self._lanes, 2), np.int64)
        if self._weights is None:
            copies = COPIES if bins.number <= FEW_BINS else 1
            self._counts = np.zeros((self._lanes, copies, slots), np.int64)
            return
        kind = np.float64 if self._weights.kind == "f" else np.int64
        self._groups = Groups(self._dtype, np.dtype(kind))
        self._sums = np.zeros((self._lanes, slots), kind)
        self._total = np.zeros(bins.number, self._weights)

    def add(self, values: Array, workers: Workers, weights: Array | None = None) -> None:
        """Count values; those outside all bins are left out."""
        if self._learner is not None:
            raise RuntimeError("the bins are not known yet")
        values = _flat(values, self._dtype)
        if self._weights is not None:
            if weights is None or weights.size != values.size:
                raise InputError(f"{values.size} values need as many weights")
            whole = self._groups.whole(values, weights.reshape(-1).astype(self._sums.dtype, copy=False))
            self._weigh(list(whole), workers)
            return
        starts = iter(range(0, values.size, TASK_VALUES))

        def count(lane: int, _worker: int) -> None:
            for start in starts:  # shared by all lanes: whoever is free takes the next one
                self._bins.count(values[start : start + TASK_VALUES], self._counts[lane])

        workers.run(count, range(min(self._lanes, -(-values.size // TASK_VALUES))))

    def _weigh(self, groups: list[tuple[Array, ...]], workers: Workers) -> None:
        """Add up the weights of each group by itself, and the groups in order: threads do not show."""

        def weigh(task: tuple[int, tuple[Array, ...]], _worker: int) -> None:
            lane, (values, weights) = task
            self._sums[lane] = 0
            self._bins.weigh(values, weights, self._sums[lane], self._outside[lane])

        for start in range(0, len(groups), self._lanes):
            several = groups[start : start + self._lanes]
            workers.run(weigh, enumerate(several))
            for lane in range(len(several)):
                self._total += self._sums[lane, : self._bins.number].astype(self._total.dtype)

    def finish(self, workers: Workers) -> Histogram:
        """The table; no more values may come."""
        bins = self._bins
        if self._weights is None:
            counts = self._counts.sum(axis=(0, 1))
            counts, (outside, missing) = counts[: bins.number], counts[bins.number :].tolist()
        else:
            self._weigh([self._groups.rest()], workers)
            counts, (outside, missing) = self._total, self._outside.sum(axis=0).tolist()
        return Histogram(counts, bins.edges, missing, outside, self._why)

    def close(self) -> None:
        """Give back memory."""
        self.__dict__.pop("_counts", None)
        self.__dict__.pop("_sums", None)


def histogram(
    x: npt.ArrayLike,
    bins: int | str | npt.ArrayLike = 10,
    range: tuple[float, float] | None = None,  # noqa: A002 - as numpy.histogram has it
    weights: npt.ArrayLike | None = None,
    *,
    threads: int | None = None,
) -> tuple[Array, Array]:
    """How many values lie in each bin: `numpy.histogram`, on several threads.

    Parameters
    ----------
    x : array_like
        Values of bool, int or float, of any shape.
    bins : int, str or array_like
        Number of bins of equal width; or the rule for it: ``auto``, ``doane``, ``fd``, ``rice``, ``scott``,
        ``sqrt``, ``stone`` or ``sturges``; or their edges. All bins but the last are without their upper edge.
    range : tuple of (float, float), optional
        First and last edge; the smallest and the largest value when not given. What is outside is not counted.
    weights : array_like, optional
        What each value counts, of the shape of `x`.
    threads : int, optional
        Threads that count; as many as there are processors for this process when not given.

    Returns
    -------
    counts : ndarray, shape (bins,)
        int64, or of the dtype of the weights.
    edges : ndarray, shape (bins + 1,)
        Where bins begin and end.

    Raises
    ------
    UsageError
        For bins or a range that make no sense.
    InputError
        For values or weights that are no numbers or do not fit each other, NaN or infinite values without a range,
        and bins that are too narrow for the type of the edges.

    Notes
    -----
    Edges and counts are those of NumPy, 2.4, with these exceptions. Means and deviations are added up more precisely,
    so that ``scott`` and ``doane`` may make one bin more or less where the width they ask for divides the range to the
    last digits, and other numbers of bins of float16, in which NumPy's sums overflow; nor do quartiles of int8. Bins
    among a few thousand subnormal numbers are counted by their edges, which NumPy's counts contradict there. Integer
    weights are added up as integers. Between edges that are given, float weights are equal up to rounding.

    Examples
    --------
    >>> histogram([1, 2, 1, 4], bins=3)
    (array([2, 1, 1]), array([1., 2., 3., 4.]))
    >>> histogram([1, 2, 1], bins=[0, 1, 2, 3])
    (array([0, 2, 1]), array([0, 1, 2, 3]))
    """
    values, weighted = np.asarray(x), None if weights is None else np.asarray(weights)
    if weighted is not None and weighted.shape != values.shape:
        raise InputError(f"weights have shape {weighted.shape}, values {values.shape}")
    given: dict[str, Any] = {"bins": bins} if isinstance(bins, str) or np.ndim(bins) == 0 else {"edges": bins}
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).reshape(-1)
    if isinstance(bins, str) and bins == "stone":
        given = _stone(values, range, weighted)
    kinds = None if weighted is None else weighted.dtype.newbyteorder("=")
    with Workers(1 if values.size < SMALL else threads or processors()) as workers:
        counter = HistogramCounter(
            values.dtype, **given, range=range, threads=workers.threads, room=1 << 62, weights=kinds
        )
        while counter.learning:
            counter.learn(values, workers)
            counter.learned()
        counter.add(values, workers, weighted)
        table = counter.finish(workers)
    return table.counts, table.edges


def _check_dtypes(dtype: np.dtype[Any], weights: np.dtype[Any] | None) -> None:
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"a histogram takes bool, integers and floats of at most 64 bits, not {dtype.name}")
    if weights is not None and (weights.kind not in "biuf" or weights.itemsize > 8):
        raise InputError(f"weights must be integers or floats of at most 64 bits, not {weights.name}")


def _flat(values: Array, dtype: np.dtype[Any]) -> Array:
    """Values in one row; bool as the numbers 0 and 1."""
    values = values.reshape(-1)
    return values.view(dtype) if values.dtype.kind == "b" else values


def _stone(values: Array, ends: tuple[float, float] | None, weights: Array | None) -> dict[str, Any]:
    """The number of bins that this rule, which needs many histograms of the same values, wants: NumPy's own."""
    if weights is not None:
        raise UsageError("bins 'stone' does not go with weights; give a number of bins, or edges")
    counter = HistogramCounter(values.dtype, bins=1, range=ends, room=1 << 62)  # refuses what has no bins
    with Workers(1) as workers:
        while counter.learning:
            counter.learn(values, workers)
            counter.learned()
    values = values.view(np.uint8) if values.dtype.kind == "b" else values
    return {"bins": len(np.histogram_bin_edges(values, "stone", ends)) - 1}
