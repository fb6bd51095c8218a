"""Files that appear whole or not at all: the only code that creates, syncs and renames files."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mlpipe.errors import OutputError
from mlpipe.link import Array
from mlpipe.writers.lock import hold
from mlpipe.writers.pages import PageFile
from mlpipe.writers.target import FileIdentity, Target, check_target, failure

_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_PREALLOCATION = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


class AtomicFile:
    """A file written in full before it appears under its name; a context manager.

    Leaving the context normally makes it appear, on disk for good (fsync); an exception discards it and
    leaves what was there. While it is written the file has no name (O_TMPFILE), so that even SIGKILL leaves
    nothing; only on file systems that cannot do that is it a hidden ``.mlpipe-….tmp`` in the directory of
    the output. Permissions follow the umask; a file that replaces another takes over its mode and, where
    allowed, its owner. A symbolic link is followed and stays a link: the file it points to is replaced.

    Parameters
    ----------
    path : str or path-like
        Where the file will appear.
    size : int or None
        Bytes it will have, for which room is made before the first is written; None when not known.
    force : bool
        Whether a file that is there may be replaced.
    inputs : sequence of FileIdentity
        What `os.stat` says of files that must not be replaced.
    hint : str
        What to do instead when there is no room.

    Raises
    ------
    OutputError
        On entering, for whatever `check` would refuse; later when the system refuses something.
    LockedError
        On entering, when another run is writing the same output.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = Path(directory, "greeting")
    ...     with AtomicFile(path, size=5) as file:
    ...         file.pwrite(b"hello", 0)
    ...         there = path.exists()
    ...     there, path.read_bytes()
    (False, b'hello')
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | None,
        force: bool = False,
        inputs: Sequence[FileIdentity] = (),
        hint: str = "",
    ) -> None:
        self._target = Target.of(path)
        self._size, self._force, self._inputs, self._hint = size, force, inputs, hint
        # Short, for the output's own name may be as long as names can be.
        self._temporary = self._target.path.with_name(f".mlpipe-{secrets.token_hex(8)}.tmp")
        self._named = self._synced = False
        self._fd = -1
        self._pages: PageFile | None = None
        self._lock: socket.socket | None = None

    def check(self) -> None:
        """Raise OutputError for what can be known to fail, changing nothing.

        The output exists and `force` was not given, is an input, is not a regular file; its directory does
        not exist or cannot be written; there is no room for its size.
        """
        with self._failures():
            check_target(self._target, self._size, force=self._force, inputs=self._inputs, hint=self._hint)

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
        if self._pages is None:
            raise ValueError(f"{self._target.name} is not open")
        self._synced = False
        with self._failures():
            self._pages.pwrite(data, offset)

    def sync(self) -> None:
        """Bring what was written to disk, which takes long; afterwards the file appears at once."""
        if not self._synced:
            with self._failures():
                os.fsync(self._fd)
        self._synced = True

    def __enter__(self) -> Self:
        self.check()
        try:
            with self._failures():
                self._lock = hold(self._target.path, self._target.name)
                self.check()  # again: a run that held it may just have ended
                self._fd = self._create()
                self._take_over()
                self._preallocate()
            self._pages = PageFile(self._fd)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with self._failures():
                    self._commit()
        finally:
            self._discard()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Say which file it is that the system refuses something about."""
        try:
            yield
        except OSError as error:
            raise failure(self._target.name, error) from error

    def _create(self) -> int:
        """Open a new file, if possible one without a name."""
        try:
            if Path("/proc/self/fd").is_dir():  # through which it gets its name
                return os.open(self._target.path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
        self._named = True
        return os.open(self._temporary, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o666)

    def _take_over(self) -> None:
        """Give the new file the owner and mode of the one it replaces, where allowed."""
        old = self._target.status()
        if old is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(self._fd, old.st_uid, old.st_gid)
            with contextlib.suppress(PermissionError):
                os.fchmod(self._fd, stat.S_IMODE(old.st_mode) & 0o777)

    def _preallocate(self) -> None:
        """Make room, so that a full disk shows now."""
        if not self._size:
            return
        try:
            os.posix_fallocate(self._fd, 0, self._size)
        except OSError as error:
            if error.errno not in _NO_PREALLOCATION:
                raise
            os.ftruncate(self._fd, self._size)

    def _commit(self) -> None:
        """Bring the file to disk and give it its name."""
        self.sync()
        if self._force:
            if not self._named:
                self._link(self._temporary)
            self._temporary.replace(self._target.path)
        else:
            self._appear_as_new()
        _sync_directory(self._target.path.parent)

    def _appear_as_new(self) -> None:
        """Give the file its name unless that is taken by now."""
        try:
            self._link(self._target.path)
            return
        except FileExistsError:
            taken = True
        except OSError as error:
            if not self._named or error.errno not in _NO_LINKS:
                raise
            # A file system without hard links: only a look can tell whether the name is taken.
            taken = os.path.lexists(self._target.path)
        if taken:
            raise OutputError(f"{self._target.name}: appeared meanwhile and is kept; use --force to replace it")
        self._temporary.replace(self._target.path)

    def _link(self, name: Path) -> None:
        """Give the file a further name, its first if it has none."""
        source = self._temporary if self._named else Path(f"/proc/self/fd/{self._fd}")
        # Python follows a link only if it gets a directory, which absolute paths then leave unused.
        directory = os.open("/", os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(source, name, src_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)

    def _discard(self) -> None:
        """Close everything and remove the temporary name; harmless when repeated."""
        with contextlib.suppress(OSError):  # mostly it has no such name
            self._temporary.unlink()
        if self._pages is not None:
            self._pages.close()
            self._pages = None
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._lock is not None:
            self._lock.close()


def _sync_directory(directory: Path) -> None:
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
