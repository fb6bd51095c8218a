"""The thread in which the sink lives: opened, written to, and committed or discarded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from mlpipe.buffers import WAKE, Channel, Closed
from mlpipe.engine.budget import Plan
from mlpipe.errors import at_link
from mlpipe.link import Block
from mlpipe.measure.meter import Lane, Meter, State
from mlpipe.pipeline import Pipeline
from mlpipe.writers.nothing import TableSink


class Running(Protocol):
    """What it takes of a run."""

    lane: Lane
    error: BaseException | None

    @property
    def meter(self) -> Meter:
        """What measures it."""

    @property
    def over(self) -> threading.Event:
        """Set when nobody wants anything any more."""

    def clock(self, name: str, thread: str, state: State = "wait_out") -> Lane:
        """A clock that runs as long as the run."""

    def channel(self) -> Channel[Block]:
        """A channel that lasts as long as the run."""

    def thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        """Start a thread that ends with the run."""

    def fail(self, error: BaseException) -> None:
        """End the run with an error."""


def check_unchanged(pipeline: Pipeline) -> None:
    """Raise InputError if something that was read is another file by now."""
    with at_link(pipeline.first_link):
        pipeline.source.check_unchanged()
    for place, stage in enumerate(pipeline.stages):
        with at_link(pipeline.link(place), stage.name):
            for source in stage.side_sources.values():
                source.check_unchanged()


def size_of(block: Block) -> int:
    """Bytes of a block, with its labels."""
    return block.data.nbytes if block.labels is None else block.data.nbytes + block.labels.nbytes


class Writer:
    """A thread in which the sink lives: opened, written to, and committed or discarded."""

    def __init__(self, run: Running, plan: Plan, advance: Callable[[float], None]) -> None:
        self._run, self._pipeline, self._spec, self._advance = run, plan.pipeline, plan.output, advance
        self._sink = plan.pipeline.sink
        name = "write" if self._sink.stored else plan.pipeline.ending
        self._lane = run.clock(name, "write", "wait_in")
        self.rows = 0
        self._channel = run.channel()
        run.meter.queue("write", self._channel.__len__)
        self._done = threading.Event()
        run.thread(self._live, "write")

    def put(self, block: Block) -> None:
        """Hand over a block."""
        self._channel.put(block)

    def finish(self) -> None:
        """Wait until all is written and committed."""
        self._channel.finish()
        with self._run.lane.state("wait_out"):
            # Not `join`: interrupted by a signal, it takes the thread for ended (before Python 3.13).
            while not self._done.wait(WAKE):
                pass
        if self._run.error is not None:
            raise self._run.error

    def _live(self) -> None:
        try:
            link = self._pipeline.link(len(self._pipeline.stages))
            with self._run.meter.working(self._lane, "wait_in") as lane, at_link(link, self._pipeline.ending):
                self._write_all(lane)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that computes
            self._run.fail(error)
        finally:
            self._done.set()

    def _write_all(self, lane: Lane) -> None:
        with lane.state("compile"):
            self._sink.compile(self._spec)
        with self._sink.open(self._spec) as writing:
            rows = -1
            while (block := self._channel.take(lane, "wait_in")) is not None:
                writing.write(block)
                if not isinstance(self._sink, TableSink):
                    rows = self._count(lane, block, rows)
                self._advance(block.share)
                block.release()
            writing.sync()
            check_unchanged(self._pipeline)
            if self._run.over.is_set():  # a signal came meanwhile
                raise Closed

    def _count(self, lane: Lane, block: Block, rows: int) -> int:
        """Take down what was written; return the first of the rows that were counted last."""
        new = block.share > 0 and block.start != rows  # rows come in several tiles, and mirrored
        ends = getattr(block, "ends", None)  # of rows of several lengths
        self.rows = max(self.rows, block.start + len(block.data))
        lane.took(size_of(block))
        if self._sink.stored:
            lane.gave(size_of(block))
        lane.count(rows=len(ends) if ends is not None else len(block.data) if new else 0, nbytes=block.data.nbytes)
        return block.start if new else rows
