"""A table of counts in pieces: in memory as long as there is room, the rest in a temporary file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mlpipe.link import Array
from mlpipe.writers.temporary import TemporaryFile

PIECE_ROWS = 1 << 16
"""Rows that are handed out together."""


class _Piece(NamedTuple):
    """Rows of the table: the arrays, or where they are in the file."""

    order: tuple[int, ...]
    rows: int
    kind: np.dtype
    offset: int
    arrays: tuple[Array, Array] | None


class Results:
    """Pieces that come in any order, from any thread, and go out in theirs.

    Parameters
    ----------
    room : int
        Bytes to hold; what exceeds it goes to the file.
    directory : str
        Where.
    """

    def __init__(self, room: int, directory: str) -> None:
        self.room = room
        self._directory = directory
        self._pieces: list[_Piece] = []
        self._file: TemporaryFile | None = None
        self._lock = threading.Lock()
        self.rows = self.total = self.spilled = 0

    def put(self, order: tuple[int, ...], keys: Array, counts: Array) -> None:
        """Add a piece, by key, whose place among the others is `order`; the arrays may be reused afterwards."""
        if not len(keys):
            return
        kind: np.dtype = counts.dtype
        if kind.kind != "f" and int(counts.max()) < 1 << 32:
            kind = np.min_scalar_type(int(counts.max()))
        size = len(keys) * (8 + kind.itemsize)
        with self._lock:
            self.rows += len(keys)
            held = size <= self.room
            self.room -= size if held else 0
            offset = self.spilled
            self.spilled += 0 if held else size
            if not held and self._file is None:
                self._file = TemporaryFile(self._directory).__enter__()
        arrays = (keys.copy(), counts.astype(kind)) if held else None
        if self._file is not None and not held:
            self._file.pwrite(keys, offset)
            self._file.pwrite(counts.astype(kind), offset + 8 * len(keys))
        with self._lock:
            self._pieces.append(_Piece(order, len(keys), kind, offset, arrays))

    def last(self) -> tuple[int, int | float] | None:
        """The largest key and its count."""
        pieces = [piece for piece in self._pieces if piece.rows]
        if not pieces:
            return None
        piece = max(pieces, key=lambda piece: piece.order)
        keys, counts = self._part(piece, piece.rows - 1, piece.rows)
        return int(keys[0]), counts[0].item()

    def _part(self, piece: _Piece, start: int, stop: int) -> tuple[Array, Array]:
        if piece.arrays is not None:
            return piece.arrays[0][start:stop], piece.arrays[1][start:stop]
        keys, counts = np.empty(stop - start, np.uint64), np.empty(stop - start, piece.kind)
        if self._file is not None:
            self._file.pread(keys, piece.offset + 8 * start)
            self._file.pread(counts, piece.offset + 8 * piece.rows + piece.kind.itemsize * start)
        return keys, counts

    def whole(self) -> list[tuple[Array, Array]]:
        """All pieces, which are in memory, in order."""
        return [piece.arrays for piece in sorted(self._pieces, key=lambda piece: piece.order) if piece.arrays]

    def pieces(self) -> Iterator[tuple[Array, Array]]:
        """Keys and counts, in bounded pieces; each is forgotten when the next one comes."""
        waiting = sorted(self._pieces, key=lambda piece: piece.order, reverse=True)
        self._pieces = []
        while waiting:
            piece = waiting.pop()
            for start in range(0, piece.rows, PIECE_ROWS):
                yield self._part(piece, start, min(piece.rows, start + PIECE_ROWS))

    def close(self) -> None:
        """Give everything back; harmless when repeated."""
        self._pieces = []
        if self._file is not None:
            self._file.close()
            self._file = None
