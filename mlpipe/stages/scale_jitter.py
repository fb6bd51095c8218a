"""``scale-jitter``: rows a little larger or smaller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.kernels.steps import Draw, Map
from mlpipe.stages.augment import Augment, epoch_option, seed_option


@dataclass(frozen=True)
class ScaleJitter(Augment):
    """Every row times a random number near 1, normal with mean 1.

    The number depends on the seed, the epoch and the row's position alone. Integers become float64.

    Example: mlpipe run read examples/data/digits.npy then scale-jitter --sigma 0.1 --seed 1 then write jittered.npy
    """

    sigma: float = option(0.1, help="Standard deviation of the number.", metavar="S")
    seed: int = seed_option()
    epoch: int = epoch_option()

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise UsageError(f"scale-jitter --sigma {self.sigma}: give 0 or more")

    @property
    def name(self) -> str:
        """Its verb."""
        return "scale-jitter"

    def change(self, words: Any) -> tuple[Draw, Map]:
        """Multiply each row."""
        constants = {"sigma": self.sigma, "one": 1.0}
        return Draw("drawn", "normal", words, "row"), Map("v * (drawn * sigma + one)", constants)
