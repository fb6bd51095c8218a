"""A file on its way to its name: how it is created, filled, synced and linked."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from mlpipe.link import Array
from mlpipe.writers.pages import PageFile
from mlpipe.writers.target import failure

_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL}
_NO_PREALLOCATION = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


class Draft:
    """A file that is being written and does not have its name yet.

    Parameters
    ----------
    fd : int
        Open for writing and reading; closed with this.
    name : str
        What messages call it.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd, self._name, self._synced = fd, name, False
        self._pages = PageFile(fd)

    @property
    def unnamed_path(self) -> Path:
        """Where the system shows it, even if it has no name."""
        return Path(f"/proc/self/fd/{self.fd}")

    def make_room(self, size: int | None) -> None:
        """Make room, so that a full disk shows now."""
        if not size:
            return
        try:
            os.posix_fallocate(self.fd, 0, size)
        except OSError as error:
            if error.errno not in _NO_PREALLOCATION:
                raise
            os.ftruncate(self.fd, size)

    def pwrite(self, data: bytes | Array, offset: int) -> None:
        """Write all of `data` at `offset`; from one thread.

        Parameters
        ----------
        data : bytes or ndarray
            C-contiguous. Written without a copy, past the page cache, where it is long and lies in its
            memory page as it will in the file's (see `PageFile`).
        offset : int
            Position in the file.
        """
        self._synced = False
        with failures(self._name):
            self._pages.pwrite(data, offset)

    def sync(self) -> None:
        """Bring what was written to disk."""
        if not self._synced:
            with failures(self._name):
                os.fsync(self.fd)
        self._synced = True

    def rest(self) -> None:
        """Give back what only writing takes; it may still be written to."""
        self._pages.close()

    def pread(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes from `offset` on."""
        with failures(self._name):
            return os.pread(self.fd, count, offset)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        self._pages.close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def failures(name: str) -> Iterator[None]:
    """Say which file it is that the system refuses something about."""
    try:
        yield
    except OSError as error:
        raise failure(name, error) from error


def open_unnamed(directory: Path) -> int | None:
    """Open a new file without a name; None on a file system that cannot do that."""
    try:
        if Path("/proc/self/fd").is_dir():  # through which it gets its name
            return os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
    return None


def open_named(path: Path) -> int:
    """Open a new file of this name."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR, 0o666)


def link(source: Path, name: Path) -> None:
    """Give a file a further name."""
    # Python follows a link only if it gets a directory, which absolute paths then leave unused.
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.link(source, name, src_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def sync_directory(directory: Path) -> None:
    """Bring a new name to disk; a directory that may not be read cannot be synced."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not every network file system can
            raise
    finally:
        os.close(fd)
