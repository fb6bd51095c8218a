"""Lists of neighbours, kept until all are there, and the symmetric graph that they make, a range of rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.kernels.links import count_links, merge_links, sort_links, turn_links
from mlpipe.link import Array, Block
from mlpipe.workers import Workers
from mlpipe.writers.temporary import TemporaryFile

CHUNK_BYTES = 8 << 20
"""Of lists in a file that are read at once."""

TASKS = 4
"""Ranges of rows for each thread, whose lists are of different lengths."""


class Piece(NamedTuple):
    """Some rows of a symmetric graph, one after the other.

    Parameters
    ----------
    first : int
        The first of them.
    counts : ndarray of int64, shape (rows,)
        Neighbours of each.
    neighbours : ndarray of int64, shape (sum of counts,)
        Who they are: of each row in ascending order.
    distances : ndarray of float32 or float64, shape (sum of counts,)
        Theirs.
    """

    first: int
    counts: Array
    neighbours: Array
    distances: Array


class Lists:
    """The k neighbours of each of some rows, in memory or in a temporary file.

    Parameters
    ----------
    rows, k : int
        How many lists, and how long they are.
    dtype : numpy.dtype
        Of distances.
    directory : str or None
        Where the temporary file is; None for memory.
    files : ExitStack
        Closes the file.
    """

    def __init__(self, rows: int, k: int, dtype: np.dtype[Any], directory: str | None, files: ExitStack) -> None:
        self.rows, self.k, self.dtype = rows, k, dtype
        self.counts = np.zeros(rows, np.int64)
        self._file: TemporaryFile | None = None
        if directory is None:
            self._indices, self._distances = aligned_empty((rows, k), np.int64), aligned_empty((rows, k), dtype)
        else:
            self._file = files.enter_context(TemporaryFile(directory, rows * k * (8 + dtype.itemsize)))

    @property
    def link_bytes(self) -> int:
        """Bytes of one link."""
        return 8 + self.dtype.itemsize

    def append(self, block: Block) -> None:
        """Keep the lists of some rows."""
        indices, distances = np.ascontiguousarray(block.data), np.ascontiguousarray(block.labels)
        count_links(indices, distances, self.counts)
        if self._file is None:
            stop = block.start + len(indices)
            self._indices[block.start : stop], self._distances[block.start : stop] = indices, distances
        elif indices.size:
            self._file.pwrite(indices, block.start * self.k * 8)
            self._file.pwrite(distances, self._split + block.start * self.k * self.dtype.itemsize)

    @property
    def _split(self) -> int:
        """Where distances begin in the file."""
        return self.rows * self.k * 8

    def take(self, start: int, stop: int) -> tuple[Array, Array]:
        """Copies of the lists of some rows: neighbours, and distances."""
        if self._file is None:
            return self._indices[start:stop].copy(), self._distances[start:stop].copy()
        indices = aligned_empty((stop - start, self.k), np.int64)
        distances = aligned_empty((stop - start, self.k), self.dtype)
        if indices.size:
            self._file.pread(indices, start * self.k * 8)
            self._file.pread(distances, self._split + start * self.k * self.dtype.itemsize)
        return indices, distances

    def chunks(self) -> Iterator[tuple[int, Array, Array]]:
        """All lists in order, some at a time, each with its first row."""
        if self._file is None:
            yield 0, self._indices, self._distances
            return
        step = self.chunk_rows(self.k, self.dtype)
        for start in range(0, self.rows, step):
            yield start, *self.take(start, min(self.rows, start + step))

    @staticmethod
    def chunk_rows(k: int, dtype: np.dtype[Any]) -> int:
        """Lists that are read at once."""
        return max(1, CHUNK_BYTES // (k * (8 + dtype.itemsize)))


def piece_bytes(links: int, rows: int, dtype: np.dtype[Any]) -> int:
    """Bytes that making a piece takes, of so many links from and to its rows.

    Both are held beside what becomes of them.
    """
    return 2 * links * (8 + dtype.itemsize) + 48 * rows


def ranges(counts: Array, k: int, dtype: np.dtype[Any], nbytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows as large as the memory allows; of one row at least.

    Examples
    --------
    >>> list(ranges(np.array([3, 0, 1, 9, 0]), 2, np.dtype("f4"), 300))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    sizes = piece_bytes(1, 0, dtype) * (counts + k) + piece_bytes(0, 1, dtype)
    ends = np.cumsum(sizes)
    start = 0
    while start < len(counts):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + nbytes, "right")))
        yield start, stop
        start = stop


def pieces(lists: Lists, mutual: bool, nbytes: int, workers: Workers) -> Iterator[Piece]:
    """The graph: rows are neighbours where either names the other, or, `mutual`, where both do.

    Parameters
    ----------
    lists : Lists
        Complete.
    mutual : bool
        Which links count.
    nbytes : int
        Memory for a piece.
    workers : Workers
        Who computes.
    """
    for start, stop in ranges(lists.counts, lists.k, lists.dtype, nbytes):
        yield _piece(lists, start, stop, mutual, workers)


def _piece(lists: Lists, start: int, stop: int, mutual: bool, workers: Workers) -> Piece:
    """Some rows of the graph."""
    starts = np.zeros(stop - start + 1, np.int64)
    np.cumsum(lists.counts[start:stop], out=starts[1:])
    sources, weights = aligned_empty((int(starts[-1]),), np.int64), aligned_empty((int(starts[-1]),), lists.dtype)
    ends, parts = starts[:-1].copy(), _parts(starts, lists.k, workers.threads)

    for first, *links in lists.chunks():

        def turn(part: slice, _worker: int, first: int = first, links: list[Array] = links) -> None:
            low, high = start + part.start, start + part.stop
            turn_links(*links, first, low, high, ends[part], sources, weights)

        workers.run(turn, parts)
    indices, distances = lists.take(start, stop)
    counts = np.empty(stop - start, np.int64)
    nothing = sources[:0], weights[:0]

    def count(part: slice, _worker: int) -> None:
        sort_links(indices[part], distances[part])
        beside = starts[part.start : part.stop + 1], sources, weights
        merge_links(indices[part], distances[part], *beside, mutual, True, counts[part], *nothing)

    workers.run(count, parts)
    places = np.cumsum(counts) - counts
    total = int(counts.sum())
    made = aligned_empty((total,), np.int64), aligned_empty((total,), lists.dtype)

    def merge(part: slice, _worker: int) -> None:
        beside = starts[part.start : part.stop + 1], sources, weights
        merge_links(indices[part], distances[part], *beside, mutual, False, places[part], *made)

    workers.run(merge, parts)
    return Piece(start, counts, *made)


def _parts(starts: Array, k: int, threads: int) -> list[slice]:
    """The rows of a piece in parts of about as many links each."""
    rows = len(starts) - 1
    links = starts + k * np.arange(rows + 1)
    wanted = np.linspace(0, int(links[-1]), (1 if threads == 1 else TASKS * threads) + 1)[1:-1]
    bounds = np.unique([0, *np.searchsorted(links, wanted).tolist(), rows])
    return [slice(int(low), int(high)) for low, high in itertools.pairwise(bounds)]
