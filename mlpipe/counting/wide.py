"""Counting of values of several words, or of any length: tables first, then heaps on disk for what found no room."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain

import numpy as np

from mlpipe.counting.columns import Column
from mlpipe.counting.counted import Entries
from mlpipe.counting.entries import Lane, Layout, Shards
from mlpipe.counting.entry_files import PIECE_ENTRIES, Heaps, Merging, Runs
from mlpipe.kernels.entry_order import take_counts
from mlpipe.link import Array
from mlpipe.workers import Workers

Present = Callable[[Array, Array], tuple[Column, ...]]
"""Makes the key columns of a table out of a heap and the entries in it."""


class ExactSum:
    """A sum of floats, rounded once, whatever the order in which they come.

    Examples
    --------
    >>> total = ExactSum()
    >>> for value in (1e100, 1.0, -1e100):
    ...     total.add([value])
    >>> total.value
    1.0
    """

    def __init__(self) -> None:
        self._parts: list[float] = []

    def add(self, values: Sequence[float]) -> None:
        """Add finite values."""
        parts: list[float] = []
        rest = math.fsum(chain(self._parts, values))
        while rest and math.isfinite(rest):
            parts.append(rest)
            rest = math.fsum(chain(self._parts, values, (-part for part in parts)))
        self._parts = parts + [rest] * (not math.isfinite(rest))

    @property
    def value(self) -> float:
        """The sum."""
        return math.fsum(self._parts)


class Wide:
    """Counts items; what they are, those say that use it.

    Parameters
    ----------
    layout : Layout
        What may be held.
    directory : str
        For temporary files.

    Attributes
    ----------
    lanes : list of Lane
        To be filled with items before `take`.
    """

    def __init__(self, layout: Layout, directory: str) -> None:
        self.layout, self._directory, self._files = layout, directory, ExitStack()
        self.lanes = [Lane(layout) for _ in range(layout.lanes)]
        self.spilled_bytes = self.distinct = 0
        self.sum = ExactSum()
        self._shards = Shards(layout)
        self._buffers = np.empty((0, 0), np.uint64)
        self._overflow: Heaps | None = None
        self._lock = threading.Lock()

    @property
    def key(self) -> Array:
        """Of the hashes."""
        return self._shards.key

    def take(self, lanes: Sequence[Lane], workers: Workers) -> None:
        """Count the items of lanes, which are ordered by shard."""

        def absorb(shard: int, _: int) -> None:
            for lane in lanes:
                if left := self._shards.absorb(lane, shard):
                    self._heaps().add(lane, shard, left)

        workers.run(absorb, range(self.layout.shards))

    def finish(self, workers: Workers) -> Merging:
        """All that came in, in order."""
        if self._overflow:
            return self._from_disk(workers)
        self._free_lanes()
        entries, bounds = self._shards.sorted(workers)
        self._note(entries)
        return Merging(self.layout, self._shards.heap, entries, bounds)

    def close(self) -> None:
        """Give back memory and files; harmless when repeated."""
        self._files.close()
        self._free_lanes()
        self._shards.close()

    def _free_lanes(self) -> None:
        self.lanes, self._buffers = [], np.empty((0, 0), np.uint64)

    def _heaps(self) -> Heaps:
        """Where items go that find no room."""
        with self._lock:
            if self._overflow is None:
                layout = self.layout
                if not self._buffers.size:
                    self._buffers = np.empty((layout.heaps, layout.heap_words), np.uint64)
                self._overflow = Heaps(layout, self._directory, self._buffers)
                self._files.callback(self._overflow.close)
            return self._overflow

    def _from_disk(self, workers: Workers) -> Merging:
        """Count heap after heap, and merge what comes of them."""
        runs = Runs(self.layout, self._directory)
        self._files.callback(runs.close)
        pending: list[tuple[Heaps, int]] = []
        while self._overflow or pending:
            if self._overflow:
                pending += self._set_aside(self._overflow)
                self._flush(runs, workers)
            heaps, heap = pending.pop()
            if not self._shards.has_room(heaps.words(heap)):
                self._flush(runs, workers)
            self._read(heaps, heap, workers)
            if all(other is not heaps for other, _ in pending):
                heaps.close()
        self._flush(runs, workers)
        self._free_lanes()
        self._shards.close()
        merging = runs.merged()
        self.spilled_bytes += runs.nbytes
        return merging

    def _set_aside(self, heaps: Heaps) -> list[tuple[Heaps, int]]:
        heaps.finish()
        self._overflow = None
        self.spilled_bytes += heaps.nbytes
        return [(heaps, heap) for heap in heaps.heaps()]

    def _flush(self, runs: Runs, workers: Workers) -> None:
        """Write the tables to runs, one for each shard, and begin new ones."""
        shards = self._shards
        entries, bounds = shards.sorted(workers)
        self._note(entries)
        runs.longest = max(runs.longest, shards.longest)

        def write(shard: int, _: int) -> None:
            if shards.used(shard):
                runs.add(shards.heap, [entries[bounds[shard] : bounds[shard + 1]]], shards.used(shard))

        workers.run(write, range(self.layout.shards))
        shards.clear()

    def _note(self, entries: Array) -> None:
        """Count values, and sum their weights where they are floats, so that order does not matter."""
        self.distinct += len(entries)
        if self.layout.dtype.kind == "f":
            for start in range(0, len(entries), PIECE_ENTRIES):
                some = entries[start : start + PIECE_ENTRIES]
                self.sum.add(self._shards.counts[some].tolist())

    def _read(self, heaps: Heaps, heap: int, workers: Workers) -> None:
        """Count the items of a heap."""
        ranges = deque(self._ranges(heaps.chunks(heap)))
        while ranges:
            some = [ranges.popleft() for _ in range(min(len(ranges), len(self.lanes)))]
            ends = [0] * len(some)

            def fill(n: int, _: int, some: list[tuple[int, int]] = some, ends: list[int] = ends) -> None:
                ends[n] = self._fill(self.lanes[n], heaps, *some[n])

            workers.run(fill, range(len(some)))
            self.take(self.lanes[: len(some)], workers)
            ranges.extend((end, stop) for end, (_, stop) in zip(ends, some, strict=True) if end < stop)

    def _ranges(self, chunks: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Where items lie that a lane takes; texts are as many as they are, and their order does not matter."""
        if not self.layout.width:
            return [(first, first + words) for first, words in chunks]
        most = self.layout.lane_items * (self.layout.lead + self.layout.width)
        return [
            (first + start, min(first + start + most, first + words))
            for first, words in chunks
            for start in range(0, words, most)
        ]

    def _fill(self, lane: Lane, heaps: Heaps, first: int, stop: int) -> int:
        """Read items into a lane; return where they end in the file."""
        lane.lead = self.layout.lead
        lane.require(0)
        filled = min(stop - first, len(lane.words))
        heaps.read(lane.words[:filled], first)
        end = lane.locate(filled)
        if not lane.count:
            lane.require(stop - first)
            heaps.read(lane.words[: stop - first], first)
            end = lane.locate(stop - first)
        if self.layout.weighted:
            weights = lane.words[:end].reshape(lane.count, -1)[:, 0].copy()
            lane.weights = weights.view(self.layout.dtype)
        lane.hash(self.key)
        lane.arrange()
        return first + end


