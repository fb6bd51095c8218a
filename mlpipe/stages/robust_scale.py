"""``robust-scale``: every column by its median and quartiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mlpipe.kernels.steps import Cast, Map, Steps
from mlpipe.link import Room, Spec
from mlpipe.stages.fitting import Fitting, Learned, Learning, columns_of, unit

QUARTILES = {"lower": 0.25, "median": 0.5, "upper": 0.75}


@dataclass(frozen=True)
class RobustScale(Fitting):
    """Every column less its median, divided by its interquartile range: outliers do not count.

    The quartiles are exact and interpolated as numpy.percentile does it, whatever the memory: with little of it, more
    passes over the rows are made (--dry-run tells how many). NaN is passed over and stays NaN; a column whose
    quartiles are equal is not divided. --from takes them from a file: int64 count, and float64 lower, median and upper
    quartile of each column, named so.

    Example: mlpipe run read examples/data/digits.npy then robust-scale then write robust.npy
    """

    kinds: ClassVar[dict[str, str]] = {"count": "i", "lower": "f", "median": "f", "upper": "f"}

    @property
    def name(self) -> str:
        """Its verb."""
        return "robust-scale"

    def learning(self, spec: Spec, room: Room) -> Learning:
        """Quartiles, in as few passes as the room allows."""
        from mlpipe.stages.learning import Quantiles  # with its kernels, not needed before

        columns = columns_of(spec.row_shape)
        at, names = [*QUARTILES.values()], [*QUARTILES]
        return Quantiles.learning(columns, spec.dtype, at, names, room.nbytes, room.threads)

    def check_learned(self, learned: Learned) -> Learned:
        """All of it, if finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            reach = learned["upper"] - learned["lower"] + learned["median"]
        self.refuse_infinite((learned["count"] > 0) & ~np.isfinite(reach))
        return learned

    def steps(self, spec: Spec) -> Steps:
        """Subtract the median and divide by the range, in float64."""
        lower, median, upper = self.statistics("lower", "median", "upper")
        constants = {"median": median, "extent": unit(upper - lower)}
        return [Cast(np.dtype(np.float64)), Map("(v - median) / extent", constants)]
