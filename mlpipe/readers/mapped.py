"""Rows gathered in any order through memory maps of the files they lie in.

Sequential reads go through ``pread`` into memory of our own; only rows in random order are copied out of maps, which
needs no call to the system for each. A map of a file that shrinks would end the process with SIGBUS, so sizes are
looked at before each block of rows: what is left is a file that is truncated within the milliseconds of one copy.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import threading
from collections.abc import Callable, Sequence

import numpy as np

from mlpipe.errors import InputMissingError
from mlpipe.link import Array

SAMPLE = 4
"""Rows of a block that are looked at, to tell whether the file is in memory."""

_FAILED = ctypes.c_void_p(-1).value
_PAGE = mmap.PAGESIZE


@functools.cache
def _system() -> ctypes.CDLL:
    """The C library: Python's own maps keep a descriptor each, and a source may have thousands of files."""
    library = ctypes.CDLL(None, use_errno=True)
    address, size = ctypes.c_void_p, ctypes.c_size_t
    library.mmap.restype = address
    library.mmap.argtypes = [address, size, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    library.munmap.argtypes = [address, size]
    library.madvise.argtypes = [address, size, ctypes.c_int]
    return library


@functools.cache
def _residence() -> Callable[[int, int, object], int]:
    """``mincore``, keeping the GIL: it takes less time than getting that back."""
    function = ctypes.PyDLL(None).mincore
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return function


class FileMap:
    """A file in memory, advised for random access; unmapped once nobody holds it.

    Parameters
    ----------
    fd : int
        A regular file; may be closed afterwards.
    nbytes : int
        How much of it, at least one byte.
    name : str
        What messages call it.

    Attributes
    ----------
    address : int
        Of the first byte.
    """

    address = 0

    def __init__(self, fd: int, nbytes: int, name: str) -> None:
        self._system, self.nbytes = _system(), nbytes
        address = self._system.mmap(None, nbytes, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address in (None, _FAILED):
            reason = os.strerror(ctypes.get_errno())
            raise InputMissingError(f"{name}: cannot be mapped into memory: {reason}; copy it to another file system")
        self.address = address
        self._system.madvise(address, nbytes, mmap.MADV_RANDOM)

    def content(self) -> Array:
        """All bytes, for as long as the map is held."""
        return np.ctypeslib.as_array((ctypes.c_uint8 * self.nbytes).from_address(self.address))

    def __del__(self) -> None:
        if self.address:
            self._system.munmap(self.address, self.nbytes)


class MappedRows:
    """Rows of files that lie one after the other in C order, by index.

    Parameters
    ----------
    bounds : sequence of int
        The first row of each file, and the number of all rows.
    row_bytes : int
        Bytes of a row, the same in all files.
    attach : callable
        Called with the index of a file that is needed for the first time: its map, and where its rows begin in it.
    check : callable
        Called with the indices of all files that a block of rows needs; raises InputError if one shrank.
    """

    def __init__(
        self,
        bounds: Sequence[int] | Array,
        row_bytes: int,
        attach: Callable[[int], tuple[FileMap, int]],
        check: Callable[[Array], None],
    ) -> None:
        self._bounds = np.array(bounds, np.int64)
        self._row_bytes, self._attach, self._check = row_bytes, attach, check
        self._maps: list[FileMap | None] = [None] * (len(bounds) - 1)
        self._firsts = np.zeros(len(bounds) - 1, np.int64)
        self._lock = threading.Lock()

    def gather(self, rows: Array, out: Array) -> None:
        """Copy rows to `out`, C-contiguous, of their own bytes; any number of threads at once."""
        if not out.size:
            return
        from mlpipe.kernels.gather import gather, locate  # who only looks at headers does without Numba

        if rows.dtype != np.int64 or rows.ndim != 1:
            check_rows(rows, int(self._bounds[-1]))
        addresses, needed = np.empty(len(rows), np.int64), np.zeros(len(self._maps), np.bool_)
        firsts = self._firsts
        if not locate(self._bounds, firsts, self._row_bytes, rows, addresses, needed):
            check_rows(rows, int(self._bounds[-1]))
        places = np.flatnonzero(needed)
        self._check(places)
        if not firsts[places].all():
            firsts = self._map(places)
            locate(self._bounds, firsts, self._row_bytes, rows, addresses, needed)
        _bring_in(addresses, self._row_bytes)
        gather(addresses, out.reshape(len(rows), -1).view(np.uint8))

    def _map(self, places: Array) -> Array:
        """Map files, once, whoever else may need them at the same time; where the rows of all begin by then."""
        with self._lock:
            firsts = self._firsts.copy()  # others may be at work with the old ones
            for place in places[firsts[places] == 0].tolist():
                mapped, offset = self._attach(place)
                self._maps[place] = mapped
                firsts[place] = mapped.address + offset
            self._firsts = firsts
            return firsts


def check_rows(rows: Array, count: int) -> None:
    """Raise IndexError unless all rows are among `count`."""
    if rows.dtype != np.int64 or rows.ndim != 1:
        raise ValueError(f"rows are given as an int64 array, got {rows.dtype} of shape {rows.shape}")
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= count:
        raise IndexError(f"row {low if low < 0 else high} of {count}")


def _bring_in(addresses: Array, nbytes: int) -> None:
    """Have the system read all rows at once, if they are not in memory; one by one, each would wait for the disk.

    Rows of 516 bytes from a virtual disk: 200 000 a second at once, 17 000 one by one.
    """
    system, mincore = _system(), _residence()
    found = (ctypes.c_ubyte * (2 + nbytes // _PAGE))()
    for address in addresses[:: max(1, len(addresses) // SAMPLE)].tolist():
        first, length = _pages(address, nbytes)
        if mincore(first, length, found) == 0 and not all(page & 1 for page in found[: -(-length // _PAGE)]):
            break
    else:
        return
    for address in addresses.tolist():
        system.madvise(*_pages(address, nbytes), mmap.MADV_WILLNEED)


def _pages(address: int, nbytes: int) -> tuple[int, int]:
    """The pages of a row: where they begin, and how many bytes to its end."""
    first = address // _PAGE * _PAGE
    return first, address + nbytes - first
