"""A metric bound to data: rows prepared, packed and paired, by the workers, into tiles of distances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.kernels import rows as row_kernels
from mlpipe.kernels.distances import FEATURES, STAGE_ROWS, SUM_COLUMNS, SUM_ROWS, distances, pack
from mlpipe.kernels.metrics import METRICS, Metric
from mlpipe.kernels.tile import narrow_rows, panel_vectors, panel_width, strip_rows
from mlpipe.link import Array
from mlpipe.stages.metrics import Measure
from mlpipe.workers import Workers

TASK_ROWS = 128
TASK_ELEMENTS = 1 << 28
SLOW_TASK_ELEMENTS = 1 << 22
"""A kernel call is kept near a tenth of a second, so that a signal is soon seen; libm calls are slow ones."""


CACHED_BYTES = 4 << 20
"""Larger outputs have left the cache before anybody reads them."""

PROJECTED_ROWS = 16
"""Rows projected together: their sums stay in the second-level cache up to some thousand features."""


@dataclass(slots=True)
class Rows:
    """Prepared rows of X: the values, and one number per row for metrics that need it."""

    values: Array
    status: Array


@dataclass(slots=True)
class Panels:
    """Prepared rows of Y, transposed in groups; room for more rows than are in use."""

    values: Array
    status: Array
    columns: int

    @property
    def count(self) -> int:
        """Panels in use."""
        return -(-self.columns // int(self.values.shape[2]))


@dataclass(slots=True)
class Place:
    """Where a tile goes: a C-contiguous 2-D array, and the position of the tile's corner in it."""

    array: Array
    row: int = 0
    column: int = 0


Scratch = tuple[Array, Array]


def scratch_shapes(metric: Metric, features: int, width: int) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Shapes of one worker's scratch: finished rows, and float64 sums when there are many features."""
    step = strip_rows(metric)
    rows = SUM_ROWS + step if features > FEATURES else 0
    return (STAGE_ROWS + step, width), (metric.sums, rows, SUM_COLUMNS)


