"""``clip``: values kept between two bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.kernels.steps import Map, Steps, register
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Clip(RowWise):
    """Values kept between two bounds.

    What is below --min becomes --min, what is above --max becomes --max; NaN stays NaN. The dtype stays what it is:
    for integers, bounds are rounded inwards.

    Example: mlpipe run read examples/data/digits.npy then clip --min 1 --max 15 then nothing
    """

    min: float | None = option(None, help="Lower bound; none when not given.", metavar="A")
    max: float | None = option(None, help="Upper bound; none when not given.", metavar="B")

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise UsageError("clip: give --min, --max or both")
        for name, bound in (("min", self.min), ("max", self.max)):
            if bound is not None and math.isnan(bound):
                raise UsageError(f"clip --{name} nan: give a number")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise UsageError(f"clip --min {self.min} --max {self.max}: --min must not be above --max")

    def plan(self, spec: Spec) -> Spec:
        """The same dtype, if it has values between the bounds."""
        _bounds(self.min, self.max, spec.dtype)
        return replace(spec, dtype=spec.dtype.newbyteorder("="))

    def steps(self, spec: Spec) -> Steps:
        """Comparisons, which NaN never passes."""
        low, high = _bounds(self.min, self.max, spec.dtype)
        return [Map("where(v < low, low, where(v > high, high, v))", {"low": low, "high": high}, whole=True)]


def _bounds(least: float | None, most: float | None, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The bounds in a dtype."""
    if dtype.kind == "f":
        kind = register(dtype).type
        low, high = (kind(-math.inf if least is None else least), kind(math.inf if most is None else most))
        return low, high
    limits = np.iinfo(register(dtype))
    top = 1 if dtype.kind == "b" else int(limits.max)
    low = int(limits.min) if least is None or least < limits.min else math.ceil(least) if least <= top else top + 1
    high = top if most is None or most > top else math.floor(most) if most >= limits.min else limits.min - 1
    if low > high or low > top or high < limits.min:
        raise UsageError(f"clip: no {dtype.name} lies between --min {least} and --max {most}; cast to a float first")
    return low, high
