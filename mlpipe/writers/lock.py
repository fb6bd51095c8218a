"""One run per output at a time, on one machine, leaving nothing behind."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from pathlib import Path

from mlpipe.errors import LockedError


def hold(path: Path, name: str) -> socket.socket | None:
    """Hold an output against other runs until the result is closed or the process ends.

    The lock is an abstract Unix socket named after the directory's inode and the file's name: the kernel
    frees it even after SIGKILL. Not a lock file beside the output, which a killed run leaves behind; not a lock
    on the output, which may not exist yet and is another inode after each run; not on the directory, which
    other outputs share. Other machines and containers do not see it: runs there that write the same
    output do not disturb each other either, the one that ends last wins.

    Parameters
    ----------
    path : Path
        The output, without symbolic links; its directory exists.
    name : str
        What messages call it.

    Returns
    -------
    socket.socket or None
        Close it to let go. None where a sandbox forbids sockets: outputs are atomic without the lock.

    Raises
    ------
    LockedError
        If another run holds it.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "D.npy")
    >>> lock = hold(path, "D.npy")
    >>> hold(path, "D.npy")
    Traceback (most recent call last):
    mlpipe.errors.LockedError: D.npy: another run is writing it; wait for it or write to another file
    >>> lock.close()
    >>> path.parent.rmdir()
    """
    directory = path.parent.stat()
    place = f"{directory.st_dev}/{directory.st_ino}/{path.name}"
    address = f"\0mlpipe-output-{hashlib.sha256(os.fsencode(place)).hexdigest()}"
    try:
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return None
    try:
        held.bind(address)
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise LockedError(f"{name}: another run is writing it; wait for it or write to another file") from None
        return None
    return held
