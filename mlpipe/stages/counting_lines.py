"""The stage that counts the lines or words of a text."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from mlpipe.link import BLOCKS_AHEAD, Block, Blocks, Run, Spec
from mlpipe.stages.counting import Counting, Layout
from mlpipe.stages.subjects import Subject

if TYPE_CHECKING:
    from mlpipe.counting.counted import Counter


@dataclass(frozen=True)
class _Text(Subject):
    """Lines or words."""

    words: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """One column."""
        return ("word",) if self.words else ("line",)


@dataclass(frozen=True)
class CountingLines(Counting):
    """Counts lines, as ``sort | uniq -c`` does, or words.

    Parameters
    ----------
    split : bool
        Count words.
    """

    split: bool = False

    def plan(self, spec: Spec) -> Spec:
        """A table of text and counts, which no array holds."""
        return Spec(None, (2,), np.dtype(np.int64))

    def subjects(self, spec: Spec) -> tuple[Subject, ...]:
        """One table."""
        return (_Text(None, False, None, np.dtype(np.uint8), (), words=self.split),)

    def _least(self, subject: Subject, threads: int) -> int:
        from mlpipe.counting.text import TextTally

        return TextTally.least(threads)

    def _kernel_bytes(self, spec: Spec) -> int:
        from mlpipe.stages.counters import TEXT_KERNELS

        return TEXT_KERNELS

    def _row_bytes(self, spec: Spec, subjects: Sequence[Subject], threads: int) -> int:
        return BLOCKS_AHEAD

    def _counter(self, subject: Subject, layout: Layout) -> Counter:
        from mlpipe.counting.text import TextTally

        room, threads = layout.counter_room, layout.threads
        tally: object = TextTally(split=self.split, room=room, threads=threads, directory=self.directory)
        return cast("Counter", tally)  # its `add` says that text has no weights

    def _count(
        self, blocks: Blocks, layout: Layout, counters: Sequence[Counter], run: Run
    ) -> Generator[Block, None, tuple[int, float]]:
        """Feed all bytes to the counter."""
        [counter], total, seen = counters, layout.spec.rows, 0
        for block in blocks:
            if not len(block.data):  # what follows the end of a stream
                break
            counter.add(block.data, run.workers)
            run.lane.count(rows=0, nbytes=len(block.data))
            seen += len(block.data)
            if total:
                yield Block(0, np.empty((0, 1)), share=len(block.data) / total)
            block.release()
        return seen, 0.0
