"""Items for which there was no room, and sorted runs of entries, in temporary files; and merging those."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise

import numpy as np

from mlpipe.counting.entries import WORD, Lane, Layout
from mlpipe.kernels.entries import deal, locate_items
from mlpipe.kernels.entry_order import merge, pack
from mlpipe.link import Array
from mlpipe.writers.temporary import TemporaryFile

MOST_RUNS = 256
"""Merged at once."""

LEAST_WINDOW = 512
"""Words read at once of each, where there is room."""

PIECE_ENTRIES = 1 << 16
"""Handed out at once, at most."""


class Heaps:
    """Items by hash, so that those of one value meet again.

    Parameters
    ----------
    layout : Layout
        How many heaps there are.
    directory : str
        For the file.
    buffers : ndarray of uint64, shape (heaps, words)
        Used until `finish`.
    """

    def __init__(self, layout: Layout, directory: str, buffers: Array) -> None:
        self._layout, self._buffers, self._lock = layout, buffers, threading.Lock()
        self._files = ExitStack()
        self._file = self._files.enter_context(TemporaryFile(directory))
        self._filled = np.zeros(layout.heaps, np.int64)
        self._chunks: list[list[tuple[int, int]]] = [[] for _ in range(layout.heaps)]
        self._size = 0

    @property
    def nbytes(self) -> int:
        """Bytes written."""
        return self._size * WORD

    def add(self, lane: Lane, shard: int, count: int) -> None:
        """Add the items of a lane for which a shard had no room; one thread a shard."""
        layout, share = self._layout, self._layout.heaps // self._layout.shards
        at, stop = int(lane.bounds[shard]), int(lane.bounds[shard]) + count
        weights = lane.weights.view(np.uint64), layout.lead
        heaps = shard * share, share
        while at < stop:
            at, heap = deal(lane.items, (lane.order, at, stop), weights, self._buffers, self._filled, heaps)
            if at < stop and self._filled[heap]:
                self._empty(heap)
            elif at < stop:  # longer than a buffer, which only texts are
                first = int(lane.starts[lane.order[at]]) + lane.lead
                self._store(heap, lane.words[first : first + 1 + (int(lane.words[first]) + 7) // WORD])
                at += 1

    def finish(self) -> None:
        """Write what is left in the buffers."""
        for heap in range(self._layout.heaps):
            self._empty(heap)

    def heaps(self) -> list[int]:
        """Those that are not empty."""
        return [heap for heap, chunks in enumerate(self._chunks) if chunks]

    def words(self, heap: int) -> int:
        """Words of a heap."""
        return sum(words for _, words in self._chunks[heap])

    def chunks(self, heap: int) -> list[tuple[int, int]]:
        """Where whole items of a heap lie, and how many words they take, in the order in which they came."""
        return self._chunks[heap]

    def read(self, out: Array, offset: int) -> None:
        """Read words."""
        self._file.pread(out, offset * WORD)

    def close(self) -> None:
        """Give back the file; harmless when repeated."""
        self._files.close()

    def _empty(self, heap: int) -> None:
        self._store(heap, self._buffers[heap, : self._filled[heap]])
        self._filled[heap] = 0

    def _store(self, heap: int, words: Array) -> None:
        if len(words):
            with self._lock:
                offset, self._size = self._size, self._size + len(words)
            self._file.pwrite(words, offset * WORD)
            self._chunks[heap].append((offset, len(words)))


class Merging:
    """Entries of sorted lists in order; the lists lie in memory, or are read bit by bit.

    Parameters
    ----------
    layout : Layout
        What is handed out at once.
    heap : ndarray of uint64
        Where entries lie.
    entries : ndarray of int64
        Where they begin, list after list.
    bounds : ndarray of int64, shape (lists + 1,)
        Where in `entries` each list begins.
    """

    def __init__(self, layout: Layout, heap: Array, entries: Array, bounds: Array) -> None:
        self.heap, self._layout = heap, layout
        self._entries, self._bounds = entries, bounds
        self._at, self._stop = bounds[:-1].copy(), bounds[1:].copy()
        self._more = np.zeros(len(self._at), np.bool_)

    def pieces(self) -> Iterator[Array]:
        """Where entries begin, in order; each overwritten by the next."""
        layout = self._layout
        out = np.empty(max(1, min(PIECE_ENTRIES, layout.piece_words)), np.int64)
        while True:
            self._refill()
            arrays = self._entries, self._at, self._stop, self._more
            count = merge(self.heap, *arrays, out, layout.piece_words, layout.width)
            if not count:
                return
            yield out[:count]

    def _refill(self) -> None:
        """Read on where a list came to the end of what was read."""


class MergingRuns(Merging):
    """Entries of runs in a file, in order.

    Parameters
    ----------
    layout : Layout
        What may be held.
    file : TemporaryFile
        Where the runs are.
    runs : list of (int, int)
        Where each begins and ends, in words.
    """

    def __init__(self, layout: Layout, file: TemporaryFile, runs: Sequence[tuple[int, int]]) -> None:
        self._file, self._next = file, [first for first, _ in runs]
        self._ends = [end for _, end in runs]
        self._window = layout.window_words // len(runs)
        heap = np.empty(len(runs) * self._window, np.uint64)
        entries = -(-self._window // (1 + max(1, layout.width)))
        super().__init__(layout, heap, np.empty(len(runs) * entries, np.int64), np.arange(len(runs) + 1) * entries)
        self._stop[:] = self._at
        self._more[:] = True

    def _refill(self) -> None:
        for run in np.flatnonzero((self._at == self._stop) & self._more).tolist():
            base, offset = run * self._window, self._next[run]
            window = self.heap[base : base + min(self._window, self._ends[run] - offset)]
            self._file.pread(window, offset * WORD)
            first = int(self._bounds[run])
            entries = self._entries[first : int(self._bounds[run + 1])]
            found, end = locate_items(self.heap, base, base + len(window), 1, self._layout.width, entries)
            self._at[run], self._stop[run] = first, first + found
            self._next[run] += end - base
            self._more[run] = self._next[run] < self._ends[run]


class Runs:
    """Sorted runs of entries in a file, no two of which have a value in common.

    Parameters
    ----------
    layout : Layout
        What may be held.
    directory : str
        For the file.
    """

    def __init__(self, layout: Layout, directory: str) -> None:
        self._layout, self._lock = layout, threading.Lock()
        self._files = ExitStack()
        self._file = self._files.enter_context(TemporaryFile(directory))
        self._runs: list[tuple[int, int]] = []
        self._size, self.longest = 0, 1

    @property
    def nbytes(self) -> int:
        """Bytes written."""
        return self._size * WORD

    def add(self, heap: Array, pieces: Iterable[Array], words: int) -> None:
        """Write a run of so many words; any thread."""
        with self._lock:
            first, self._size = self._size, self._size + words
        some = min(self._layout.piece_words // self._layout.lanes, words)
        buffer, at = np.empty(max(self.longest, some), np.uint64), first
        for entries in pieces:
            begin = 0
            while begin < len(entries):
                begin, filled = pack(heap, entries, begin, self._layout.width, buffer)
                self._file.pwrite(buffer[:filled], at * WORD)
                at += filled
        with self._lock:
            self._runs.append((first, at))

    def merged(self) -> Merging:
        """All entries in order."""
        fan = max(2, min(MOST_RUNS, self._layout.window_words // max(LEAST_WINDOW, 2 * self.longest)))
        while len(self._runs) > fan:
            some, self._runs = self._runs[:fan], self._runs[fan:]
            merging = MergingRuns(self._layout, self._file, some)
            self.add(merging.heap, merging.pieces(), sum(end - first for first, end in some))
        if not self._runs:
            return Merging(self._layout, np.empty(0, np.uint64), np.empty(0, np.int64), np.zeros(2, np.int64))
        return MergingRuns(self._layout, self._file, sorted(self._runs))

    def close(self) -> None:
        """Give back the file; harmless when repeated."""
        self._files.close()


def bounds_of(count: int, size: int) -> list[tuple[int, int]]:
    """Ranges of at most so many, that make `count`.

    Examples
    --------
    >>> bounds_of(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return list(pairwise([*range(0, count, size), count])) if count else []
