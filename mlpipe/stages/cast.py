"""``cast``: values in another dtype."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mlpipe.declare import option
from mlpipe.kernels.steps import Cast as CastStep
from mlpipe.kernels.steps import Steps
from mlpipe.link import Spec
from mlpipe.stages.dtypes import DType as DType
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Cast(RowWise):
    """Values in another dtype.

    Floats become integers by dropping the fraction, and true where they are not 0; a float that is not exact in the new
    dtype is rounded. A value that the new dtype cannot hold (NaN or too large for an integer, infinite in a smaller
    float) ends the run with exit code 4 and names its row, unless --saturate is given: then an integer is the nearest
    there is, NaN becomes 0, and a float infinite.

    Example: mlpipe run read examples/data/digits.npy then cast --to float32 then nothing
    """

    to: DType = option(help="The new dtype.")  # noqa: RUF009 - it makes a field
    saturate: bool = option(False, help="Take the nearest value there is for what does not fit.")

    @property
    def in_place(self) -> bool:
        """Where it saturates; else the value is needed to say what was wrong."""
        return self.saturate

    def plan(self, spec: Spec) -> Spec:
        """The new dtype."""
        return replace(spec, dtype=np.dtype(self.to))

    def steps(self, spec: Spec) -> Steps:
        """One conversion."""
        return [CastStep(np.dtype(self.to), checked=not self.saturate)]

    def refusal(self, value: str) -> str:
        """The limit, and what to do about it."""
        return f"{self.to} cannot hold that; clip or fill-nan first, or give --saturate"
