"""``batch``: rows in batches of one size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.link import Block, Blocks, Held, Room, Run, Spec
from mlpipe.stages.streaming import BUFFERS, Buffers, Parts, Streaming, buffer_bytes


@dataclass(frozen=True)
class Batch(Streaming):
    """Rows in batches of one size.

    What follows gets that many rows at a time, and iterating over the chain in Python yields them; a file that is
    written does not show it, but for what --drop-last left out. The last batch may be smaller.

    Example: mlpipe run read examples/data/digits.npy then batch --size 256 --drop-last then nothing
    """

    size: int = option(help="Rows of a batch.", metavar="N")
    drop_last: bool = option(False, help="Leave out a last batch that is not full.")
    epoch_rows: int | None = None
    """Rows after which a batch ends, full or not; for what stands before a repeat, see `each_epoch`."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"batch --size {self.size}: give 1 or more")

    def plan(self, spec: Spec) -> Spec:
        """All rows, or those of full batches."""
        if spec.endless and self.drop_last and self.size > (self.epoch_rows or self.size):
            raise UsageError(
                f"batch --size {self.size} --drop-last: of only {self.epoch_rows} rows no batch is ever full"
            )
        if spec.rows is None or not self.drop_last:
            return spec
        epoch = self.epoch_rows or max(1, spec.rows)
        epochs, rest = divmod(spec.rows, epoch)
        return replace(spec, rows=epochs * (epoch // self.size * self.size) + rest // self.size * self.size)

    def hold(self, spec: Spec, room: Room) -> Held:
        """Buffers for the batches that do not lie within one block."""
        held = {"batches": buffer_bytes(spec, self.size)}
        return Held(self.size, spec.dtype, held, {"batch": self.size}, spec)

    def each_epoch(self, rows: int) -> Batch:
        """What makes the same batches of every repetition of so many rows."""
        return replace(self, epoch_rows=rows)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Parts of blocks where a batch lies within one, copies where it does not."""
        batches = Batches(self.size, Buffers(run, held.layout, self.size, BUFFERS))
        place = 0
        for batch in self._batches(blocks, batches):
            yield _placed(batch, place, run)
            place += len(batch.data)

    def _batches(self, blocks: Blocks, batches: Batches) -> Blocks:
        seen = 0
        for part in blocks if self.epoch_rows is None else cut(blocks, self.epoch_rows):
            seen += len(part.data)
            yield from batches.of(part)
            if self.epoch_rows and seen % self.epoch_rows == 0:
                yield from self._last(batches)
        yield from self._last(batches)

    def _last(self, batches: Batches) -> Blocks:
        last = batches.rest()
        if last is not None and self.drop_last:
            last.release()
        elif last is not None:
            yield last


def cut(blocks: Blocks, rows: int) -> Blocks:
    """Blocks none of which goes beyond a multiple of so many rows."""
    seen = 0
    for block in blocks:
        parts, at = Parts(block), 0
        while at < len(block.data):
            stop = min(len(block.data), at + rows - seen % rows)
            seen += stop - at
            yield parts.take(at, stop)
            at = stop
        parts.done()


def _placed(batch: Block, place: int, run: Run) -> Block:
    batch.start = place
    run.lane.count(rows=len(batch.data), nbytes=batch.data.nbytes)
    return batch


class Batches:
    """Batches of blocks: parts of one where they lie within it, copies where they do not."""

    def __init__(self, size: int, buffers: Buffers) -> None:
        self._size, self._buffers = size, buffers
        self._open: Block | None = None
        self._filled = 0

    def of(self, block: Block) -> Blocks:
        """The batches that a block completes."""
        parts, at = Parts(block), 0
        while at < len(block.data):
            stop = min(len(block.data), at + self._size - self._filled)
            part = parts.take(at, stop)
            at = stop
            if len(part.data) == self._size:
                yield part
            elif (full := self._append(part)) is not None:
                yield full
        parts.done()

    def _append(self, part: Block) -> Block | None:
        """Copy a part into the batch that is being filled; return it once it is full."""
        batch = self._open = self._open or self._buffers.take(self._size)
        stop = self._filled + len(part.data)
        batch.data[self._filled : stop] = part.data
        if batch.labels is not None:
            batch.labels[self._filled : stop] = part.labels
        batch.share += part.share
        part.release()
        self._filled = stop % self._size
        if stop < self._size:
            return None
        self._open = None
        return batch

    def rest(self) -> Block | None:
        """The batch that did not become full; what follows begins another."""
        last, filled = self._open, self._filled
        self._open, self._filled = None, 0
        if last is not None:
            last.data = last.data[:filled]
            last.labels = None if last.labels is None else last.labels[:filled]
        return last
