"""Rows of a ``.npy`` array that comes through a pipe."""

from __future__ import annotations

import os
import select

import numpy as np

from mlpipe.errors import InputError, InputMissingError, UsageError
from mlpipe.link import Array, Spec
from mlpipe.npy_format import Header, check_dtype, read_stream_header
from mlpipe.readers.closing import Closing
from mlpipe.readers.files import Fingerprint
from mlpipe.readers.strings import check_characters

SCRATCH_BYTES = 1 << 20


class StdinSource(Closing):
    """A ``.npy`` array on a descriptor that cannot seek: rows come once, in order.

    Parameters
    ----------
    fd : int
        Where from; stays the caller's. Only the header is read here.
    name : str
        What messages call it.
    text : bool
        Take strings of fixed width, too.

    Attributes
    ----------
    spec : Spec
        The rows, of which the header says how many there are.
    fingerprint : Fingerprint
        Of what is behind the descriptor.

    Raises
    ------
    UsageError
        If it is a terminal.
    InputMissingError
        If it cannot be read.
    InputError
        If it is no ``.npy`` array, or one whose rows do not come one after the other.
    """

    seekable = False

    def __init__(self, fd: int = 0, name: str = "standard input", *, text: bool = False) -> None:
        self._fd, self.name = fd, name
        try:
            self.fingerprint = Fingerprint.of(os.fstat(fd))
        except OSError as error:
            raise InputMissingError(f"{name}: cannot be read: {error.strerror}; redirect a .npy file to it") from error
        if os.isatty(fd):
            raise UsageError(f"read -: {name} is a terminal; redirect a .npy file to it, or name a file")
        self.header = read_stream_header(self._read, name, text=text)
        _check_order(self.header, name)
        self.spec = Spec(self.header.shape[0], self.header.shape[1:], self.header.dtype)
        self._row = 0

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with rows from `start` on, converted to its dtype; rows before them are passed over.

        Raises
        ------
        InputError
            If the stream ends early.
        """
        if not self._row <= start <= start + len(out) <= self.header.shape[0]:
            raise ValueError(f"rows {start} to {start + len(out)} of {self.name}, which is at row {self._row}")
        if out.dtype.kind not in "cSU":
            check_dtype(self.header.dtype, self.name)
        self._pass_over((start - self._row) * self.spec.row_bytes)
        if out.dtype == self.header.dtype:
            self._fill(out)
        else:
            self._convert(out.reshape(-1))
        check_characters(out, start, self.name)
        self._row = start + len(out)

    def check_unchanged(self) -> None:
        """Raise InputError when something follows the last row."""
        if self._row == self.header.shape[0] and self._read(1):
            raise InputError(f"{self.name}: goes on after {_what(self.header)}; send one array only")

    def close(self) -> None:
        """Nothing to close: the descriptor is the caller's."""

    def _convert(self, out: Array) -> None:
        scratch = np.empty(min(len(out), SCRATCH_BYTES // self.header.dtype.itemsize), self.header.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(out), max(1, len(scratch))):
                values = scratch[: len(out) - first]
                self._fill(values)
                np.copyto(out[first : first + len(values)], values, casting="unsafe")

    def _pass_over(self, nbytes: int) -> None:
        scratch = np.empty(min(nbytes, SCRATCH_BYTES), np.uint8)
        while nbytes:
            self._fill(scratch[:nbytes])
            nbytes -= len(scratch[:nbytes])

    def _fill(self, out: Array) -> None:
        """Fill a C-contiguous array with the bytes that come next."""
        rest = out.reshape(-1).view(np.uint8)
        while len(rest):
            got = self._some(rest)
            if not got:
                raise InputError(f"{self.name}: ends early: {_what(self.header)} were announced; send it again")
            rest = rest[got:]

    def _read(self, count: int) -> bytes:
        """The next bytes; fewer at the end only."""
        content = np.empty(count, np.uint8)
        filled = 0
        while filled < count and (got := self._some(content[filled:])):
            filled += got
        return content[:filled].tobytes()

    def _some(self, out: Array) -> int:
        """Read what there is; 0 at the end."""
        while True:
            try:
                return os.readv(self._fd, [out.data])
            except BlockingIOError:  # somebody else made the pipe non-blocking
                select.select([self._fd], [], [])
            except OSError as error:
                raise InputMissingError(f"{self.name}: cannot be read: {error.strerror}") from error


def _check_order(header: Header, name: str) -> None:
    if not header.shape:
        raise InputError(f"{name}: shape () is a single value without rows; reshape it to (1,)")
    if header.fortran_order and sum(length > 1 for length in header.shape) > 1 and header.nbytes:
        raise InputError(
            f"{name}: in Fortran order, column after column, which a pipe cannot read by rows; save it to a file"
        )


def _what(header: Header) -> str:
    return f"{header.nbytes} bytes of shape {header.shape}"
