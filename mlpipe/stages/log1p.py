"""``log1p``: natural logarithms of 1 + x."""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe.kernels.steps import Map, Steps
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Log1p(RowWise):
    """Natural logarithms of 1 + x.

    Right to the last digits near 0 as well; -1 becomes -infinity, and less than -1 NaN. Floats keep their dtype,
    integers become float64.

    Example: mlpipe run read examples/data/digits.npy then log1p then nothing
    """

    def steps(self, spec: Spec) -> Steps:
        """The function."""
        return [Map("log1p(v)")]
