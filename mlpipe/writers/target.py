"""Where an output goes, and everything that can be known to fail before any work is done."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlpipe.errors import OutputError
from mlpipe.measure.sizes import format_size
from mlpipe.opening import FileIdentity as FileIdentity

_CURES = {
    errno.ENOSPC: "free some space or write to another disk",
    errno.EDQUOT: "free some space or write to another disk",
    errno.EFBIG: "raise the limit (ulimit -f) or write to another disk",
    errno.EROFS: "write to another directory",
    errno.EACCES: "write to another directory or change its permissions",
    errno.EPERM: "write to another directory or change its permissions",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "choose a path without a circle of symbolic links",
}


@dataclass(frozen=True, slots=True)
class Target:
    """The file an output will become.

    Parameters
    ----------
    name : str
        The path as the user gave it, for messages.
    path : Path
        The same without symbolic links: a link is followed and what it points to is replaced, so that
        the link stays one. What it points to need not exist.
    """

    name: str
    path: Path

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Target:
        """Resolve a path.

        Raises
        ------
        OutputError
            If it cannot name a file.
        """
        name = os.fsdecode(path)
        if not name or "\0" in name:
            raise OutputError(f"{name!r} is no name for an output; give the path of a file")
        if name.endswith("/") or Path(name).name in ("", ".."):
            raise OutputError(f"{name}: a directory; give the path of a file in it")
        return cls(name, Path(os.path.realpath(name)))

    def status(self) -> os.stat_result | None:
        """Stat the file that is there now; None when there is none.

        Raises
        ------
        OutputError
            If that cannot be found out.
        """
        try:
            return self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(self.name, error) from error


def check_target(target: Target, size: int | None, *, force: bool, inputs: Iterable[FileIdentity], hint: str) -> None:
    """Raise OutputError unless `size` bytes can be expected to become the file at `target`.

    Parameters
    ----------
    target : Target
        Where.
    size : int or None
        Bytes of the whole file; None when not known.
    force : bool
        Whether a file that is there may be replaced.
    inputs : iterable of FileIdentity
        Files that must not be replaced, whatever name or hard link leads there.
    hint : str
        What to do instead when there is no room.
    """
    there = target.status()
    if there is not None:
        _check_replaceable(target.name, there, force, inputs)
    _check_place(target, size, hint)


def check_new_directory(target: Target, size: int | None, largest: int | None) -> None:
    """Raise OutputError unless a new directory of files of `size` bytes can be expected to appear at `target`.

    Parameters
    ----------
    target : Target
        Where.
    size : int or None
        Bytes of all files; None when not known.
    largest : int or None
        Bytes of the largest of them.
    """
    if os.path.lexists(target.path):
        raise OutputError(
            f"{target.name}: exists, and a directory is never replaced, not even with --force; "
            "remove it or write to another one"
        )
    _check_place(target, size, "", largest)


def _check_place(target: Target, size: int | None, hint: str, largest: int | None = None) -> None:
    """Raise OutputError unless something new can be made where `target` is, with room for it."""
    directory = target.path.parent
    if not directory.is_dir():
        raise OutputError(f"{target.name}: there is no directory {directory}; create it first")
    if not os.access(directory, os.W_OK | os.X_OK):
        reason = errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
        raise failure(target.name, OSError(reason, os.strerror(reason)))
    if size is not None:
        check_room(target.name, directory, size, hint, largest)


def check_room(name: str, place: Path | int, size: int, hint: str = "", largest: int | None = None) -> None:
    """Raise OutputError unless there is room for `size` bytes where `place`, a path or descriptor, is.

    They are those of one file, or of several of which the `largest` is given.

    Examples
    --------
    >>> check_room("D.npy", Path("/"), 1 << 60, "mlpipe neighbors needs less")
    Traceback (most recent call last):
    mlpipe.errors.OutputError: D.npy: needs 1.00 EiB, ... free; free some space or write to another disk; \
mlpipe neighbors needs less
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and (size if largest is None else largest) > limit:
        short, cure = f"files may have {format_size(limit)}", _CURES[errno.EFBIG]
    else:
        disk = os.statvfs(place)
        free = disk.f_bavail * disk.f_frsize
        if size <= free or not disk.f_blocks:  # some network file systems say nothing about their size
            return
        short, cure = f"{format_size(free)} free", _CURES[errno.ENOSPC]
    raise OutputError(f"{name}: needs {format_size(size)}, {short}; {cure}{'; ' * bool(hint)}{hint}")


def is_input(status: FileIdentity, inputs: Iterable[FileIdentity]) -> bool:
    """Say whether a file is one of the inputs, under whatever name."""
    return any((status.st_dev, status.st_ino) == (one.st_dev, one.st_ino) for one in inputs)


def failure(name: str, error: OSError) -> OutputError:
    """What to raise when the system refused something about an output.

    Examples
    --------
    >>> failure("D.npy", OSError(errno.ENOSPC, "No space left on device"))
    OutputError('D.npy: cannot be written: no space left on device; free some space or write to another disk')
    """
    reason = error.strerror or str(error)
    cure = _CURES.get(error.errno or 0, "check the path and the disk")
    return OutputError(f"{name}: cannot be written: {reason[:1].lower()}{reason[1:]}; {cure}")


def _check_replaceable(name: str, there: os.stat_result, force: bool, inputs: Iterable[FileIdentity]) -> None:
    """Raise OutputError if what is there must stay."""
    if stat.S_ISDIR(there.st_mode):
        raise OutputError(f"{name}: a directory; give the path of a file in it")
    if not stat.S_ISREG(there.st_mode):
        raise OutputError(f"{name}: not a regular file, so it cannot be replaced; write to a pipe or device with -o -")
    if is_input(there, inputs):
        raise OutputError(f"{name}: also an input, which writing it would destroy; write to another file")
    if not force:
        raise OutputError(f"{name}: exists; use --force to replace it, or write to another file")