class WideCounted:
    """A finished table of `Wide`; see `mlpipe.counting.counted.Counted`.

    Parameters
    ----------
    wide : Wide
        What counted.
    workers : Workers
        Threads that compute.
    total, missing : int
        As there; for sums of floats, `total` is found here.
    present : callable
        Makes the key columns of a table out of a heap and the entries in it.
    """

    def __init__(self, wide: Wide, workers: Workers, total: int, missing: int, present: Present) -> None:
        self._wide, self._present, self._merging = wide, present, wide.finish(workers)
        self.distinct, self.spilled_bytes, self.missing = wide.distinct, wide.spilled_bytes, missing
        self.total: int | float = wide.sum.value if wide.layout.dtype.kind == "f" else total
        if self.spilled_bytes:
            self.method = "partitions on disk"
            self.why = f"{self.distinct} distinct values take more than the memory there is for tables"
        else:
            self.method, self.why = "table", "values of more than one word, all of which fit into memory"

    def by_value(self) -> Iterator[Entries]:
        """The table in bounded pieces, ascending; once."""
        heap = self._merging.heap
        values = heap.view(self._wide.layout.dtype)
        for entries in self._merging.pieces():
            counts = np.empty(len(entries), values.dtype)
            take_counts(values, entries, counts)
            yield Entries(self._present(heap, entries), counts)

    def close(self) -> None:
        """Give back memory and files; harmless when repeated."""
        self._wide.close()
