"""What stages have in common that make a new block of each that comes, row for row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from mlpipe.link import Array, Block, Blocks, Held, Room, Run, Spec
from mlpipe.stages.streaming import BUFFERS, Buffers, Parts, Streaming, buffer_bytes


@dataclass(frozen=True)
class Mapped(Streaming):
    """A stage that makes a new row of each; what differs is `plan` and `fill`."""

    kernel_bytes: ClassVar[int] = 0
    """What compiling its kernels takes, besides what every plan counts for the first ones."""

    def fill(self, data: Array, out: Array, first: int, run: Run) -> None:
        """Fill `out` from rows of the same number, of which the first is at position `first`."""
        raise NotImplementedError

    def prepare(self, spec: Spec) -> None:
        """Compile what `fill` needs for rows of `spec`."""

    def hold(self, spec: Spec, room: Room) -> Held:
        """Buffers for the blocks it makes."""
        rows, made = max(1, room.block_rows), self.plan(spec)
        held = {"blocks": buffer_bytes(made, rows)}
        if self.kernel_bytes:
            held["kernels"] = self.kernel_bytes
        return Held(rows, spec.dtype, held, {}, spec)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """A new block for each; for each part of one that is larger than was planned."""
        with run.lane.state("compile"):
            self.prepare(held.layout)
        buffers, place = Buffers(run, self.plan(held.layout), held.block_rows, BUFFERS), 0
        for whole in blocks:
            for block in _cut(whole, held.block_rows):
                made = buffers.take(len(block.data))
                self.fill(block.data, made.data, place, run)
                if made.labels is not None:
                    made.labels[:] = block.labels
                made.start, made.share = place, block.share
                place += len(block.data)
                block.release()
                run.lane.count(rows=len(made.data), nbytes=made.data.nbytes)
                yield made


def _cut(block: Block, rows: int) -> Blocks:
    """A block in parts of so many rows."""
    if len(block.data) <= rows:
        yield block
        return
    parts = Parts(block)
    for start in range(0, len(block.data), rows):
        yield parts.take(start, min(start + rows, len(block.data)))
    parts.done()


def pieces(rows: int, threads: int) -> Iterable[slice]:
    """Rows in pieces for the workers: a few for each, so that none waits long for another.

    Examples
    --------
    >>> list(pieces(5, 1))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    size = max(1, -(-rows // (4 * threads)))
    return (slice(start, start + size) for start in range(0, rows, size))
