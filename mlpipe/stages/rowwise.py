"""Transforms of each row by itself, and neighbours among them fused into one pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np

from mlpipe.errors import InputError
from mlpipe.kernels.steps import JOINED, Steps, real
from mlpipe.link import Block, Blocks, Held, Room, Run, Spec, Stage
from mlpipe.stages.streaming import BUFFERS, Buffers, Streaming, buffer_bytes

ROW_BYTES = 40
"""Scratch for each value of a row, at most: two copies and two numbers of the row beside each value, and some spare."""


@dataclass(frozen=True)
class RowWise(Streaming):
    """A transform of each row by itself, described by its steps; it does not carry itself out.

    `fuse` puts every run of neighbours into one stage, which compiles their steps into one loop. Each value is
    rounded to the dtype of a stage's `plan` at its end, so the bytes do not depend on what was fused.
    """

    kernel_bytes: ClassVar[int] = 0
    """What compiling takes, besides what every plan counts for the first kernels."""

    @property
    def in_place(self) -> bool:
        """Whether a value may be lost once its result is there: no step is checked, and none moves values."""
        return True

    def plan(self, spec: Spec) -> Spec:
        """By default floats stay what they are, and integers become float64."""
        return replace(spec, dtype=real(spec.dtype))

    def steps(self, spec: Spec) -> Steps:
        """What to do to rows of `spec`, in order; asked for when the run starts, not while planning."""
        raise NotImplementedError

    def refusal(self, value: str) -> str:
        """What to say of a value that a checked step refuses: the limit, and what to do about it."""
        raise NotImplementedError


def fuse(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages with every run of neighbouring row-wise ones as one.

    Examples
    --------
    >>> from mlpipe.stages.abs import Abs
    >>> from mlpipe.stages.batch import Batch
    >>> [stage.name for stage in fuse([Abs(), Abs(), Batch(2), Abs()])]
    ['abs + abs', 'batch', 'abs']
    """
    fused: list[Stage] = []
    for row_wise, neighbours in itertools.groupby(stages, lambda stage: isinstance(stage, RowWise)):
        if row_wise:
            fused.append(Fused(tuple(cast("Iterable[RowWise]", neighbours))))
        else:
            fused += neighbours
    return fused


@dataclass(frozen=True)
class Fused(Streaming):
    """Row-wise stages as one compiled pass over each block.

    Parameters
    ----------
    stages : tuple of RowWise
        In order.
    """

    stages: tuple[RowWise, ...]

    @property
    def name(self) -> str:
        """Their verbs."""
        return " + ".join(stage.name for stage in self.stages)

    def plan(self, spec: Spec) -> Spec:
        """What comes out of the last."""
        return self._specs(spec)[-1]

    def _specs(self, spec: Spec) -> list[Spec]:
        """What goes into each, and comes out of the last."""
        if spec.dtype.kind not in "biuf" or spec.dtype.itemsize > 8:
            raise InputError(f"{self.name}: rows of {spec.dtype.name}; it takes bool, integers and floats")
        specs = [spec]
        for stage in self.stages:
            specs.append(stage.plan(specs[-1]))
        return specs

    def _in_place(self, spec: Spec, made: Spec) -> bool:
        """Whether a block takes its own result."""
        same = (spec.dtype.newbyteorder("="), spec.row_shape) == (made.dtype.newbyteorder("="), made.row_shape)
        return same and all(stage.in_place for stage in self.stages)

    def hold(self, spec: Spec, room: Room) -> Held:
        """Copies of a row for each thread, and blocks for the result where it cannot take the place of the input."""
        specs = self._specs(spec)
        widest = max(math.prod(one.row_shape) for one in specs)
        held = {"rows": room.threads * ROW_BYTES * max(widest, JOINED) * len(self.stages)}
        if kernels := sum(stage.kernel_bytes for stage in self.stages):
            held["kernels"] = kernels
        if not self._in_place(spec, specs[-1]):
            held["blocks"] = buffer_bytes(specs[-1], room.block_rows)
        return Held(room.block_rows, spec.dtype, held, {}, specs)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Run the compiled pass over each block."""
        specs: list[Spec] = held.layout
        in_place = self._in_place(specs[0], specs[-1])
        with run.lane.state("compile"):
            from mlpipe.stages.loop import Loop  # planning needs no compiler

            loop = Loop(self.stages, specs, in_place, run.workers)
        buffers = None if in_place else Buffers(run, specs[-1], held.block_rows, BUFFERS)
        for block in blocks:
            # What is written to must be there once, and must be memory of our own.
            block.data = np.require(block.data, requirements=("C", "W") if in_place else ("C",))
            made = block if buffers is None else _successor(block, buffers)
            loop.run(block.data, made.data, block.start)
            if made is not block:
                block.release()
            run.lane.count(rows=len(made.data), nbytes=made.data.nbytes)
            yield made


def _successor(block: Block, buffers: Buffers) -> Block:
    """A block for what becomes of another: its place, its share and its labels."""
    made = buffers.take(len(block.data))
    made.start, made.share = block.start, block.share
    if made.labels is not None:
        made.labels[...] = block.labels
    return made
