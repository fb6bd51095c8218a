"""Pieces of a table in a temporary file, of which any rows can be read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.counting.columns import Column, Text, take
from mlpipe.link import Array
from mlpipe.writers.temporary import TemporaryFile


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a column of a run is: its array, or the offsets of its text and, after them, their content."""

    start: int
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    content: int | None

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of the array."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Run:
    """Rows that were written together.

    Parameters
    ----------
    rows : int
        How many there are.
    places : tuple
        Where the columns are.
    """

    rows: int
    places: tuple[_Place, ...]


class Runs:
    """Writes and reads runs; a context manager.

    Parameters
    ----------
    directory : str
        Of the temporary file, which is made when the first run is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory, Runs(directory) as runs:
    ...     run = runs.append([np.arange(4), Text.of([b"to", b"be", b"or", b"not"])])
    ...     numbers, words = runs.read(run, 2, 4)
    ...     numbers.tolist(), words.tolist()
    ([2, 3], [b'or', b'not'])
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file: TemporaryFile | None = None
        self.nbytes = 0

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def append(self, columns: Sequence[Column], order: Array | None = None) -> Run:
        """Write a table, its rows in `order` if given; one column is put in order at a time."""
        rows = len(columns[0])
        return Run(rows, tuple(self._put(column if order is None else take(column, order)) for column in columns))

    def read(self, run: Run, start: int, stop: int) -> tuple[Column, ...]:
        """Rows `start` to `stop` of a run."""
        return tuple(self.column(run, which, start, stop) for which in range(len(run.places)))

    def column(self, run: Run, which: int, start: int, stop: int) -> Column:
        """Rows `start` to `stop` of one column of a run."""
        place = run.places[which]
        if place.content is None:
            return self._array(place, start, stop - start)
        offsets = self._array(place, start, stop - start + 1)
        content = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
        self._open().pread(content, place.content + int(offsets[0]))
        offsets -= offsets[0]
        return Text(content, offsets)

    def bytes_of(self, run: Run, start: int, stop: int) -> int:
        """Bytes that these rows take in memory."""
        total = 0
        for place in run.places:
            if place.content is None:
                total += (stop - start) * place.row_bytes
            else:
                ends = self._array(place, start, 1), self._array(place, stop, 1)
                total += int(ends[1][0] - ends[0][0]) + (stop - start + 1) * 8
        return total

    def close(self) -> None:
        """Remove the file; harmless when repeated."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _array(self, place: _Place, start: int, rows: int) -> Array:
        array = np.empty((rows, *place.row_shape), place.dtype)
        if array.nbytes:
            self._open().pread(array, place.start + start * place.row_bytes)
        return array

    def _put(self, column: Column) -> _Place:
        if not isinstance(column, Text):
            return _Place(self._write(np.ascontiguousarray(column)), column.dtype, column.shape[1:], None)
        offsets = column.offsets - column.offsets[0]
        start = self._write(offsets)
        content = self._write(column.content[column.offsets[0] : column.offsets[-1]])
        return _Place(start, offsets.dtype, (), content)

    def _write(self, array: Array) -> int:
        """Write an array at the end; return where it begins."""
        start = self.nbytes
        if array.nbytes:
            self._open().pwrite(array.view(f"V{array.dtype.itemsize}"), start)
        self.nbytes += array.nbytes
        return start

    def _open(self) -> TemporaryFile:
        if self._file is None:
            self._file = TemporaryFile(self._directory).__enter__()
        return self._file
