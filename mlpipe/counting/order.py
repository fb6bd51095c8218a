"""Tables of counts in descending order of their counts, whatever fits into memory.

Rows come by value, and those that occur equally often stay in that order. What does not fit is sorted in runs that do;
then the rows of one range of counts after the other are taken from all runs. Ranges are halved until their rows fit,
or are all of one count, which no longer need sorting: so it takes no more than one pass to write and one to read,
however the counts are distributed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from mlpipe.counting.columns import concatenate
from mlpipe.counting.gathering import Columns, Gathering, part, sorting_bytes, table_bytes
from mlpipe.counting.runs import Run, Runs
from mlpipe.link import Array

PIECE_BYTES = 1 << 20
"""Bytes handed on at once."""

_LEAST_ROOM = 1 << 20

_FEW = 4096
"""Rows that NumPy sorts before a kernel is loaded."""

_NARROW = 2**31
"""Below, numbers take 4 bytes."""

_Segment: TypeAlias = "tuple[Run, int, int]"


def ranks(counts: Array) -> Array:
    """Integers in the order of counts, which may be sums of weights.

    Examples
    --------
    >>> np.argsort(ranks(np.array([0.5, -0.0, 3.0, 0.0]))).tolist()
    [1, 3, 0, 2]
    """
    if counts.dtype.kind != "f":
        return counts.astype(np.int64, copy=False)
    bits = (counts.astype(np.float64, copy=False) + 0.0).view(np.int64)  # −0.0 becomes 0.0
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def descending(counts: Array) -> Array | None:
    """The rows in descending order of their counts, equal ones as they come; None if they are in that order.

    Examples
    --------
    >>> descending(np.array([1, 3, 1, 2])).tolist()
    [1, 3, 0, 2]
    """
    order = ranks(counts)
    if (order[1:] <= order[:-1]).all():
        return None
    if len(order) <= _FEW:
        return np.argsort((order.max() - order).view(np.uint64), kind="stable")
    from mlpipe.kernels.tables import sort_places

    keys = (order.max() - order).view(np.uint64)
    largest = keys.max()
    if largest < _NARROW and len(keys) < _NARROW:  # half as much memory to go through
        keys = keys.astype(np.uint32)
    places = np.arange(len(keys), dtype=np.int32 if keys.dtype == np.uint32 else np.int64)
    others = np.empty_like(keys), np.empty_like(places)
    swapped = sort_places(keys, others[0], places, others[1], largest)
    return others[1] if swapped else places


def piece_rows(columns: Columns) -> int:
    """How many rows of a table are handed on at once, as long as the rows of this part of it.

    Examples
    --------
    >>> piece_rows((np.arange(10), np.arange(10)))
    65536
    """
    return max(1, PIECE_BYTES * len(columns[0]) // max(1, table_bytes(columns)))


class ByCount:
    """Sorts rows by descending count; a context manager.

    Parameters
    ----------
    room : int
        Bytes it may hold.
    directory : str
        For a temporary file of what does not fit.
    rows : int, optional
        How many rows come, or more.

    Examples
    --------
    >>> with ByCount(1 << 20, ".") as sorting:
    ...     sorting.add((np.array([5, 6, 7]), np.array([1, 3, 1])))
    ...     [[column.tolist() for column in piece] for piece in sorting.pieces()]
    [[[6, 5, 7], [3, 1, 1]]]
    """

    def __init__(self, room: int, directory: str, rows: int | None = None) -> None:
        self._room = max(room, _LEAST_ROOM)
        self._runs = Runs(directory)
        self._sorted: list[Run] = []
        self._pending: Gathering | None = Gathering(self._room, rows)
        self.rows = 0

    def __enter__(self) -> ByCount:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def spilled_bytes(self) -> int:
        """What went to the disk."""
        return self._runs.nbytes

    def add(self, columns: Columns) -> None:
        """Take in rows, which follow all others by value; a copy is kept."""
        pending = self._gathering()
        if not pending.fits(columns):
            self._spill(pending)
        pending.add(columns)
        self.rows += len(columns[0])

    def pieces(self) -> Iterator[Columns]:
        """All rows in order, once."""
        pending = self._gathering()
        if self._sorted:
            self._spill(pending)
            self._pending = None  # its memory is for reading now
            del pending
            segments = [(run, 0, run.rows) for run in self._sorted]
            ends = [self._rank(run, place) for run in self._sorted for place in (0, run.rows - 1)]
            yield from self._ranges(segments, min(ends), max(ends))
        elif pending.rows:
            yield from _in_order(pending.whole())

    def close(self) -> None:
        """Give back memory and disk; harmless when repeated."""
        self._pending = None
        self._runs.close()

    def _gathering(self) -> Gathering:
        if self._pending is None:
            raise ValueError("it is closed, or its rows were asked for already")
        return self._pending

    def _spill(self, pending: Gathering) -> None:
        whole = pending.whole()
        self._sorted.append(self._runs.append(whole, descending(_counts(whole))))
        pending.clear()

    def _ranges(self, segments: Sequence[_Segment], low: int, high: int) -> Iterator[Columns]:
        """Rows of the segments, whose counts rank from `low` to `high`, the highest first."""
        segments = [segment for segment in segments if segment[1] < segment[2]]
        rows = sum(stop - start for _, start, stop in segments)
        if not rows:
            return
        if low == high:
            for run, start, stop in segments:
                yield from self._streamed(run, start, stop)
        elif sorting_bytes(sum(self._runs.bytes_of(*segment) for segment in segments), rows) <= self._room:
            yield from _in_order(_joined([self._runs.read(*segment) for segment in segments]))
        else:
            middle = low + (high - low) // 2
            splits = [self._first_up_to(middle, *segment) for segment in segments]
            pairs = list(zip(segments, splits, strict=True))
            yield from self._ranges([(run, start, split) for (run, start, _), split in pairs], middle + 1, high)
            yield from self._ranges([(run, split, stop) for (run, _, stop), split in pairs], low, middle)

    def _streamed(self, run: Run, start: int, stop: int) -> Iterator[Columns]:
        """Rows of a run in pieces that fit; only long text makes them short."""
        rows = max(1, PIECE_BYTES * (stop - start) // max(1, self._runs.bytes_of(run, start, stop)))
        while start < stop:
            end = min(stop, start + rows)
            while end > start + 1 and self._runs.bytes_of(run, start, end) > 4 * PIECE_BYTES:
                end = start + (end - start) // 2
            yield self._runs.read(run, start, end)
            start = end

    def _first_up_to(self, rank: int, run: Run, start: int, stop: int) -> int:
        """The first row of a segment whose count ranks no higher."""
        while start < stop:
            middle = (start + stop) // 2
            if self._rank(run, middle) > rank:
                start = middle + 1
            else:
                stop = middle
        return start

    def _rank(self, run: Run, place: int) -> int:
        return int(ranks(_counts((self._runs.column(run, -1, place, place + 1),)))[0])


class Most:
    """The rows that occur most often, of those that occur equally often the first ones.

    Parameters
    ----------
    limit : int
        How many; twice as many are held, and as many as come at once.

    Examples
    --------
    >>> most = Most(2)
    >>> most.add((np.array([5, 6, 7, 8]), np.array([1, 3, 1, 2])))
    >>> [column.tolist() for column in most.rows()]
    [[6, 8], [3, 2]]
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: list[Columns] = []
        self._rows = 0
        self._least: int | None = None

    def add(self, columns: Columns) -> None:
        """Take in rows, which follow all others by value."""
        if self._least is not None:  # what only ties with the last one comes too late
            better = ranks(_counts(columns)) > self._least
            if not better.any():
                return
            columns = part(columns, better)
        else:
            columns = _copied(columns)
        self._held.append(columns)
        self._rows += len(columns[0])
        if self._rows >= 2 * self._limit + piece_rows(columns):
            self._prune()

    def rows(self) -> Columns | None:
        """They, as they came; None if there are none."""
        self._prune()
        return self._held[0] if self._held else None

    def _prune(self) -> None:
        if not self._held:
            return
        whole = _joined(self._held)
        found = ranks(_counts(whole))
        if len(found) > self._limit:
            least = np.partition(found, len(found) - self._limit)[len(found) - self._limit]
            keep = found > least
            ties = np.flatnonzero(found == least)[: self._limit - int(keep.sum())]
            keep[ties] = True
            whole, self._least = part(whole, keep), int(least)
        elif len(found) == self._limit:
            self._least = int(found.min())
        self._held, self._rows = [whole], len(whole[0])


