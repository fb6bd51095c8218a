"""``noise``: normal noise on every value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.link import Array
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

    def change(self, rows: Array, words: Array, first: int) -> None:
        """Add it."""
        from mlpipe.kernels.randoms import normal

        drawn = np.empty_like(rows)
        normal(words, first, drawn)
        drawn *= self.sigma
        rows += drawn
