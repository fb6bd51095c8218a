"""``head``: the first rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.link import Blocks, Held, Run, Source, Spec
from mlpipe.stages.streaming import Parts, Streaming
from mlpipe.stages.views import SliceSource


@dataclass(frozen=True)
class Head(Streaming):
    """The first rows.

    Right after a source that can seek, the other rows are not read.

    Example: mlpipe run read examples/data/digits.npy then head --rows 10 then nothing
    """

    rows: int = option(10, help="How many.", metavar="N")

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise UsageError(f"head --rows {self.rows}: give 0 or more")

    def view(self, source: Source) -> Source:
        """The same as a source."""
        return SliceSource(source, 0, self.plan(source.spec).rows)

    def plan(self, spec: Spec) -> Spec:
        """As many rows as asked for, or all there are."""
        if spec.endless:
            return replace(spec, rows=self.rows, endless=False)
        return replace(spec, rows=None if spec.rows is None else min(spec.rows, self.rows))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Hand on blocks until there are enough rows."""
        left = self.rows
        while left and (block := next(blocks, None)) is not None:
            if len(block.data) > left:
                parts = Parts(block)
                block = parts.take(0, left)
                parts.done()
            left -= len(block.data)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block
