"""``abs``: absolute values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlpipe.kernels.steps import Map, Steps
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Abs(RowWise):
    """Absolute values.

    The dtype stays what it is; the most negative integer, which has no positive counterpart, stays what it is too, as
    in NumPy.

    Example: mlpipe run read examples/data/digits.npy then abs then nothing
    """

    def plan(self, spec: Spec) -> Spec:
        """The same dtype."""
        return replace(spec, dtype=spec.dtype.newbyteorder("="))

    def steps(self, spec: Spec) -> Steps:
        """Whole numbers stay whole."""
        return [Map("abs(v)" if spec.dtype.kind in "fi" else "v", whole=True)]
