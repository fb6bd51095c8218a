"""``skip``: all but the first rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.link import Blocks, Held, Run, Source, Spec
from mlpipe.stages.streaming import Parts, Streaming
from mlpipe.stages.views import SliceSource


@dataclass(frozen=True)
class Skip(Streaming):
    """All but the first rows.

    Right after a source that can seek, they are not read.

    Example: mlpipe run read examples/data/digits.npy then skip --rows 1000 then nothing
    """

    rows: int = option(help="How many are left out.", metavar="N")

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise UsageError(f"skip --rows {self.rows}: give 0 or more")

    def view(self, source: Source) -> Source:
        """The same as a source."""
        return SliceSource(source, self.rows, source.spec.rows)

    def plan(self, spec: Spec) -> Spec:
        """So many rows fewer."""
        return replace(spec, rows=None if spec.rows is None else max(0, spec.rows - self.rows))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Drop rows, whose share of the input goes to the first that is kept."""
        yield from skipped(blocks, self.rows, run)


def skipped(blocks: Blocks, rows: int, run: Run) -> Blocks:
    """Blocks without the first rows, positions counted anew."""
    left, share, place = rows, 0.0, 0
    for block in blocks:
        dropped = min(left, len(block.data))
        left -= dropped
        if dropped == len(block.data):
            share += block.share
            block.release()
            continue
        kept = block
        if dropped:
            parts = Parts(block)
            kept = parts.take(dropped, len(block.data))
            parts.done()
            kept.share = block.share
        kept.share, share = kept.share + share, 0.0
        kept.start = place
        place += len(kept.data)
        run.lane.count(rows=len(kept.data), nbytes=kept.data.nbytes)
        yield kept
