"""A file that one run at a time holds, for cron: what comes while it is held ends at once."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from mlpipe.errors import LockedError, OutputError
from mlpipe.writers.target import failure


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a file against other runs, and against ``flock`` of the shell; it is made if it is not there.

    It stays, as it is: another run may hold the file under this name by then, and a third would make a new one. The
    system lets go of it when the process ends, however it does.

    Parameters
    ----------
    path : str or path-like
        A regular file, or a name for one.

    Raises
    ------
    LockedError
        If another run holds it.
    OutputError
        If it cannot be locked.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "nightly.lock")
    >>> with locked(path), locked(path):
    ...     pass
    Traceback (most recent call last):
    mlpipe.errors.LockedError: --lock ...nightly.lock: another run holds it; wait for it to end
    """
    name = f"--lock {os.fsdecode(path)}"
    try:
        fd = _open(path)
    except (OSError, ValueError) as error:
        raise failure(name, error if isinstance(error, OSError) else OSError(None, str(error))) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OutputError(f"{name}: not a regular file; name another one")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{name}: another run holds it; wait for it to end") from None
        except OSError as error:
            raise failure(name, error) from error
        yield
    finally:
        os.close(fd)


def _open(path: str | os.PathLike[str]) -> int:
    """Open it for reading, which suffices, so that it may belong to somebody else; a pipe must not make us wait."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, 0o666)
