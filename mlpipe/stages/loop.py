"""The compiled pass of row-wise stages: what it is called with, block after block, and what it found wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.errors import InputError
from mlpipe.kernels.fused import write
from mlpipe.kernels.program import Check, Program, storage
from mlpipe.kernels.steps import Steps
from mlpipe.link import Array, Spec
from mlpipe.workers import Workers

TASK_BYTES = 128 << 10
"""Of a block's part for one thread, at least: handing it over costs as much time as 20 KiB."""


class Describing(Protocol):
    """What the pass asks of a stage."""

    @property
    def name(self) -> str:
        """Its verb."""

    def steps(self, spec: Spec) -> Steps:
        """What to do to rows of `spec`."""

    def refusal(self, value: str) -> str:
        """What to say of a value that a checked step refuses."""


class Loop:
    """The compiled pass of some stages.

    Parameters
    ----------
    stages : sequence of RowWise
        In order.
    specs : sequence of Spec
        What goes into each, and comes out of the last.
    in_place : bool
        Whether a block takes its own result.
    workers : Workers
        Run it.
    """

    def __init__(self, stages: Sequence[Describing], specs: Sequence[Spec], in_place: bool, workers: Workers) -> None:
        self._stages, self._workers = stages, workers
        self._dtype, self._made = (spec.dtype.newbyteorder("=") for spec in (specs[0], specs[-1]))
        self._width, self._wide = (math.prod(spec.row_shape) for spec in (specs[0], specs[-1]))
        self._steps = [
            (stage.steps(spec), made.dtype.newbyteorder("="))
            for stage, spec, made in zip(stages, specs, specs[1:], strict=False)
        ]
        self._program = write(self._steps, self._dtype, self._width, in_place)
        self._call = Call(self._program, workers.threads)

    def run(self, data: Array, out: Array, first: int) -> None:
        """Fill `out` from `data`, whose first row has the position `first`; they may be the same.

        Raises
        ------
        InputError
            For the first row with a value that a stage refuses.
        """
        rows = len(data)
        if not (rows and self._width):
            return
        x, made = data.reshape(rows, self._width), out.reshape(rows, self._wide)
        tasks = min(self._workers.threads, max(1, max(data.nbytes, out.nbytes) // TASK_BYTES))
        bounds = [rows * n // tasks for n in range(tasks + 1)]
        failed: list[tuple[int, int]] = []

        def part(task: int, worker: int) -> None:
            start, stop = bounds[task], bounds[task + 1]
            if self._call(x[start:stop], made[start:stop], first + start, worker):
                failed.append((start, stop))

        if tasks == 1:
            part(0, 0)
        else:
            self._workers.run(part, range(tasks))
        if failed:
            start, stop = min(failed)
            self._refuse(x[start:stop], first + start)

    def _refuse(self, x: Array, first: int) -> None:
        """Raise for the first row of `x` with a value that a check does not let pass."""
        found = []
        for check in self._program.checks:
            values = self._before(check, x, first)
            wrong = ~fits(values, check.cast.dtype)
            if wrong.any():
                row = int(wrong.any(axis=1).argmax())
                found.append((row, check.stage, str(values[row][wrong[row]][0])))
        row, place, value = min(found)
        stage = self._stages[place]
        raise InputError(f"{stage.name}: row {first + row} holds {value}; {stage.refusal(value)}")

    def _before(self, check: Check, x: Array, first: int) -> Array:
        """The values that a check sees."""
        steps = [*self._steps[: check.stage], (self._steps[check.stage][0][: check.step], check.dtype)]
        program = write(steps, self._dtype, self._width, in_place=False)
        values = np.empty((len(x), program.made_width), check.dtype)
        Call(program, 1)(x, values, first, 0)
        return values


class Call:
    """A program with its constants and its scratch; compiled when made.

    Parameters
    ----------
    program : Program
        What to call.
    threads : int
        How many may call it at once.
    """

    def __init__(self, program: Program, threads: int) -> None:
        self._joined, self._span, self._function = program.joined, program.width, program.function()
        self._constants = [
            np.tile(one, max(1, self._joined)) if self._of_columns(one) else one for one in program.constants
        ]
        self._scratch = [[aligned_empty((length,), dtype) for dtype, length in program.scratch] for _ in range(threads)]
        shapes = ((program.dtype, program.width), (program.made_dtype, program.made_width))
        x, out = (storage(np.empty((0, width), dtype)) for dtype, width in shapes)
        self._function(x, out, 0, self._span, *self._scratch[0], *self._constants)

    def _of_columns(self, constant: Any) -> bool:
        """Whether a constant is repeated for rows that are joined."""
        return self._joined != 1 and isinstance(constant, np.ndarray) and constant.ndim == 1

    def __call__(self, x: Array, out: Array, first: int, worker: int) -> bool:
        """Fill `out`; return whether a check failed."""
        failed = False
        for start, stop, joined in self._spans(len(x)):
            views = [storage(one[start:stop].reshape((stop - start) // joined, -1)) for one in (x, out)]
            constants = [one[: views[0].shape[1]] if self._of_columns(one) else one for one in self._constants]
            failed |= self._function(*views, first + start, self._span, *self._scratch[worker], *constants) >= 0
        return failed

    def _spans(self, rows: int) -> Iterator[tuple[int, int, int]]:
        """First and last row, and how many to join: all, or as many as constants were repeated for, then the rest."""
        joined = self._joined or rows
        whole = rows // joined * joined
        if whole:
            yield 0, whole, joined
        if whole < rows:
            yield whole, rows, rows - whole


def fits(values: Array, dtype: np.dtype[Any]) -> Array:
    """Which values a dtype can hold, but for their fraction.

    Examples
    --------
    >>> fits(np.array([1.5, 300.0, np.nan]), np.dtype("u1")).tolist()
    [True, False, False]
    """
    if dtype.kind == "b":
        return np.ones(values.shape, bool)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(np.isinf(values) | ~np.isinf(values.astype(dtype)))
    limits = np.iinfo(dtype)
    if values.dtype.kind == "f":
        whole = np.trunc(values.astype(np.float64))
        return np.asarray((whole >= float(limits.min)) & (whole < float(limits.max + 1)))
    return np.asarray((values >= limits.min) & (values <= limits.max))
