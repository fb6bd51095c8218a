"""Reading ahead: one thread or several, whose blocks come out in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from mlpipe.buffers import Channel, Closed, Pool, aligned_empty
from mlpipe.link import Array, Block, Blocks, Source, read_into
from mlpipe.measure.in_flight import InFlight
from mlpipe.measure.meter import Lane, Meter


class Reading(Protocol):
    """What it takes of a run."""

    @property
    def meter(self) -> Meter:
        """What measures it."""

    @property
    def over(self) -> threading.Event:
        """Set when nobody wants anything any more."""

    def channel(self) -> Channel[Block]:
        """A channel that lasts as long as the run."""

    def pool(self, count: int, make: Callable[[], Array], in_flight: InFlight | None = None) -> Pool:
        """A pool of buffers that lasts as long as the run, and tells what is in use."""

    def thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        """Start a thread that ends with the run."""


class Reader:
    """Threads that read row ranges into buffers that go round; blocks come out in order.

    Parameters
    ----------
    run : Reading
        For which they read.
    source : Source
        Read by as many threads as there are lanes; by one, if it cannot seek.
    ranges : iterator of (int, int)
        First rows, and those after the last; none is longer than the first.
    dtype : numpy.dtype
        In which rows are wanted.
    lanes : sequence of Lane
        Clock of each thread.
    in_flight : int
        Blocks there are; one waits for another only while that is being read or in use.
    """

    def __init__(
        self,
        run: Reading,
        source: Source,
        ranges: Iterator[tuple[int, int]],
        dtype: np.dtype[np.generic],
        lanes: Sequence[Lane],
        in_flight: int,
    ) -> None:
        self._run, self._source, self._ranges, self._dtype = run, source, ranges, dtype
        self._in_flight, self._held = in_flight, lanes[0].in_flight
        self._channel = run.channel()
        run.meter.queue(lanes[0].name, self._channel.__len__)
        self._pools: list[Pool] = []
        self._turn, self._done = threading.Lock(), threading.Lock()
        self._begun = self._sent = 0
        self._early: dict[int, Block | BaseException] = {}
        self._at_work = len(lanes)
        for lane in lanes:
            run.thread(partial(self._read, lane), lane.name)

    def blocks(self, lane: Lane) -> Blocks:
        """The blocks, in order; an error comes in the place of the block that could not be read."""
        while (block := self._channel.take(lane, "wait_in")) is not None:
            yield block

    def _read(self, lane: Lane) -> None:
        with self._run.meter.working(lane):
            try:
                while self._one(lane):
                    pass
                with self._done:
                    self._at_work -= 1
                    if not self._at_work:
                        self._channel.finish()
            except Closed:
                return

    def _one(self, lane: Lane) -> bool:
        """Read a block; False when there is none left. No name outlives it that would keep its memory in use."""
        number = None
        try:
            if (found := self._next(lane)) is None:
                return False
            number, block = found
            self._fill(lane, block)
            self._hand_on(number, block)
        except Closed:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again where the blocks are used
            if number is None:
                self._channel.finish(error)
            else:
                self._hand_on(number, error)
            raise Closed from None
        return True

    def _next(self, lane: Lane) -> tuple[int, Block] | None:
        """The next range and its number, with buffers: whoever comes first gets both, so that none is waited for."""
        if not self._turn.acquire(blocking=False):
            with lane.state("wait_out"):
                self._turn.acquire()
        try:
            start, stop = next(self._ranges, (0, 0))
            if start == stop:
                return None
            self._pools = self._pools or self._make_pools(stop - start)
            buffers = [pool.take(lane) for pool in self._pools]
            number = self._begun
            self._begun += 1
        finally:
            self._turn.release()

        def release() -> None:
            for pool, buffer in zip(self._pools, buffers, strict=True):
                pool.give(buffer)

        data, *labels = (buffer[: stop - start] for buffer in buffers)
        return number, Block(start, data, release=release, labels=labels[0] if labels else None)

    def _make_pools(self, rows: int) -> list[Pool]:
        spec = self._source.spec
        kinds = [(spec.row_shape, self._dtype), *([(spec.labels.row_shape, spec.labels.dtype)] if spec.labels else [])]
        makers = [partial(aligned_empty, (rows, *shape), kind) for shape, kind in kinds]
        return [self._run.pool(self._in_flight, make, self._held) for make in makers]

    def _fill(self, lane: Lane, block: Block) -> None:
        """Read a block."""
        read_into(self._source, block.start, block.data, block.labels)
        end = getattr(self._source, "end", None)  # of a stream, which is known once it came
        if end is not None and block.start + len(block.data) > end:
            block.data = block.data[: max(0, end - block.start)]
        spec = self._source.spec
        asked = len(block.data) * (spec.row_bytes + (spec.labels.row_bytes if spec.labels else 0))
        lane.asked(asked)
        lane.gave(block.data.nbytes + (0 if block.labels is None else block.labels.nbytes))
        lane.count(rows=len(block.data), nbytes=asked)

    def _hand_on(self, number: int, found: Block | BaseException) -> None:
        """Hand on all that are in order by now: up to the first error, whichever thread comes to one first."""
        with self._done:
            self._early[number] = found
            while self._sent in self._early:
                one = self._early.pop(self._sent)
                if isinstance(one, BaseException):
                    self._channel.finish(one)
                    return
                self._channel.put(one)
                self._sent += 1
