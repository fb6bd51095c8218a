"""All rows of data within a radius of some queries, whatever the metric: counted, or collected.

Data come piece by piece, and tiles of distances are looked through while they are in the cache. What is collected goes
into a buffer of each thread. A full buffer keeps the half that comes first in the order of all hits (by query,
distance, row), and nobody takes in anything after that any more; so a pass over the data yields the first hits of that
order, as many as there is room for, and the next pass goes on from there. So any room will do, even for one query with
more hits than that, and one pass does where there is room for all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.errors import UsageError
from mlpipe.kernels.distances import distances
from mlpipe.kernels.nearest import from_keys
from mlpipe.kernels.within import (
    collect_within,
    count_within,
    distribute,
    drop_after,
    keep_first,
    sort_hits,
    tally,
)
from mlpipe.link import Array
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import Pairing, Panels, Rows
from mlpipe.workers import Workers

TILE_ROWS = 256
TILE_COLUMNS = 512
"""Distances that are computed, and then looked through, at once: half a MiB of the second-level cache."""

TASK_TILES = 16

LEAST_HITS = 1 << 15
"""Of a thread's buffer: with less there would be many passes. Half of it has to hold what a row of a tile may add."""

SORTED_HITS = 1 << 16
"""That one task puts in order, or those of one query."""

NOBODY = -(1 << 62)
"""Where the queries would be in the data if they were part of it."""

_LAST = np.iinfo(np.int64).max

Take = Callable[[Array, int, int, int], None]


def check_radius(radius: float, measure: Measure) -> None:
    """Raise UsageError for a radius that nothing, or anything, could lie within.

    Examples
    --------
    >>> check_radius(-1.0, Measure("euclidean"))
    Traceback (most recent call last):
    mlpipe.errors.UsageError: radius -1.0: euclidean is never below 0; give 0 or more
    """
    name = measure.definition.name
    if np.isnan(radius):
        raise UsageError(f"radius {radius}: nothing can be compared with it; give a number")
    if radius < 0 and name != "dot":
        raise UsageError(f"radius {radius}: {name} is never below 0; give 0 or more")


def plain(radius: float) -> float | None:
    """The radius as JSON has it, which knows no infinity."""
    return radius if np.isfinite(radius) else None


def rounded(radius: float, dtype: np.dtype[Any]) -> Any:
    """The radius as distances are compared with it: in their precision, as NumPy does with a number of Python's."""
    with np.errstate(over="ignore"):
        return dtype.type(radius)


def within(values: Array, radius: float, *, largest: bool = False) -> Array:
    """Which distances lie within; NaN never does.

    Examples
    --------
    >>> within(np.array([1.0, 2.0, np.nan]), 1.0).tolist()
    [True, False, False]
    """
    limit = rounded(radius, values.dtype)
    found: Array = values >= limit if largest else values <= limit
    return found


