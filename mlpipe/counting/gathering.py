"""Rows that come in pieces, as one table in memory, which is used again for the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from mlpipe.counting.columns import Column, concatenate, take
from mlpipe.link import Array

Columns: TypeAlias = "tuple[Column, ...]"
"""Rows of a table; its counts are the last column."""

SORT_BYTES = 32
"""What sorting takes for a row besides its columns: keys and places, each two times."""


def table_bytes(columns: Sequence[Column]) -> int:
    """Bytes of all columns, a view's without the rest of what it is a view of."""
    return sum(column.nbytes for column in columns)


def sorting_bytes(nbytes: int, rows: int) -> int:
    """Bytes for joining so many bytes of rows and sorting them."""
    return 2 * nbytes + SORT_BYTES * rows


class Gathering:
    """As many rows as can be sorted in some room.

    Arrays are copied next to one another into memory made once; text, whose length nobody knows, is joined at the end.

    Parameters
    ----------
    room : int
        Bytes for the rows and for sorting them.
    rows : int, optional
        How many come in all, if that is known.

    Examples
    --------
    >>> gathering = Gathering(1 << 20)
    >>> for piece in (np.array([1, 2]), np.array([3])):
    ...     gathering.add((piece,))
    >>> gathering.whole()[0].tolist()
    [1, 2, 3]
    """

    def __init__(self, room: int, rows: int | None = None) -> None:
        self._room, self._expected = room, rows
        self._arrays: list[Array] | None = None
        self._pieces: list[Columns] = []
        self._nbytes = self.rows = 0

    def fits(self, columns: Columns) -> bool:
        """Whether there is room for more; for the first ones there always is."""
        rows = self.rows + len(columns[0])
        if not self.rows:
            return True
        if self._arrays is not None:
            return rows <= len(self._arrays[0])
        return sorting_bytes(self._nbytes + table_bytes(columns), rows) <= self._room

    def add(self, columns: Columns) -> None:
        """Copy rows."""
        arrays = [column for column in columns if isinstance(column, np.ndarray)]
        stop = self.rows + len(columns[0])
        if len(arrays) < len(columns):
            self._pieces.append(tuple(column.copy() for column in columns))
            self._nbytes += table_bytes(columns)
        else:
            if self._arrays is None or stop > len(self._arrays[0]):
                self._arrays = self._made(arrays)
            for held, array in zip(self._arrays, arrays, strict=True):
                held[self.rows : stop] = array
        self.rows = stop

    def whole(self) -> Columns:
        """All rows; they are good until `clear`."""
        if self._arrays is not None:
            return tuple(array[: self.rows] for array in self._arrays)
        self._pieces = [tuple(concatenate(parts) for parts in zip(*self._pieces, strict=True))]
        return self._pieces[0]

    def clear(self) -> None:
        """Forget the rows, but keep their memory."""
        self._pieces.clear()
        self._nbytes = self.rows = 0

    def _made(self, arrays: Sequence[Array]) -> list[Array]:
        """Memory for as many rows as fit; what is never written to takes none."""
        row_bytes = [max(1, array[:1].nbytes) for array in arrays]
        rows = self._room // (sum(row_bytes) + max(row_bytes) + SORT_BYTES)
        if self._expected is not None:
            rows = min(rows, self._expected)
        rows = max(rows, len(arrays[0]))
        return [np.empty((rows, *array.shape[1:]), array.dtype) for array in arrays]


def part(columns: Columns, places: Array | slice) -> Columns:
    """Some rows of a table."""
    return tuple(take(column, places) for column in columns)
