"""``binarize``: 1 for what is above a threshold, else 0."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.kernels.steps import Cast, Map, Steps
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Binarize(RowWise):
    """1 for what is above a threshold, else 0.

    NaN is not above it. The dtype stays what it is; the comparison is exact for all but integers beyond 2**53.

    Example: mlpipe run read examples/data/digits.npy then binarize --threshold 8 then nothing
    """

    threshold: float = option(0.0, help="Above which value.", metavar="T")

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            raise UsageError("binarize --threshold nan: give a number")

    def plan(self, spec: Spec) -> Spec:
        """The same dtype."""
        return replace(spec, dtype=spec.dtype.newbyteorder("="))

    def steps(self, spec: Spec) -> Steps:
        """In float64, so that a threshold between two float32 is what it says."""
        constants = {"threshold": self.threshold, "one": 1.0, "zero": 0.0}
        return [Cast(np.dtype(np.float64)), Map("where(v > threshold, one, zero)", constants)]
