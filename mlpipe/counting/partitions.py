"""Many distinct keys: sorted out into partitions, by range, until each is small; on disk if there are too many."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mlpipe.counting.arenas import PART_ROWS, Arenas, Shape, shape_for
from mlpipe.counting.digests import Desk, Scratch, count_words, digest_group, sum_words
from mlpipe.counting.frequent import Frequent, merged
from mlpipe.counting.ranges import Ranges
from mlpipe.counting.results import Results
from mlpipe.counting.spill import Spill
from mlpipe.kernels.count_parts import BLOCK, sift, sort_pairs
from mlpipe.link import Array
from mlpipe.workers import Workers

TASK_ROWS = 1 << 18
"""Values that one thread takes at a time."""

STAGE_WORDS = 1 << 17
"""Words that are read back or written together: 1 MiB."""

SAMPLE = 1 << 14
"""Keys by which ranges are chosen: eight for each of the most partitions."""

SLOTS = 1 << 14
"""Of the table in front of the partitions: 256 KiB, beside which lines have room in the second cache."""

WIDE_SLOTS = 1 << 18
"""Of a table that holds all keys, 4 MiB: looking there costs more, but then nothing is sorted out.

20 M float64 of 1e5 distinct values: 92 ms; in partitions 164 ms. Half the slots, three quarters of them full: 171 ms.
"""

MOST_EVEN = 16
"""How often a key is in a sample at most that is not taken for frequent; those are better caught in a small table."""

LEAST_SLOTS = 64

ENTRY_BYTES = 160
"""What counting a distinct key takes: its slots, growing, and what it takes to sort it."""


class Room(NamedTuple):
    """Who may hold how many bytes; None for as many as it takes."""

    arena: int | None
    results: int
    scratch: int | None

    @classmethod
    def of(cls, nbytes: int | None) -> Room:
        """Nine sixteenths for keys that wait, four for tables and buffers, two for what is done."""
        if nbytes is None:
            return cls(None, 1 << 62, None)
        return cls(nbytes * 9 // 16, nbytes // 8, nbytes // 4)

    def inner(self) -> Room:
        """For partitions of a partition, once the arena is given back: the scratch stays as large at any depth."""
        return self._replace(arena=self.scratch)


def _distinct(sample: Array) -> float:
    """How many keys there are, about, if nearly all are as frequent, as far as a sample tells; else infinity."""
    _, counts = np.unique(sample, return_counts=True)
    rare = counts[counts <= MOST_EVEN]
    rows = int(rare.sum())
    again = rows - len(rare)
    return rows**2 / (2 * again) if again and 8 * rows > 7 * len(sample) else np.inf


class Partitions:
    """Counts keys, or sums their weights.

    Parameters
    ----------
    sample : ndarray of uint64
        Some of the keys, by which ranges are chosen.
    room : Room
        Bytes to hold.
    threads : int
        How many workers there will be at most.
    directory : str
        Of temporary files.
    rows : int, optional
        How many keys will come, if known.
    weights : dtype, optional
        Of the weights.
    """

    def __init__(
        self,
        sample: Array,
        *,
        room: Room,
        threads: int,
        directory: str,
        rows: int | None,
        weights: np.dtype | None = None,
    ) -> None:
        self._room, self._directory, self._weights = room, directory, weights
        self._threads = 1 if weights is not None else threads  # in a partition, weights stay in their order
        self._all_threads = threads
        width, part_rows = 1 if weights is None else 2, min(PART_ROWS, self._most(threads) // 2)
        self.shape: Shape = shape_for(rows, width, self._threads, room.arena, part_rows)
        self.ranges = Ranges.of_sample(sample, self.shape.parts)
        self._arenas: Arenas | None = Arenas(self.shape, self._threads)
        self._mix = np.uint64(secrets.randbits(64) | 1)
        wide = weights is None and 2 * _distinct(sample) <= WIDE_SLOTS  # weights are never caught in the table
        slots = WIDE_SLOTS if wide else SLOTS
        while room.scratch is not None and slots > LEAST_SLOTS and slots * 256 * threads > room.scratch:
            slots //= 2
        self._frequent = [Frequent(slots) for _ in range(self._threads)]
        self._missed = [np.empty(BLOCK, np.uint64) for _ in range(self._threads)]
        self._spill: Spill | None = None
        self.loose: list[tuple[Array, Array]] = []

    @property
    def spilled_bytes(self) -> int:
        """What was written to temporary files."""
        return self._spill.nbytes if self._spill else 0

    def add(self, values: Array, workers: Workers, weights: Array | None = None) -> None:
        """Take in values of 32 or 64 bits, or keys, with their weights if there are any."""
        waiting = [(start, min(start + TASK_ROWS, len(values))) for start in range(0, len(values), TASK_ROWS)]
        while waiting:
            left: list[tuple[int, int]] = []

            def work(task: tuple[int, int], worker: int) -> None:
                start, stop = task
                start += self._take(values[start:stop], worker, None if weights is None else weights[start:stop])
                if start < stop:
                    left.append((start, stop))  # noqa: B023 - used before the loop goes on

            if self._weights is None:
                workers.run(work, waiting)
            else:
                done = 0
                for done, task in enumerate(waiting, 1):  # noqa: B007
                    work(task, 0)
                    if left:
                        break
                left += waiting[done:]
            waiting = left
            if waiting:
                self.drain(workers)

    def _take(self, values: Array, worker: int, weights: Array | None) -> int:
        """Sort some values out; say how many."""
        arenas, frequent = self._arenas, self._frequent[worker]
        assert arenas is not None  # noqa: S101 - nothing comes after the end
        state = [part[worker] for part in arenas.kept()]
        numbers = self.ranges.numbers
        if weights is not None:
            counts, current, _, previous, arena = state
            return int(
                sort_pairs(values, weights.view(np.uint64), 0, self.shape.reserve, self.ranges.table, numbers, counts,
                           current, previous, arena, self.shape.chunk, arenas.used[worker])
            )  # fmt: skip
        done, missing = sift(
            values, 0, self.shape.reserve, self.ranges.table, numbers, *state, self.shape.chunk,
            arenas.used[worker], frequent.table, self._mix, self._missed[worker], frequent.patience,
        )  # fmt: skip
        frequent.learn(missing, arenas.used[worker])
        return int(done)

    def drain(self, workers: Workers) -> None:
        """Write all that waits to the files."""
        arenas = self._arenas
        if arenas is None:
            return
        spill = self._spill = self._spill or Spill(self._directory, self._all_threads, self.shape.parts)
        sizes = arenas.entries() * self.shape.width
        stages = [np.empty(self._stage_words, np.uint64) for _ in range(workers.threads)]

        def write(group: tuple[int, int], worker: int) -> None:
            stage, held = stages[worker], 0
            first, stop = group
            if sizes[first:stop].sum() <= len(stage):
                for part in range(first, stop):
                    held += len(arenas.collect(part, 0, stage[held:]))
                spill.write(worker, stage[:held], first, sizes[first:stop].tolist())
                return
            for words in self._resident(first, stage):
                spill.write(worker, words, first, [len(words)])

        workers.run(write, list(self._groups(sizes, self._stage_words)))
        arenas.clear()

    @property
    def _stage_words(self) -> int:
        """Words of a stage: a part of the scratch of a worker."""
        scratch = self._room.scratch
        if scratch is None:
            return STAGE_WORDS
        return min(STAGE_WORDS, max(512, scratch // self._all_threads // 64)) & ~1

    @staticmethod
    def _groups(sizes: Array, most: int) -> Iterator[tuple[int, int]]:
        """Neighbouring partitions that have no more than so many words together; or one alone."""
        first, held = 0, 0
        for part, size in enumerate(sizes.tolist()):
            if part > first and held + size > most:
                yield first, part
                first, held = part, 0
            held += size
        if held:
            yield first, len(sizes)

    def _resident(self, part: int, stage: Array) -> Iterator[Array]:
        """What waits of a partition."""
        done = 0
        while self._arenas is not None:
            words = self._arenas.collect(part, done, stage)
            if not len(words):
                return
            done += len(words) // self.shape.width
            yield words

    def _words(self, part: int, stage: Array) -> Iterator[Array]:
        """All of a partition, in its order."""
        if self._spill is not None:
            yield from self._spill.read(part, stage)
        yield from self._resident(part, stage)

    def finish(
        self, results: Results, workers: Workers, *, in_order: bool = True, prefix: tuple[int, ...] = ()
    ) -> None:
        """Count all that came in; the results come by key, or if nobody asks for that, in any order."""
        keys, counts = merged([*self.loose, *(pair for one in self._frequent for pair in one.pairs())])
        bounds = np.searchsorted(self.ranges.of(keys), np.arange(self.shape.parts + 1))
        if self._spill is not None:
            self.drain(workers)
            self._release(results, inner=bool(prefix))
        scratch = Scratch(self._most(workers.threads), self._stage_words, self._mix, in_order, self._weights)
        overfull: list[int] = []
        lock = threading.Lock()
        desks: list[Desk | None] = [None] * workers.threads

        def alone(part: int) -> None:
            pairs = slice(bounds[part], bounds[part + 1])
            if sizes[part] == bounds[part + 1] - bounds[part]:  # all of it was counted elsewhere
                results.put((*prefix, part), keys[pairs], counts[pairs])
                return
            words = self._words(part, np.empty(self._stage_words, np.uint64))
            work = count_words if self._weights is None else sum_words
            found = work(words, keys[pairs], counts[pairs], scratch)
            if found is None:
                with lock:
                    overfull.append(part)
            else:
                results.put((*prefix, part), *found)

        def group(task: tuple[int, int], worker: int) -> None:
            first, stop = task
            if self._arenas is None or self._weights is not None or sizes[first:stop].sum() > scratch.group_rows:
                for part in range(first, stop):
                    alone(part)
            else:
                desk = desks[worker] = desks[worker] or Desk(min(scratch.group_rows, int(sizes.sum())))
                results.put((*prefix, first), *digest_group(task, self._arenas, (keys, counts, bounds), scratch, desk))

        sizes = np.diff(bounds)
        if self._arenas is not None:
            sizes = sizes + self._arenas.entries()
        elif self._spill is not None:
            sizes = sizes + [self._spill.words(part) for part in range(self.shape.parts)]
        workers.run(group, list(self._groups(sizes, scratch.group_rows)))
        for part in sorted(overfull):
            self._split(part, (keys[bounds[part] : bounds[part + 1]], counts[bounds[part] : bounds[part + 1]]),
                        results, workers, (*prefix, part))  # fmt: skip

    def _most(self, threads: int) -> int:
        """Distinct keys that fit into the scratch of a worker."""
        scratch = self._room.scratch
        return 1 << 62 if scratch is None else max(64, scratch // threads // ENTRY_BYTES)

    def _release(self, results: Results, *, inner: bool) -> None:
        """Give the arena's room to the results, once all is in the files; that of an inner one is used again."""
        self._arenas = None
        if self._room.arena is not None and not inner:
            results.room += self._room.arena // 4

    def _split(
        self, part: int, pairs: tuple[Array, Array], results: Results, workers: Workers, prefix: tuple[int, ...]
    ) -> None:
        """Count a partition of too many distinct keys as all of them were counted: sorted out into partitions."""
        if self._spill is None:
            self.drain(workers)
            self._arenas = None
        stage = np.empty(self._stage_words, np.uint64)
        width, step = self.shape.width, 1
        sample = [pairs[0][:: max(1, len(pairs[0]) // SAMPLE)]]
        for words in self._words(part, stage):
            sample.append(words[:: width * step].copy())
            if sum(map(len, sample)) > SAMPLE:
                sample, step = [np.concatenate(sample)[::2].copy()], 2 * step
        rows = 0 if self._spill is None else self._spill.words(part) // width
        child = Partitions(np.concatenate(sample), room=self._room.inner(), threads=self._all_threads,
                           directory=self._directory, rows=rows, weights=self._weights)  # fmt: skip
        child.loose.append(pairs)
        try:
            for words in self._words(part, stage):
                if width == 1:
                    child.add(words, workers)
                else:
                    child.add(words[::2].copy(), workers, words[1::2].copy())
            if self._spill is not None:
                self._spill.forget(part)
            child.finish(results, workers, prefix=prefix)
        finally:
            child.close()

    def close(self) -> None:
        """Give everything back; harmless when repeated."""
        self._arenas = None
        if self._spill is not None:
            self._spill.close()
