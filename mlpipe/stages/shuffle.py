"""``shuffle``: rows in random order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.link import Array, Block, Blocks, Flow, Held, Room, Run, Source, Spec, Stage
from mlpipe.measure.memory import available_bytes
from mlpipe.opening import Opening
from mlpipe.stages.held import HeldRows, check_room, held_bytes, own_rows
from mlpipe.stages.streaming import Parts, Streaming
from mlpipe.stages.views import ShuffledSource

MOST_BUFFERED = 1 << 32


@dataclass(frozen=True)
class Shuffle:
    """Rows in random order, the same for the same seed and epoch.

    All rows are shuffled, and every order is equally likely. Right after a source that can seek and fits into free
    memory, rows are read in that order; else they go through temporary files once. With --buffer-size each row
    is drawn from so many that are held, so that rows can stream by, endlessly if need be, in an order less random.

    Example: mlpipe run read examples/data/digits.npy then shuffle --seed 7 then nothing
    """

    seed: int = option(0, help="Any whole number.", metavar="N")
    epoch: int = option(0, help="Another order for each.", metavar="N")
    buffer_size: int | None = option(None, help="Rows to draw from, instead of all.", metavar="N")
    temp_dir: str | None = option(None, help="Where temporary files go; by default beside the output.", metavar="DIR")

    reorders: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.buffer_size is not None and not 1 <= self.buffer_size < MOST_BUFFERED:
            raise UsageError(f"shuffle --buffer-size {self.buffer_size}: give 1 or more, below {MOST_BUFFERED}")

    @property
    def flow(self) -> Flow:
        """All rows have to come before the first leaves."""
        return "fitting" if self.buffer_size is None else "buffering"

    def view(self, source: Source) -> Source | None:
        """The same as a source, if all rows are wanted, have an end, and can be read in any order from memory."""
        from mlpipe.stages.permutation import Permutation

        spec = source.spec
        if self.buffer_size is not None or spec.rows is None or not _fits(spec):
            return None
        return ShuffledSource(source, Permutation(spec.rows, self.seed, self.epoch))

    def open(self, opening: Opening) -> Stage:
        """A stage that holds some rows, or one that takes all of them through temporary files."""
        if self.buffer_size is not None:
            return BufferShuffle(self.buffer_size, self.seed, self.epoch)
        from mlpipe.stages.external import ExternalShuffle

        return ExternalShuffle(self.seed, self.epoch, self.temp_dir or opening.temporary, opening.place)


def _fits(spec: Spec) -> bool:
    """Whether the system can keep all rows in memory; where not, reading them in random order takes ages."""
    free = available_bytes()
    return free is None or held_bytes(spec, spec.rows or 0) <= free


@dataclass(frozen=True)
class BufferShuffle(Streaming):
    """Each row is drawn from a buffer, in which the next one takes its place.

    Parameters
    ----------
    size : int
        Rows in the buffer.
    seed, epoch : int
        Of the draws; the n-th row that leaves depends on them and n alone.
    """

    size: int
    seed: int = 0
    epoch: int = 0

    @property
    def name(self) -> str:
        """Its verb."""
        return "shuffle"

    @property
    def flow(self) -> Flow:
        """Holds the buffer."""
        return "buffering"

    def hold(self, spec: Spec, room: Room) -> Held:
        """The buffer, which need not be larger than all rows."""
        size = self.size if spec.rows is None else min(self.size, spec.rows)
        nbytes = held_bytes(spec, size)
        check_room(nbytes, room, f"shuffle --buffer-size {self.size} holds so many rows")
        return Held(room.block_rows, spec.dtype, {"buffer": nbytes}, {"buffer_rows": size}, (spec, size))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Fill the buffer, exchange rows with it, and empty it."""
        spec, size = held.layout
        buffer = _Buffer(spec, size, self)
        place = 0
        for block in buffer.shuffled(blocks, max(1, held.block_rows)):
            block.start = place
            place += len(block.data)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block


class _Buffer:
    """Rows to draw from, and how many left."""

    def __init__(self, spec: Spec, size: int, shuffle: BufferShuffle) -> None:
        from mlpipe.keys import key

        self._rows = HeldRows(spec, size)
        self._size, self._filled, self._share, self._left = size, 0, 0.0, 0
        self._key = key(shuffle.seed, shuffle.epoch, "shuffle buffer")

    def shuffled(self, blocks: Blocks, block_rows: int) -> Blocks:
        """Blocks of drawn rows, in the memory of those that came, and at the end of the buffer."""
        for block in blocks:
            yield from self._pass(block) if self._filled < self._size else self._exchanged(block)
        yield from self._rest(block_rows)

    def _pass(self, block: Block) -> Iterator[Block]:
        """Take rows until the buffer is full."""
        count = min(len(block.data), self._size - self._filled)
        parts = Parts(block)
        taken = parts.take(0, count)
        self._rows.put(self._filled, taken, 0, count)
        self._filled += count
        self._share += taken.share
        taken.release()
        if count < len(block.data):
            yield from self._exchanged(parts.take(count, len(block.data)))
        parts.done()

    def _exchanged(self, block: Block) -> Iterator[Block]:
        """Each row of a block for one of the buffer."""
        from mlpipe.kernels.gather import exchange

        slots = self._draw(len(block.data), self._size, shrinks=False)
        for rows, store in zip(own_rows(block), self._rows.arrays(), strict=True):
            exchange(rows, store, slots)
        yield block

    def _rest(self, block_rows: int) -> Iterator[Block]:
        """What is in the buffer at the end."""
        from mlpipe.kernels.gather import settle

        for start in range(0, self._filled, block_rows):
            stop = min(self._filled, start + block_rows)
            slots = self._draw(stop - start, self._filled - start, shrinks=True)
            for store in self._rows.arrays():
                settle(store, start, slots)
            yield self._rows.block(start, stop, self._share * (stop - start) / self._filled)

    def _draw(self, count: int, size: int, *, shrinks: bool) -> Array:
        """Slots for the next rows that leave."""
        from mlpipe.kernels.order import draw_slots

        slots = np.empty(count, np.int64)
        draw_slots(self._key, self._left, size, shrinks, slots)
        self._left += count
        return slots
