"""``noise``: normal noise on every value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.kernels.steps import Draw, Map
from mlpipe.stages.augment import Augment, epoch_option, seed_option


@dataclass(frozen=True)
class Noise(Augment):
    """Normal noise, added to every value.

    What is added depends on the seed, the epoch, the row's position and the column alone. Integers become float64.

    Example: mlpipe run read examples/data/digits.npy then noise --sigma 0.5 --seed 1 then write noisy.npy
    """

    sigma: float = option(1.0, help="Its standard deviation.", metavar="S")
    seed: int = seed_option()
    epoch: int = epoch_option()

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise UsageError(f"noise --sigma {self.sigma}: give 0 or more")

    def change(self, words: Any) -> tuple[Draw, Map]:
        """Add it."""
        return Draw("drawn", "normal", words), Map("v + drawn * sigma", {"sigma": self.sigma})
