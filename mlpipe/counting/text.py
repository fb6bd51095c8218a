"""How often each line or word of a text occurs."""

from __future__ import annotations

import itertools

import numpy as np

from mlpipe.counting.columns import Text
from mlpipe.counting.entries import WORD, Lane, arrange, least_room
from mlpipe.counting.wide import Wide, WideCounted
from mlpipe.errors import InputError
from mlpipe.kernels.text import count_newlines, last_end, lengths, next_end, spell, tokens
from mlpipe.link import Array
from mlpipe.workers import Workers

LEAST_PART = 1 << 12
"""Bytes of a block that are worth a thread of their own."""

_NEWLINE = np.frombuffer(b"\n", np.uint8)


class TextTally:
    r"""Counts lines as ``sort | uniq -c`` does, or words; see `mlpipe.counting.counted.Counter`.

    A line ends with a newline, the last one maybe without; all other bytes belong to it. Words are what stands between
    spaces, tabs, newlines, vertical tabs, form feeds and carriage returns. Bytes are kept as they are, and compared as
    they are.

    Parameters
    ----------
    split : bool
        Count words, not lines.
    room : int
        Bytes that may be held.
    threads : int
        That work side by side.
    directory : str
        For temporary files.

    Raises
    ------
    MemoryCeilingError
        If the room is too small.

    Examples
    --------
    >>> tally = TextTally(split=True, room=1 << 20, threads=1, directory=".")
    >>> with Workers(1) as workers:
    ...     tally.add(np.frombuffer(b"to be or\nnot t", np.uint8), workers)
    ...     tally.add(np.frombuffer(b"o be", np.uint8), workers)
    ...     counted = tally.finish(workers)
    >>> [(keys[0].tolist(), counts.tolist()) for keys, counts in counted.by_value()]
    [([b'be', b'not', b'or', b'to'], [2, 1, 1, 2])]
    """

    def __init__(self, *, split: bool, room: int, threads: int, directory: str) -> None:
        self._split = bool(split)
        self._wide = Wide(arrange(room, threads, 0), directory)
        self._longest = (self._wide.layout.longest - 1) * WORD
        self._pending: list[Array] = []
        self._pending_bytes = 0
        self._total = self._lines = 0

    @staticmethod
    def least(threads: int) -> int:
        """Bytes of the smallest room that works."""
        return least_room(0)

    def add(self, values: Array, workers: Workers, weights: Array | None = None) -> None:
        """Take in text.

        Parameters
        ----------
        values : ndarray of uint8, 1-D
            C-contiguous; it may begin and end anywhere.
        workers : Workers
            Threads that compute.
        weights : None
            Text has none.

        Raises
        ------
        InputError
            For a line or word that is longer than the room allows.
        """
        if weights is not None:
            raise ValueError("text has no weights")
        start = 0
        if self._pending:
            end = int(next_end(values, 0, len(values), self._split))
            if end < 0:
                self._keep(values)
                return
            self._keep(values[: end + 1])
            self._take_pending(workers)
            start = end + 1
        rest = values[start:]
        stop = int(last_end(rest, self._split)) + 1
        if stop:
            self._take(rest[:stop], workers)
        if stop < len(rest):
            self._keep(rest[stop:])

    def finish(self, workers: Workers) -> WideCounted:
        """The table of all that came in; what is left is a line although no newline follows."""
        if self._pending:
            self._keep(_NEWLINE)
            self._take_pending(workers)
        return WideCounted(self._wide, workers, self._total, 0, self._present)

    def close(self) -> None:
        """Give back memory and files; harmless when repeated."""
        self._pending = []
        self._wide.close()

    def _keep(self, part: Array) -> None:
        """Keep the beginning of a line that goes on in the next block."""
        self._pending_bytes += len(part)
        if self._pending_bytes - 1 > self._longest:
            self._too_long()
        self._pending.append(part.copy())

    def _take_pending(self, workers: Workers) -> None:
        joined = np.concatenate(self._pending)
        self._pending, self._pending_bytes = [], 0
        self._take(joined, workers)

    def _take(self, text: Array, workers: Workers) -> None:
        """Count whole lines or words; the last byte ends one."""
        lanes = self._wide.lanes
        places = self._parts(text, len(lanes))
        ends = places[1:]
        at = places[:-1]
        while True:
            some = [n for n in range(len(at)) if at[n] < ends[n]]
            if not some:
                break

            def fill(n: int, _: int) -> None:
                at[n] = self._fill(lanes[n], text, at[n], ends[n])

            workers.run(fill, some)
            self._total += sum(lanes[n].count for n in some)
            self._wide.take([lanes[n] for n in some], workers)
        self._lines += int(count_newlines(text))

    def _parts(self, text: Array, count: int) -> list[int]:
        """Where to cut text, after ends of lines or words, so that threads have equal shares."""
        size = max(LEAST_PART, -(-len(text) // count))
        cuts = [int(next_end(text, at, len(text), self._split)) + 1 for at in range(size, len(text), size)]
        return [place for place, _ in itertools.groupby([0, *cuts, len(text)])]

    def _fill(self, lane: Lane, text: Array, at: int, stop: int) -> int:
        """Find lines or words, as many as there is room for, and order them by shard; return where the next one is."""
        lane.lead = 0
        lane.require(0)
        found = text, at, stop, self._split, self._longest, self._wide.key
        lane.count, end = tokens(*found, lane.words, lane.starts, lane.hashes)
        if not lane.count and end < stop:
            nbytes = int(next_end(text, end, stop, self._split)) - end
            if nbytes > self._longest:
                self._lines += int(count_newlines(text[:end]))
                self._too_long()
            lane.require(1 + -(-nbytes // WORD))
            lane.count, end = tokens(*found, lane.words, lane.starts, lane.hashes)
        lane.arrange()
        return int(end)

    def _too_long(self) -> None:
        what = "a word" if self._split else "the line"
        raise InputError(
            f"line {self._lines + 1}: {what} is longer than {self._longest} bytes, "
            "for which there is room; raise --memory"
        )

    def _present(self, heap: Array, entries: Array) -> tuple[Text]:
        """The lines or words of entries."""
        offsets = np.zeros(len(entries) + 1, np.int64)
        lengths(heap, entries, offsets[1:])
        np.cumsum(offsets, out=offsets)
        content = np.empty(int(offsets[-1]), np.uint8)
        spell(heap, entries, offsets, content)
        return (Text(content, offsets),)
