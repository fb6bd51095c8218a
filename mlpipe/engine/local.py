"""Carry out a plan with threads: readers ahead of the thread that computes, a writer behind it.

The thread that calls `run` computes, so that signals, which Python delivers to the main thread, are seen
between two kernel calls. What is in flight is bounded by pools of buffers.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress

import numpy as np

from mlpipe.buffers import Channel, Closed, Pool
from mlpipe.engine.budget import Plan
from mlpipe.engine.reader import Reader
from mlpipe.engine.writer import Writer, check_unchanged, size_of
from mlpipe.errors import at_link
from mlpipe.link import BLOCKS_AHEAD, Array, Block, Blocks, Source
from mlpipe.measure.compiling import compiling_told
from mlpipe.measure.in_flight import InFlight
from mlpipe.measure.meter import NULL_METER, Lane, Meter, State
from mlpipe.pipeline import Pipeline
from mlpipe.workers import Workers

GRACE = 2.0
"""Seconds a thread gets to end once the run is over: it may be writing to a pipe that nobody reads any more."""


COMPUTE = "compute"
"""What reports call the thread that computes."""


def _nothing(_share: float) -> None:
    """No progress is shown."""


def run(plan: Plan, meter: Meter = NULL_METER, advance: Callable[[float], None] = _nothing) -> int:
    """Carry out a plan. On an error or a signal the output is discarded and every thread ended.

    Parameters
    ----------
    plan : Plan
        From `mlpipe.engine.budget.plan`.
    meter : Meter
        What measures it.
    advance : callable
        Told, from the writer's thread, which share of the output was completed.

    Returns
    -------
    int
        Rows that went to the sink, which the plan may not have known.
    """
    with _running(plan, meter) as local:
        writer = Writer(local, plan, advance)
        for block in _chain(plan, local):
            writer.put(block)
        local.end()
        writer.finish()
        return writer.rows


def iterate(plan: Plan, meter: Meter = NULL_METER, *, keep: bool = True) -> Blocks:
    """Carry out a plan up to its sink, which gets nothing: the blocks go to the caller.

    Parameters
    ----------
    plan : Plan
        From `mlpipe.engine.budget.plan`.
    meter : Meter
        What measures it.
    keep : bool
        Whether the caller may keep the arrays.

    Yields
    ------
    Block
        In order. When the caller stops early, every thread ends.
    """
    with _running(plan, meter, reuse=not keep) as local:
        for block in _chain(plan, local):
            yield block
            block.release()
        local.end()
        check_unchanged(plan.pipeline)


@contextmanager
def _running(plan: Plan, meter: Meter, *, reuse: bool = True) -> Iterator[LocalRun]:
    """A run, with the clocks of all that computes; when it is over every thread has ended."""
    meter.begin()
    pipeline = plan.pipeline
    measuring = nullcontext() if meter is NULL_METER else compiling_told()
    clocks = [meter.helping(f"worker {number}") for number in range(1, plan.threads)]
    with Workers(plan.threads, clocks) as workers, measuring, meter.thread(COMPUTE):
        names = [stage.name for stage in pipeline.stages] or ["hand on"]
        readers = {name: plan.readers if name == pipeline.reading else 1 for name in _sources(pipeline)}
        local = LocalRun(workers, meter, readers, names, reuse=reuse)
        for clock in clocks:
            local.start(clock, "wait_in")
        try:
            yield local
        except Closed:
            raise local.error or RuntimeError("a channel was closed before the run was over") from None
        finally:
            local.close()


def _sources(pipeline: Pipeline) -> dict[str, Source]:
    """What is read, by the name of the link that reads it."""
    sources = {pipeline.reading: pipeline.source}
    for stage in pipeline.stages:
        sources.update(stage.side_sources)
    return sources


def _said_of(blocks: Blocks, link: str, verb: str = "") -> Blocks:
    """Blocks of a link, which the errors that come up in making them name."""
    with at_link(link, verb):
        # Not `yield from`: it would end a stage that goes on when nobody asks for more (tee).
        for block in blocks:  # noqa: UP028
            yield block


def _chain(plan: Plan, local: LocalRun) -> Blocks:
    """What comes out of the last stage."""
    pipeline, source, stages = plan.pipeline, plan.pipeline.source, plan.pipeline.stages
    rows, step = int(source.spec.rows or 0), plan.block_rows
    if source.spec.endless:
        ranges = ((start, start + step) for start in itertools.count(0, step))
    else:
        ranges = ((start, min(start + step, rows)) for start in range(0, rows, step))
    blocks = local.read(source, ranges, plan.dtype, pipeline.reading, plan.blocks_ahead)
    blocks = _said_of(blocks, pipeline.first_link)
    if not (stages and stages[0].chooses):
        blocks = _with_shares(blocks, rows)
    measured = local.meter is not NULL_METER  # else nobody asks for the time: a microsecond a block and stage
    for place, (stage, held, lane) in enumerate(zip(stages, plan.held, local.lanes, strict=False)):
        link = pipeline.link(place)
        run = _StageRun(local, lane, link, stage.name)
        blocks = stage.apply(_pulled(blocks, lane) if measured else blocks, held, run)
        blocks = _said_of(blocks, link, stage.name)
        if measured and lane is not local.lane:
            blocks = _handed_on(blocks, lane)
    if not measured:
        return blocks
    return _given(blocks if stages else _pulled(blocks, local.lane), local.lane)


def _pulled(blocks: Blocks, lane: Lane) -> Blocks:
    """Blocks for a stage, whose clock says so while the links before it work."""
    while True:
        before = lane.now
        lane.enter("wait_in")
        try:
            block = next(blocks, None)
        finally:
            lane.enter(before)
        if block is None:
            return
        lane.took(size_of(block))
        yield block


def _handed_on(blocks: Blocks, lane: Lane) -> Blocks:
    """Blocks of a stage, whose clock says so while the links behind it work."""
    lane.enter("self")
    for block in blocks:
        lane.gave(size_of(block))
        lane.enter("wait_out")  # and it stays so when nobody asks for more
        yield block
        lane.enter("self")
    lane.enter("wait_out")


def _given(blocks: Blocks, lane: Lane) -> Blocks:
    """Blocks of the last stage, which is at work whenever nothing else is said."""
    for block in blocks:
        lane.gave(size_of(block))
        yield block


def _taken(blocks: Blocks, lane: Lane) -> Blocks:
    """Blocks that a stage reads besides those that come in."""
    for block in blocks:
        lane.took(size_of(block))
        yield block


def _with_shares(blocks: Blocks, rows: int) -> Blocks:
    """Blocks that say which share of the input they are; a stage that hands on others hands it on with them."""
    for block in blocks:
        block.share = len(block.data) / rows if rows else 0.0  # of endless rows none is any share
        yield block


class LocalRun:
    """One run: its workers, its threads, and every channel and pool that somebody may wait at."""

    def __init__(
        self, workers: Workers, meter: Meter, readers: Mapping[str, int], stages: Sequence[str], *, reuse: bool = True
    ) -> None:
        self.workers, self.meter, self._reuse = workers, meter, reuse
        self._clocks: list[Lane] = []
        self._read_lanes = {
            name: [self.clock(name, f"{name} {place + 1}" if count > 1 else name) for place in range(count)]
            for name, count in readers.items()
        }
        self.lanes = [
            self.clock(name, COMPUTE, "wait_out" if place + 1 < len(stages) else "self")
            for place, name in enumerate(stages)
        ]
        self.lane = self.lanes[-1]
        self.over = threading.Event()
        self.error: BaseException | None = None
        self._waited: list[Channel[Block] | Pool] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._ends: list[Callable[[], None]] = []

    def clock(self, name: str, thread: str, state: State = "wait_out") -> Lane:
        """A clock that runs as long as the run, so that its states add up to that; threads may come and go."""
        lane = self.meter.lane(name, thread)
        self.start(lane, state)
        return lane

    def start(self, lane: Lane, state: State) -> None:
        """Start a clock, to be stopped with the run."""
        lane.start(state)
        self._clocks.append(lane)

    def at_end(self, function: Callable[[], None]) -> None:
        """Call a function once the last stage has handed on all its blocks."""
        self._ends.append(function)

    def end(self) -> None:
        """Call what was asked for, from the last stage to the first: a stage still gets what those before it take."""
        while self._ends:
            self._ends.pop()()

    def pool(self, count: int, make: Callable[[], Array], in_flight: InFlight | None = None) -> Pool:
        """A pool of buffers that lasts as long as the run, and tells what is in use."""
        pool = Pool(count, make, reuse=self._reuse, in_flight=in_flight)
        self._add(pool)
        return pool

    def channel(self) -> Channel[Block]:
        """A channel that lasts as long as the run."""
        channel: Channel[Block] = Channel()
        self._add(channel)
        return channel

    def _add(self, waited: Channel[Block] | Pool) -> None:
        with self._lock:
            self._waited.append(waited)
        if self.over.is_set():
            waited.close()

    def thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        """Start a thread that ends with the run."""
        thread = threading.Thread(target=target, name=f"mlpipe-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def fail(self, error: BaseException) -> None:
        """End the run with an error that came up in another thread than the one that computes."""
        self.error = self.error or error
        self.stop()

    def stop(self) -> None:
        """Wake everybody who waits, so that all threads end."""
        self.over.set()
        with self._lock:
            waited = list(self._waited)
        for one in waited:
            one.close()

    def close(self) -> None:
        """End all threads, but for one that is stuck in the system: that ends with the process."""
        self.stop()
        for thread in self._threads:
            with suppress(RuntimeError):  # a signal came before it was started
                thread.join(GRACE)
        for number, helper in enumerate(self.workers.helpers, 1):
            self.meter.helper(f"worker {number}", helper)
        self.workers.close()
        for lane in self._clocks:
            lane.stop()

    def read(
        self,
        source: Source,
        ranges: Iterable[tuple[int, int]],
        dtype: np.dtype[np.generic],
        name: str,
        in_flight: int = BLOCKS_AHEAD,
        *,
        waiting: Lane | None = None,
    ) -> Blocks:
        """Blocks of the row ranges, none longer than the first, read ahead by threads of their own."""
        reader = Reader(self, source, iter(ranges), dtype, self._read_lanes[name], in_flight)
        return reader.blocks(waiting or self.lane)


class _StageRun:
    """The run as one of its stages sees it: with a clock of its own."""

    def __init__(self, run: LocalRun, lane: Lane, link: str, verb: str) -> None:
        self._run, self.lane, self.workers = run, lane, run.workers
        self._link, self._verb = link, verb

    def at_end(self, function: Callable[[], None]) -> None:
        """Call a function once the last stage has handed on all its blocks."""

        def named() -> None:
            with at_link(self._link, self._verb):
                function()

        self._run.at_end(named)

    def read(self, source: Source, ranges: Iterable[tuple[int, int]], dtype: np.dtype[np.generic], name: str) -> Blocks:
        """Blocks of the row ranges."""
        blocks = self._run.read(source, ranges, dtype, name, waiting=self.lane)
        return blocks if self._run.meter is NULL_METER else _taken(blocks, self.lane)

    def pool(self, count: int, make: Callable[[], Array]) -> Pool:
        """A pool of buffers that lasts as long as the run."""
        return self._run.pool(count, make, self.lane.in_flight)
