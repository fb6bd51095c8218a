"""``repeat``: all rows several times."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from mlpipe.declare import option
from mlpipe.errors import MemoryCeilingError, UsageError
from mlpipe.link import Block, Blocks, Flow, Held, Room, Run, Source, Spec
from mlpipe.stages.held import HeldRows, check_room, held_bytes
from mlpipe.stages.streaming import BUFFERS, Buffers, Streaming, buffer_bytes
from mlpipe.stages.views import RepeatedSource

FOREVER = "forever"


def _epochs(text: str) -> int | str:
    """A number or ``forever``."""
    if text == FOREVER:
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"repeat --epochs {text}: give a whole number, or {FOREVER}") from None


@dataclass(frozen=True)
class Repeat(Streaming):
    """All rows several times, one after the other.

    Right after a source that can seek, and after shuffle there, which then shuffles anew for each epoch, rows are read
    again. Elsewhere they are held in memory. Repeated forever, rows can be iterated over, or cut off by head.

    Example: mlpipe run read examples/data/digits.npy then shuffle then repeat --epochs 3 then nothing
    """

    epochs: int | Literal["forever"] = option(help="How often, or forever.", metavar="N", parse=_epochs)

    reorders: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.epochs != FOREVER and (not isinstance(self.epochs, int) or self.epochs < 0):
            raise UsageError(f"repeat --epochs {self.epochs}: give 0 or more, or {FOREVER}")

    @property
    def count(self) -> int | None:
        """How often; None for forever."""
        return self.epochs if isinstance(self.epochs, int) else None

    @property
    def flow(self) -> Flow:
        """Holds all rows."""
        return "buffering"

    def view(self, source: Source) -> Source:
        """The same as a source."""
        self.plan(source.spec)
        return RepeatedSource(source, self.count) if source.spec.rows else source

    def plan(self, spec: Spec) -> Spec:
        """So many times the rows; without any, none are repeated."""
        if spec.endless:
            raise UsageError("repeat: these rows never stop coming, so they cannot be repeated; repeat them once only")
        if spec.rows == 0:
            return spec
        if self.count is None:
            return replace(spec, rows=None, endless=True)
        return replace(spec, rows=None if spec.rows is None else spec.rows * self.count)

    def hold(self, spec: Spec, room: Room) -> Held:
        """All rows, and the blocks they are handed on in."""
        buffers = buffer_bytes(spec, room.block_rows)
        nbytes = (room.nbytes - buffers) if spec.rows is None else held_bytes(spec, spec.rows)
        check_room(nbytes + buffers, room, "repeat holds all rows, unless it stands right after a source that can seek")
        return Held(room.block_rows, spec.dtype, {"rows": nbytes, "blocks": buffers}, {}, (spec, nbytes))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Hand on blocks and hold their rows, then hand on these."""
        place = 0
        for block in self._repeated(blocks, held, run):
            block.start = place
            place += len(block.data)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block

    def _repeated(self, blocks: Blocks, held: Held, run: Run) -> Iterator[Block]:
        spec, nbytes = held.layout
        part = 1 / self.count if self.count else 0.0
        if self.count == 0:
            for block in blocks:
                block.release()
            return
        kept: list[Block] = []
        for block in blocks:
            nbytes -= held_bytes(spec, len(block.data))
            if nbytes < 0:
                raise MemoryCeilingError(
                    "repeat holds all rows, which do not fit; write them to a file first, or use more --memory", needs=0
                )
            rows = HeldRows(spec, len(block.data))
            rows.put(0, block, 0, len(block.data))
            kept.append(rows.block(0, len(block.data), block.share * part))
            block.share *= part
            yield block
        buffers = Buffers(run, spec, max((len(one.data) for one in kept), default=1), BUFFERS)
        for _ in range(self.count - 1) if self.count else itertools.count():
            if not kept:
                return
            for one in kept:
                made = buffers.take(len(one.data))
                made.data[:] = one.data
                if made.labels is not None and one.labels is not None:
                    made.labels[:] = one.labels
                made.share = one.share
                yield made
