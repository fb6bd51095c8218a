"""Rows in temporary files: with their labels and positions as records, or as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from mlpipe.kernels.scatter import scatter, slots
from mlpipe.link import Array, Spec
from mlpipe.writers.temporary import TemporaryFile

PIECE_ROWS = 1 << 16
"""Rows worked on at once, at most; so many positions stay in the second-level cache."""

LEAST_WRITE = 64 << 10
"""Bytes written at once to a part of a file; rather more passes than shorter writes."""

WRITE_BYTES = 1 << 20
"""The same, where the memory allows."""

Part = tuple[Array, Array | None]
"""Rows and their labels."""


class Piece(NamedTuple):
    """A few rows and their labels as bytes, and where they belong."""

    rows: Array
    labels: Array
    positions: Array


def as_bytes(rows: Array | None, count: int) -> Array:
    """Rows as an array of uint8, shape (count, bytes of a row); without bytes for None.

    Examples
    --------
    >>> as_bytes(np.zeros((3, 2), "f4"), 3).shape, as_bytes(None, 3).shape
    ((3, 8), (3, 0))
    """
    if rows is None or not rows.nbytes:
        return np.empty((count, 0), np.uint8)
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).reshape(count, -1)


@dataclass(frozen=True, slots=True)
class Records:
    """How rows lie in a file: bytes of the row, of its label, and as many of its position as there may be rows.

    Parameters
    ----------
    row_bytes, label_bytes, position_bytes : int
        Of one record.
    piece_rows : int
        Rows worked on at once.
    """

    row_bytes: int
    label_bytes: int
    position_bytes: int
    piece_rows: int

    @classmethod
    def of(cls, spec: Spec, rows: int, piece_bytes: int) -> Records:
        """Records of `rows` rows, worked on in pieces of so many bytes, or of one row.

        Examples
        --------
        >>> Records.of(Spec(None, (3,), np.dtype("f4")), 1000, 1 << 20)
        Records(row_bytes=12, label_bytes=0, position_bytes=2, piece_rows=19418)
        """
        labels = spec.labels.row_bytes if spec.labels else 0
        position = max(1, (max(1, rows - 1).bit_length() + 7) // 8)
        return cls(spec.row_bytes, labels, position, 1).in_pieces(piece_bytes)

    def in_pieces(self, nbytes: int) -> Records:
        """The same, worked on in pieces of so many bytes, or of one row."""
        one = replace(self, piece_rows=1).scratch_bytes
        return replace(self, piece_rows=max(1, min(PIECE_ROWS, nbytes // one)))

    @property
    def nbytes(self) -> int:
        """Bytes of one record."""
        return self.row_bytes + self.label_bytes + self.position_bytes

    @property
    def scratch_bytes(self) -> int:
        """Bytes held while a piece is worked on: its records, positions, parts and places."""
        return self.piece_rows * (self.nbytes + 5 * 8)

    def pack(self, piece: Piece, places: Array, out: Array) -> None:
        """Put rows as records where they belong in `out`, shape (records, bytes)."""
        label, position = self.row_bytes, self.row_bytes + self.label_bytes
        scatter(piece.rows, places, out[:, :label])
        if self.label_bytes:
            scatter(piece.labels, places, out[:, label:position])
        lowest = piece.positions.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8)[:, : self.position_bytes]
        scatter(lowest, places, out[:, position:])

    def read(self, file: TemporaryFile, offset: int, count: int) -> Iterator[Piece]:
        """Records that lie in a file one after the other; a piece is overwritten by the next."""
        reader = Reader(self, min(count, self.piece_rows))
        for start in range(0, count, self.piece_rows):
            yield reader.read(file, offset + start * self.nbytes, min(self.piece_rows, count - start))


class Reader:
    """Reads a few records at a time, into the same memory.

    Parameters
    ----------
    records : Records
        How they lie in the file.
    most : int
        How many are read at once, at most.
    """

    def __init__(self, records: Records, most: int) -> None:
        self._of = records
        self._records = np.empty((most, records.nbytes), np.uint8)
        self._words = np.zeros((most, 8), np.uint8)

    def read(self, file: TemporaryFile, offset: int, count: int) -> Piece:
        """The records from a place in the file on; they are overwritten by the next ones."""
        label, position = self._of.row_bytes, self._of.row_bytes + self._of.label_bytes
        some, words = self._records[:count], self._words[:count]
        file.pread(some, offset)
        words[:, : self._of.position_bytes] = some[:, position:]
        return Piece(
            some[:, :label], some[:, label:position], words.reshape(-1).view("<i8").astype(np.int64, copy=False)
        )


def pieces_of(parts: Iterable[Part], piece_rows: int, positions: Callable[[int, int, Array], None]) -> Iterator[Piece]:
    """Pieces of rows that come in order; `positions` fills an array with those of a range of rows."""
    first = 0
    for rows, labels in parts:
        row_bytes, label_bytes = as_bytes(rows, len(rows)), as_bytes(labels, len(rows))
        for start in range(0, len(rows), piece_rows):
            some = slice(start, min(start + piece_rows, len(rows)))
            places = np.empty(some.stop - start, np.int64)
            positions(first + start, first + some.stop, places)
            yield Piece(row_bytes[some], label_bytes[some], places)
        first += len(rows)


class Buffered:
    """Sorts rows into parts of a file, through a buffer for each; what differs is where `store` puts a full one.

    Parameters
    ----------
    records : Records
        How rows lie in the file.
    parts : int
        How many there are.
    nbytes : int
        For all buffers.
    """

    def __init__(self, records: Records, parts: int, nbytes: int) -> None:
        self._records = records
        self._room = max(1, min(WRITE_BYTES, nbytes // parts) // records.nbytes)
        self._buffers = np.empty((parts * self._room, records.nbytes), np.uint8)
        self._filled = np.zeros(parts, np.int64)

    def add(self, piece: Piece, parts: Array) -> None:
        """Add rows, each to its part."""
        places, start = np.empty(len(parts), np.int64), 0
        while start < len(parts):
            stop = slots(parts, self._filled, self._room, start, places)
            self._records.pack(Piece(*(array[start:stop] for array in piece)), places[start:stop], self._buffers)
            start, last = stop, int(parts[stop - 1])
            if self._filled[last] == self._room:
                self._empty(last)

    def finish(self) -> None:
        """Store what is left, and give back the buffers."""
        for part in range(len(self._filled)):
            self._empty(part)
        self._buffers = np.empty((0, self._records.nbytes), np.uint8)

    def _empty(self, part: int) -> None:
        start = part * self._room
        if filled := int(self._filled[part]):
            self.store(part, self._buffers[start : start + filled])
        self._filled[part] = 0

    def store(self, part: int, records: Array) -> None:
        """Put records, shape (count, bytes), behind those of the part that were stored before."""
        raise NotImplementedError


class Division(Buffered):
    """Rows by position, in parts of known size.

    Part p has the positions ``first + p * width …``, and the parts lie in the file from the last to the first.

    Parameters
    ----------
    file : TemporaryFile
        With room for `count` records.
    records : Records
        How they lie in it.
    first, count, width : int
        Positions: the first, how many, and how many in a part.
    nbytes : int
        For the buffers.
    """

    def __init__(self, file: TemporaryFile, records: Records, first: int, count: int, width: int, nbytes: int) -> None:
        parts = -(-count // width)
        super().__init__(records, parts, nbytes)
        self._file, self._first, self._count, self._width = file, first, count, width
        self._written = [0] * parts

    def divide(self, pieces: Iterable[Piece]) -> None:
        """Take in all rows."""
        for piece in pieces:
            self.add(piece, (piece.positions - self._first) // self._width)
        self.finish()

    def store(self, part: int, records: Array) -> None:
        """Fill the part's place in the file."""
        end = min((part + 1) * self._width, self._count)
        self._file.pwrite(records, (self._count - end + self._written[part]) * self._records.nbytes)
        self._written[part] += len(records)


