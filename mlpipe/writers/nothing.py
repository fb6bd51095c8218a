"""``nothing``: a sink that only measures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlpipe.link import Block, Sink, Spec
from mlpipe.opening import Opening


@dataclass(frozen=True)
class Nothing:
    """No output: rows are only counted and measured.

    Example: mlpipe run read examples/data/digits.npy then nothing
    """

    def open(self, opening: Opening) -> Sink:
        """Nothing to open."""
        return NothingSink()


class NothingSink:
    """Counts the rows that come and forgets them."""

    sequential = False
    stored = False

    def __init__(self) -> None:
        self.rows = 0

    def check(self, spec: Spec) -> None:
        """Nothing can fail."""

    def offset(self, spec: Spec) -> int:
        """There is no file."""
        return 0

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[NothingSink]:
        """Start counting."""
        self.rows = 0
        yield self

    def write(self, block: Block) -> None:
        """Count."""
        self.rows += len(block.data)

    def sync(self) -> None:
        """Nothing is stored."""


class TableSink(NothingSink):
    """Stands for a file that the stage before writes itself: rows never come, and none are measured."""

    stored = True
