"""``power``: values raised to a power."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.kernels.steps import Cast, Map, Steps
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise

_SHORT = {1.0: "v", 2.0: "v * v", 0.5: "sqrt(v)"}


@dataclass(frozen=True)
class Power(RowWise):
    """Values raised to a power.

    As in NumPy: anything to the power of 0 is 1, NaN too; a negative value to a power that is not whole is NaN; a power
    of 0.5 is the square root. Floats keep their dtype, integers become float64.

    Example: mlpipe run read examples/data/digits.npy then power --exponent 0.5 then nothing
    """

    exponent: float = option(help="To which power.", metavar="P")

    def __post_init__(self) -> None:
        if not math.isfinite(self.exponent):
            raise UsageError(f"power --exponent {self.exponent}: give a finite number")

    def steps(self, spec: Spec) -> Steps:
        """A product or a root where that is the same; else in float64, for the exponent's sake."""
        if self.exponent in _SHORT:
            return [Map(_SHORT[self.exponent])]
        function = "quick_power" if spec.dtype.kind == "f" and spec.dtype.itemsize < 8 else "precise_power"
        return [Cast(np.dtype(np.float64)), Map(f"{function}(v, exponent)", {"exponent": self.exponent})]