class Pairing:
    """Computes tiles of distances for one metric, number of features and precision.

    Parameters
    ----------
    measure : Measure
        The metric; defaults that come from the data must have been filled in.
    features : int
        Features of a row.
    dtype : dtype
        float32 or float64, of the output.
    """

    def __init__(self, measure: Measure, features: int, dtype: Any) -> None:
        measure.check_features(features)
        self.metric = METRICS[measure.kernel]
        self.dtype = np.dtype(dtype)
        self.features = features
        self.prepared_features = measure.prepared_features(features)
        self._prepare = measure.definition.prepare
        self.compute_dtype = measure.compute_dtype(self.dtype)
        self.width = panel_width(self.metric, self.compute_dtype.itemsize)
        lanes = self.width // panel_vectors(self.metric)
        self.shape = (strip_rows(self.metric), narrow_rows(self.metric), lanes)
        self._row_weights = np.ones(features) if measure.w is None else measure.w
        weights = self._row_weights if measure.V is None else _inverse(measure.V)
        if self._prepare == "projection":
            self._projection, signs = _factor(np.eye(features) if measure.VI is None else measure.VI)
            self._projection_high = np.empty_like(self._projection)
            row_kernels.upper_half(self._projection, self._projection_high)
            if (signs < 0).any():
                self.metric, weights = METRICS[f"{self.metric.key}+w"], np.repeat(signs, self.metric.features)
        self.weights = _fitting(weights, self.compute_dtype)
        self.constants = self._find_constants(measure).astype(self.compute_dtype)
        self._nowhere = Place(np.empty((0, 0), self.dtype))

    def _find_constants(self, measure: Measure) -> Array:
        if self.metric.key.startswith("minkowski"):
            p = 2.0 if measure.p is None else measure.p
            return np.array([p, 1.0 / p, 1.0])
        total = float(self.features) if measure.w is None else math.fsum(measure.w)
        return np.array([total, 0.0, 1.0])

    def compile(self) -> None:
        """Compile the kernels, or load them from the cache, by calls on next to nothing."""
        kind, count = self.compute_dtype, self.metric.features
        staged, sums = scratch_shapes(self.metric, count, self.width)
        panels, one = aligned_empty((1, count, self.width), kind), aligned_empty((1, 1), self.dtype)
        panels[:] = 0
        with Workers(1) as workers:
            self.prepare(np.ones((1, self.features), kind), workers)
        pack(np.ones((1, count), kind), 0, panels)
        distances(
            self.metric, np.zeros((1, count), kind), np.zeros(1, kind), 0, 1, panels, np.zeros(self.width, kind), 0, 1,
            1, np.zeros(count, kind), self.constants, self.shape, aligned_empty(staged, self.dtype),
            aligned_empty(sums, np.float64), one, 0, 0, self._nowhere.array, 0, 0, 0,
        )  # fmt: skip

    def empty_rows(self, count: int) -> Array:
        """A buffer for raw rows, in the precision of the computation."""
        return aligned_empty((count, self.features), self.compute_dtype)

    def prepare(self, raw: Array, workers: Workers) -> Rows:
        """Prepare rows; `raw`, of the computation's precision, may be overwritten."""
        status = np.zeros(len(raw), self.compute_dtype)
        if self._prepare in ("unit", "centred"):
            row_kernels.to_unit(raw, self._row_weights, self._prepare == "centred", raw, status)
        elif self._prepare == "proportions":
            row_kernels.to_proportions(raw, raw, status)
        elif self._prepare == "truth":
            row_kernels.to_truth(raw, raw)
        elif self._prepare == "cosine":
            row_kernels.cosine_of_first(raw, status)
        elif self._prepare == "projection":
            return Rows(self._project(raw, workers), status)
        return Rows(raw, status)

    def _project(self, raw: Array, workers: Workers) -> Array:
        """Rows times the matrix: as many operations as features squared a row, so the workers share them."""
        projected = aligned_empty((len(raw), self.prepared_features), self.compute_dtype)
        step = min(PROJECTED_ROWS, max(1, SLOW_TASK_ELEMENTS * 16 // max(1, self.features**2)))

        def run(start: int, _worker: int) -> None:
            part = slice(start, start + step)
            high, low = np.empty((2, len(raw[part]), self.features))
            row_kernels.to_projection(raw[part], self._projection, self._projection_high, high, low, projected[part])

        workers.run(run, range(0, len(raw), step))
        return projected

    @property
    def keeps_rows(self) -> bool:
        """Whether rows are used as they are: nobody writes to them."""
        return self._prepare in ("", "cosine")

    def empty_panels(self, columns: int) -> Panels:
        """Panels for up to `columns` rows, filled with zeros so that padding costs no slow denormals."""
        count = -(-columns // self.width)
        values = aligned_empty((count, self.prepared_features, self.width), self.compute_dtype)
        values[-1:] = 0
        return Panels(values, np.zeros(count * self.width, self.compute_dtype), 0)

    def add(self, panels: Panels, raw: Array, workers: Workers) -> Rows:
        """Prepare rows of Y, append them to the panels, and return them."""
        rows = self.prepare(raw, workers)
        first = panels.columns
        pack(rows.values, first, panels.values)
        panels.status[first : first + len(raw)] = rows.status
        panels.columns = first + len(raw)
        return rows

    # Distances out.

    def scratch(self, threads: int) -> list[Scratch]:
        """What each worker needs; allocated once."""
        staged, sums = scratch_shapes(self.metric, self.prepared_features, self.width)
        return [(aligned_empty(staged, self.dtype), aligned_empty(sums, np.float64)) for _ in range(threads)]

    def tile(
        self, workers: Workers, scratch: list[Scratch], x: Rows, panels: Panels, into: Place,
        mirror: Place | None = None, *, diagonal: int | None = None, first_panel: int = 0,
        stop_panel: int | None = None,
    ) -> None:  # fmt: skip
        """Distances of all rows of `x` to the rows in `panels`, or to some panels.

        Parameters
        ----------
        workers : Workers
            Who computes.
        scratch : list
            From `scratch`, for as many workers.
        x : Rows
            Prepared rows.
        panels : Panels
            Prepared and packed rows.
        into : Place
            Where row 0, column 0 of the panels would go.
        mirror : Place, optional
            Where the transpose goes.
        diagonal : int, optional
            Row i of `x` is row diagonal + i of the panels: panels wholly left of the diagonal are not computed.
        first_panel, stop_panel : int, optional
            Which panels.
        """
        also = mirror or self._nowhere
        stream = int(into.array.nbytes > CACHED_BYTES)
        stop_panel = panels.count if stop_panel is None else stop_panel

        def run(task: tuple[int, int, int, int], worker: int) -> None:
            start, stop, first, last = task
            staged, sums = scratch[worker]
            distances(
                self.metric, x.values, x.status, start, stop, panels.values, panels.status, first, last,
                panels.columns, self.weights, self.constants, self.shape, staged, sums,
                into.array, into.row + start, into.column, also.array, also.row, also.column + start, stream,
            )  # fmt: skip

        workers.run(run, self._tasks(len(x.values), range(first_panel, stop_panel), diagonal, workers.threads))

    def _tasks(
        self, rows: int, panels: range, diagonal: int | None, threads: int
    ) -> Iterator[tuple[int, int, int, int]]:
        slow = self.metric.double or self.metric.key == "haversine"
        limit = SLOW_TASK_ELEMENTS if slow else TASK_ELEMENTS
        height = TASK_ROWS
        while height > STAGE_ROWS and (
            height * self.width * self.prepared_features > limit or rows < 4 * threads * height
        ):
            height //= 2
        per_task = max(1, limit // (height * self.width * max(1, self.prepared_features)))
        spread = -(-4 * threads // max(1, -(-rows // height)))
        per_task = max(1, min(per_task, -(-len(panels) // spread)))
        for start in range(0, rows, height):
            left = panels.start if diagonal is None else max(panels.start, (diagonal + start) // self.width)
            for panel in range(left, panels.stop, per_task):
                yield start, min(start + height, rows), panel, min(panel + per_task, panels.stop)


def _fitting(weights: Array, dtype: np.dtype[Any]) -> Array:
    """Weights in the precision of the computation, too large ones infinite."""
    with np.errstate(over="ignore"):
        return weights.astype(dtype)


def _inverse(variance: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / variance)


def _factor(inverse: Array) -> tuple[Array, Array]:
    """Matrix M and signs s with x' VI x = Σ s (x M)²; only the symmetric part of VI counts."""
    symmetric = (inverse + inverse.T) / 2
    if not np.isfinite(symmetric).all():
        return np.full_like(symmetric, np.nan), np.ones(len(symmetric))
    try:
        return np.ascontiguousarray(np.linalg.cholesky(symmetric)), np.ones(len(symmetric))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(symmetric)
        return np.ascontiguousarray(vectors * np.sqrt(np.abs(values))), np.where(values < 0, -1.0, 1.0)
