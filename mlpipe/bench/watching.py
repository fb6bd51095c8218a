"""The peak of another process's anonymous memory, watched from outside: its interpreter cannot hold up the watch."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from mlpipe.measure.memory import descendants_of

INTERVAL = 0.002
"""Seconds between looks; one takes about 0.1 ms."""

_KEY = b"RssAnon:"


class Watch:
    """Looks at a process and its descendants for the length of a ``with`` block.

    Parameters
    ----------
    process : int
        Its number; it must not have been waited for while the block lasts.

    Attributes
    ----------
    peak : int or None
        Largest anonymous memory seen, in bytes; None where the system does not say.

    Examples
    --------
    >>> import os
    >>> with Watch(os.getpid()) as watch:
    ...     block = bytearray(2**24)
    >>> watch.peak is None or watch.peak > 2**20
    True
    """

    def __init__(self, process: int) -> None:
        self.peak: int | None = None
        self._process = process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mlpipe-watch", daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self.look()

    def look(self) -> None:
        """Look once."""
        known = [size for number in (self._process, *descendants_of(self._process)) if (size := _anonymous(number))]
        if known:
            self.peak = max(self.peak or 0, sum(known))

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()


def _anonymous(process: int) -> int | None:
    """Anonymous memory of one process; None if it has ended, or the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_bytes().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(_KEY)), None)
