"""Strings of fixed width in one ``.npy`` file, as rows of bytes."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import Array, Spec
from mlpipe.npy_format import read_header
from mlpipe.readers.files import open_regular, read_exactly, shown_name
from mlpipe.readers.mapped import check_rows
from mlpipe.readers.npy import NpySource

LAST_CHARACTER = 0x10FFFF
"""The highest code point of Unicode."""

_with_text = partial(read_header, text=True)


def holds_text(path: str | os.PathLike[str]) -> bool:
    """Whether a ``.npy`` file holds strings, as its header says.

    Raises
    ------
    InputMissingError, InputError
        As for `NpySource`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.array(["to", "be"]))
    ...     holds_text(file.name)
    True
    """
    fd, _ = open_regular(path)
    try:
        return _with_text(fd, shown_name(path)).dtype.kind in "SU"
    finally:
        os.close(fd)


class StringSource(NpySource):
    """A ``.npy`` file of strings of fixed width (``S`` or ``U``), read lazily, as rows of bytes.

    A row is an index along the first axis; its shape ends with the bytes of one string, so that flattening all axes
    but the last gives one string a row. Bytes are as NumPy holds them: those of ``S`` as they are, four of each
    character of ``U`` in the machine's byte order, both filled up with zeros.

    Parameters
    ----------
    path : str or path-like
        A regular file. Only its header is read here.
    name : str, optional
        What messages call the file; by default its path.

    Attributes
    ----------
    spec : Spec
        The rows, of uint8.
    text_dtype : numpy.dtype
        Of the strings, in the machine's byte order: rows viewed as it are strings.

    Raises
    ------
    InputMissingError, InputError
        As for `NpySource`; and if the file holds numbers.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.array(["to", "be"], ">U2"))
    ...     with StringSource(file.name) as source:
    ...         rows = source[:]
    >>> source.spec.row_shape, source.text_dtype.str, rows.view(source.text_dtype)[:, 0].tolist()
    ((8,), '<U2', ['to', 'be'])
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        super().__init__(path, name, _with_text)
        self.text_dtype: np.dtype[Any] = self.header.dtype.newbyteorder("=")
        if self.text_dtype.kind not in "SU":
            self.close()
            raise InputError(f"{self.name}: {self.text_dtype} where strings are needed; read it as numbers")
        shape = self.header.shape
        self.spec = Spec(shape[0], (*shape[1:], self.text_dtype.itemsize), np.dtype(np.uint8))

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with the bytes of the rows from `start` on.

        Parameters
        ----------
        start : int
            The first row.
        out : ndarray of uint8, shape (rows, *row_shape)
            C-contiguous.

        Raises
        ------
        InputError
            If the file was truncated meanwhile, or holds what is no character.
        """
        self._check_bytes(start, out)
        if not out.size:
            return
        if self.fortran_order and len(self.header.shape) > 1:
            self._copy(np.s_[start : start + len(out)], out)
        else:
            offset = self.header.offset + start * self.spec.row_bytes
            read_exactly(self._fd, out, offset, self.name)
            self._swap(out)
        check_characters(out.view(self.text_dtype)[..., 0], start, self.name)

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out` with rows in any order, through a memory map.

        Parameters
        ----------
        rows : ndarray of int64, shape (count,)
            Which rows.
        out : ndarray of uint8, shape (count, *row_shape)
            C-contiguous.
        labels : None
            A file has none.

        Raises
        ------
        InputError
            If the file was truncated meanwhile, or holds what is no character.
        """
        self._check_bytes(0, out[:0])
        if not out.size:
            return
        if self.fortran_order and len(self.header.shape) > 1:
            check_rows(rows, len(self))
            self._copy(rows, out)
        else:
            self._mapped.gather(rows, out)
            self._swap(out)
        check_characters(out.view(self.text_dtype)[..., 0], int(rows[0]), self.name)

    def _empty(self, rows: int) -> Array:
        return np.empty((rows, *self.spec.row_shape), np.uint8)

    def _check_bytes(self, start: int, out: Array) -> None:
        """Refuse a call that cannot be meant."""
        self._check_request(start, out)
        if out.dtype != np.uint8:
            raise ValueError(f"strings are read as rows of uint8, not of {out.dtype}")

    def _swap(self, out: Array) -> None:
        """Bring characters into the machine's byte order."""
        if self.text_dtype.kind == "U" and self.header.dtype != self.text_dtype:
            out.reshape(-1).view(np.uint32).byteswap(inplace=True)

    def _copy(self, rows: Any, out: Array) -> None:
        """Copy rows out of a file that stores columns."""
        mapped, offset = self.map()
        values = np.ndarray(self.header.shape, self.header.dtype, mapped.content(), offset, order="F")
        np.copyto(out.view(self.text_dtype)[..., 0], values[rows])


def check_characters(rows: Array, start: int, name: str) -> None:
    """Raise InputError for a number that stands for no character; Python would not make a string of it.

    Parameters
    ----------
    rows : ndarray
        C-contiguous; those of other dtypes than ``U`` pass.
    start : int
        The first of them.
    name : str
        What messages call the file.
    """
    if rows.dtype.kind != "U" or not rows.size:
        return
    codes = rows.reshape(len(rows), -1).view(np.uint32)
    if int(codes.max()) > LAST_CHARACTER:
        row, place = np.unravel_index(int(codes.argmax()), codes.shape)
        raise InputError(
            f"{name}: no text: character {int(place)} from row {start + int(row)} on is {codes[row, place]}, "
            f"above the {LAST_CHARACTER} of Unicode; write it again"
        )
