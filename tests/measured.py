"""Chains whose culprit is known: a source, a stage or a sink that takes its time; and the record of running one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.engine.budget import plan
from mlpipe.engine.local import run
from mlpipe.link import Array, Block, Blocks, Held, Run, Spec, Stage
from mlpipe.measure.memory import MemorySampler
from mlpipe.measure.meter import Meter
from mlpipe.measure.record import Record
from mlpipe.measure.schema import RecordFacts, check_record
from mlpipe.pipeline import Pipeline
from mlpipe.readers.array import ArraySource
from mlpipe.stages.streaming import Streaming
from mlpipe.writers.nothing import NothingSink

BLOCK = 64


class Source(ArraySource):
    """Rows that take some seconds a block."""

    def __init__(self, blocks: int, seconds: float = 0.0, fails_at: int | None = None) -> None:
        super().__init__(np.zeros((blocks * BLOCK, 4)), "zeros")
        self.seconds, self.fails_at = seconds, fails_at

    def read_rows(self, start: int, out: Array) -> None:
        time.sleep(self.seconds)
        if self.fails_at == start // BLOCK:
            raise OSError("the disk is gone")
        super().read_rows(start, out)


@dataclass(frozen=True)
class Waits(Streaming):
    """A stage that takes some seconds a block, and some before the first."""

    seconds: float = 0.0
    compiling: float = 0.0
    act: Callable[[], object] = lambda: None
    called: str = "waits"

    @property
    def name(self) -> str:
        return self.called

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        with run.lane.state("compile"):
            time.sleep(self.compiling)
        return super().apply(blocks, held, run)

    def each(self, block: Block) -> Iterator[Block]:
        time.sleep(self.seconds)
        self.act()
        yield block


class Sink(NothingSink):
    """Takes some seconds a block, and is told to be storing."""

    stored = True

    def __init__(self, seconds: float = 0.0, fails_at: int | None = None) -> None:
        super().__init__()
        self.seconds, self.fails_at, self.blocks = seconds, fails_at, 0

    @contextmanager
    def open(self, spec: Spec) -> Iterator[Sink]:
        yield self

    def write(self, block: Block) -> None:
        time.sleep(self.seconds)
        if self.fails_at == self.blocks:
            raise OSError("no room")
        self.blocks += 1


def measured(source: Source, stages: Sequence[Stage], sink: Any, *, threads: int = 2, rows: int = BLOCK) -> RecordFacts:
    """The record of a run, in blocks of so many rows; of one that fails, too."""
    made = plan(Pipeline(source, stages, sink), 1 << 30, threads)
    made = type(made)(**{**vars(made), "block_rows": rows})
    record = Record(["run"], threads=threads, plan=made.describe())
    try:
        with MemorySampler() as memory:
            meter = Meter()
            memory.follow(meter)
            try:
                run(made, meter)
            finally:
                meter.stop()
    except OSError as error:
        record.finish(meter, memory, "failed", error=str(error), exit_code=1)
    else:
        record.finish(meter, memory, "done")
    return check_record(record.to_dict())


def stage_of(record: RecordFacts, name: str) -> dict[str, Any]:
    """The only stage of a name."""
    (found,) = (dict(stage) for stage in record["stages"] if stage["name"] == name)
    return found
