"""``repeat``: all rows several times."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import MemoryCeilingError, UsageError
from mlpipe.link import Array, Block, Blocks, Flow, Held, Room, Run, Source, Spec, Stage
from mlpipe.stages.held import HeldRows, check_room, held_bytes, own_rows
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
    shuffled: tuple[int, int] | None = None
    """Seed and epoch of a global shuffle right before, which is done anew for every epoch; see `after`."""

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

    def after(self, stage: Stage) -> Repeat:
        """What it has to be right after a stage."""
        shuffled: tuple[int, int] | None = getattr(stage, "shuffled", None)
        return replace(self, shuffled=shuffled)

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
        kept = _Kept(spec)
        for block in blocks:
            nbytes -= held_bytes(spec, len(block.data))
            if nbytes < 0:
                raise MemoryCeilingError(
                    "repeat holds all rows, which do not fit; write them to a file first, or use more --memory"
                )
            kept.add(block)
            block.share *= part
            yield block
        buffers = Buffers(run, spec, kept.largest, BUFFERS)
        for epoch in range(1, self.count) if self.count else itertools.count(1):
            if not kept.count:
                return
            order = None if self.shuffled is None else _order(kept.count, *self.shuffled, epoch)
            for start, stop in itertools.pairwise(kept.bounds):
                made = buffers.take(stop - start)
                positions = np.arange(start, stop)
                kept.fill(made, positions if order is None else order(positions))
                made.share = part * (stop - start) / kept.count
                yield made


def _order(count: int, seed: int, first: int, epoch: int) -> Callable[[Array], Array]:
    """Where, in the order of the first epoch, the rows are that come at some positions in a later one."""
    from mlpipe.stages.permutation import Permutation

    before, now = Permutation(count, seed, first), Permutation(count, seed, first + epoch)
    return lambda positions: before.positions_of(now.rows_at(positions))


class _Kept:
    """Copies of all blocks.

    Parameters
    ----------
    spec : Spec
        Of their rows.

    Attributes
    ----------
    bounds : list of int
        The first row of each, and the number of all rows.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec, self.bounds = spec, [0]
        self._parts: list[HeldRows] = []

    @property
    def count(self) -> int:
        """Rows so far."""
        return self.bounds[-1]

    @property
    def largest(self) -> int:
        """Rows of the largest block."""
        return max((stop - start for start, stop in itertools.pairwise(self.bounds)), default=1)

    def add(self, block: Block) -> None:
        """Copy a block."""
        rows = HeldRows(self._spec, len(block.data))
        rows.put(0, block, 0, len(block.data))
        self._parts.append(rows)
        self.bounds.append(self.count + len(block.data))

    def fill(self, block: Block, positions: Array) -> None:
        """Fill a block with the rows at some positions."""
        from mlpipe.kernels.gather import gather, locate

        bounds, addresses = np.array(self.bounds), np.empty(len(positions), np.int64)
        parts = np.zeros(len(self._parts), np.bool_)
        for n, out in enumerate(own_rows(block)):
            if out.size:
                firsts = np.array([part.arrays()[n].ctypes.data for part in self._parts])
                locate(bounds, firsts, out.shape[1], positions, addresses, parts)
                gather(addresses, out)
