"""Tables as NumPy has them: ``.npy``, if all columns have a dtype in common, or ``.npz``, an array for each column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mlpipe.errors import OutputError
from mlpipe.link import Array
from mlpipe.npy_format import build_header
from mlpipe.opening import Opening
from mlpipe.writers.output import file_output
from mlpipe.writers.rows import Rows, Strings, Values, chunks
from mlpipe.writers.temporary import TemporaryFile
from mlpipe.writers.zipped import archive, member

EXACT = 2**53
"""Whole numbers up to here are float64 exactly."""

COUNTS = ("column", "count", "cumulative")
"""Names of columns that are never below 0, whatever their dtype could hold."""

_PIECE_BYTES = 1 << 20
_KEPT_CELLS = 1 << 20


def common_dtype(names: Sequence[str], dtypes: Sequence[np.dtype[Any] | None]) -> np.dtype[Any] | None:
    """The dtype that holds every value of every column exactly; None if there is no such dtype.

    Counts are never negative, and seldom beyond 2⁵³: with floats they go, and `write_npy` checks them.

    Examples
    --------
    >>> [common_dtype(("value", "count"), (np.dtype(kind), np.dtype("i8"))) for kind in ("u1", "u8", "f4")]
    [dtype('int64'), dtype('uint64'), dtype('float64')]
    >>> common_dtype(("value", "share"), (np.dtype("i8"), np.dtype("f8")))
    """
    known = [dtype for dtype in dtypes if dtype is not None and dtype.kind in "biuf"]
    if len(known) < len(dtypes):
        return None
    columns = list(zip(names, known, strict=True))
    keys = [dtype for name, dtype in columns if name not in COUNTS and dtype.kind in "biu"]
    if any(dtype.kind == "f" for dtype in known):
        return None if any(dtype.itemsize > 4 for dtype in keys) else np.dtype(np.float64)
    if np.dtype(np.uint64) in known:
        return None if any(dtype.kind == "i" for dtype in keys) else np.dtype(np.uint64)
    return np.dtype(np.int64)


def write_npy(table: Rows, path: str, opening: Opening) -> int:
    """Write a 2-D array, a column for each of the table, in their `common_dtype`; return its rows."""
    dtype = common_dtype(table.names, table.dtypes)
    if dtype is None:
        raise ValueError("the columns have no dtype in common")
    width, rows = len(table.names), 0
    with file_output(path, opening) as out:
        header = build_header((0, width), dtype)
        out.append(header)
        for piece in table.pieces:
            for part in chunks(piece):
                out.append(_side_by_side(part, table.names, dtype, path))
                rows += len(part[0])
        out.put(build_header((rows, width), dtype), 0)
    return rows


def _side_by_side(part: Sequence[Values], names: Sequence[str], dtype: np.dtype[Any], path: str) -> Array:
    """Columns as a 2-D array."""
    whole = np.empty((len(part[0]), len(part)), dtype)
    for i, (name, column) in enumerate(zip(names, part, strict=True)):
        if isinstance(column, Strings):
            raise TypeError("text has no place in an array of numbers")
        if dtype.kind == "f" and column.dtype.kind in "iu" and len(column) and column.max() > EXACT:
            raise OutputError(f"{path}: {name} {column.max()} is beyond 2**53, and no float64; write .npz or .csv")
        whole[:, i] = column
    return whole


def write_npz(table: Rows, path: str, opening: Opening, directory: str) -> int:
    """Write an array for each column, named as it is; return their rows.

    They lie one after the other in the file, so that columns first go into a temporary file. Text becomes an
    array of strings as wide as the longest.
    """
    with TemporaryFile(directory) as file:
        kept = _Kept(table, file, path)
        with file_output(path, opening) as out, archive(out) as into:
            for which, name in enumerate(table.names):
                with member(into, name, (kept.rows,), kept.dtype(which)) as stream:
                    for data in kept.column(which):
                        stream.write(data)
    return kept.rows


class _Kept:
    """A table in a temporary file, from which one column after the other is read."""

    def __init__(self, table: Rows, file: TemporaryFile, path: str) -> None:
        self._file, self._dtypes, self._path = file, table.dtypes, path
        self._chunks: list[tuple[int, Array]] = []
        self._longest = [1] * len(table.names)
        self._end = self.rows = 0
        for piece in table.pieces:
            for part in chunks(piece, _KEPT_CELLS, _PIECE_BYTES):
                self._keep(part)

    def _keep(self, part: Sequence[Values]) -> None:
        """Write a chunk, and remember its rows, where its columns begin and where they end."""
        starts = []
        rows = 0
        for which, column in enumerate(part):
            starts.append(self._end)
            if isinstance(column, Strings):
                rows = len(column.offsets) - 1
                self._keep_text(column, which)
            else:
                rows = len(column)
                self._write(np.ascontiguousarray(column))
        self._chunks.append((rows, np.array([*starts, self._end], np.int64)))
        self.rows += rows

    def _keep_text(self, column: Strings, which: int) -> None:
        ends = column.offsets[1:][np.diff(column.offsets) > 0]
        if (column.content[ends - 1] == 0).any():
            raise OutputError(
                f"{self._path}: a text ends with a NUL byte, which arrays of strings drop; write .csv or .parquet"
            )
        self._longest[which] = max(self._longest[which], int(np.diff(column.offsets).max(initial=0)))
        self._write(column.offsets - column.offsets[0])
        self._write(column.content[column.offsets[0] : column.offsets[-1]])

    def _write(self, array: Array) -> None:
        if array.nbytes:
            self._file.pwrite(array, self._end)
        self._end += array.nbytes

    def dtype(self, which: int) -> np.dtype[Any]:
        """Of a column in the archive."""
        return self._dtypes[which] or np.dtype(f"S{self._longest[which]}")

    def column(self, which: int) -> Iterator[memoryview]:
        """The bytes of a column."""
        for rows, bounds in self._chunks:
            start, stop = int(bounds[which]), int(bounds[which + 1])
            if self._dtypes[which] is None:
                yield from self._padded(rows, start, stop, self._longest[which])
            else:
                yield self._read(start, stop).data

    def _padded(self, rows: int, start: int, stop: int, width: int) -> Iterator[memoryview]:
        from mlpipe.kernels.tables import pad_text

        content_start = start + (rows + 1) * 8
        offsets = self._read(start, content_start).view(np.int64)
        content = self._read(content_start, stop)
        step = max(1, _PIECE_BYTES // width)
        for first in range(0, rows, step):
            padded = np.zeros((min(step, rows - first), width), np.uint8)
            pad_text(content, offsets[first:], padded)
            yield padded.reshape(-1).data

    def _read(self, start: int, stop: int) -> Array:
        data = np.empty(stop - start, np.uint8)
        if len(data):
            self._file.pread(data, start)
        return data
