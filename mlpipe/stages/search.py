"""The k nearest rows of a set to each of some queries, whatever the metric."""

from __future__ import annotations

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.kernels.nearest import finish_queries, search_tiles
from mlpipe.kernels.packing import pack_squares
from mlpipe.kernels.pair_order import HEADS, SHORT
from mlpipe.kernels.picking import BEYOND, GROUP
from mlpipe.link import Array
from mlpipe.stages.pairing import Pairing, Panels, Rows
from mlpipe.stages.rounding import Rounding, worth_rounding
from mlpipe.workers import Workers

ROOM = 64
"""Rows that a query's buffer has room for at least, besides the k nearest: it is cut down whenever it is full."""

TILE_ROWS = 64
TILE_COLUMNS = 1024
"""Distances that are computed, and then looked through, at once: 256 KiB of the second-level cache."""

CHUNK_BYTES = 4 << 20
"""Of rows of data that are packed at once, by all threads, for all queries."""

OWN_BYTES = 1024 << 10
"""The same of data that a thread packs for itself: they stay in its second-level cache."""

PACK_ROWS = 512
LEAST_GROUP = 16
"""Queries that are looked after by one thread at a time, at least."""

NOBODY = -(1 << 62)
"""Where the queries would be in the data if they were part of it."""


def full(k: int) -> int:
    """Entries of a query's buffer after which it is cut down."""
    return k + max(ROOM, k // 2)


def capacity(k: int) -> int:
    """Entries of a query's buffer."""
    return full(k) + GROUP + BEYOND


def chunk_rows(row_bytes: int, width: int, nbytes: int = CHUNK_BYTES) -> int:
    """Rows of data that are packed at once: whole panels, a few tiles at most, and about so many bytes."""
    rows = max(1, nbytes // max(1, row_bytes))
    return -(-min(rows, 8 * TILE_COLUMNS) // width) * width


def few(queries: int, threads: int) -> bool:
    """Whether there are so few queries that every thread takes its share of the data, with buffers for all queries."""
    return queries < 2 * threads * LEAST_GROUP


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
        self._queries = pairing.prepare(queries, workers)
        self._rounding: Rounding | None = None
        if not largest and worth_rounding(pairing, len(queries), data_rows, k):
            self._rounding = Rounding(pairing, self._queries, k, full(k), workers, self._own)
        self._few = self._rounding is None and few(len(queries), workers.threads)
        kind = np.dtype(f"i{pairing.dtype.itemsize}")
        shape = (workers.threads if self._few else 1, len(queries), capacity(k))
        self._keys, self._places = aligned_empty(shape, kind), aligned_empty(shape, np.int64)
        self._counts = np.zeros(shape[:2], np.int64)
        self._bounds = np.full(shape[:2], np.iinfo(kind).max, kind)
        row_bytes = pairing.prepared_features * pairing.compute_dtype.itemsize
        most = chunk_rows(row_bytes, pairing.width, OWN_BYTES if self._few else CHUNK_BYTES)
        self._step = min(most, -(-max(1, data_rows) // pairing.width) * pairing.width)
        self._panels: list[Panels] = []
        self._spare = [np.empty(capacity(k), np.int64) for _ in range(workers.threads)]

    def _prepare_direct(self) -> None:
        """What computing all distances takes; made when first needed."""
        pairing, threads = self._pairing, self._workers.threads
        columns = min(self._step, -(-TILE_COLUMNS // pairing.width) * pairing.width)
        self._panels = [pairing.empty_panels(self._step) for _ in range(threads if self._few else 1)]
        for panels in self._panels:
            panels.values[:] = 0  # what no row fills is computed with, too
        self._scratch = pairing.scratch(threads)
        self._tiles = [aligned_empty((TILE_ROWS, columns), pairing.dtype) for _ in range(threads)]
        self._row_keys = [np.empty(columns + GROUP, self._keys.dtype) for _ in range(threads)]
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
            buffers = (self._keys[0], self._places[0], self._counts[0], self._bounds[0])
            if self._rounding.search(rows, first, buffers):
                return
        if not self._panels:
            self._prepare_direct()
        if self._few:
            step = min(self._step, -(-len(raw) // (4 * self._workers.threads)))
            self._workers.run(
                lambda start, worker: self._share(rows, first, start, min(start + step, len(raw)), worker),
                range(0, len(raw), step),
            )
            return
        for start in range(0, len(raw), self._step):
            self._chunk(rows, first, start, min(start + self._step, len(raw)))

    def _share(self, rows: Rows, first: int, start: int, stop: int, worker: int) -> None:
        """Some rows of data for all queries, into buffers of one thread."""
        panels = self._panels[worker]
        pack_squares(rows.values, start, stop, 0, self._pairing.shape[2], panels.values)
        panels.status[: stop - start], panels.columns = rows.status[start:stop], stop - start
        self._direct(panels, first + start, 0, len(self._queries.values), worker, worker)

    def _chunk(self, rows: Rows, first: int, start: int, stop: int) -> None:
        """Some rows of data for all queries, by all threads."""
        panels, workers = self._panels[0], self._workers
        panels.status[: stop - start], panels.columns = rows.status[start:stop], stop - start
        lanes = self._pairing.shape[2]

        def pack(at: int, _worker: int) -> None:
            pack_squares(rows.values, at, min(at + PACK_ROWS, stop), at - start, lanes, panels.values)

        workers.run(pack, range(start, stop, PACK_ROWS))
        count = len(self._queries.values)
        group = min(TILE_ROWS, max(LEAST_GROUP, -(-count // (4 * workers.threads))))
        workers.run(
            lambda query, worker: self._direct(
                panels, first + start, query, min(query + group, count), worker, 0
            ),
            range(0, count, group),
        )  # fmt: skip

    def _direct(self, panels: Panels, first: int, query: int, stop: int, worker: int, apart: int) -> None:
        """All distances of some queries to the rows in panels."""
        pairing, (staged, sums), tile = self._pairing, self._scratch[worker], self._tiles[worker]
        search_tiles(
            pairing.metric, self._queries.values, self._queries.status, query, stop, panels.values, panels.status,
            panels.columns, pairing.weights, pairing.constants, pairing.shape, staged, sums, tile,
            tile.view(self._keys.dtype), self._nothing, self._row_keys[worker], first, self._own, self._largest,
            self._k, full(self._k), self._keys[apart], self._places[apart], self._counts[apart], self._bounds[apart],
            self._spare[worker],
        )  # fmt: skip

    def finish(self) -> tuple[Array, Array]:
        """Distances and indices of the nearest, both of shape (queries, k), in order."""
        count, kind = self._counts.shape[1], self._keys.dtype
        distances, indices = np.empty((count, self._k), self._pairing.dtype), np.empty((count, self._k), np.int64)
        size = self._keys.shape[0] * self._keys.shape[2]
        threads = self._workers.threads
        scratch = [
            (np.empty(size, kind), np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, kind),
             np.empty(HEADS + 1, np.int32), np.empty((size // SHORT + 2, 2), np.int64))
            for _ in range(threads)
        ]  # fmt: skip
        step = max(1, -(-count // (8 * threads)))

        def run(start: int, worker: int) -> None:
            finish_queries(
                start, min(start + step, count), self._k, self._largest, self._keys, self._places, self._counts,
                *scratch[worker], distances.view(kind), indices,
            )  # fmt: skip

        self._workers.run(run, range(0, count, step))
        return distances, indices
