"""``tail``: the last rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.link import Block, Blocks, Flow, Held, Room, Run, Source, Spec
from mlpipe.stages.held import HeldRows, check_room, held_bytes
from mlpipe.stages.skip import skipped
from mlpipe.stages.streaming import Streaming
from mlpipe.stages.views import SliceSource


@dataclass(frozen=True)
class Tail(Streaming):
    """The last rows.

    Right after a source that can seek, the other rows are not read. Where it is not known ahead how many rows come,
    as many as asked for are held in memory.

    Example: mlpipe run read examples/data/digits.npy then tail --rows 10 then nothing
    """

    rows: int = option(10, help="How many.", metavar="N")

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise UsageError(f"tail --rows {self.rows}: give 0 or more")

    @property
    def flow(self) -> Flow:
        """Holds rows where their number is not known ahead."""
        return "buffering"

    def view(self, source: Source) -> Source:
        """The same as a source."""
        self.plan(source.spec)
        total = source.spec.rows or 0
        return SliceSource(source, max(0, total - self.rows), total)

    def plan(self, spec: Spec) -> Spec:
        """As many rows as asked for, or all there are."""
        if spec.endless:
            raise UsageError("tail: these rows never stop coming, so none are the last; put head --rows N before it")
        return replace(spec, rows=None if spec.rows is None else min(spec.rows, self.rows))

    def hold(self, spec: Spec, room: Room) -> Held:
        """The last rows so far, unless it is known how many come."""
        if spec.rows is not None:
            return Held(room.block_rows, spec.dtype, {}, {}, spec)
        nbytes = held_bytes(spec, self.rows)
        check_room(nbytes, room, f"tail --rows {self.rows} holds them all")
        return Held(room.block_rows, spec.dtype, {"last rows": nbytes}, {}, spec)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Drop rows before the last ones, or hold these until no more come."""
        spec: Spec = held.layout
        if spec.rows is not None:
            yield from skipped(blocks, max(0, spec.rows - self.rows), run)
            return
        last, seen = HeldRows(spec, self.rows), 0
        for block in blocks:
            seen = self._keep(last, block, seen)
            block.release()
        first = place = max(0, seen - self.rows)
        while place < seen:
            at = place % self.rows
            made = last.block(at, min(self.rows, at + seen - place, at + max(1, held.block_rows)), 0.0)
            made.start = place - first
            made.share = len(made.data) / (seen - first)
            place += len(made.data)
            run.lane.count(rows=len(made.data), nbytes=made.data.nbytes)
            yield made

    def _keep(self, last: HeldRows, block: Block, seen: int) -> int:
        """Put a block's rows in place of the oldest; returns how many came so far."""
        place, stop = seen + max(0, len(block.data) - self.rows), seen + len(block.data)
        while place < stop and self.rows:
            at = place % self.rows
            count = min(self.rows - at, stop - place)
            last.put(at, block, place - seen, place - seen + count)
            place += count
        return stop
