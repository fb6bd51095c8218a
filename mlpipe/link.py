"""What flows through a chain, and what each kind of link must offer.

A chain is one source, any number of stages, one sink. Blocks of rows flow one way, each with the
position it belongs to, so that a sink may be filled out of order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from mlpipe.buffers import Array as Array

if TYPE_CHECKING:
    from mlpipe.buffers import Pool
    from mlpipe.measure.meter import Lane
    from mlpipe.workers import Workers


@dataclass(frozen=True, slots=True)
class Labels:
    """What a labelled row carries along: a value or an array of them.

    Parameters
    ----------
    row_shape : tuple of int
        Of one row's label; ``()`` for one value.
    dtype : numpy.dtype
        Type of the elements.
    """

    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's label."""
        return int(self.dtype.itemsize) * math.prod(self.row_shape)


@dataclass(frozen=True, slots=True)
class Spec:
    """Rows of one shape and dtype: what a link takes in or hands on.

    Parameters
    ----------
    rows : int or None
        Number of rows; None when it is not known ahead (a pipe).
    row_shape : tuple of int
        Shape of one row; ``()`` when a row is one value.
    dtype : numpy.dtype
        Type of the elements.
    labels : Labels, optional
        What each row carries along besides its values.
    endless : bool
        Whether rows never stop coming; then their number is None, and nothing that has to see them all can take them.

    Examples
    --------
    >>> Spec(10, (4,), np.dtype("f4")).nbytes
    160
    """

    rows: int | None
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labels: Labels | None = None
    endless: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, without its label."""
        return int(self.dtype.itemsize) * math.prod(self.row_shape)

    @property
    def nbytes(self) -> int | None:
        """Bytes of all rows, or None when their number is not known."""
        return None if self.rows is None else self.rows * self.row_bytes


def _keep() -> None:
    """Do nothing: the block owns its memory."""


@dataclass(slots=True)
class Block:
    """Rows (or a tile of them) on their way through a chain.

    Parameters
    ----------
    start : int
        Position of the first row.
    data : ndarray, shape (rows, ...)
        The values. The memory may be reused once `release` was called.
    column : int
        Position of the first column, for a tile of a wider output.
    release : callable
        Called once by the last user of `data`: gives the buffer back.
    share : float
        Which part of the run's output it completes, for progress; all blocks together make 1.
    labels : ndarray, shape (rows, ...), optional
        What the rows carry along; its memory goes with that of `data`.
    """

    start: int
    data: Array
    column: int = 0
    release: Callable[[], None] = _keep
    share: float = 0.0
    labels: Array | None = None


class Source(Protocol):
    """Something that yields rows. Open from construction to `close`; a context manager."""

    @property
    def spec(self) -> Spec:
        """The rows this source holds."""

    @property
    def name(self) -> str:
        """What messages call it, usually the path as the user gave it."""

    @property
    def seekable(self) -> bool:
        """Whether rows can be read in any order and more than once; else only in order, from the first on."""

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` (C-contiguous, any supported dtype) with rows `start` … `start+len(out)`."""

    def check_unchanged(self) -> None:
        """Raise InputError when the input changed since it was opened."""

    def close(self) -> None:
        """Give back what was opened; harmless when repeated."""


class LabelledSource(Source, Protocol):
    """A source whose `spec` has labels."""

    def read_labelled(self, start: int, out: Array, labels: Array) -> None:
        """Fill `out` as `read_rows` does, and `labels` with the labels of the same rows."""


