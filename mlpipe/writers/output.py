"""Bytes one after the other, into a file that appears whole or not at all, or to standard output."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import numpy as np

from mlpipe.errors import OutputError
from mlpipe.link import Array
from mlpipe.opening import Opening
from mlpipe.writers.atomic import AtomicFile
from mlpipe.writers.target import failure, is_input

STDOUT = "-"
_STDOUT_NAME = "standard output"


class Output(Protocol):
    """Where bytes go, in order."""

    def append(self, data: bytes | Array) -> None:
        """Write all of it."""


class FileOutput:
    """An atomic file that is written from its start on; for libraries, a file object.

    Parameters
    ----------
    file : AtomicFile
        Entered.
    """

    closed = False

    def __init__(self, file: AtomicFile) -> None:
        self._file = file
        self._at = self._end = 0

    def append(self, data: bytes | Array) -> None:
        """Write all of `data` where the last write ended."""
        size = len(data) if isinstance(data, bytes) else data.nbytes
        if size:
            self._file.pwrite(data, self._at)
        self._at += size
        self._end = max(self._end, self._at)

    def put(self, data: bytes, offset: int) -> None:
        """Write over what is at `offset`."""
        self._file.pwrite(data, offset)

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`, as a file does."""
        view = memoryview(data)
        self.append(np.frombuffer(view, np.uint8) if view.nbytes else b"")
        return view.nbytes

    def tell(self) -> int:
        """Where the next write begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to where the next write begins."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def seekable(self) -> bool:
        """It can be moved in."""
        return True

    def readable(self) -> bool:
        """It cannot be read."""
        return False

    def writable(self) -> bool:
        """It can be written."""
        return True

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Whoever made it closes it."""


class _StandardOutput:
    """Standard output, past Python's buffers: what a reader that went away did not take is not tried again at exit."""

    def __init__(self) -> None:
        sys.stdout.flush()
        try:
            self._fd: int | None = sys.stdout.fileno()
        except (OSError, ValueError):  # somebody put another object in its place
            self._fd = None

    def append(self, data: bytes | Array) -> None:
        """Write all of `data`."""
        rest = memoryview(data if isinstance(data, bytes) else data.data)
        try:
            while rest:
                rest = rest[self._some(rest) :]
        except BrokenPipeError as error:
            raise OutputError(f"{_STDOUT_NAME}: closed by its reader before all was written") from error
        except OSError as error:
            raise failure(_STDOUT_NAME, error) from error

    def _some(self, data: memoryview) -> int:
        if self._fd is None:
            sys.stdout.write(bytes(data).decode("utf-8", "backslashreplace"))
            return len(data)
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # somebody else made the pipe non-blocking
            select.select([], [self._fd], [])
            return 0


def check_output(path: str, opening: Opening) -> None:
    """Raise OutputError for what can be known to keep `path`, or ``-``, from being written."""
    if path != STDOUT:
        _file(path, opening).check()
        return
    try:
        status = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):  # closed, or no file at all; writing will tell
        return
    if is_input(status, opening.inputs):
        raise OutputError(f"{_STDOUT_NAME}: also an input, which writing it would destroy; redirect to another file")


@contextmanager
def output(path: str, opening: Opening) -> Iterator[Output]:
    """Bytes for `path`, which appears when the context ends without an error; or for standard output, at once."""
    if path == STDOUT:
        check_output(path, opening)
        yield _StandardOutput()
    else:
        with _file(path, opening) as file:
            yield FileOutput(file)


@contextmanager
def file_output(path: str, opening: Opening) -> Iterator[FileOutput]:
    """As `output`, for what is not written strictly in order."""
    with output(path, opening) as opened:
        yield cast("FileOutput", opened)


def _file(path: str, opening: Opening) -> AtomicFile:
    return AtomicFile(path, size=None, force=opening.force, inputs=opening.inputs)