class Heaps(Buffered):
    """Rows in parts of which nobody knows how large they will be: chunks of all of them lie in the file as they come.

    Parameters
    ----------
    file : TemporaryFile
        Empty.
    records : Records
        How rows lie in it.
    parts : int
        How many there are.
    nbytes : int
        For the buffers.
    """

    def __init__(self, file: TemporaryFile, records: Records, parts: int, nbytes: int) -> None:
        super().__init__(records, parts, nbytes)
        self._file, self._size = file, 0
        self._chunks: list[list[tuple[int, int]]] = [[] for _ in range(parts)]

    def store(self, part: int, records: Array) -> None:
        """Add a chunk."""
        self._file.pwrite(records, self._size)
        self._chunks[part].append((self._size, len(records)))
        self._size += records.nbytes

    def read(self, part: int) -> Iterator[Piece]:
        """The rows of a part, in the order in which they came."""
        for offset, count in self._chunks[part]:
            yield from self._records.read(self._file, offset, count)


class Spool:
    """Rows whose number is not known, as they come, in temporary files; a context manager.

    Parameters
    ----------
    directory : str or path-like
        Where there is room.
    spec : Spec
        Of the rows.
    piece_rows : int
        Rows that are read back at once.
    """

    def __init__(self, directory: str | os.PathLike[str], spec: Spec, piece_rows: int) -> None:
        self.rows = 0
        self._spec, self._piece_rows, self._files = spec, piece_rows, ExitStack()
        self._data, self._labels = TemporaryFile(directory), TemporaryFile(directory)

    def __enter__(self) -> Self:
        with ExitStack() as files:
            files.enter_context(self._data)
            if self._spec.labels:
                files.enter_context(self._labels)
            self._files = files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def append(self, rows: Array, labels: Array | None) -> None:
        """Add rows."""
        self._data.pwrite(np.ascontiguousarray(rows), self.rows * self._spec.row_bytes)
        if self._spec.labels and labels is not None:
            self._labels.pwrite(np.ascontiguousarray(labels), self.rows * self._spec.labels.row_bytes)
        self.rows += len(rows)

    def parts(self) -> Iterator[Part]:
        """All rows again; each part is overwritten by the next."""
        spec, count = self._spec, min(self.rows, self._piece_rows)
        rows = np.empty((count, *spec.row_shape), spec.dtype)
        labels = np.empty((count, *spec.labels.row_shape), spec.labels.dtype) if spec.labels else None
        for start in range(0, self.rows, max(1, count)):
            some = slice(0, min(count, self.rows - start))
            self._data.pread(rows[some], start * spec.row_bytes)
            if labels is not None and spec.labels:
                self._labels.pread(labels[some], start * spec.labels.row_bytes)
            yield rows[some], None if labels is None else labels[some]
