"""Searching by rows rounded to 8 bits: most rows are proven to be far without computing their distance.

See `mlpipe.kernels.bytewise` for the proof, and `mlpipe.kernels.near` for the search.
"""

from __future__ import annotations

import math

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.kernels.bytewise import (
    LANES,
    LARGEST,
    MOST_FEATURES,
    OCTET,
    QUAD,
    ROWS,
    SHIFT,
    WIDTH,
    available,
    pack_octets,
    pack_quads,
    quantize,
)
from mlpipe.kernels.near import Room, search_near
from mlpipe.kernels.pairs import ABSOLUTE, HALF, ROOT, SQUARE, TOGETHER, fold, folded_width, lanes_of
from mlpipe.kernels.picking import BEYOND, GROUP
from mlpipe.kernels.tile import CHUNK
from mlpipe.link import Array
from mlpipe.stages.pairing import Pairing, Rows
from mlpipe.workers import Workers

KINDS = {"euclidean": ROOT, "sqeuclidean": SQUARE, "unit": HALF, "cityblock": ABSOLUTE}
"""Kernels of squared differences, and what becomes of the sum; and of absolute ones."""

MANY_WANTED = 128
LEAST_QUERIES = 64
"""For fewer, rounding the data takes as long as computing the distances."""

CHUNK_BYTES = 4 << 20
CHUNK_ROWS = 8192
"""Of rounded rows of data that one query after the other meets. Candidates are chosen once a chunk, which costs more
than to multiply from the third-level cache: 4000 rows of 768 features take 135 ms with k = 10, and 160 in chunks of
1 MiB; 5000 rows of 128 features take 88, and 100 in chunks of 512 KiB."""

PIECE_BYTES = 16 << 20
"""Of rows of data that are rounded, on a grid of their own, and looked through at once."""

GROUPS = 8
"""Groups of rows, for each neighbour wanted, whose least sums tell how far a row may be."""

TRIED = 8
"""Queries that are tried first."""

MOST_EVALUATED = 0.1
"""Share of the distances that may have to be computed after all; single ones take five times what they take in tiles.
With lognormal values, or one row far away, all of them are, and searching takes seven times as long."""

TASK_QUERIES = 256
STEP_ROWS = 4096
"""Rows that are rounded at once."""


