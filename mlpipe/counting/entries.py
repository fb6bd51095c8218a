"""Tables of values of several words, or of any length, in memory of fixed size.

What is counted is cut into shards by hash, each with a table of its own, so that threads work side by side and all
items of one value meet in the same table in the order of the input. A table that is full stays as it is: what is in it
goes on being counted, and what is not finds no room. So a value is counted in one place, wherever that is, and sums of
floats do not depend on the memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.errors import MemoryCeilingError
from mlpipe.kernels.entries import absorb, by_shard, grow, hash_items, locate_items
from mlpipe.kernels.entry_order import sort_entries
from mlpipe.link import Array
from mlpipe.workers import Workers

WORD = 8

LEAST_ROOM = 1 << 15
"""With less, Python's own objects would be more than what they hold."""

LEAST_VALUES = 64
"""So many of the longest value fit into the smallest room."""

LANE_BYTES = 3 << 19
"""Items that a thread works on at once, with what belongs to them; about a second-level cache."""

CHUNK_BYTES = 64 << 10
"""Written at once to a heap on disk, where there is room; rather more passes than shorter writes."""

MOST_HEAPS, MOST_BUFFERS = 256, 64 << 20
"""Heaps on disk, and bytes of the buffers before them."""

FIRST_BITS, MOST_BITS = 10, 31
"""Places of a table, as powers of two: at first, and at most."""

TEXT_WORDS = 4
"""Words of a text and its length, as a rule; what is longer or shorter is only less fitting."""

ITEM_BYTES = 3 * WORD + 5
"""What is held of an item besides its words: start, hash, weight, order, mark."""

ALIKE = np.ones(1, np.int64)
"""Weights of items that weigh alike."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How memory is shared out.

    Parameters
    ----------
    width : int
        Words of a value; 0 for texts.
    dtype : numpy.dtype
        Of counts.
    weighted : bool
        Whether items have weights.
    lanes, lane_items, lane_words : int
        How many groups of items are worked on side by side, and how large one may be.
    shards, shard_words, most_bits : int
        Tables, words of entries in each, and its places as a power of two.
    heaps, heap_words : int
        Heaps on disk, and words of the buffer before each.
    window_words : int
        Read at once for merging.
    piece_words : int
        Handed out, or written to a run, at once.
    longest : int
        Words of a value, at most.
    """

    width: int
    dtype: np.dtype[Any]
    weighted: bool
    lanes: int
    lane_items: int
    lane_words: int
    shards: int
    shard_words: int
    most_bits: int
    heaps: int
    heap_words: int
    window_words: int
    piece_words: int
    longest: int

    @property
    def lead(self) -> int:
        """Words before the body of an item on disk."""
        return int(self.weighted)


def least_room(width: int) -> int:
    """The smallest room that works for values of so many words; 0 for texts."""
    return max(LEAST_ROOM, LEAST_VALUES * WORD * (width + 1))


