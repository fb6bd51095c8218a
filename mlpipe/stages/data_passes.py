"""Two sides of a search: rows on their way, gathered into blocks, and data that go by once for every block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.errors import InputError
from mlpipe.link import Array, Block, Blocks, Run, Source
from mlpipe.stages.pairing import Pairing
from mlpipe.stages.search_layout import Layout


class DataPasses:
    """Rows of data, piece by piece and in order, as often as they are asked for.

    Parameters
    ----------
    data : Source
        Where they are.
    layout : Layout
        Whether they are held, and how many come at a time.
    pairing : Pairing
        For its precision, and whether rows that were handed out are left as they are.
    run : Run
        In which they are read.
    name : str
        Of the link that reads them, as in `side_sources`.
    passes : int or None
        How many there will be; None if that is not known.
    """

    def __init__(
        self, data: Source, layout: Layout, pairing: Pairing, run: Run, name: str, passes: int | None = None
    ) -> None:
        self._rows, self._layout = int(data.spec.rows or 0), layout
        self._features = pairing.features
        turns = 1 if layout.held else passes
        ranges = (
            (start, min(self._rows, start + layout.read_rows))
            for _ in (itertools.count() if turns is None else range(turns))
            for start in range(0, self._rows, layout.read_rows)
        )
        self._blocks = run.read(data, ranges, pairing.compute_dtype, name)
        self._held = pairing.empty_rows(self._rows) if layout.held else None
        self._filled = False
        copies = layout.held and not pairing.keeps_rows
        self._copy = pairing.empty_rows(min(self._rows, layout.step_rows)) if copies else None

    def each(self) -> Iterator[tuple[Array, int]]:
        """All rows once: some rows, which may be overwritten, and the index of the first."""
        if self._filled and self._held is not None:
            yield from self._again(self._held)
            return
        done = 0
        while done < self._rows:
            block = next(self._blocks)
            rows = block.data.reshape(len(block.data), self._features)
            if self._held is not None:
                self._held[done : done + len(rows)] = rows
            yield rows, done
            done += len(rows)
            block.release()
        self._filled = True

    def _again(self, held: Array) -> Iterator[tuple[Array, int]]:
        """Rows that are held; a copy of them where they would be overwritten."""
        for first in range(0, self._rows, self._layout.step_rows):
            rows = held[first : first + self._layout.step_rows]
            if self._copy is not None:
                self._copy[: len(rows)] = rows
                rows = self._copy[: len(rows)]
            yield rows, first


class Queries:
    """Rows on their way, as many at once as a search takes, in one memory.

    Parameters
    ----------
    blocks : iterator of Block
        As they come; released.
    rows : int
        Of a block of queries, at most.
    pairing : Pairing
        For its precision.
    """

    def __init__(self, blocks: Blocks, rows: int, pairing: Pairing) -> None:
        self._blocks, self._buffer = blocks, pairing.empty_rows(rows)
        self._features = pairing.features
        self._block: Block | None = None
        self._used = 0

    def each(self) -> Iterator[tuple[Array, float]]:
        """Queries, which may be overwritten, and their share of the run's output."""
        while True:
            filled, share = 0, 0.0
            while filled < len(self._buffer) and (block := self._next()) is not None:
                flat = block.data.reshape(len(block.data), self._features)
                count = min(len(flat) - self._used, len(self._buffer) - filled)
                with np.errstate(over="ignore"):
                    self._buffer[filled : filled + count] = flat[self._used : self._used + count]
                share += block.share * count / len(flat)
                self._used, filled = self._used + count, filled + count
                if self._used == len(flat):
                    block.release()
                    self._block = None
            if filled:
                yield self._buffer[:filled], share
            if filled < len(self._buffer):
                return

    def _next(self) -> Block | None:
        """The block of which not all rows are taken, else one that comes."""
        while self._block is None or not len(self._block.data):
            if self._block is not None:
                self._block.release()
            self._block, self._used = next(self._blocks, None), 0
            if self._block is None:
                return None
        return self._block


def check_place(stop: int, rows: int, name: str) -> None:
    """Raise InputError for queries that should be rows of the data, but are too many.

    Parameters
    ----------
    stop : int
        Queries there are, at least.
    rows : int
        Of data.
    name : str
        Of the data.
    """
    if stop > rows:
        raise InputError(f"--self: {stop} rows or more come in, but {name} has {rows}; they must be the same rows")


def warm_rows(pairing: Pairing, count: int) -> Array:
    """A few rows for compiling kernels: as good as any."""
    rows = aligned_empty((count, pairing.features), pairing.compute_dtype)
    rows[:] = np.arange(1, count + 1)[:, None]
    return rows