class GatheringSource(Source, Protocol):
    """A source that can seek, and is quick at rows in any order."""

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out` with the rows of these indices, int64, and `labels`, if the source has any, with theirs."""


def scattered(source: Source) -> bool:
    """Whether rows that are read one after the other lie anywhere, so that several threads may as well read them."""
    found: bool = getattr(source, "scattered", False)
    return found


def read_into(source: Source, start: int, out: Array, labels: Array | None = None) -> None:
    """Fill `out` with rows from `start` on, and `labels`, if given, with theirs."""
    if labels is None:
        source.read_rows(start, out)
    else:
        cast("LabelledSource", source).read_labelled(start, out, labels)


def gather_into(source: Source, rows: Array, out: Array, labels: Array | None = None) -> None:
    """Fill `out` with rows of any indices, int64; one run of consecutive rows after the other, if need be."""
    if hasattr(source, "gather"):
        cast("GatheringSource", source).gather(rows, out, labels)
        return
    bounds = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    for first, stop in itertools.pairwise(bounds if len(rows) else []):
        read_into(source, int(rows[first]), out[first:stop], None if labels is None else labels[first:stop])


class Sink(Protocol):
    """Where the last blocks go."""

    @property
    def sequential(self) -> bool:
        """Whether blocks must come in order and hold whole rows (a pipe)."""

    @property
    def stored(self) -> bool:
        """Whether the rows are kept, as opposed to summarised."""

    def check(self, spec: Spec) -> None:
        """Raise OutputError for what can be known to fail, before any work is done."""

    def offset(self, spec: Spec) -> int:
        """Position in its file of the first element; rows that lie alike in memory pages are written without a copy."""

    def compile(self, spec: Spec) -> None:
        """Compile or load the kernels it uses, if any."""

    def open(self, spec: Spec) -> AbstractContextManager[Writing]:
        """Start writing `spec`. Leaving the context normally commits; an exception discards."""


class Writing(Protocol):
    """An output being written."""

    def write(self, block: Block) -> None:
        """Store one block at its position. The caller releases the block."""

    def sync(self) -> None:
        """Bring to disk what was stored; it takes long, and does not commit yet."""


Blocks = Iterator[Block]


@dataclass(frozen=True, slots=True)
class Room:
    """What a stage may plan with.

    Parameters
    ----------
    nbytes : int
        Bytes for everything the stage holds, input and output blocks in flight included.
    threads : int
        Threads that compute.
    sequential : bool
        Whether the sink wants whole rows in order.
    stored : bool
        Whether the output is kept, as opposed to summarised.
    offset : int
        Position in the sink's file of the first element.
    block_rows : int
        Rows of a block that comes in, at most; 0 where the stage may choose, because it is the first.
    written : int
        Bytes that the sink will write, as far as that is known.
    """

    nbytes: int
    threads: int
    sequential: bool = False
    stored: bool = True
    offset: int = 0
    block_rows: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a stage holds, and the blocks it wants to be fed: the result of planning it.

    Parameters
    ----------
    block_rows : int
        Rows of a block: coming in, for a stage that chooses; going out at most, for any other.
    dtype : numpy.dtype
        In which the source is to deliver them.
    nbytes : dict of str to int
        Bytes by what they are held for.
    facts : dict
        What else the plan shows: tiles, passes over a side source; under ``passes_over_source``, how often a
        stage that fits reads the source before the run.
    layout : object
        What the stage itself needs to carry the plan out.
    """

    block_rows: int
    dtype: np.dtype[Any]
    nbytes: dict[str, int]
    facts: dict[str, Any]
    layout: Any


Flow = Literal["streaming", "buffering", "fitting", "reducing"]
"""Needs one block; a bounded window of rows; a pass over everything first; or merges partial results to one."""


class Stage(Protocol):
    """A link that turns blocks into other blocks."""

    @property
    def name(self) -> str:
        """Its verb."""

    @property
    def flow(self) -> Flow:
        """How much it has to see; what does not stream shares the memory that is left."""

    @property
    def chooses(self) -> bool:
        """Whether it says how large the blocks are that come in, as the first stage, input blocks included."""

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """What it reads besides the blocks that come in, by the name of the link that reads it."""

    def plan(self, spec: Spec) -> Spec:
        """Say what comes out for what comes in; raise for what cannot work."""

    def hold(self, spec: Spec, room: Room) -> Held:
        """Choose block sizes that fit the room; raise MemoryCeilingError with `needs` when none do."""

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Carry it out, in the thread that computes."""


class Run(Protocol):
    """What the engine offers a stage while it runs."""

    @property
    def workers(self) -> Workers:
        """Threads that compute."""

    @property
    def lane(self) -> Lane:
        """Clock of the thread that computes."""

    def read(self, source: Source, ranges: Iterable[tuple[int, int]], dtype: np.dtype[Any], name: str) -> Blocks:
        """Blocks of the row ranges, read ahead by a thread of their own; `name` as in `side_sources`."""

    def pool(self, count: int, make: Callable[[], Array]) -> Pool:
        """A pool of buffers that lasts as long as the run."""

    def at_end(self, function: Callable[[], None]) -> None:
        """Call a function once the last stage has handed on all its blocks, for what must not miss any.

        A stage that needs no more rows stops taking blocks; those before it may still take all there are. What was
        asked for last is called first.
        """


BLOCKS_AHEAD = 2
"""Input blocks in flight: one in use, one being read."""
