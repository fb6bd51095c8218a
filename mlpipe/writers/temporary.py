"""Temporary files that never have a name, so that nothing is left behind, even after SIGKILL."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from mlpipe.errors import OutputError
from mlpipe.link import Array
from mlpipe.writers.draft import Draft, failures, open_named, open_unnamed
from mlpipe.writers.target import check_room


def check_directory(
    directory: str | os.PathLike[str], size: int = 0, output: str | os.PathLike[str] | None = None, written: int = 0
) -> None:
    """Raise OutputError for what is known to keep temporary files of `size` bytes from being written there.

    If the directory `output` is on the same disk, `written` bytes go there besides.
    """
    place = Path(directory)
    if not place.is_dir():
        raise OutputError(f"{_name(directory)}: there is no such directory; create it first")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{_name(directory)}: not writable; name another one with --temp-dir")
    check_room(_name(directory), place, size, "--temp-dir names another directory")
    if output is not None and written and _disk(place) == _disk(output):
        both = f"{_name(directory)} and the output"
        check_room(both, place, size + written, "--temp-dir names another directory", max(size, written))


def _disk(directory: str | os.PathLike[str]) -> int | None:
    try:
        return Path(directory).stat().st_dev
    except OSError:
        return None


def _name(directory: str | os.PathLike[str]) -> str:
    return f"temporary files in {os.fsdecode(directory)}"


class TemporaryFile:
    """Bytes that do not fit into memory; a context manager, read and written from any thread.

    It goes through the page cache on purpose: what is cut off again before the system wrote it never reaches the disk.

    Parameters
    ----------
    directory : str or path-like
        Where there is room.
    size : int
        Bytes for which room is made at once, so that a full disk shows now.

    Raises
    ------
    OutputError
        When the system refuses something; it names the directory.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory, TemporaryFile(directory) as file:
    ...     file.pwrite(np.arange(5), 0)
    ...     back = np.empty(2, np.int64)
    ...     file.pread(back, 16)
    ...     back.tolist(), len(list(Path(directory).iterdir()))
    ([2, 3], 0)
    """

    def __init__(self, directory: str | os.PathLike[str], size: int = 0) -> None:
        self._directory, self._size, self._name = Path(directory), size, _name(directory)
        self._draft: Draft | None = None

    def __enter__(self) -> Self:
        with failures(self._name):
            self._draft = Draft(self._create(), self._name)
            try:
                self._draft.make_room(self._size)
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _create(self) -> int:
        fd = open_unnamed(self._directory)
        if fd is None:
            path = self._directory / f".mlpipe-{secrets.token_hex(8)}.tmp"
            fd = open_named(path)
            path.unlink()
        return fd

    def pwrite(self, data: Array, offset: int) -> None:
        """Write all of a C-contiguous array."""
        rest = data.reshape(-1).view(np.uint8)
        with failures(self._name):
            while len(rest):
                written = os.pwrite(self._fd, rest.data, offset)
                rest, offset = rest[written:], offset + written

    def pread(self, out: Array, offset: int) -> None:
        """Fill a C-contiguous array."""
        rest = out.reshape(-1).view(np.uint8)
        with failures(self._name):
            while len(rest):
                got = os.preadv(self._fd, [rest.data], offset)
                if not got:
                    raise OutputError(f"{self._name}: ended at byte {offset}; it was changed from outside")
                rest, offset = rest[got:], offset + got

    def truncate(self, size: int) -> None:
        """Give back the room from `size` on."""
        with failures(self._name):
            os.ftruncate(self._fd, size)

    @property
    def _fd(self) -> int:
        return self._draft.fd if self._draft else -1

    def close(self) -> None:
        """Close it, with which it is gone; harmless when repeated."""
        if self._draft is not None:
            self._draft.close()
