"""``mixup``: rows mixed with others."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.steps import real
from mlpipe.keys import key
from mlpipe.link import Array, Block, Blocks, Flow, Held, Labels, Room, Run, Spec
from mlpipe.stages.augment import epoch_option, seed_option
from mlpipe.stages.batch import Batch
from mlpipe.stages.streaming import BUFFERS, Buffers, Streaming, buffer_bytes

KERNEL_BYTES = 12 << 20
"""What compiling takes, besides what every plan counts for the first kernels."""


@dataclass(frozen=True)
class MixUp(Streaming):
    """Rows mixed with others: w times the row, plus 1 - w times its partner.

    Windows of so many rows, counted from the first row, are shuffled, and each row's partner is the one that comes to
    its place; w is drawn from a Beta(alpha, alpha) distribution for each row. Both depend on the seed, the epoch and
    positions alone. Floating labels are mixed in the same way. Other labels stay those of the row, whose w is then the
    larger of w and 1 - w. Integers become float64.

    Example: mlpipe run read examples/data/digits.npy then mixup --alpha 0.2 --seed 1 then write mixed.npy
    """

    alpha: float = option(0.2, help="Above 0; the smaller, the less is mixed.", metavar="A")
    window: int = option(256, help="Rows among which partners are.", metavar="W")
    seed: int = seed_option()
    epoch: int = epoch_option()

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise UsageError(f"mixup --alpha {self.alpha}: give a number above 0")
        if self.window < 1:
            raise UsageError(f"mixup --window {self.window}: give 1 or more")

    @property
    def flow(self) -> Flow:
        """Needs a window of rows."""
        return "buffering"

    def plan(self, spec: Spec) -> Spec:
        """Floats stay what they are, and integers become float64."""
        if spec.dtype.kind not in "biuf":
            raise InputError(f"mixup takes bool, integers and floats, not {spec.dtype.name}")
        return replace(spec, dtype=real(spec.dtype))

    def hold(self, spec: Spec, room: Room) -> Held:
        """Whole windows that come in, those that go out, and float64 copies of what the threads work on."""
        rows = max(1, room.block_rows // self.window) * self.window
        made, batches = self.plan(spec), Batch(rows).hold(spec, room)
        wide = spec.row_bytes // spec.dtype.itemsize + (math.prod(spec.labels.row_shape) if spec.labels else 0)
        held = {
            "windows": sum(batches.nbytes.values()), "mixed": buffer_bytes(made, rows),
            "scratch": 40 * room.threads * self.window * (wide + 1) + 40 * rows, "kernels": KERNEL_BYTES,
        }  # fmt: skip
        return Held(rows, spec.dtype, held, {"window": self.window}, (batches, made))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Gather whole windows, and mix within each."""
        batches, made = held.layout
        buffers = Buffers(run, made, held.block_rows, BUFFERS)
        for block in Batch(held.block_rows).apply(blocks, batches, run):
            mixed = buffers.take(len(block.data))
            mixed.start, mixed.share = block.start, block.share
            self._mix(block, mixed, made.labels, run)
            block.release()
            run.lane.count(rows=len(mixed.data), nbytes=mixed.data.nbytes)
            yield mixed

    def _mix(self, block: Block, mixed: Block, labels: Labels | None, run: Run) -> None:
        own = labels is not None and labels.dtype.kind != "f"
        weights, partners = self._weights(block.start, len(block.data), own), self._partners(block)
        mixed_labels = block.labels is not None and not own

        def one(window: int, _worker: int) -> None:
            rows = slice(window * self.window, (window + 1) * self.window)
            _mix_rows(block.data, mixed.data, rows, partners[rows], weights[rows])
            if mixed_labels and block.labels is not None and mixed.labels is not None:
                _mix_rows(block.labels, mixed.labels, rows, partners[rows], weights[rows])

        run.workers.run(one, range(-(-len(block.data) // self.window)))
        if own and mixed.labels is not None:
            mixed.labels[:] = block.labels

    def _weights(self, first: int, rows: int, own: bool) -> Array:
        """Weight of each row."""
        from mlpipe.kernels.features import mixing

        weights = np.empty(rows)
        mixing(key(self.seed, self.epoch, "mixup weights"), first, self.alpha, weights)
        return np.maximum(weights, 1 - weights) if own else weights

    def _partners(self, block: Block) -> Array:
        """Partner of each row, by its place in the block."""
        from mlpipe.kernels.randoms import words

        drawn = np.empty((len(block.data), 1), np.uint64)
        words(key(self.seed, self.epoch, "mixup partners"), block.start, drawn)
        partners = np.empty(len(drawn), np.int64)
        for start in range(0, len(drawn), self.window):
            part = slice(start, start + self.window)
            partners[part] = start + np.argsort(drawn[part, 0], kind="stable")
        return partners


def _mix_rows(data: Array, out: Array, rows: slice, partners: Array, weights: Array) -> None:
    """Mix some rows, in float64."""
    weight = weights.reshape(-1, *[1] * (data.ndim - 1))
    with np.errstate(over="ignore", invalid="ignore"):
        out[rows] = weight * data[rows] + (1 - weight) * data[partners]
