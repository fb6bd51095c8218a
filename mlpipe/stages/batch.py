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

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"batch --size {self.size}: give 1 or more")

    def plan(self, spec: Spec) -> Spec:
        """All rows, or those of full batches."""
        if spec.rows is None or not self.drop_last:
            return spec
        return replace(spec, rows=spec.rows // self.size * self.size)

    def hold(self, spec: Spec, room: Room) -> Held:
        """Buffers for the batches that do not lie within one block."""
        held = {"batches": buffer_bytes(spec, self.size)}
        return Held(self.size, spec.dtype, held, {"batch": self.size}, spec)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Parts of blocks where a batch lies within one, copies where it does not."""
        batches = Batches(self.size, Buffers(run, held.layout, self.size, BUFFERS))
        place = 0
        for block in blocks:
            for batch in batches.of(block):
                yield _placed(batch, place, run)
                place += self.size
        last = batches.rest()
        if last is not None and not self.drop_last:
            yield _placed(last, place, run)


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
        """The batch that did not become full."""
        if self._open is not None:
            self._open.data = self._open.data[: self._filled]
            self._open.labels = None if self._open.labels is None else self._open.labels[: self._filled]
        return self._open