class Tiles:
    """Distances of rows to packed queries, tile after tile, by the workers.

    Parameters
    ----------
    pairing : Pairing
        The metric.
    workers : Workers
        Who computes.
    """

    def __init__(self, pairing: Pairing, workers: Workers) -> None:
        self.pairing, self.workers = pairing, workers
        self.scratch = pairing.scratch(workers.threads)
        self._wide = max(1, TILE_COLUMNS // pairing.width)  # panels of a tile
        size = TILE_ROWS * self._wide * pairing.width
        self._tiles = [aligned_empty((size,), pairing.dtype) for _ in range(workers.threads)]
        self._nothing = np.empty((0, 0), pairing.dtype)  # no mirror

    @property
    def columns(self) -> int:
        """Of a tile, at most."""
        return self._wide * self.pairing.width

    def each(self, rows: Rows, panels: Panels, left: int, right: int, take: Take) -> None:
        """Call ``take(tile, row, column, worker)`` for tiles of all rows and the panels left … right.

        Tiles come in any order, several at once, and each is overwritten by the next one of its worker.
        """
        count, threads = len(rows.values), self.workers.threads
        groups = [(start, min(start + self._wide, right)) for start in range(left, right, self._wide)]
        spread = -(-4 * threads // max(1, len(groups)))
        step = max(TILE_ROWS, min(TASK_TILES * TILE_ROWS, -(-count // spread)))
        tasks = ((start, min(count, start + step), *group) for start in range(0, count, step) for group in groups)

        def run(task: tuple[int, int, int, int], worker: int) -> None:
            begin, end, first, stop = task
            for start in range(begin, end, TILE_ROWS):
                top = min(end, start + TILE_ROWS)
                take(self.tile(rows, start, top, panels, first, stop, worker), start, first * self._width, worker)

        self.workers.run(run, tasks)

    @property
    def _width(self) -> int:
        return self.pairing.width

    def tile(self, rows: Rows, start: int, stop: int, panels: Panels, left: int, right: int, worker: int) -> Array:
        """Distances of a few rows to a few panels, in the memory of a worker."""
        pairing, (staged, sums) = self.pairing, self.scratch[worker]
        column = left * self._width
        columns = min(right * self._width, panels.columns) - column
        tile = self._tiles[worker][: (stop - start) * columns].reshape(-1, columns)
        distances(
            pairing.metric, rows.values, rows.status, start, stop, panels.values, panels.status, left, right,
            panels.columns, pairing.weights, pairing.constants, pairing.shape, staged, sums, tile, 0, -column,
            self._nothing, 0, 0, 0,
        )  # fmt: skip
        return tile


class Counting:
    """Counts the rows of data that lie within a radius of each of some queries.

    Parameters
    ----------
    tiles : Tiles
        Who computes.
    panels : Panels
        The queries, packed.
    radius : float
        How far, or how near at least.
    largest : bool
        Whether values from the radius up lie within, and not those up to it.
    own : int, optional
        Index in the data of the first query, if queries are rows of the data, which do not count themselves.
    """

    def __init__(
        self, tiles: Tiles, panels: Panels, radius: float, *, largest: bool = False, own: int | None = None
    ) -> None:
        self._tiles, self._panels, self._largest = tiles, panels, largest
        self._radius, self._own = rounded(radius, tiles.pairing.dtype), NOBODY if own is None else own
        self._counts = np.zeros((tiles.workers.threads, panels.columns), np.int64)
        self._few = np.empty((tiles.workers.threads, tiles.columns), np.int32)

    def add(self, rows: Rows, first: int) -> None:
        """Take in prepared rows of data; `first` is the index of the first."""

        def take(tile: Array, row: int, column: int, worker: int) -> None:
            count_within(
                tile, first + row, column, self._own, self._radius, self._largest, self._few[worker],
                self._counts[worker],
            )  # fmt: skip

        self._tiles.each(rows, self._panels, 0, self._panels.count, take)

    def finish(self) -> Array:
        """How many there are of each query; int64, shape (queries,)."""
        found: Array = self._counts.sum(axis=0)
        return found


class Buffer(NamedTuple):
    """Hits on their way: queries, places and keys."""

    queries: Array
    places: Array
    keys: Array


class Sorted(NamedTuple):
    """Hits in order: places, keys, and the memory of the keys as distances."""

    places: Array
    keys: Array
    distances: Array


def hit_bytes(itemsize: int) -> int:
    """Bytes that a hit takes in a `Buffer`, and then in order."""
    return 4 + 8 + itemsize + 8 + itemsize


def empty_buffers(threads: int, capacity: int, dtype: np.dtype[Any]) -> list[Buffer]:
    """A buffer for each thread, of so many hits."""
    kind = np.dtype(f"i{dtype.itemsize}")
    return [
        Buffer(*(aligned_empty((capacity,), each) for each in (np.dtype(np.int32), np.dtype(np.int64), kind)))
        for _ in range(threads)
    ]


def empty_sorted(capacity: int, dtype: np.dtype[Any]) -> Sorted:
    """Memory for so many hits in order."""
    keys = aligned_empty((capacity,), np.dtype(f"i{dtype.itemsize}"))
    return Sorted(aligned_empty((capacity,), np.dtype(np.int64)), keys, keys.view(dtype))


class Found(NamedTuple):
    """What a pass over the data yielded.

    Parameters
    ----------
    first : int
        The first query.
    bounds : ndarray of int64
        Where the hits begin of each query from there on, and where the last ones end.
    complete : int
        How many of these queries have no further hits.
    distances, indices : ndarray, shape (hits,)
        By query, distance and index.
    """

    first: int
    bounds: Array
    complete: int
    distances: Array
    indices: Array


class Collecting:
    """Collects the rows of data that lie within a radius of some queries, in as many passes as the room asks for.

    Parameters
    ----------
    tiles, panels, radius, largest, own
        As for `Counting`.
    buffers : list of Buffer
        One for each worker, each for `LEAST_HITS` at least.
    """

    def __init__(
        self, tiles: Tiles, panels: Panels, radius: float, buffers: list[Buffer], *, largest: bool = False,
        own: int | None = None,
    ) -> None:  # fmt: skip
        self._tiles, self._panels, self._largest, self._buffers = tiles, panels, largest, buffers
        self._radius, self._own = rounded(radius, tiles.pairing.dtype), NOBODY if own is None else own
        self._counts = [0] * len(buffers)
        self._first, self._some = 0, panels.columns  # the first query of a pass, and how many it tries
        self._lower = self._upper = np.array([-1, 0, 0])
        self._lock = threading.Lock()

    @property
    def done(self) -> bool:
        """Whether all hits of all queries were found."""
        return self._first >= self._panels.columns

    def begin(self) -> None:
        """Start a pass over the data."""
        stop = min(self._panels.columns, self._first + self._some)
        self._upper = np.array([stop - 1, _LAST, _LAST])
        self._counts = [0] * len(self._buffers)

    def add(self, rows: Rows, first: int) -> None:
        """Take in prepared rows of data; `first` is the index of the first."""
        width = self._tiles.pairing.width
        stop = min(self._panels.count, int(self._upper[0]) // width + 1)

        def take(tile: Array, row: int, column: int, worker: int) -> None:
            if column <= self._upper[0]:
                self._take(tile, first + row, column, worker)

        self._tiles.each(rows, self._panels, self._first // width, stop, take)

    def _take(self, tile: Array, first: int, column: int, worker: int) -> None:
        """Take in a tile."""
        buffer, bits, row = self._buffers[worker], tile.view(f"i{tile.itemsize}"), 0
        while True:
            row, self._counts[worker] = collect_within(
                tile, bits, row, first, column, self._own, self._radius, self._largest, self._lower, self._upper,
                *buffer, self._counts[worker],
            )  # fmt: skip
            if row == len(tile):
                return
            self._make_room(worker)

    def _make_room(self, worker: int) -> None:
        """Keep the half of a full buffer that comes first, unless what others left out suffices."""
        buffer, half = self._buffers[worker], len(self._buffers[worker].keys) // 2
        count = drop_after(self._upper, *buffer, self._counts[worker])
        if count > half:
            upper = np.empty(3, np.int64)
            keep_first(*buffer, count, half, upper)
            count = half
            with self._lock:
                if upper.tolist() < self._upper.tolist():
                    self._upper = upper
        self._counts[worker] = count

    def finish(self, memory: Callable[[int], Sorted]) -> Found:
        """What the pass yielded.

        Parameters
        ----------
        memory : callable
            Gives memory for so many hits in order.
        """
        first, upper = self._first, self._upper
        stop = int(upper[0]) + 1
        cut = bool(upper[1] != _LAST)  # by a full buffer
        bounds = np.zeros(stop - first + 1, np.int64)
        for worker, buffer in enumerate(self._buffers):
            self._counts[worker] = drop_after(upper, *buffer, self._counts[worker])
            tally(buffer.queries, self._counts[worker], first, bounds[1:])
        np.cumsum(bounds, out=bounds)
        out, ends = memory(int(bounds[-1])), bounds[:-1].copy()
        for worker, buffer in enumerate(self._buffers):
            distribute(*buffer, self._counts[worker], first, ends, out.places, out.keys)
        self._tiles.workers.run(lambda part, _: self._order(bounds, part, out), _parts(bounds))
        complete = stop - first - cut
        self._some = max(1, 2 * complete) if cut else 2 * self._some
        self._first, self._lower = first + complete, upper if cut else np.array([stop - 1, _LAST, _LAST])
        hits = slice(0, int(bounds[-1]))
        return Found(first, bounds, complete, out.distances[hits], out.places[hits])

    def _order(self, bounds: Array, part: tuple[int, int], out: Sorted) -> None:
        """Put the hits of some queries in order, as distances."""
        sort_hits(bounds, *part, out.keys, out.places)
        hits = slice(int(bounds[part[0]]), int(bounds[part[1]]))
        from_keys(out.keys[hits], self._largest, out.keys[hits])
        out.distances[hits] += 0  # -0 becomes 0


def _parts(bounds: Array) -> Iterator[tuple[int, int]]:
    """Ranges of queries of some `SORTED_HITS` hits each."""
    start, last = 0, len(bounds) - 1
    while start < last:
        stop = int(np.searchsorted(bounds, bounds[start] + SORTED_HITS, "right")) - 1
        stop = min(last, max(start + 1, stop))
        yield start, stop
        start = stop
