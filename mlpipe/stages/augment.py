"""What augmentations have in common: rows changed by random numbers that depend on seed, epoch and position alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError
from mlpipe.kernels.steps import Cast, Draw, Map, Steps
from mlpipe.keys import key
from mlpipe.link import Spec
from mlpipe.stages.rowwise import RowWise


def seed_option() -> Any:
    """The field `seed`."""
    return option(0, help="Of the random numbers.", metavar="N")


def epoch_option() -> Any:
    """The field `epoch`."""
    return option(0, help="Another epoch draws other numbers.", metavar="N")


@dataclass(frozen=True)
class Augment(RowWise):
    """A stage that changes rows at random, computed in float64; what differs is `change`."""

    kernel_bytes = 12 << 20

    if TYPE_CHECKING:
        seed: int
        epoch: int

    def change(self, words: Any) -> tuple[Draw, Map]:
        """What is drawn, by a key, and what becomes of a value."""
        raise NotImplementedError

    def plan(self, spec: Spec) -> Spec:
        """Floats stay what they are, and integers become float64."""
        if spec.dtype.kind not in "biuf":
            raise InputError(f"{self.name} takes bool, integers and floats, not {spec.dtype.name}")
        return super().plan(spec)

    def steps(self, spec: Spec) -> Steps:
        """Draw, and change the values in float64."""
        return [Cast(np.dtype(np.float64)), *self.change(key(self.seed, self.epoch, self.name))]
