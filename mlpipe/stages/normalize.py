"""``normalize``: every row with norm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError
from mlpipe.kernels.steps import Map, RowNumber, RowReduce, Step, Steps, real
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


def _scale(most: int, least: int, shift: int) -> str:
    """Text of a power of two that takes a large or a small number of a row away from the end of the range."""
    return f"where({{0}} > {2.0**most}, {2.0**-shift}, where({{0}} < {2.0**least}, {2.0**shift}, 1.0))"


_SCALES = {2: _scale(100, -100, 64), 4: _scale(100, -100, 64), 8: _scale(500, -400, 600)}
"""By bytes of the result, which is computed in float32 or float64."""


@dataclass(frozen=True)
class Normalize(RowWise):
    """Every row divided by its norm.

    The norm is the sum of absolute values (l1), the root of the sum of squares (l2), or the largest absolute value
    (max); it is computed in float64, without overflow. Rows of zeros stay zeros; a row with NaN becomes NaN. Floats
    keep their dtype, integers become float64.

    Example: mlpipe run read examples/data/digits.npy then normalize --norm l1 then nothing
    """

    norm: Literal["l1", "l2", "max"] = option("l2", help="Which norm becomes 1.")

    def plan(self, spec: Spec) -> Spec:
        """The same shape; raise for rows that are not vectors."""
        if len(spec.row_shape) != 1:
            raise InputError(f"normalize: rows have shape {spec.row_shape}; it takes rows of one dimension")
        return super().plan(spec)

    def steps(self, spec: Spec) -> Steps:
        """The norm, then the division, both by way of a power of two where they could leave the range of the dtype."""
        term, norm = {"l1": ("abs(v)", "total"), "l2": ("v * v", "sqrt(total)"), "max": ("abs(v)", "total")}[self.norm]
        how: Literal["sum", "max"] = "max" if self.norm == "max" else "sum"
        scale = _SCALES[real(spec.dtype).itemsize]
        steps: list[Step]
        if spec.dtype != np.float64 or self.norm == "max":
            steps = [RowReduce("total", term, how), RowNumber("norm", norm), RowNumber("unit", scale.format("norm"))]
            steps += [RowNumber("scaled", "norm * unit")]
        else:  # a sum may overflow even in float64
            steps = [RowReduce("top", "abs(v)", "max"), RowNumber("unit", scale.format("top"))]
            steps += [RowReduce("total", term.replace("v", "(v * unit)"), how), RowNumber("scaled", norm)]
        return [*steps, RowNumber("by", "where(scaled == 0.0, 1.0, scaled)"), Map("v * unit / by")]
