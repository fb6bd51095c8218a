"""The k nearest rows of a set to each of some queries, whatever the metric."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.kernels.distances import distances
from mlpipe.kernels.nearest import from_keys, look_through
from mlpipe.link import Array
from mlpipe.stages.pairing import Pairing, Rows
from mlpipe.stages.rounding import Rounding, worth_rounding
from mlpipe.workers import Workers

ROOM = 64
"""Rows that a query's buffer has room for besides the k nearest: it is cut down whenever it is full."""

TILE_ROWS = 256
TILE_COLUMNS = 512
"""Distances that are computed, and then looked through, at once: half a MiB of the second-level cache."""

TASK_TILES = 16

FINISHED = 1 << 18
"""Entries of buffers that are put in order at once."""

NOBODY = -(1 << 62)
"""Where the queries would be in the data if they were part of it."""

Task = tuple[int, int, int, int]


def capacity(k: int) -> int:
    """Rows of a query's buffer."""
    return k + max(ROOM, k)


class Search:
    """Finds the k nearest rows of data for each of some queries; data come piece by piece, in order.

    Equal distances are in the order of the rows. NaN comes last, so that it shows only where there is nothing else.

    Parameters
    ----------
    pairing : Pairing
        The metric.
    queries : ndarray, shape (queries, features)
        In the precision of the computation; kept, and may be overwritten.
    k : int
        How many.
    workers : Workers
        Who computes.
    data_rows : int
        How many rows of data will come, about: what is worth doing depends on it.
    largest : bool
        Whether the largest values are wanted.
    own : int, optional
        Index in the data of the first query, if queries are rows of the data, which are no neighbours of themselves.
    """

    def __init__(
        self, pairing: Pairing, queries: Array, k: int, workers: Workers, data_rows: int, *, largest: bool = False,
        own: int | None = None,
    ) -> None:  # fmt: skip
        self._pairing, self._k, self._workers, self._largest = pairing, k, workers, largest
        self._own = NOBODY if own is None else own
        self._panels = pairing.empty_panels(len(queries))
        prepared = pairing.add(self._panels, queries, workers)
        self._rounding: Rounding | None = None
        if not largest and worth_rounding(pairing, len(queries), data_rows, k):
            self._rounding = Rounding(pairing, prepared, k, workers, self._own)
        # Few queries: every thread has buffers for all of them, and takes its share of the data.
        few = self._panels.count < 2 * workers.threads and self._rounding is None
        self._apart = workers.threads if few else 1
        kind = np.dtype(f"i{pairing.dtype.itemsize}")
        shape = (self._apart, len(queries), capacity(k))
        self._keys, self._places = aligned_empty(shape, kind), aligned_empty(shape, np.int64)
        self._counts = np.zeros(shape[:2], np.int64)
        self._bounds = np.full(shape[:2], np.iinfo(kind).max, kind)
        self._scratch = pairing.scratch(workers.threads)
        self._wide = max(1, TILE_COLUMNS // pairing.width)  # panels of a tile
        size = TILE_ROWS * self._wide * pairing.width
        self._tiles = [aligned_empty((size,), pairing.dtype) for _ in range(workers.threads)]
        self._row_keys = [np.empty(self._wide * pairing.width, kind) for _ in range(workers.threads)]
        self._spare = [np.empty(capacity(k), np.int64) for _ in range(workers.threads)]
        self._nothing = np.empty((0, 0), pairing.dtype)  # no mirror

    def add(self, raw: Array, first: int) -> None:
        """Take in rows of data.

        Parameters
        ----------
        raw : ndarray, shape (rows, features)
            In the precision of the computation; may be overwritten.
        first : int
            Index of the first.
        """
        rows = self._pairing.prepare(raw, self._workers)
        if self._rounding is not None:
            buffers = (self._keys[0], self._places[0], self._counts[0])
            if self._rounding.search(rows, first, buffers):
                return
        for tasks in self._tasks(len(raw)):
            self._workers.run(lambda task, worker: self._direct(rows, first, task, worker), tasks)

    def _direct(self, rows: Rows, first: int, task: Task, worker: int) -> None:
        """All distances of some rows to the queries of some panels, tile after tile."""
        pairing, panels, (staged, sums) = self._pairing, self._panels, self._scratch[worker]
        begin, end, left, right = task
        apart = worker if self._apart > 1 else 0
        column, columns = left * pairing.width, min(right * pairing.width, panels.columns) - left * pairing.width
        for start in range(begin, end, TILE_ROWS):
            stop = min(end, start + TILE_ROWS)
            tile = self._tiles[worker][: (stop - start) * columns].reshape(-1, columns)
            distances(
                pairing.metric, rows.values, rows.status, start, stop, panels.values, panels.status, left, right,
                panels.columns, pairing.weights, pairing.constants, pairing.shape, staged, sums, tile, 0, -column,
                self._nothing, 0, 0, 0,
            )  # fmt: skip
            look_through(
                tile, tile.view(self._keys.dtype), self._row_keys[worker], first + start, column, self._own,
                self._largest, self._k, self._keys[apart], self._places[apart], self._counts[apart],
                self._bounds[apart], self._spare[worker],
            )  # fmt: skip

    def _tasks(self, rows: int) -> Iterator[list[Task]]:
        """Rounds of tasks that may run side by side: no two of one round fill the same buffer."""
        groups = [
            (left, min(left + self._wide, self._panels.count)) for left in range(0, self._panels.count, self._wide)
        ]
        threads = self._workers.threads
        if self._apart > 1:
            step = max(TILE_ROWS, min(TASK_TILES * TILE_ROWS, -(-rows // (4 * threads))))
            yield [(start, min(rows, start + step), *group) for start in range(0, rows, step) for group in groups]
            return
        step = TASK_TILES * TILE_ROWS
        for start in range(0, rows, step):
            yield [(start, min(rows, start + step), *group) for group in groups]

    def finish(self) -> tuple[Array, Array]:
        """Distances and indices of the nearest, both of shape (queries, k), in order."""
        distances = np.empty((self._counts.shape[1], self._k), self._pairing.dtype)
        indices = np.empty(distances.shape, np.int64)
        step = max(1, FINISHED // self._keys.shape[2])

        def run(start: int, _worker: int) -> None:
            part = slice(start, start + step)
            keys, places = self._gathered(part)
            order = in_order(keys, places, self._k)
            found = np.ascontiguousarray(np.take_along_axis(keys, order, 1))
            from_keys(found.reshape(-1), self._largest, distances[part].reshape(-1).view(keys.dtype))
            indices[part] = np.take_along_axis(places, order, 1)

        self._workers.run(run, range(0, len(distances), step))
        return distances, indices

    def _gathered(self, part: slice) -> tuple[Array, Array]:
        """Keys and places of some queries, of all threads; where a buffer is not full, keys that come last."""
        keys, places = self._keys[:, part], self._places[:, part]
        there = np.arange(keys.shape[2]) < self._counts[:, part, None]
        keys = np.where(there, keys, np.iinfo(keys.dtype).max)
        places = np.where(there, places, np.iinfo(np.int64).max)
        count = keys.shape[1]
        return keys.swapaxes(0, 1).reshape(count, -1), places.swapaxes(0, 1).reshape(count, -1)


def in_order(keys: Array, places: Array, k: int) -> Array:
    """Where the k smallest keys of each row are, in order; of equal ones those of smaller places first.

    Examples
    --------
    >>> in_order(np.array([[3, 1, 3, 2]]), np.array([[7, 8, 5, 9]]), 3).tolist()
    [[1, 3, 2]]
    """
    by_place = np.argsort(places, axis=1, kind="stable")
    order = np.argsort(np.take_along_axis(keys, by_place, 1), axis=1, kind="stable")[:, :k]
    found: Array = np.take_along_axis(by_place, order, 1)
    return found
