"""Bytes to their places in a file, the fastest way this file system and this memory allow."""

from __future__ import annotations

import contextlib
import errno
import os

import numpy as np

from mlpipe.buffers import PAGE
from mlpipe.link import Array

DIRECT_BYTES = 1 << 20
"""Shorter writes go through the page cache: they gain nothing past it."""

WRITEBACK_BYTES = 8 << 20
"""After this much in one run, the disk is set to work."""


class PageFile:
    """Writes at any offset, from one thread, to a file that has its final size already.

    Where memory and file lie alike in their pages, ``address % PAGE == offset % PAGE``, whole pages go
    from that memory to the disk (O_DIRECT), the parts of pages at both ends through the page cache.
    Everything else goes through the page cache, and long runs are sent on to the disk at once.

    Measured: 1.6 GB of 20000 × 20000 float32, preallocated, including fsync, from a thread that computes on both of
    2 cores, on a shared ext4 disk: medians of 5 to 7 interleaved runs in three sessions, and the system time.

    ==========================================================  ===================  =====
    way                                                         seconds              CPU
    ==========================================================  ===================  =====
    straight from the caller's pages, O_DIRECT                  1.52   2.81   2.74   0.1 s
    page cache, posix_fadvise(DONTNEED) after each 8 MiB        2.13   2.30   3.69   0.6 s
    copied to an aligned buffer, O_DIRECT                       2.16   3.48          0.1 s
    the same, a second thread writing                                         3.76   0.2 s
    page cache, sync_file_range after each 8 MiB                3.16                 1.4 s
    page cache alone                                            3.48   5.11          1.6 s
    ==========================================================  ===================  =====

    The whole command, 6 interleaved runs: 5.89 s straight, 7.52 s with advice, 9.23 s by the page cache alone. The
    copying ways take 0.5 s more user time and gain nothing over the second, so they are not here. Advice on
    the new part alone takes 1.8 s of system time instead of 0.8 s: no page comes back to be used again while the
    processor's cache holds it. Rows of a tile narrower than the output must not be sent on early: 9.46 s instead of
    5.60 s, because pages shared with the next tile are written twice.

    Parameters
    ----------
    fd : int
        Open for writing; stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._direct: int | None = None
        self._may_be_direct = True
        self._run_start = self._run_end = 0

    def pwrite(self, data: bytes | Array, offset: int) -> None:
        """Write all of `data`.

        Raises
        ------
        OSError
            If the system refuses.
        """
        values = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        rest: Array = values.reshape(-1).view(np.uint8)
        while len(rest):
            written = self._some(rest, offset)
            rest, offset = rest[written:], offset + written

    def close(self) -> None:
        """Close what was opened here; harmless when repeated."""
        direct, self._direct, self._may_be_direct = self._direct, None, False
        if direct is not None:
            os.close(direct)

    def _some(self, data: Array, offset: int) -> int:
        """Write the first bytes of `data`; return how many."""
        apart = (data.ctypes.data - offset) % PAGE
        if apart or len(data) < DIRECT_BYTES or (direct := self._opened()) is None:
            return self._through_cache(data, offset)
        if offset % PAGE:
            return self._through_cache(data[: -offset % PAGE], offset)
        try:
            return os.pwrite(direct, data[: len(data) // PAGE * PAGE].data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.close()  # this file system wants it aligned in some other way
            return 0

    def _opened(self) -> int | None:
        """A second descriptor of the file, past the page cache; None where there is no such thing."""
        if self._direct is None and self._may_be_direct:
            try:
                self._direct = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_DIRECT)
            except OSError:
                self._may_be_direct = False
        return self._direct

    def _through_cache(self, data: Array, offset: int) -> int:
        written = os.pwrite(self._fd, data.data, offset)
        if offset != self._run_end:
            self._run_start = offset
        self._run_end = offset + written
        if self._run_end - self._run_start >= WRITEBACK_BYTES:
            # Up to the last whole page, for the next write adds to the one after it. From the start: what was sent
            # on before is on disk by now and its pages come back. It is advice, so a refusal is no error.
            self._run_start = self._run_end // PAGE * PAGE
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, 0, self._run_start, os.POSIX_FADV_DONTNEED)
        return written
