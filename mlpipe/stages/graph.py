"""Neighbours of rows among themselves become a symmetric graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Block, Blocks, Flow, Held, Room, Run, Spec
from mlpipe.stages.links import Lists, Piece, piece_bytes, pieces
from mlpipe.stages.streaming import Streaming
from mlpipe.workers import Workers
from mlpipe.writers.temporary import check_directory

KERNEL_BYTES = 5 << 20
"""What compiling takes, besides what a search takes for that (measured: 4 MiB)."""

COUNT_BYTES = 40
"""For each row: how often it is named, how large it is, and where it ends."""


@dataclass(frozen=True)
class Layout:
    """How the room is shared out.

    Parameters
    ----------
    in_file : bool
        Whether lists go into a temporary file.
    piece_room : int
        Bytes for making a piece of the graph.
    spec : Spec
        What comes in.
    """

    in_file: bool
    piece_room: int
    spec: Spec


Deliver: TypeAlias = "Callable[[Iterator[Piece], Run], None]"
"""Takes the rows of the graph, piece by piece, in order."""


@dataclass(frozen=True)
class Graphing(Streaming):
    """Makes a graph of neighbours: rows are their indices, labels their distances.

    Parameters
    ----------
    mutual : bool
        Whether rows are joined only where each is a neighbour of the other, and not where one is.
    directory : str
        Where temporary files go.
    deliver : callable
        Takes the graph; no rows come out.
    beside, row_beside : int
        Bytes that `deliver` takes, altogether and for each row.
    """

    mutual: bool
    directory: str
    deliver: Deliver
    beside: int = 0
    row_beside: int = 0

    @property
    def name(self) -> str:
        """What reports call it."""
        return "graph"

    @property
    def flow(self) -> Flow:
        """Merges all lists to one graph."""
        return "reducing"

    def plan(self, spec: Spec) -> Spec:
        """No rows."""
        return Spec(None, (), np.dtype(np.int64))

    def hold(self, spec: Spec, room: Room) -> Held:
        """Lists, in memory where they fit; the rest is for the pieces of the graph."""
        rows, k, dtype = self._sizes(spec)
        lists, counts = rows * k * (8 + dtype.itemsize), (COUNT_BYTES + self.row_beside) * rows
        apart = self.beside + KERNEL_BYTES
        chunk = min(lists, Lists.chunk_rows(k, dtype) * k * (8 + dtype.itemsize))
        least = piece_bytes(rows + k, 1, dtype)  # somebody whom all others name
        whole = piece_bytes(2 * rows * k, rows, dtype)
        nbytes = room.nbytes - counts - apart
        in_file = lists + min(whole, max(least, lists)) > nbytes
        kept = chunk if in_file else lists
        if kept + least > nbytes:
            raise MemoryCeilingError("a graph does not fit", needs=apart + counts + chunk + least)
        piece = max(least, min(whole, nbytes - kept))
        if in_file:
            check_directory(self.directory, lists)
        facts = {"mutual": self.mutual, "lists_kept": f"in {self.directory}" if in_file else "in memory"}
        held = {"lists": kept, "counts": counts, "pieces": piece, "kernels and output": apart}
        return Held(room.block_rows, spec.dtype, held, facts, Layout(in_file, piece, spec))

    @staticmethod
    def _sizes(spec: Spec) -> tuple[int, int, np.dtype[Any]]:
        """Rows, neighbours of each, and the dtype of distances."""
        if spec.labels is None or spec.rows is None:
            raise ValueError("neighbours of so many rows come with their distances")
        return spec.rows, int(spec.row_shape[0]), spec.labels.dtype

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Keep the lists, and then hand the graph over."""
        layout: Layout = held.layout
        rows, k, dtype = self._sizes(layout.spec)
        with run.lane.state("compile"):
            compile_kernels(k, dtype)
        with ExitStack() as files:
            lists = Lists(rows, k, dtype, self.directory if layout.in_file else None, files)
            for block in blocks:
                lists.append(block)
                run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
                share = block.share
                block.release()
                yield Block(0, np.empty(0, np.int64), share=share)
            self.deliver(_counted(pieces(lists, self.mutual, layout.piece_room, run.workers), run), run)


def _counted(graph: Iterator[Piece], run: Run) -> Iterator[Piece]:
    """Pieces, of which the clock of the stage is told."""
    for piece in graph:
        run.lane.gave(piece.counts.nbytes + piece.neighbours.nbytes + piece.distances.nbytes)
        yield piece
        del piece  # before the next one is made


def compile_kernels(k: int, dtype: np.dtype[Any]) -> None:
    """Compile or load the kernels, by a graph of no rows."""
    with ExitStack() as files, Workers(1) as workers:
        lists = Lists(1, k, dtype, None, files)
        lists.append(Block(0, np.full((1, k), -1), labels=np.full((1, k), np.nan, dtype)))
        for _ in pieces(lists, False, 1, workers):
            pass
