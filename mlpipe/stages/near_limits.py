"""How many rows `dedup-near` compares at once, and how many of those kept it holds, for the memory there is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.errors import MemoryCeilingError
from mlpipe.kernels.metrics import METRICS
from mlpipe.kernels.tile import panel_width
from mlpipe.link import Room, Spec
from mlpipe.stages.defaults import parameter_bytes
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import PROJECTED_ROWS, scratch_shapes
from mlpipe.stages.within import TILE_COLUMNS, TILE_ROWS

STEP_ROWS = 1024
"""Rows that meet those kept before at once: so many distances among themselves cost little."""

STEP_BYTES = 4 << 20
"""Of such rows."""

LEAST_STEP = 32
"""With fewer, most of the time would go into handling them."""

STRIP_ROWS = 128
"""Rows that one task compares; those that are dropped are left out of what follows."""

PIECE_BYTES = 4 << 20
"""Of rows kept, packed together, and read from the temporary file together."""

BLOCK_ROWS = 256
"""Rows whose distances to earlier ones of the same step are computed at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be held.

    Parameters
    ----------
    step : int
        Rows compared at once.
    piece : int
        Rows kept in one piece.
    capacity : int
        Rows kept in memory.
    """

    step: int
    piece: int
    capacity: int


def strip_rows(step: int, threads: int) -> int:
    """Rows of a task: some for every thread."""
    return max(16, min(STRIP_ROWS, -(-step // (2 * threads))))


def table_rows(step: int) -> int:
    """Rows whose distances to earlier ones are held at once."""
    return min(BLOCK_ROWS, step)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the memory depends on: bytes of a row as it comes, prepared, and of what threads take."""

    raw: int
    prepared: int
    projected: bool
    output: int
    width: int
    fixed: int

    @classmethod
    def of(cls, measure: Measure, features: int, output: np.dtype[Any], threads: int) -> Sizes:
        """For a metric, a number of features and a number of threads."""
        metric, count = METRICS[measure.kernel], measure.prepared_features(features)
        compute = measure.compute_dtype(output).itemsize
        width, projected = panel_width(metric, compute), measure.definition.prepare == "projection"
        scratch = sum(8 * math.prod(shape) for shape in scratch_shapes(metric, count, width))
        tile = TILE_ROWS * (TILE_COLUMNS + width) * output.itemsize
        projecting = 16 * PROJECTED_ROWS * features if projected else 0
        strips = STRIP_ROWS * ((count + 1) * compute + 32)
        fixed = threads * (scratch + tile + projecting + 2 * strips) + parameter_bytes(measure, features)
        return cls(features * compute, (count + 1) * compute, projected, output.itemsize, width, fixed)

    def step_bytes(self, step: int) -> int:
        """Bytes held for rows that are compared at once: raw, prepared, those left, those kept, and packed."""
        padded = -(-step // self.width) * self.width
        table = table_rows(step) * step * self.output
        return step * (self.raw + (3 + self.projected) * self.prepared + 64) + padded * self.prepared + table


def arrange(sizes: Sizes, spec: Spec, room: Room) -> tuple[Limits, dict[str, int]]:
    """Share out the memory: all rows, if they fit, else as many as do, and two pieces of the others."""
    rows = math.inf if spec.rows is None else spec.rows
    fixed = sizes.fixed + room.block_rows * (spec.row_bytes + (spec.labels.row_bytes if spec.labels else 0))
    most = max(1, min(STEP_ROWS, room.block_rows, STEP_BYTES // max(1, sizes.raw)))
    piece = max(1, min(PIECE_BYTES, room.nbytes // 8) // (sizes.prepared * sizes.width)) * sizes.width
    fewest = min(most, LEAST_STEP)
    steps = [*(most >> shift for shift in range(0, most.bit_length(), 2) if most >> shift > fewest), fewest]
    for step, piece_rows in [*((step, piece) for step in steps), (fewest, sizes.width)]:
        scratch = fixed + sizes.step_bytes(step)
        left, one, through = room.nbytes - scratch, piece_rows * sizes.prepared, 2 * piece_rows * sizes.prepared
        if rows <= left // one * piece_rows:
            pieces = -(-int(rows) // piece_rows)
            return Limits(step, piece_rows, pieces * piece_rows), {"rows": pieces * one, "scratch": scratch}
        if left >= through:
            pieces = (left - through) // one
            held = {"rows": pieces * one, "file": through, "scratch": scratch}
            return Limits(step, piece_rows, pieces * piece_rows), held
    least = fixed + sizes.step_bytes(fewest) + 2 * sizes.width * sizes.prepared
    raise MemoryCeilingError("rows to compare with do not fit", needs=least)
