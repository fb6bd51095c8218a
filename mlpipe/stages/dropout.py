"""``dropout``: values set to zero at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.kernels.steps import Draw, Map
from mlpipe.stages.augment import Augment, epoch_option, seed_option


@dataclass(frozen=True)
class Dropout(Augment):
    """Values set to zero at random, the others scaled up so that the mean stays.

    Each value is dropped with the probability --rate, and divided by 1 - rate if it stays. Which ones depends on
    the seed, the epoch, the row's position and the column alone. Integers become float64.

    Example: mlpipe run read examples/data/digits.npy then dropout --rate 0.2 --seed 1 then write dropped.npy
    """

    rate: float = option(0.5, help="Share of values dropped, from 0 to below 1.", metavar="R")
    seed: int = seed_option()
    epoch: int = epoch_option()

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise UsageError(f"dropout --rate {self.rate}: give 0 or more, and less than 1")

    def change(self, words: Any) -> tuple[Draw, Map]:
        """Drop some."""
        constants = {"rate": self.rate, "kept": 1 - self.rate, "zero": 0.0}
        return Draw("drawn", "uniform", words), Map("where(drawn < rate, zero, v / kept)", constants)
