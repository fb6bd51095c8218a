"""What augmentations have in common: rows changed by random numbers that depend on seed, epoch and position alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError
from mlpipe.kernels.steps import real
from mlpipe.keys import key
from mlpipe.link import Array, Held, Room, Run, Spec
from mlpipe.stages.mapped import Mapped, pieces

SCRATCH = 3
"""Float64 arrays as large as a piece of rows; the threads' pieces together are a quarter of a block."""


def seed_option() -> Any:
    """The field `seed`."""
    return option(0, help="Of the random numbers.", metavar="N")


def epoch_option() -> Any:
    """The field `epoch`."""
    return option(0, help="Another epoch draws other numbers.", metavar="N")


@dataclass(frozen=True)
class Augment(Mapped):
    """A stage that changes rows at random, computed in float64; what differs is `change`."""

    kernel_bytes = 12 << 20

    if TYPE_CHECKING:
        seed: int
        epoch: int

    def change(self, rows: Array, words: Array, first: int) -> None:
        """Change float64 rows of two dimensions, of which the first is at position `first`, by a key."""
        raise NotImplementedError

    def plan(self, spec: Spec) -> Spec:
        """Floats stay what they are, and integers become float64."""
        if spec.dtype.kind not in "biuf":
            raise InputError(f"{self.name} takes bool, integers and floats, not {spec.dtype.name}")
        return replace(spec, dtype=real(spec.dtype))

    def hold(self, spec: Spec, room: Room) -> Held:
        """Buffers for the blocks it makes, and float64 copies of what the threads work on."""
        held = super().hold(spec, room)
        held.nbytes["scratch"] = SCRATCH * (8 * max(1, room.block_rows) * math.prod(spec.row_shape) // 4 + 4096)
        return held

    def prepare(self, spec: Spec) -> None:
        """Compile."""
        self.change(np.zeros((1, math.prod(spec.row_shape))), key(0, 0, self.name), 0)

    def fill(self, data: Array, out: Array, first: int, run: Run) -> None:
        """Change the rows, a piece in each thread."""
        words, columns = key(self.seed, self.epoch, self.name), math.prod(data.shape[1:])

        def one(part: slice, _worker: int) -> None:
            rows = data[part].astype(np.float64)
            rows = rows.reshape(len(rows), columns)
            self.change(rows, words, first + part.start)
            with np.errstate(over="ignore"):
                out[part] = rows.reshape(out[part].shape)

        run.workers.run(one, pieces(len(data), run.workers.threads))
