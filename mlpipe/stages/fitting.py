"""What stages have in common that learn from all rows before the first one comes out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.link import Array, Blocks, Flow, Held, Room, Run, Spec
from mlpipe.opening import Opening
from mlpipe.readers.stats import read_stats
from mlpipe.stages.rowwise import RowWise
from mlpipe.workers import Workers
from mlpipe.writers.stats import StatsFile

KERNEL_BYTES = 20 << 20
"""What compiling takes, besides what every plan counts for the first kernels (measured: 8 to 18 MiB)."""

Learned = dict[str, Array]
"""Statistics by name, one number for each column."""


class Learner(Protocol):
    """Statistics under way."""

    def add(self, rows: Array, workers: Workers) -> None:
        """Take in rows, flat to two dimensions."""

    def finish(self) -> Learned | None:
        """End a pass: what was learned, or None when another pass is needed."""


@dataclass(frozen=True, slots=True)
class Learning:
    """How something will be learned.

    Parameters
    ----------
    make : callable
        Makes the learner of so many columns.
    nbytes : int
        What it holds.
    passes : int
        Passes over the rows it takes.
    """

    make: Callable[[int], Learner]
    nbytes: int
    passes: int = 1


@dataclass(frozen=True)
class Fitting(RowWise):
    """A row-wise transform whose numbers are learned in passes over all rows, or come from a file.

    Until they are, its flow is "fitting", and `mlpipe.engine.fit` gives it rows to learn from.
    """

    from_: str | None = option(None, metavar="STATS.npz", help="Take what --save-stats kept, and pass over no rows.")
    save_stats: str | None = option(None, metavar="STATS.npz", help="Keep what was learned.")
    learned: Learned | None = field(default=None, compare=False, repr=False)
    learner: Learner | None = field(default=None, compare=False, repr=False)
    kept: StatsFile | None = field(default=None, compare=False, repr=False)

    kinds: ClassVar[dict[str, str]]
    """Names of the statistics in files, with the kinds of their dtypes."""

    def __post_init__(self) -> None:
        if self.from_ is not None and self.save_stats is not None:
            raise UsageError(f"{self.name}: --from and --save-stats exclude each other; nothing new would be learned")

    @property
    def flow(self) -> Flow:
        """Learns from all rows; then it needs one block."""
        return "fitting" if self.learned is None else "streaming"

    def open(self, opening: Opening) -> Fitting:
        """Read the statistics, if they come from a file."""
        if self.from_ is not None:
            return replace(self, learned=read_stats(self.from_, self.kinds, opening))
        if self.save_stats is None:
            return self
        opening.writes(self.save_stats, f"{self.name} --save-stats")
        return replace(self, kept=StatsFile(self.save_stats, opening))

    def plan(self, spec: Spec) -> Spec:
        """Floats stay what they are, and integers become float64.

        Raises
        ------
        InputError
            For values that are no numbers, or statistics of other columns.
        UsageError
            When rows never end.
        """
        if spec.dtype.kind not in "biuf":
            raise InputError(f"{self.name} takes bool, integers and floats, not {spec.dtype.name}")
        if self.learned is None:
            if spec.endless:
                raise UsageError(f"{self.name} learns from all rows, but these never end; give --from STATS.npz")
            if self.kept is not None and self.learner is None:
                self.kept.check()
        else:
            shape = self.learned["count"].shape
            if shape != spec.row_shape:
                raise InputError(
                    f"{self.name} has statistics of rows of shape {shape}, but rows have shape {spec.row_shape}"
                )
        return super().plan(spec)

    def learning(self, spec: Spec, room: Room) -> Learning:
        """How to learn from rows of `spec`; raise MemoryCeilingError for what does not fit the room."""
        raise NotImplementedError

    def check_learned(self, learned: Learned) -> Learned:
        """What of it to keep, if it is fit for use; raise InputError if not."""
        return learned

    def hold(self, spec: Spec, room: Room) -> Held:
        """What learning takes; nothing afterwards."""
        if self.learned is not None:
            return super().hold(spec, room)
        wide = 4 * room.block_rows * columns_of(spec.row_shape) if spec.dtype == np.float16 else 0
        try:
            how = self.learning(spec, replace(room, nbytes=room.nbytes - KERNEL_BYTES - wide))
        except MemoryCeilingError as error:
            raise MemoryCeilingError(str(error), needs=error.needs + KERNEL_BYTES + wide) from None
        held = {"statistics": how.nbytes + wide, "kernels": KERNEL_BYTES}
        return Held(room.block_rows, spec.dtype, held, {"passes_over_source": how.passes}, (how, spec))

    def fit(self, blocks: Blocks, held: Held, run: Run) -> Fitting:
        """Learn from one pass over all rows: the stage with what it learned, or on its way there."""
        how, spec = held.layout
        columns = columns_of(spec.row_shape)
        if self.learner is None:
            with run.lane.state("compile"):
                trial = how.make(1)
                trial.add(np.zeros((1, 1), spec.dtype), run.workers)
                trial.finish()
        learner = self.learner or how.make(columns)
        for block in blocks:
            rows = np.ascontiguousarray(block.data).reshape(len(block.data), columns)
            learner.add(rows, run.workers)
            run.lane.count(rows=len(rows), nbytes=block.data.nbytes)
            block.release()
        learned = learner.finish()
        if learned is None:
            return replace(self, learner=learner)
        learned = {name: values.reshape(spec.row_shape) for name, values in self.check_learned(learned).items()}
        if self.kept is not None:
            self.kept.save(learned)
        return replace(self, learned=learned, learner=None)

    def statistics(self, *names: str) -> list[Array]:
        """What was learned, by name and flat: one number for each column."""
        if self.learned is None:
            raise RuntimeError(f"{self.name} has not learned yet")
        return [self.learned[name].reshape(-1) for name in names]

    def refuse_infinite(self, infinite: Array) -> None:
        """Raise InputError if the mask is set for a column."""
        if infinite.any():
            raise InputError(
                f"{self.name}: column {int(infinite.argmax())} holds infinite values, or too large ones to learn from; "
                "clip or check them first"
            )


def columns_of(row_shape: tuple[int, ...]) -> int:
    """Values of a row."""
    return math.prod(row_shape)


def unit(scale: Array) -> Array:
    """What to divide by: 1 where it is 0, so that constant columns become zeros.

    Examples
    --------
    >>> unit(np.array([2.0, 0.0])).tolist()
    [2.0, 1.0]
    """
    return np.where(scale == 0, 1.0, scale)
