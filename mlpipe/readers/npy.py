"""Rows of one ``.npy`` file."""

from __future__ import annotations

import functools
import math
import operator
import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import Array, Block, Blocks, Spec
from mlpipe.npy_format import Header, check_dtype, read_header
from mlpipe.readers.closing import Closing
from mlpipe.readers.files import Fingerprint, check_unchanged, open_regular, read_exactly, shown_name
from mlpipe.readers.mapped import FileMap, MappedRows, check_rows

SCRATCH_BYTES = 1 << 20
SPAN_BYTES = 1 << 15  # reading this much costs about what one more call does
TILE_LENGTH = SCRATCH_BYTES // 64  # long runs of each column, yet whole cache lines of rows


class NpySource(Closing):
    """A ``.npy`` file, read lazily: rows come from disk when asked for and are never kept.

    Any thread may read at any time. Values come in the machine's byte order and C order, whatever the
    file holds; reading in the file's own dtype and order copies nothing.

    Parameters
    ----------
    path : str or path-like
        A regular file. Only its header is read here.
    name : str, optional
        What messages call the file; by default its path.
    header : callable
        Called with a descriptor and a name; returns what the file holds and where.

    Attributes
    ----------
    spec : Spec
        The rows, with the dtype as stored.
    header : Header
        All the header says.
    name, path : str
        What messages call the file, and the path as given.
    fingerprint : Fingerprint
        Device, inode, size and time of the last change when opened.

    Raises
    ------
    InputMissingError
        If it does not exist, cannot be read or is not a regular file.
    InputError
        If it is not a ``.npy`` file mlpipe reads, or a single value without rows.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.arange(6, dtype=">f4").reshape(3, 2))
    ...     with NpySource(file.name) as source:
    ...         source.shape, source.dtype, len(source), source[-1]
    ((3, 2), dtype('>f4'), 3, array([4., 5.], dtype=float32))
    """

    seekable = True
    header: Header
    spec: Spec
    fingerprint: Fingerprint

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        header: Callable[[int, str], Header] = read_header,
    ) -> None:
        self.path = os.fsdecode(path)
        self.name = name or shown_name(path)
        self._fd, self.fingerprint = open_regular(path)
        try:
            self.absolute = os.path.join(os.getcwd(), self.path)  # noqa: PTH109, PTH118 - of thousands of files
            self.header = header(self._fd, self.name)
            if not self.header.shape:
                raise InputError(f"{self.name}: shape () is a single value without rows; reshape it to (1,)")
        except BaseException:
            self.close()
            raise
        self.spec = Spec(self.header.shape[0], self.header.shape[1:], self.header.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements as stored, maybe in foreign byte order."""
        return self.header.dtype

    @property
    def fortran_order(self) -> bool:
        """Whether the file stores columns, not rows, one after the other."""
        return self.header.fortran_order

    @property
    def by_columns(self) -> bool:
        """Whether that matters: there is more than one column, and more than one row."""
        return self.fortran_order and len(self) > 1 and math.prod(self.spec.row_shape) > 1

    def __len__(self) -> int:
        return self.header.shape[0]

    def __repr__(self) -> str:
        return f"NpySource({self.path!r}, shape={self.shape}, dtype={self.dtype})"

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def check_unchanged(self) -> None:
        """Raise InputError when the file was written to, truncated, replaced or removed since it was opened."""
        check_unchanged(self.absolute, self.fingerprint, self.name)

    def __getitem__(self, index: int | slice) -> Array:
        """Read one row, or the rows of a slice, as a new array."""
        if isinstance(index, slice):
            rows = range(len(self))[index]
            out = self._empty(len(rows))
            self._read_range(rows, out)
            return out
        row = range(len(self))[operator.index(index)]
        out = self._empty(1)
        self.read_rows(row, out)
        return out.reshape(self.spec.row_shape)

    def blocks(self, rows: int) -> Blocks:
        """Yield all rows in order, `rows` at a time.

        Every block uses the same memory: copy what has to outlive the next one.

        Parameters
        ----------
        rows : int
            Rows of a block; the last one may have fewer.

        Yields
        ------
        Block
            C-contiguous, in the machine's byte order.
        """
        if rows < 1:
            raise ValueError(f"blocks of {rows} rows: at least 1 is needed")
        buffer = self._empty(min(rows, len(self)))
        for start in range(0, len(self), rows):
            data = buffer[: len(self) - start]
            self.read_rows(start, data)
            yield Block(start, data)

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with the rows from `start` on, converted to its dtype.

        Parameters
        ----------
        start : int
            The first row.
        out : ndarray, shape (rows, *row_shape)
            C-contiguous. Values go straight into it when they need no conversion, and through at most
            1 MiB of scratch memory otherwise.

        Raises
        ------
        InputError
            If the file was truncated meanwhile, or complex numbers would lose their imaginary part.
        """
        self._check_request(start, out)
        if not out.size:
            return
        if out.dtype.kind != "c":
            check_dtype(self.dtype, self.name)
        # A float32 that overflows becomes infinite, as everywhere in NumPy, but silently.
        with np.errstate(over="ignore", invalid="ignore"):
            if self.by_columns:
                self._read_columns(start, out.reshape(len(out), -1))
            elif out.dtype == self.dtype:
                read_exactly(self._fd, out, self._offset(start * out[0].size), self.name)
            else:
                self._convert(start * out[0].size, out.reshape(-1))

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out` with rows in any order, converted to its dtype, through a memory map.

        Parameters
        ----------
        rows : ndarray of int64, shape (count,)
            Which rows.
        out : ndarray, shape (count, *row_shape)
            C-contiguous.
        labels : None
            A file has none.

        Raises
        ------
        InputError
            If the file was truncated meanwhile, or complex numbers would lose their imaginary part.
        """
        self._check_request(0, out[:0])
        if not out.size:
            return
        if out.dtype.kind != "c":
            check_dtype(self.dtype, self.name)
        own = self.dtype.newbyteorder("=")
        if out.dtype.newbyteorder("=") != own or self.by_columns:
            self._gather_converted(rows, out)
            return
        self._mapped.gather(rows, out)
        if out.dtype != self.dtype:
            out.byteswap(inplace=True)

    def map(self) -> tuple[FileMap, int]:
        """The file as a memory map, which outlives this source, and where in it the rows begin."""
        self.check_size()
        size = self.header.offset + math.prod(self.shape) * self.dtype.itemsize
        return FileMap(self._fd, size, self.name), self.header.offset

    def check_size(self) -> None:
        """Raise InputError when the file became shorter, and reading from a map of it would end the process."""
        now = os.fstat(self._fd).st_size
        if now < self.fingerprint.st_size:
            raise InputError(f"{self.name}: truncated while reading, it now ends at byte {now}; run again")

    @functools.cached_property
    def _mapped(self) -> MappedRows:
        bounds = [0, len(self)]
        return MappedRows(bounds, self.spec.row_bytes, lambda _file: self.map(), lambda _files: self.check_size())

    def _gather_converted(self, rows: Array, out: Array) -> None:
        """Fill `out`, of another dtype, or from a file that stores columns."""
        check_rows(rows, len(self))
        mapped, offset = self.map()
        order: Literal["C", "F"] = "F" if self.fortran_order else "C"
        values = np.ndarray(self.shape, self.dtype, mapped.content(), offset, order=order)
        count = max(1, SCRATCH_BYTES // max(1, self.spec.row_bytes))
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(rows), count):
                self.check_size()
                np.copyto(out[first : first + count], values[rows[first : first + count]], casting="unsafe")

    def _check_request(self, start: int, out: Array) -> None:
        """Refuse a call that cannot be meant."""
        if self._fd < 0:
            raise ValueError(f"{self.name} is closed")
        if not 0 <= start <= start + len(out) <= len(self):
            raise IndexError(f"rows {start} to {start + len(out)} of {len(self)}")
        if out.shape[1:] != self.spec.row_shape or not out.flags.c_contiguous:
            raise ValueError(f"C-contiguous rows of shape {self.spec.row_shape} needed, got {out.shape}")

    def _empty(self, rows: int) -> Array:
        """Return a new array for `rows` rows, in the machine's byte order."""
        return np.empty((rows, *self.spec.row_shape), self.dtype.newbyteorder("="))

    def _offset(self, element: int) -> int:
        """Position in the file of an element, counted in the order of the file."""
        return self.header.offset + element * self.dtype.itemsize

    def _read_range(self, rows: range, out: Array) -> None:
        """Fill `out` with evenly spaced rows."""
        if rows.step == 1:
            self.read_rows(rows.start, out)
            return
        # Near rows are read with those between them, far ones one by one.
        row_bytes = max(1, self.spec.row_bytes)
        piece = SCRATCH_BYTES if self.fortran_order else SPAN_BYTES
        count = max(1, piece // (row_bytes * abs(rows.step)))
        for first in range(0, len(rows), count):
            part = rows[first : first + count]
            low, high = min(part), max(part)
            span = self._empty(high + 1 - low)
            self.read_rows(low, span)
            out[first : first + len(part)] = span[:: rows.step]

    def _convert(self, element: int, out: Array) -> None:
        """Fill the flat array `out` from consecutive elements of another dtype."""
        scratch = np.empty(min(len(out), SCRATCH_BYTES // self.dtype.itemsize), self.dtype)
        for first in range(0, len(out), len(scratch)):
            target = out[first : first + len(scratch)]
            values = scratch[: len(target)]
            read_exactly(self._fd, values, self._offset(element + first), self.name)
            np.copyto(target, values, casting="unsafe")

    def _read_columns(self, start: int, out: Array) -> None:
        """Fill the 2-D array `out` from a file that stores column after column."""
        size, (rows, columns) = self.dtype.itemsize, out.shape
        whole = len(self) * size <= SPAN_BYTES
        height = len(self) if whole else min(rows, TILE_LENGTH)
        width = min(columns, TILE_LENGTH, SCRATCH_BYTES // (height * size))
        scratch = np.empty((width, height), self.dtype)
        for left in range(0, columns, width):
            right = min(columns, left + width)
            place = self._place(left, right)
            for top in range(0, rows, height):
                bottom = min(rows, top + height)
                if whole:
                    tile = scratch[: right - left]
                    read_exactly(self._fd, tile, self._offset(left * len(self)), self.name)
                    tile = tile[:, start : start + rows]
                else:
                    tile = scratch[: right - left, : bottom - top]
                    for column, values in enumerate(tile, left):
                        at = self._offset(column * len(self) + start + top)
                        read_exactly(self._fd, values, at, self.name)
                out[top:bottom, place] = tile.T

    def _place(self, left: int, right: int) -> slice | Array:
        """Where columns of the file belong in a row: the order differs when a row has more than one axis."""
        shape = self.spec.row_shape
        if len(shape) == 1:
            return slice(left, right)
        index = np.unravel_index(np.arange(left, right), shape, order="F")
        return np.ravel_multi_index(index, shape)
