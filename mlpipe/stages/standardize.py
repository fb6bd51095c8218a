"""``standardize``: every column with mean 0 and standard deviation 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mlpipe.kernels.steps import Cast, Map, Steps
from mlpipe.link import Room, Spec
from mlpipe.stages.fitting import Fitting, Learned, Learning, columns_of, unit


@dataclass(frozen=True)
class Standardize(Fitting):
    """Every column with mean 0 and standard deviation 1.

    Mean and variance (divided by the number of values) are right to the last digits, however far the values are from
    zero. NaN is passed over and stays NaN; a column of one value becomes zeros; infinite values are refused. It passes
    over the rows twice, unless --from has the statistics: int64 count, and float64 mean and variance of each
    column, named so in the file.

    Example: mlpipe run read examples/data/digits.npy then standardize then write standardized.npy
    """

    kinds: ClassVar[dict[str, str]] = {"count": "i", "mean": "f", "variance": "f"}

    def learning(self, spec: Spec, room: Room) -> Learning:
        """Means and variances, in one pass."""
        from mlpipe.stages.learning import Moments  # with its kernels, not needed before

        columns = columns_of(spec.row_shape)
        return Learning(Moments, Moments.nbytes(columns, room.block_rows))

    def check_learned(self, learned: Learned) -> Learned:
        """All but the number of infinite values, of which there must be none."""
        spread = (learned["count"] > 0) & ~np.isfinite(learned["mean"] + learned["variance"])
        self.refuse_infinite((learned.pop("infinite") > 0) | spread)
        return learned

    def steps(self, spec: Spec) -> Steps:
        """Subtract the mean and divide by the deviation, in float64."""
        mean, variance = self.statistics("mean", "variance")
        constants = {"mean": mean, "deviation": unit(np.sqrt(variance))}
        return [Cast(np.dtype(np.float64)), Map("(v - mean) / deviation", constants)]
