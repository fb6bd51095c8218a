"""Opening, recognising and reading regular files, for every reader."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlpipe.errors import InputError, InputMissingError

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Fingerprint(NamedTuple):
    """What changes when a file is replaced or written to; the fields are named as in `os.stat_result`."""

    st_dev: int
    st_ino: int
    st_size: int
    st_mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Take the fingerprint from what `os.stat` says."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def shown_name(path: str | os.PathLike[str]) -> str:
    r"""Return `path` as messages show it: one printable line, whatever bytes the name is made of.

    Examples
    --------
    >>> print(shown_name("two\nlines.npy"))
    two\nlines.npy
    """
    text = os.fsdecode(path)
    if text.isprintable() and text:
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) or "''"


def open_regular(path: str | os.PathLike[str]) -> tuple[int, Fingerprint]:
    """Open a regular file for reading, without ever blocking.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    descriptor : int
    fingerprint : Fingerprint

    Raises
    ------
    InputMissingError
        If it does not exist, may not be read, or is not a regular file.

    Examples
    --------
    >>> open_regular("no-such.npy")
    Traceback (most recent call last):
    mlpipe.errors.InputMissingError: no-such.npy: no such file; check the path
    """
    name = shown_name(path)
    try:
        # Opening a device can act on it, so look first; O_NONBLOCK is for what appears in between.
        _require_regular(os.stat(path), name)  # noqa: PTH116 - a `Path` takes longer than the call
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise InputMissingError(f"{name}: {_reason(path, error)}") from error
    try:
        status = os.fstat(fd)
        _require_regular(status, name)
    except BaseException:
        os.close(fd)
        raise
    return fd, Fingerprint.of(status)


def check_unchanged(path: str | os.PathLike[str], fingerprint: Fingerprint, name: str) -> None:
    """Raise InputError unless the file at `path` is still the one of `fingerprint`.

    Examples
    --------
    >>> check_unchanged("gone.npy", Fingerprint(0, 0, 0, 0), "gone.npy")
    Traceback (most recent call last):
    mlpipe.errors.InputError: gone.npy: removed or renamed while it was read; run again
    """
    try:
        now = Fingerprint.of(os.stat(path))  # noqa: PTH116
    except OSError as error:
        raise InputError(f"{name}: removed or renamed while it was read; run again") from error
    if now[:2] != fingerprint[:2]:
        raise InputError(f"{name}: replaced while it was read; run again")
    if now.st_size != fingerprint.st_size:
        sizes = f"from {fingerprint.st_size} to {now.st_size} bytes"
        raise InputError(f"{name}: changed while it was read, {sizes}; run again")
    if now != fingerprint:
        raise InputError(f"{name}: written to while it was read; run again")


def read_exactly(fd: int, out: npt.NDArray[Any], offset: int, name: str) -> None:
    """Fill the C-contiguous array `out` with the bytes of a file from `offset` on.

    Safe to call from several threads: the file position is not used.

    Parameters
    ----------
    fd : int
        Descriptor of a regular file.
    out : ndarray
        Where the bytes go.
    offset : int
        Where they are.
    name : str
        What messages call the file.

    Raises
    ------
    InputError
        If the file ends early: it was truncated after it was opened.
    InputMissingError
        If the system cannot read it.
    """
    rest, left = out, out.nbytes
    while left:
        try:
            got = os.preadv(fd, [rest], offset)  # type: ignore[list-item]  # arrays are buffers
        except OSError as error:
            raise InputMissingError(f"{name}: cannot be read: {error.strerror}") from error
        if not got:
            raise InputError(f"{name}: truncated while reading, it now ends at byte {offset}; run again")
        offset += got
        left -= got
        if left:
            rest = out.reshape(-1).view(np.uint8)[-left:]


def _require_regular(status: os.stat_result, name: str) -> None:
    """Raise InputMissingError for anything that is not a regular file."""
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise InputMissingError(f"{name}: {kind}; give a regular .npy file")


def _reason(path: str | os.PathLike[str], error: OSError | ValueError) -> str:
    """Say why a file could not be opened, and what to do."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return f"cannot be opened: {error.strerror}; check the path and its permissions"
    try:
        target = Path(path).readlink()
    except (OSError, ValueError):
        return f"no such {'directory' if str(path).endswith('/') else 'file'}; check the path"
    return f"a symbolic link to {shown_name(target)}, which does not exist; check the path"
