"""Rows that differ from all before them, of any number, in bounded memory.

A table holds the rows that were seen. Once it is full, rows that are not in it go to a temporary file, into heaps by
hash, so that equal rows meet again; heap after heap goes through the table then. What is left of each heap is in the
order of the input, and merging restores the order of all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from mlpipe.kernels.hashing import NEW, NO_ROOM, hash_rows, remember
from mlpipe.kernels.scatter import scatter
from mlpipe.link import Array, Spec
from mlpipe.stages.records import Heaps, Piece, Records
from mlpipe.writers.temporary import TemporaryFile

WORD = 8

MOST_KEPT = 1 << 30
"""Rows of a table; its places have 32 bits."""


def words_of(spec: Spec) -> int:
    """Words of 8 bytes that a row takes."""
    return -(-spec.row_bytes // WORD)


def kept_bytes(spec: Spec) -> int:
    """Bytes of a table for each row, at most."""
    return WORD * words_of(spec) + WORD + 3 * 4


def canonical(rows: Array, spec: Spec) -> Array:
    """Rows as words that are equal where the values are: 0 for -0, and one NaN for all.

    Parameters
    ----------
    rows : ndarray of uint8, shape (count, bytes)
        As they lie in memory.
    spec : Spec
        What they are.

    Examples
    --------
    >>> rows = np.array([[0.0, -0.0]])
    >>> canonical(rows.view(np.uint8), Spec(1, (2,), rows.dtype)).tolist()
    [[0, 0]]
    """
    words = np.zeros((len(rows), words_of(spec)), np.uint64)
    inside = words.view(np.uint8)[:, : spec.row_bytes] if words.size else np.empty((len(rows), 0), np.uint8)
    inside[...] = rows
    if spec.dtype.kind in "fc" and words.size:
        real = np.finfo(spec.dtype).dtype
        values = words.view(real)[:, : spec.row_bytes // real.itemsize]
        with np.errstate(invalid="ignore"):
            values += real.type(0)  # -0 + 0 is 0
        values[np.isnan(values)] = np.nan
    return words


class Table:
    """The rows that were seen, as many as there is room for.

    Parameters
    ----------
    capacity : int
        How many.
    spec : Spec
        What they are.

    Examples
    --------
    >>> spec = Spec(4, (), np.dtype("i8"))
    >>> table = Table(2, spec)
    >>> rows = np.array([5, 6, 5, 7])
    >>> table.add(rows.view(np.uint8).reshape(4, 8))[0].tolist() == [NEW, NEW, 0, NO_ROOM]
    True
    """

    def __init__(self, capacity: int, spec: Spec) -> None:
        self._spec, self._count = spec, 0
        self._places = np.zeros(1 << (3 * capacity // 2).bit_length(), np.int32)
        self._tags = np.empty(capacity, np.uint64)
        self._kept = np.empty((capacity, words_of(spec)), np.uint64)
        self.clear()

    def clear(self) -> None:
        """Forget all rows; hashes are other ones from now on."""
        self._places.fill(0)
        self._key = np.frombuffer(os.urandom(2 * WORD), np.uint64)
        self._count = 0

    def add(self, rows: Array) -> tuple[Array, Array]:
        """KNOWN, NEW or NO_ROOM for each row, and its hash. `rows` are bytes, shape (count, bytes)."""
        words = canonical(rows, self._spec)
        hashes, found = np.empty(len(rows), np.uint64), np.empty(len(rows), np.uint8)
        hash_rows(words, self._key, hashes)
        self._count = remember(words, hashes, self._places, self._tags, self._kept, self._count, found)
        return found, hashes


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be held.

    Parameters
    ----------
    records : Records
        How rows lie in files.
    capacity : int
        Rows of the table.
    buffer_bytes : int
        For the buffers of heaps.
    heaps : int
        How many there may be.
    window_rows : int
        Rows that are merged at once.
    """

    records: Records
    capacity: int
    buffer_bytes: int
    heaps: int
    window_rows: int


