"""Strings of fixed width in one ``.npy`` file, as rows of strings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mlpipe.link import Array, Spec
from mlpipe.readers.closing import Closing
from mlpipe.readers.strings import StringSource

SCRATCH_BYTES = 1 << 20


class TextRows(Closing):
    """A ``.npy`` file of strings, as `NpySource` is one of numbers: rows come in their own dtype, or in a wider one.

    Parameters
    ----------
    path : str or path-like
        A regular file. Only its header is read here.
    name : str, optional
        What messages call the file; by default its path.

    Raises
    ------
    InputMissingError, InputError
        As for `StringSource`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.array(["to", "be"], ">U2"))
    ...     with TextRows(file.name) as source:
    ...         source.read_rows(1, out := np.empty(1, "U7"))
    >>> source.spec.dtype == np.dtype("U2"), out.tolist()
    (True, ['be'])
    """

    seekable = True
    by_columns = True
    """For those who would map the file: its bytes are not the rows."""

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self._bytes = StringSource(path, name)
        self.name, self.path, self.absolute = self._bytes.name, self._bytes.path, self._bytes.absolute
        self.fingerprint, self.header = self._bytes.fingerprint, self._bytes.header
        self.dtype: np.dtype[Any] = self._bytes.text_dtype
        self.spec = Spec(self.header.shape[0], self.header.shape[1:], self.dtype)

    def __len__(self) -> int:
        return len(self._bytes)

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out`, C-contiguous and of strings at least as wide, with rows from `start` on.

        Raises
        ------
        InputError
            If the file was truncated meanwhile, or holds what is no character.
        """
        self._fill(out, lambda first, part: self._bytes.read_rows(start + first, part))

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out` with rows in any order."""
        self._fill(out, lambda first, part: self._bytes.gather(rows[first : first + len(part)], part))

    def check_unchanged(self) -> None:
        """Raise InputError when the file changed since it was opened."""
        self._bytes.check_unchanged()

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        self._bytes.close()

    def _fill(self, out: Array, read: Callable[[int, Array], None]) -> None:
        """Read bytes, called with the first row and where its bytes go, and make strings of them."""
        shape = self._bytes.spec.row_shape
        if out.dtype == self.dtype:
            read(0, out.view(np.uint8).reshape(len(out), *shape))
            return
        count = min(len(out), max(1, SCRATCH_BYTES // max(1, self.spec.row_bytes)))
        scratch = np.empty((count, *shape), np.uint8)
        for first in range(0, len(out), max(1, count)):
            part = scratch[: len(out) - first]
            read(first, part)
            np.copyto(out[first : first + len(part)], part.view(self.dtype)[..., 0])
