"""The stage `pairwise`: every row that comes in against every row of another source."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlpipe.kernels.metrics import METRICS
from mlpipe.kernels.tile import panel_width
from mlpipe.link import Blocks, Flow, Held, Room, Run, Source, Spec
from mlpipe.stages.defaults import fill_in, parameter_bytes, passes
from mlpipe.stages.layout import Sizes, choose_layout
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import Pairing, scratch_shapes
from mlpipe.stages.shapes import check_rows, output_dtype
from mlpipe.stages.tiling import Tiling, y_ranges


@dataclass(frozen=True)
class Pairwise:
    """Distances of all rows of X to all rows of Y.

    Parameters
    ----------
    x : Source
        The rows that come in.
    y : Source, optional
        The other rows; X itself when not given.
    measure : Measure
        The metric and its parameters.
    dtype : dtype, optional
        float32 or float64; by default what the inputs ask for.
    condensed : bool
        Hand on only what lies above the diagonal, of X against itself.
    """

    x: Source
    y: Source | None = None
    measure: Measure = field(default_factory=Measure)
    dtype: Any = None
    condensed: bool = False

    @property
    def name(self) -> str:
        """Its verb."""
        return "pairwise"

    @property
    def flow(self) -> Flow:
        """Holds Y, or what of it the memory takes."""
        return "buffering"

    @property
    def chooses(self) -> bool:
        """Blocks of X, so that Y is read as seldom as the memory allows."""
        return True

    @property
    def side_sources(self) -> dict[str, Source]:
        """Y; X itself once more when there is none."""
        return {"read Y": self.other}

    @property
    def sources(self) -> list[Source]:
        """X, and Y when there is one."""
        return [self.x] if self.y is None else [self.x, self.y]

    @property
    def other(self) -> Source:
        """Y; X itself when there is none. Not ``y or x``: a source without rows is false."""
        return self.x if self.y is None else self.y

    @property
    def features(self) -> int:
        """Features of a row."""
        return check_rows(self.sources)

    @property
    def columns(self) -> int:
        """Rows of Y."""
        return int(self.other.spec.rows or 0)

    @property
    def output(self) -> np.dtype[Any]:
        """Type of the distances."""
        return output_dtype([source.spec.dtype for source in self.sources], self.dtype)

    def plan(self, spec: Spec) -> Spec:
        """One row of distances for every row that comes in."""
        self.measure.check_features(self.features)
        if self.condensed:
            return Spec(self.columns * (self.columns - 1) // 2, (), self.output)
        return Spec(spec.rows, (self.columns,), self.output)

    def hold(self, spec: Spec, room: Room) -> Held:
        """Choose tiles so that Y is read as seldom as the memory allows."""
        sizes = self._sizes(spec)
        layout = choose_layout(sizes, room)
        blocks = -(-sizes.rows // layout.block_rows) if sizes.rows else 0
        facts = {
            "metric": self.measure.definition.name,
            "block_rows": layout.block_rows,
            "blocks": blocks,
            "tile": [layout.block_rows, layout.tile_columns],
            "tiles": blocks * -(-sizes.columns // layout.tile_columns),
            "y_rows_held": layout.y_rows,
            "passes_over_y": 1 if layout.y_rows >= sizes.columns else blocks,
            "passes_before": passes(self.measure),
            "pairs_computed": "once, mirrored" if layout.mirror else "once" if layout.upper else "all",
        }
        return Held(
            layout.block_rows, self._compute, layout.nbytes(sizes, room.threads), facts, (layout, sizes, room.offset)
        )

    @property
    def _compute(self) -> np.dtype[Any]:
        return self.measure.compute_dtype(self.output)

    def _sizes(self, spec: Spec) -> Sizes:
        metric, itemsize = METRICS[self.measure.kernel], self._compute.itemsize
        width, features = panel_width(metric, itemsize), self.measure.prepared_features(self.features)
        return Sizes(
            rows=int(spec.rows or 0),
            columns=self.columns,
            features=features,
            compute_bytes=itemsize,
            output_bytes=self.output.itemsize,
            width=width,
            scratch=sum(8 * math.prod(shape) for shape in scratch_shapes(metric, features, width)),
            extra=parameter_bytes(self.measure, self.features),
            copies=1 if self.measure.definition.prepare == "projection" else 0,
            same=self.y is None,
            condensed=self.condensed,
            costly=metric.double,
        )

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Yield tiles; their buffers go round."""
        layout, sizes, offset = held.layout
        y_blocks = run.read(self.other, y_ranges(layout, sizes), held.dtype, "read Y")
        measure = fill_in(self.measure, self.sources, self.features, run.workers)
        pairing = Pairing(measure, self.features, self.output)
        with run.lane.state("compile"):
            pairing.compile()
        yield from Tiling(self.output, layout, sizes, offset, pairing, run).all(blocks, y_blocks)
