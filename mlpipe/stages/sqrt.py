"""``sqrt``: square roots."""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe.kernels.steps import Map, Steps
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Sqrt(RowWise):
    """Square roots.

    Less than 0 becomes NaN. Floats keep their dtype, integers become float64.

    Example: mlpipe run read examples/data/digits.npy then sqrt then nothing
    """

    def steps(self, spec: Spec) -> Steps:
        """The function."""
        return [Map("sqrt(v)")]
