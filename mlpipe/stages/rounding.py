"""Searching by rows rounded to 8 bits: most rows are proven to be far without computing their distance.

See `mlpipe.kernels.bytewise` for the proof, and `mlpipe.kernels.near` for the search.
"""

from __future__ import annotations

import math

import numpy as np

from mlpipe.kernels.bytewise import (
    LARGEST,
    MOST_FEATURES,
    QUAD,
    ROWS,
    SHIFT,
    UNBOUNDED,
    WIDTH,
    available,
    pack_quads,
    quantize,
)
from mlpipe.kernels.near import search_near
from mlpipe.kernels.pairs import HALF, ROOT, SQUARE
from mlpipe.link import Array
from mlpipe.stages.pairing import Pairing, Rows
from mlpipe.workers import Workers

KINDS = {"euclidean": ROOT, "sqeuclidean": SQUARE, "unit": HALF}
"""Kernels of squared differences, and what becomes of the sum."""

LEAST_QUERIES = 64
"""For fewer, rounding the data takes as long as computing the distances."""

ROOM = 256
"""Candidates of a query for which there is room at least; not fewer than one tile of registers may add, which is 64."""

TASK_QUERIES = 256
STEP_ROWS = 4096
"""Rows that are rounded at once."""


def worth_rounding(pairing: Pairing, queries: int, data_rows: int, k: int) -> bool:
    """Whether rounded rows are expected to save time.

    The more are wanted of how many there are, the more distances have to be computed after all, one by one: with
    128 features and 5000 rows, k = 10 takes 0.54 of the time of computing all distances, k = 100 takes 1.2.
    """
    return (
        pairing.metric.key in KINDS
        and available()
        and queries >= LEAST_QUERIES
        and 1 <= pairing.prepared_features <= MOST_FEATURES
        and k * (100 + pairing.prepared_features // 4) <= data_rows
    )


class Rounding:
    """Takes blocks of data into the buffers of a search, by way of rounded rows.

    Parameters
    ----------
    pairing : Pairing
        One of `KINDS`.
    queries : Rows
        Prepared.
    k : int
        How many neighbours are wanted.
    workers : Workers
        Who computes.
    own : int
        Query q is row own + q of the data.
    """

    def __init__(self, pairing: Pairing, queries: Rows, k: int, workers: Workers, own: int) -> None:
        self._queries, self._k, self._workers, self._own = queries, k, workers, own
        self._dtype, self._how = pairing.dtype, KINDS[pairing.metric.key]
        features, count = pairing.prepared_features, len(queries.values)
        self._bytes = -(-features // QUAD) * QUAD
        self._finite = bool(np.isfinite(queries.values).all() and np.isfinite(queries.status).all())
        self._rounded = np.full((count, self._bytes), SHIFT, np.uint8)
        self._norms, self._moved = np.empty(count, np.int32), np.empty(count)
        # By how much a computed distance may be off, relatively: sums of 32 terms, and sums of these, twice over;
        # and besides, where squares are too small for their digits.
        single = self._dtype == np.float32
        self._slack = np.array([(64 + features / 32) * (2.0**-23 if single else 2.0**-52),
                                math.sqrt(features) * (2.0**-73 if single else 2.0**-536)])  # fmt: skip
        groups = -(-count // (8 * workers.threads))
        self._group = max(ROWS, min(TASK_QUERIES, -(-groups // ROWS) * ROWS))
        room = max(ROOM, 4 * k) + WIDTH
        self._near = [self._candidates(room) for _ in range(workers.threads)]
        self._spare = [np.empty(max(room, 4 * k + ROOM), np.int64) for _ in range(workers.threads)]
        self._four = [self._scratch() for _ in range(workers.threads)]

    def _candidates(self, room: int) -> tuple[Array, Array, Array]:
        shape = (self._group + ROWS, room)
        return np.empty(shape, np.int32), np.empty(shape, np.int32), np.zeros(shape[0], np.int64)

    def _scratch(self) -> tuple[Array, Array, Array]:
        kind = f"i{self._dtype.itemsize}"
        values = np.empty(4, self._dtype)
        return values, values.view(kind), np.empty(4, kind)

    def search(self, rows: Rows, first: int, buffers: tuple[Array, Array, Array]) -> bool:
        """Take prepared rows of data into the buffers (keys, places, counts); False if that cannot be done so.

        That is where values are not finite, or so far apart that 8 bits tell nothing.
        """
        values = rows.values
        if not (self._finite and len(values) and np.isfinite(rows.status).all()):
            return False
        low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
        centre = low / 2 + high / 2
        step = float((high / 2 - low / 2).max()) / LARGEST
        if not (math.isfinite(step) and step > np.finfo(self._dtype).tiny):
            return False
        panels, halves, farthest = self._rounded_data(values, centre, step)
        self._round(self._queries.values, centre, step, SHIFT, self._rounded, self._norms, self._moved)
        moved = self._moved + farthest
        limits = np.full(len(moved), UNBOUNDED, np.int32)
        reach = (self._norms - limits) >> 1

        def run(start: int, worker: int) -> None:
            stop = min(len(moved), start + self._group)
            search_near(
                self._queries.values, moved, self._rounded, self._norms, start, stop, values, first, panels, halves,
                self._own, step, self._how, self._slack, *self._near[worker], self._k, *buffers, limits, reach,
                self._spare[worker], self._four[worker],
            )  # fmt: skip

        self._workers.run(run, range(0, len(moved), self._group))
        return True

    def _rounded_data(self, values: Array, centre: Array, step: float) -> tuple[Array, Array, float]:
        """Rows of data as panels, what their sums begin with, and how far rounding moved any row at most."""
        count = -(-len(values) // WIDTH)
        rounded, norms, moved = (
            np.zeros((len(values), self._bytes), np.uint8),
            np.empty(len(values), np.int32),
            np.empty(len(values)),
        )
        self._round(values, centre, step, 0, rounded, norms, moved)
        panels = np.zeros((count, self._bytes // QUAD, WIDTH * QUAD), np.uint8)
        halves = np.empty(count * WIDTH, np.int32)
        pack_quads(rounded, norms, panels, halves)
        return panels, halves, float(moved.max())

    def _round(
        self, values: Array, centre: Array, step: float, shift: int, out: Array, norms: Array, moved: Array
    ) -> None:
        def run(start: int, _worker: int) -> None:
            part = slice(start, start + STEP_ROWS)
            quantize(values[part], centre, step, shift, out[part], norms[part], moved[part])

        self._workers.run(run, range(0, len(values), STEP_ROWS))
