"""A text as rows of one byte, from a file or from what cannot seek."""

from __future__ import annotations

import os
import select
import stat

import numpy as np

from mlpipe.errors import InputError, InputMissingError, UsageError
from mlpipe.link import Array, Spec
from mlpipe.readers.closing import Closing
from mlpipe.readers.files import Fingerprint, check_unchanged, open_regular, read_exactly, shown_name

_STREAMS = (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISSOCK)


class TextSource(Closing):
    """Bytes of a file, of a pipe with a name, or of stdin.

    Where their number is not known ahead they seem to be endless: `end` says how many there are once they came, and
    what is read beyond it is left as it is.

    Parameters
    ----------
    path : str
        ``-`` is stdin.

    Attributes
    ----------
    spec : Spec
        One byte a row.
    end : int or None
        How many there are, once it is known.

    Raises
    ------
    InputMissingError
        If it cannot be read.
    UsageError
        If it is a terminal.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(b"to be")
    ...     file.flush()
    ...     with TextSource(file.name) as source:
    ...         source.read_rows(3, out := np.empty(2, np.uint8))
    ...         source.end, out.tobytes()
    (5, b'be')
    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else shown_name(path)
        self.path = path
        self.end: int | None = None
        if path == "-":
            self._fd = self._standard_input()
        else:
            self._fd = self._opened(path)
        self.seekable = self.end is not None
        self.spec = Spec(self.end, (), np.dtype(np.uint8), endless=self.end is None)

    def _standard_input(self) -> int:
        try:
            fd = os.dup(0)
        except OSError as error:
            raise InputMissingError(f"{self.name}: cannot be read: {error.strerror}; redirect a text to it") from error
        self.fingerprint = Fingerprint.of(os.fstat(fd))
        if os.isatty(fd):
            os.close(fd)
            raise UsageError(f"--lines -: {self.name} is a terminal; redirect a text to it, or name a file")
        return fd

    def _opened(self, path: str) -> int:
        try:
            stream = any(kind(os.stat(path).st_mode) for kind in _STREAMS)  # noqa: PTH116 - of any text
        except (OSError, ValueError):
            stream = False
        if not stream:
            fd, self.fingerprint = open_regular(path)
            self.end = self.fingerprint.st_size
            return fd
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            raise InputMissingError(f"{self.name}: cannot be read: {error.strerror}; check the path") from error
        self.fingerprint = Fingerprint.of(os.fstat(fd))
        return fd

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with the bytes from `start` on; those of a stream come in order, and end where they end."""
        if self.seekable:
            read_exactly(self._fd, out, start, self.name)
            return
        filled = 0
        while self.end is None and filled < len(out):
            got = self._some(out[filled:])
            filled += got
            if not got:
                self.end = start + filled

    def _some(self, out: Array) -> int:
        while True:
            try:
                return os.readv(self._fd, [out.data])
            except BlockingIOError:  # somebody else made the pipe non-blocking
                select.select([self._fd], [], [])
            except OSError as error:
                raise InputMissingError(f"{self.name}: cannot be read: {error.strerror}") from error

    def check_unchanged(self) -> None:
        """Raise InputError when a file was written to, truncated, replaced or removed since it was opened."""
        if self.seekable:
            check_unchanged(self.path, self.fingerprint, self.name)
        elif self.end is None:
            raise InputError(f"{self.name}: not read to its end")

    def close(self) -> None:
        """Close it; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