def in_arrival_order(pieces: Iterable[Columns], limit: int, room: int, directory: str) -> Iterator[Columns]:
    """The rows that occur most often, as they come, where they are too many for `Most`."""
    with Runs(directory) as runs, ByCount(room // 2, directory) as sorting:
        written = []
        for piece in pieces:
            written.append(runs.append(piece))
            sorting.add((_counts(piece),))
        above, least, seen = 0, 0, 0
        for (counts,) in sorting.pieces():
            last = ranks(_counts((counts,)))[: limit - seen]
            if not len(last):
                break
            if seen == 0 or last[-1] != least:
                above = seen + int((last > last[-1]).sum())
            least, seen = int(last[-1]), seen + len(last)
        ties = seen - above
        for run in written:
            columns = runs.read(run, 0, run.rows)
            found = ranks(_counts(columns))
            keep = found > least
            equal = np.flatnonzero(found == least)[:ties]
            keep[equal] = True
            ties -= len(equal)
            yield part(columns, keep)


def _in_order(whole: Columns) -> Iterator[Columns]:
    """The rows of a table in descending order of their counts, in pieces."""
    order, rows = descending(_counts(whole)), piece_rows(whole)
    for start in range(0, len(whole[0]), rows):
        places = slice(start, start + rows)
        yield part(whole, places if order is None else order[places])


def _copied(columns: Columns) -> Columns:
    """Columns in memory of their own: whoever made them may use theirs again."""
    return tuple(column.copy() for column in columns)


def _counts(columns: Columns) -> Array:
    """The last column, which is never text."""
    counts = columns[-1]
    if not isinstance(counts, np.ndarray):
        raise TypeError("counts are numbers")
    return counts


def _joined(pieces: Sequence[Columns]) -> Columns:
    """Pieces of a table as one."""
    return tuple(concatenate(parts) for parts in zip(*pieces, strict=True))