class Distinct:
    """Finds the rows that differ from all before them.

    Parameters
    ----------
    spec : Spec
        The rows.
    limits : Limits
        What may be held.
    directory : str
        For temporary files.
    """

    def __init__(self, spec: Spec, limits: Limits, directory: str) -> None:
        self._limits, self._directory = limits, directory
        self._table = Table(limits.capacity, spec)
        self._overflow = _Overflow(limits, directory)

    def new(self, piece: Piece) -> Array:
        """Which rows are new and can be handed on at once; those that are not known come with the `rest`."""
        return self._new(piece, self._overflow)

    def rest(self) -> Iterator[Piece]:
        """The rows that are new among those for which there was no room, in order; each overwritten by the next."""
        return self._rest(self._overflow)

    def close(self) -> None:
        """Give back the file."""
        self._overflow.close()

    def _new(self, piece: Piece, overflow: _Overflow) -> Array:
        found, hashes = self._table.add(piece.rows)
        left = found == NO_ROOM
        if left.any():
            overflow.add(Piece(*(array[left] for array in piece)), hashes[left])
        new: Array = found == NEW
        return new

    def _rest(self, overflow: _Overflow) -> Iterator[Piece]:
        heaps = overflow.finish()
        if heaps is None:
            return
        records = self._limits.records
        with TemporaryFile(self._directory) as file:
            runs, end = [], 0
            for heap in range(self._limits.heaps):
                start = end
                for piece in self._of_heap(heaps.read(heap)):
                    packed = np.empty((len(piece.rows), records.nbytes), np.uint8)
                    records.pack(piece, np.arange(len(packed)), packed)
                    file.pwrite(packed, end * records.nbytes)
                    end += len(packed)
                runs.append((start, end))
            overflow.close()
            yield from _merged(file, self._limits, [run for run in runs if run[0] < run[1]])

    def _of_heap(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """What is new among the rows of a heap, which may in turn be too many."""
        self._table.clear()
        with ExitStack() as files:
            overflow = _Overflow(self._limits, self._directory)
            files.callback(overflow.close)
            for piece in pieces:
                new = self._new(piece, overflow)
                yield Piece(*(array[new] for array in piece))
            yield from self._rest(overflow)


class _Overflow:
    """Rows for which there was no room, in heaps."""

    def __init__(self, limits: Limits, directory: str) -> None:
        self._limits, self._directory, self._files = limits, directory, ExitStack()
        self._heaps: Heaps | None = None

    def add(self, piece: Piece, hashes: Array) -> None:
        """Add rows."""
        limits = self._limits
        if self._heaps is None:
            file = self._files.enter_context(TemporaryFile(self._directory))
            self._heaps = Heaps(file, limits.records, limits.heaps, limits.buffer_bytes)
        self._heaps.add(piece, ((hashes >> np.uint64(33)) % np.uint64(limits.heaps)).astype(np.int64))

    def finish(self) -> Heaps | None:
        """The heaps; None if there was room for all."""
        if self._heaps is not None:
            self._heaps.finish()
        return self._heaps

    def close(self) -> None:
        """Give back the file."""
        self._files.close()


class _Cursor:
    """Rows of a run that come next."""

    def __init__(self, file: TemporaryFile, records: Records, start: int, stop: int) -> None:
        self._pieces = records.read(file, start * records.nbytes, stop - start)
        self.piece = next(self._pieces, None)
        self._at = 0

    def next_position(self) -> int | None:
        """Of the first row that is left."""
        return None if self.piece is None else int(self.piece.positions[self._at])

    def take(self, stop: int) -> Iterator[Piece]:
        """The rows before a position."""
        while self.piece is not None:
            end = int(np.searchsorted(self.piece.positions, stop))
            if self._at < end:
                yield Piece(*(array[self._at : end] for array in self.piece))
            self._at = end
            if end < len(self.piece.positions):
                return
            self.piece, self._at = next(self._pieces, None), 0


def _merged(file: TemporaryFile, limits: Limits, runs: list[tuple[int, int]]) -> Iterator[Piece]:
    """Rows of runs that are each in order, in the order of all: window after window of positions."""
    records = limits.records
    small = records.in_pieces(limits.buffer_bytes // max(1, len(runs)))
    cursors = [_Cursor(file, small, *run) for run in runs]
    rows = np.empty((limits.window_rows, records.row_bytes), np.uint8)
    labels = np.empty((limits.window_rows, records.label_bytes), np.uint8)
    present = np.empty(limits.window_rows, np.bool_)
    while cursors:
        first = min(place for cursor in cursors if (place := cursor.next_position()) is not None)
        present[:] = False
        for cursor in cursors:
            for piece in cursor.take(first + limits.window_rows):
                # At its position first, from where what is there moves up afterwards.
                scatter(piece.rows, piece.positions - first, rows)
                if records.label_bytes:
                    scatter(piece.labels, piece.positions - first, labels)
                present[piece.positions - first] = True
        there = np.flatnonzero(present)
        yield Piece(rows[there], labels[there], first + there)
        cursors = [cursor for cursor in cursors if cursor.piece is not None]
