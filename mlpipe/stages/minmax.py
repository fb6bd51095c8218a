"""``minmax``: every column stretched to one range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.kernels.steps import Cast, Constant, Map, Steps
from mlpipe.link import Room, Spec
from mlpipe.stages.fitting import Fitting, Learned, Learning, columns_of, unit


@dataclass(frozen=True)
class MinMax(Fitting):
    """Every column stretched to one range, by its smallest and largest value.

    NaN is passed over and stays NaN; a column of one value becomes the lower end; infinite values are refused. It
    passes over the rows twice, unless --from has the statistics: int64 count, and float64 minimum and maximum of each
    column, named so in the file.

    Example: mlpipe run read examples/data/digits.npy then minmax --range 0,1 then write scaled.npy
    """

    range: tuple[float, ...] = option((0.0, 1.0), metavar="LOW,HIGH", help="What becomes of the smallest and largest.")

    kinds: ClassVar[dict[str, str]] = {"count": "i", "minimum": "f", "maximum": "f"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.range) != 2 or not all(map(math.isfinite, self.range)) or not self.range[0] < self.range[1]:
            shown = ",".join(map(str, self.range))
            raise UsageError(f"minmax --range {shown}: give two numbers, the lower first, such as 0,1")

    def learning(self, spec: Spec, room: Room) -> Learning:
        """Smallest and largest values, in one pass."""
        from mlpipe.stages.learning import Extremes  # with its kernels, not needed before

        columns = columns_of(spec.row_shape)
        return Learning(Extremes, Extremes.nbytes(columns, room.threads))

    def check_learned(self, learned: Learned) -> Learned:
        """All of it, if finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            self.refuse_infinite((learned["count"] > 0) & ~np.isfinite(learned["maximum"] - learned["minimum"]))
        return learned

    def steps(self, spec: Spec) -> Steps:
        """Stretch in float64, so that the ends are met exactly."""
        low, high = self.range
        minimum, maximum = self.statistics("minimum", "maximum")
        constants: dict[str, Constant] = {
            "minimum": minimum,
            "extent": unit(maximum - minimum),
            "low": low,
            "width": high - low,
        }
        return [Cast(np.dtype(np.float64)), Map("(v - minimum) / extent * width + low", constants)]