def few_wanted(k: int, features: int, data_rows: int) -> bool:
    """Whether so few neighbours are wanted that rounded rows are expected to save time.

    The more are wanted of how many there are, the more distances have to be computed after all, one by one. With 128
    features and 5000 rows, k = 10 takes 0.5 of the time of computing all distances, k = 100 as long; with 100
    features and 100000 rows, k = 100 takes 0.6, and k = 1000 1.4.
    """
    return k * (40 + features // 8) <= data_rows and (k <= MANY_WANTED or 250 * k <= data_rows)


def can_round(key: str, features: int) -> bool:
    """Whether distances by a kernel can be bounded by rounded rows, on this processor."""
    return key in KINDS and available() and 1 <= features <= MOST_FEATURES


def worth_rounding(pairing: Pairing, queries: int, data_rows: int, k: int) -> bool:
    """Whether rounded rows are expected to save time."""
    features = pairing.prepared_features
    return (
        queries >= LEAST_QUERIES
        and can_round(pairing.metric.key, features)
        and few_wanted(k, features, data_rows)
    )  # fmt: skip


def bytes_of(features: int) -> int:
    """Bytes of a rounded row."""
    return -(-features // OCTET) * OCTET


def panels_of_chunk(features: int) -> int:
    """Panels of rounded rows that one query after the other meets."""
    rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES // bytes_of(features)))
    return -(-rows // WIDTH)


def piece_rows(features: int, itemsize: int) -> int:
    """Rows of data that are rounded at once."""
    rows = max(1, PIECE_BYTES // max(1, folded_width(features) * itemsize))
    per_chunk = panels_of_chunk(features) * WIDTH
    return max(1, rows // per_chunk) * per_chunk


def _finite(rows: Rows) -> bool:
    """Whether neither NaN nor infinity is among rows; no array as large as they are is made."""
    values, status = rows.values, rows.status
    return bool(np.isfinite(values.min()) and np.isfinite(values.max()) and np.isfinite(status).all())


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
    limit : int
        Entries of a query's buffer after which it is cut down.
    workers : Workers
        Who computes.
    own : int
        Query q is row own + q of the data.
    """

    def __init__(self, pairing: Pairing, queries: Rows, k: int, limit: int, workers: Workers, own: int) -> None:
        self._queries, self._k, self._limit, self._workers, self._own = queries, k, limit, workers, own
        self._dtype, self._how = pairing.dtype, KINDS[pairing.metric.key]
        features, count = pairing.prepared_features, len(queries.values)
        self._bytes = bytes_of(features)
        self._finite = not count or _finite(queries)
        self._rounded = np.full((count, self._bytes), SHIFT, np.uint8)
        self._norms, self._moved = np.empty(count, np.int32), np.empty(count)
        # By how much a computed distance may be off, relatively: sums of 32 terms, and sums of these, twice over; and
        # besides, where squares are too small for their digits. And beyond which length sums may become infinite.
        single, most = self._dtype == np.float32, float(np.finfo(self._dtype).max)
        self._slack = np.array(
            [
                (64 + features / 32) * (2.0**-23 if single else 2.0**-52),
                math.sqrt(features) * (2.0**-73 if single else 2.0**-536),
                (most if self._how == ABSOLUTE else math.sqrt(most)) / 4,
            ]
        )
        groups = -(-count // (8 * workers.threads))
        self._group = max(ROWS, min(TASK_QUERIES, -(-groups // ROWS) * ROWS))
        self._lanes = (0,) * lanes_of(features)
        self._width = folded_width(features)
        self._step = piece_rows(features, self._dtype.itemsize)
        self._rooms: list[Room] = []
        self._hopeless = False

    def _room(self, rows: int) -> Room:
        kind = f"i{self._dtype.itemsize}"
        values, folded = np.empty(TOGETHER, self._dtype), np.zeros((1, self._width), self._dtype)
        near = rows + GROUP + BEYOND
        return Room(
            out=aligned_empty((ROWS, rows), np.int32),
            least=aligned_empty((ROWS, rows // (WIDTH // LANES)), np.int32),
            near=np.empty(near, np.int32),
            near_places=np.empty(near, np.int64),
            near_count=np.zeros(1, np.int64),
            folded=folded,
            x=folded[0],
            index=np.zeros(TOGETHER, np.int64),
            sums=np.empty((TOGETHER, max(1, self._width // CHUNK)), self._dtype),
            values=values,
            bits=values.view(kind),
            made=np.empty(TOGETHER, kind),
            spare=np.empty(self._limit + GROUP + BEYOND, np.int64),
            evaluated=np.zeros(1, np.int64),
        )

    def search(self, rows: Rows, first: int, buffers: tuple[Array, Array, Array, Array]) -> bool:
        """Take prepared rows of data into the buffers (keys, places, counts, bounds); False if that cannot be done so.

        That is where values are not finite, or so far apart that 8 bits tell nothing.
        """
        if self._hopeless or not (self._finite and len(rows.values) and _finite(rows)):
            return False
        grids = []
        for start in range(0, len(rows.values), self._step):
            grid = self._grid(rows.values[start : start + self._step])
            if grid is None:
                return False
            grids.append(grid)
        for start, (centre, step) in zip(range(0, len(rows.values), self._step), grids, strict=True):
            if not self._piece(rows.values[start : start + self._step], first + start, centre, step, buffers):
                return False
        return True

    def _grid(self, values: Array) -> tuple[Array, float] | None:
        """Centre and step of a grid that spans rows; None where there is none that tells anything."""
        low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
        centre = low / 2 + high / 2
        step = float((high / 2 - low / 2).max()) / LARGEST
        return (centre, step) if math.isfinite(step) and step > np.finfo(self._dtype).tiny else None

    def _piece(
        self, values: Array, first: int, centre: Array, step: float, buffers: tuple[Array, Array, Array, Array]
    ) -> bool:
        """Take rows into the buffers; False if a few queries, tried first, say it is not worth it."""
        folded, panels, halves, farthest = self._rounded_data(values, centre, step)
        self._round(self._queries.values, centre, step, SHIFT, self._rounded, self._norms, self._moved)
        moved = self._moved + farthest
        most = panels_of_chunk(values.shape[1])
        per_chunk = -(-len(panels) // -(-len(panels) // most))
        merged = max(1, min(8, per_chunk * LANES // (GROUPS * self._k)))
        if not self._rooms:
            self._rooms = [self._room(most * WIDTH) for _ in range(self._workers.threads)]

        def search(start: int, stop: int, worker: int) -> None:
            search_near(
                self._queries.values, moved, self._rounded, self._norms, start, stop, folded, self._lanes, first,
                len(values), panels, halves, per_chunk, merged, self._own, step, self._how, self._slack, self._k,
                self._limit, *buffers, self._rooms[worker],
            )  # fmt: skip

        counts, bounds = buffers[2:]
        if not counts.any():
            tried, before = slice(0, TRIED), bounds[:TRIED].copy()
            search(0, min(TRIED, len(moved)), 0)
            counts[tried], bounds[tried] = 0, before
            if self._too_many(len(values) * min(TRIED, len(moved))):
                return False
        self._workers.run(
            lambda start, worker: search(start, min(len(moved), start + self._group), worker),
            range(0, len(moved), self._group),
        )
        self._too_many(len(values) * len(moved))
        return True

    def _too_many(self, pairs: int) -> bool:
        """Whether distances of so many of these pairs had to be computed that rounded rows are not worth it."""
        evaluated = sum(int(room.evaluated[0]) for room in self._rooms)
        for room in self._rooms:
            room.evaluated[0] = 0
        self._hopeless = evaluated > MOST_EVALUATED * pairs
        return self._hopeless

    def _rounded_data(self, values: Array, centre: Array, step: float) -> tuple[Array, Array, Array, float]:
        """Rows of data folded, and rounded as panels, what their sums begin with, and how far rounding moved any."""
        count = -(-len(values) // WIDTH)
        rounded, norms, moved = (
            np.zeros((len(values), self._bytes), np.uint8),
            np.empty(len(values), np.int32),
            np.empty(len(values)),
        )
        panels, halves = (
            np.zeros((count, self._bytes // QUAD, WIDTH * QUAD), np.uint8),
            np.empty(count * WIDTH, np.int32),
        )
        if self._how == ABSOLUTE:
            rounded[:] = SHIFT  # so that what pads the features is as in the queries
            self._round(values, centre, step, SHIFT, rounded, norms, moved)
            pack_octets(rounded, panels, halves)
        else:
            self._round(values, centre, step, 0, rounded, norms, moved)
            pack_quads(rounded, norms, panels, halves)
        return self._folded(values), panels, halves, float(moved.max())

    def _folded(self, values: Array) -> Array:
        """Rows folded, as `pair_distances` wants them."""
        if len(self._lanes) == 1:
            return values
        folded = np.zeros((len(values), self._width), self._dtype)
        self._workers.run(
            lambda start, _worker: fold(
                values, start, min(start + STEP_ROWS, len(values)), len(self._lanes), folded[start:]
            ),
            range(0, len(values), STEP_ROWS),
        )  # fmt: skip
        return folded

    def _round(
        self, values: Array, centre: Array, step: float, shift: int, out: Array, norms: Array, moved: Array
    ) -> None:
        def run(start: int, _worker: int) -> None:
            part = slice(start, start + STEP_ROWS)
            quantize(values[part], centre, step, shift, self._how == ABSOLUTE, out[part], norms[part], moved[part])

        self._workers.run(run, range(0, len(values), STEP_ROWS))
