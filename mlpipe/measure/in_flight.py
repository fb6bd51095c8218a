"""Bytes in flight: in buffers that were taken and not yet given back."""

from __future__ import annotations

import threading


class InFlight:
    """Counts bytes, now and at most; any thread may add and take away.

    Parameters
    ----------
    whole : InFlight, optional
        What these bytes are part of.

    Attributes
    ----------
    now, peak : int
        Bytes.

    Examples
    --------
    >>> run = InFlight()
    >>> stage = InFlight(run)
    >>> stage.add(5)
    >>> stage.add(-2)
    >>> stage.now, stage.peak, run.peak
    (3, 5, 5)
    """

    __slots__ = ("_lock", "_whole", "now", "peak")

    def __init__(self, whole: InFlight | None = None) -> None:
        self.now = self.peak = 0
        self._whole = whole
        self._lock: threading.Lock = threading.Lock() if whole is None else whole._lock

    def add(self, nbytes: int) -> None:
        """Add bytes; take them away if negative."""
        with self._lock:
            self._add(nbytes)

    def _add(self, nbytes: int) -> None:
        self.now += nbytes
        if self.now > self.peak:
            self.peak = self.now
        if self._whole is not None:
            self._whole._add(nbytes)