def arrange(room: int, threads: int, width: int, weights: np.dtype[Any] | None = None) -> Layout:
    """Share out a room: up to an eighth each for items and for buffers, an eighth for what is handed out, else tables.

    What is merged later takes the place of tables.

    Parameters
    ----------
    room : int
        Bytes.
    threads : int
        That work side by side.
    width : int
        Words of a value; 0 for texts.
    weights : numpy.dtype, optional
        Of the weights, if there are any.

    Raises
    ------
    MemoryCeilingError
        If the room is too small; with the smallest that works.
    """
    needs = least_room(width)
    if room < needs:
        raise MemoryCeilingError(
            f"counting takes {needs} bytes at least, and has {room}; raise --memory by the difference", needs=needs
        )
    body = width or TEXT_WORDS
    item = WORD * (body + 1) + ITEM_BYTES
    lanes = 2 * threads if threads > 1 and room // 8 // (2 * threads) >= 16 * item else 1
    lane_items = max(1, min(LANE_BYTES, room // 8 // lanes) // item)
    buffers = min(MOST_BUFFERS, room // 8)
    tables = room - room // 8 - buffers - min(LANE_BYTES * lanes, room // 8)
    shards = 1
    while shards < 2 * threads and threads > 1 and tables // (2 * shards) >= 64 * item:
        shards *= 2
    most_bits, shard_words = _table(tables // shards, body + 1, min(1.0, threads / shards))
    chunk = max(min(CHUNK_BYTES, buffers // 8), WORD * (body + 2))
    heaps = shards * max(2, min(MOST_HEAPS, buffers // chunk) // shards)
    return Layout(
        width=width,
        dtype=np.dtype(np.int64) if weights is None else weights,
        weighted=weights is not None,
        lanes=lanes,
        lane_items=lane_items,
        lane_words=lane_items * (body + 1),
        shards=shards,
        shard_words=shard_words,
        most_bits=most_bits,
        heaps=heaps,
        heap_words=buffers // heaps // WORD,
        window_words=room // 4 // WORD,
        piece_words=room // 16 // WORD,
        longest=width or min(room // 32 // WORD, shard_words - 1),
    )


def _table(nbytes: int, entry: int, growing: float) -> tuple[int, int]:
    """Places of a table as a power of two, and words of its entries, so that it holds most."""

    def words(bits: int) -> int:
        # While a table grows, there are the old places and the new ones.
        return (nbytes - int((WORD << bits) * (1 + growing / 2))) // WORD

    def entries(bits: int) -> int:
        return min((11 << bits) >> 4, words(bits) // entry)

    best = max(range(2, MOST_BITS + 1), key=entries)
    return best, words(best)


class Lane:
    """Items that are worked on together, by one thread until they are in order.

    Parameters
    ----------
    layout : Layout
        How large it may be.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.count, self.lead = 0, 0
        self.words = np.empty(layout.lane_words, np.uint64)
        self.starts = np.empty(0 if layout.width else layout.lane_items, np.int64)
        self.hashes = np.empty(layout.lane_items, np.uint64)
        self.order = np.empty(layout.lane_items, np.int32)
        self.bounds = np.empty(layout.shards + 1, np.int64)
        self.marks = np.empty(layout.lane_items, np.bool_)
        self.weights = ALIKE

    @property
    def items(self) -> tuple[Any, ...]:
        """What kernels take."""
        return self.words, self.starts, self.lead, self._layout.width, self.hashes

    def require(self, words: int) -> None:
        """Make room for an item that is longer than the others; until the next call."""
        if len(self.words) != max(words, self._layout.lane_words):
            self.words = np.empty(max(words, self._layout.lane_words), np.uint64)

    def locate(self, filled: int) -> int:
        """Find the items in so many words; return where the last whole one ends."""
        if self._layout.width:
            stride = self.lead + self._layout.width
            self.count = min(self._layout.lane_items, filled // stride)
            return self.count * stride
        self.count, end = locate_items(self.words, 0, filled, self.lead, 0, self.starts)
        return int(end)

    def hash(self, key: Array) -> None:
        """Find the hashes of all items."""
        hash_items(self.words, self.starts, self.lead, self._layout.width, self.count, key, self.hashes)

    def arrange(self) -> None:
        """Order the items by shard; hashes are known."""
        by_shard(self.hashes, self.count, self.order, self.bounds)


class Shards:
    """The tables.

    Parameters
    ----------
    layout : Layout
        How large they may be.

    Attributes
    ----------
    heap : ndarray of uint64
        Their entries.
    key : ndarray of uint64, shape (3,)
        Of the hashes; another one after each `clear`.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.heap = np.empty(layout.shards * layout.shard_words, np.uint64)
        self.counts = self.heap.view(layout.dtype)
        self._states = np.zeros((layout.shards, 3), np.int64)
        self._places: list[Array] = [np.empty(0, np.uint64)] * layout.shards
        self.clear()

    @property
    def entries(self) -> int:
        """How many values are in all tables."""
        return int(self._states[:, 1].sum())

    @property
    def longest(self) -> int:
        """Words of the longest entry."""
        return int(self._states[:, 2].max())

    def has_room(self, words: int) -> bool:
        """Whether items of so many words, of any values, find room for sure; up to chance, which spreads them."""
        layout = self._layout
        each = words // layout.shards * 9 // 8 + 64 * (layout.shards > 1)
        entries = each // ((layout.width or 1) + 1) + 1
        used, count, _ = self._states.max(axis=0).tolist()
        fits: bool = used + each + entries <= layout.shard_words
        return fits and bool(count + entries <= (11 << layout.most_bits) >> 4)

    def clear(self) -> None:
        """Forget all values."""
        self.key = np.frombuffer(os.urandom(3 * WORD), np.uint64) | np.uint64(1)
        self._bits = [min(FIRST_BITS, self._layout.most_bits)] * self._layout.shards
        self._places = [np.zeros(1 << bits, np.uint64) for bits in self._bits]
        self._states[:] = 0

    def absorb(self, lane: Lane, shard: int) -> int:
        """Count the items of a lane that belong to a shard.

        Returns
        -------
        int
            How many found no room; their indices are the first ones of that shard.
        """
        layout = self._layout
        first, stop = int(lane.bounds[shard]), int(lane.bounds[shard + 1])
        at, left = first, 0
        weights = lane.weights, int(layout.weighted)
        while at < stop:
            table = (
                self._places[shard],
                self._bits[shard],
                layout.most_bits,
                self.heap,
                self.counts,
                shard * layout.shard_words,
                layout.shard_words,
            )
            at, left = absorb(lane.items, (lane.order, at, stop, first), weights, table, self._states[shard], left)
            if at < stop:
                self._grow(shard)
        return int(left)

    def _grow(self, shard: int) -> None:
        self._bits[shard] = min(self._bits[shard] + 1, self._layout.most_bits)
        places = np.zeros(1 << self._bits[shard], np.uint64)
        grow(self._places[shard], places, self._bits[shard])
        self._places[shard] = places

    def used(self, shard: int) -> int:
        """Words of the entries of a shard."""
        return int(self._states[shard, 0])

    def sorted(self, workers: Workers) -> tuple[Array, Array]:
        """Where the entries begin, shard after shard, in order within each; nothing can be counted before `clear`.

        Returns
        -------
        entries : ndarray of int64
        bounds : ndarray of int64, shape (shards + 1,)
            Where in `entries` each shard begins.
        """
        bounds = np.cumsum([0, *self._states[:, 1].tolist()])
        self._places = []
        entries = np.empty(int(bounds[-1]), np.int64)

        def sort(shard: int, _: int) -> None:
            first = shard * self._layout.shard_words
            some = entries[bounds[shard] : bounds[shard + 1]]
            locate_items(self.heap, first, first + self.used(shard), 1, self._layout.width, some)
            seed = int(self.key[0] >> np.uint64(1)) | 1
            sort_entries(self.heap, some, np.empty(len(some), np.uint64), self._layout.width, seed)

        workers.run(sort, range(self._layout.shards))
        return entries, bounds

    def close(self) -> None:
        """Give back the memory."""
        self.heap, self.counts, self._places = np.empty(0, np.uint64), np.empty(0, self._layout.dtype), []
