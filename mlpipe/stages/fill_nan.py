"""``fill-nan``: a value in the place of NaN."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlpipe.declare import option
from mlpipe.kernels.steps import Map, Steps
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class FillNan(RowWise):
    """A value in the place of NaN.

    The dtype stays what it is; integers have no NaN and stay what they are.

    Example: mlpipe run read examples/data/digits.npy then fill-nan --value -1 then nothing
    """

    value: float = option(0.0, help="What to put there.", metavar="X")

    @property
    def name(self) -> str:
        """Its verb."""
        return "fill-nan"

    def plan(self, spec: Spec) -> Spec:
        """The same dtype."""
        return replace(spec, dtype=spec.dtype.newbyteorder("="))

    def steps(self, spec: Spec) -> Steps:
        """Nothing for integers."""
        if spec.dtype.kind != "f":
            return []
        return [Map("where(v == v, v, value)", {"value": self.value}, whole=True)]
