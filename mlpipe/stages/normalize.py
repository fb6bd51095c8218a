"""``normalize``: every row with norm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError
from mlpipe.kernels.steps import Map, RowNumber, RowReduce, Step, Steps
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


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
        """The norm, then the division, both by way of a power of two where they could leave the range."""
        term, norm = {"l1": ("abs(v)", "total"), "l2": ("v * v", "sqrt(total)"), "max": ("abs(v)", "total")}[self.norm]
        how: Literal["sum", "max"] = "max" if self.norm == "max" else "sum"
        if spec.dtype != np.float64 or self.norm == "max":
            first: list[Step] = [RowReduce("total", term, how), RowNumber("norm", norm)]
            limit = 1022.0 if spec.dtype.kind != "f" or spec.dtype.itemsize == 8 else 126.0
            second: list[Step] = [RowNumber("unit", f"unit(norm, {limit})"), RowNumber("scaled", "norm * unit")]
        else:  # sums may overflow even in float64
            first = [RowReduce("top", "abs(v)", "max"), RowNumber("unit", "unit(top, 1022.0)")]
            second = [RowReduce("total", term.replace("v", "(v * unit)"), how), RowNumber("scaled", norm)]
        return [*first, *second, RowNumber("by", "where(scaled == 0.0, 1.0, scaled)"), Map("v * unit / by")]
