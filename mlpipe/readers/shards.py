"""Rows of many ``.npy`` files, one file after the other."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import Array, Spec
from mlpipe.opening import Opening
from mlpipe.readers.closing import Closing
from mlpipe.readers.common import common_dtype, odd_one
from mlpipe.readers.files import Fingerprint, check_unchanged, open_regular
from mlpipe.readers.mapped import FileMap, MappedRows, check_rows
from mlpipe.readers.npy import NpySource
from mlpipe.readers.text_rows import TextRows

Rows: TypeAlias = "NpySource | TextRows"

OPEN_FILES = 64
"""Files kept open at once, of the thousands there may be."""

LOOK_SECONDS = 0.02
"""How long a look at a mapped file's size lasts: looking for each block took a third of the time of 64 files."""


class Shard(NamedTuple):
    """What is kept of a file that is not open."""

    path: str
    name: str
    rows: int
    offset: int
    fingerprint: Fingerprint


class ShardsSource(Closing):
    """Rows of several ``.npy`` files as those of one.

    All headers are read, compared and the files fingerprinted at once; rows only when asked for, by any thread.
    Files may differ in the number of rows, byte order and order of storage, nothing else.

    Parameters
    ----------
    paths : sequence of path
        Files, at least one.
    common : bool
        Take files of different dtypes, too, in the smallest dtype that holds the values of all exactly.
    kind : callable
        Opens a file, given its path and, the second time, its name.

    Attributes
    ----------
    spec : Spec
        All rows.
    shards : list of Shard
        The files.
    bounds : ndarray of int64, shape (files + 1,)
        The first row of each file, and the number of all rows.

    Raises
    ------
    InputMissingError, InputError
        As for `NpySource`; and if a file differs from the first in the shape of its rows or in dtype, or, with
        `common`, if no dtype holds the values of all.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in "ab":
    ...         np.save(f"{folder}/{name}.npy", np.full((2, 1), ord(name), "u1"))
    ...     with ShardsSource([f"{folder}/a.npy", f"{folder}/b.npy"]) as source:
    ...         source.read_rows(1, out := np.empty((2, 1), "f4"))
    ...         source.spec.rows, out.tolist()
    (4, [[97.0], [98.0]])
    """

    seekable = True

    def __init__(
        self, paths: Sequence[str | os.PathLike[str]], *, common: bool = False, kind: Callable[..., Rows] = NpySource
    ) -> None:
        self.shards: list[Shard] = []
        self._mappable = True
        dtypes: list[np.dtype[Any]] = []
        for path in paths:
            with kind(path) as source:
                if not self.shards:
                    first = source.spec
                _check_alike(source, first, self.shards, common)
                dtypes.append(source.dtype)
                self._mappable &= source.dtype == first.dtype and not source.by_columns
                offset, fingerprint = source.header.offset, source.fingerprint
                self.shards.append(Shard(source.absolute, source.name, len(source), offset, fingerprint))
        self.bounds = np.cumsum([0, *(shard.rows for shard in self.shards)], dtype=np.int64)
        dtype = _common(self.shards, dtypes) if common else first.dtype
        self.spec = Spec(int(self.bounds[-1]), first.row_shape, dtype)
        self.name = f"{self.shards[0].name} … {self.shards[-1].name}" if len(paths) > 1 else self.shards[0].name
        self._open = _OpenFiles(self.shards, kind)
        self._looked = np.full(len(self.shards), -np.inf)
        self._mapped = MappedRows(self.bounds, self.spec.row_bytes, self._map, self._check_sizes)

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with rows from `start` on, converted to its dtype.

        Raises
        ------
        InputError
            If a file vanished, shrank or was replaced since.
        """
        stop = start + len(out)
        if not 0 <= start <= stop <= self.bounds[-1]:
            raise IndexError(f"rows {start} to {stop} of {self.bounds[-1]}")
        while start < stop:
            place = int(np.searchsorted(self.bounds, start, side="right")) - 1
            first, end = int(self.bounds[place]), min(stop, int(self.bounds[place + 1]))
            with self._open.use(place) as source:
                source.read_rows(start - first, out[len(out) - (stop - start) : len(out) - (stop - end)])
            start = end

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out` with rows in any order, converted to its dtype, through memory maps of all files they are in.

        Parameters
        ----------
        rows : ndarray of int64, shape (count,)
            Which rows.
        out : ndarray, shape (count, *row_shape)
            C-contiguous.
        labels : None
            Files have none.

        Raises
        ------
        InputError
            If a file vanished, shrank or was replaced since.
        """
        if out.shape[1:] != self.spec.row_shape or not out.flags.c_contiguous:
            raise ValueError(f"C-contiguous rows of shape {self.spec.row_shape} needed, got {out.shape}")
        if not out.size:
            return
        if self._mappable and out.dtype.newbyteorder("=") == self.spec.dtype.newbyteorder("="):
            self._mapped.gather(rows, out)
            if out.dtype != self.spec.dtype:
                out.byteswap(inplace=True)
            return
        check_rows(rows, int(self.bounds[-1]))
        places = np.searchsorted(self.bounds, rows, side="right") - 1
        for place in np.unique(places).tolist():
            chosen = np.flatnonzero(places == place)
            part = np.empty((len(chosen), *self.spec.row_shape), out.dtype)
            with self._open.use(place) as source:
                source.gather(rows[chosen] - self.bounds[place], part)
            out[chosen] = part

    def _map(self, place: int) -> tuple[FileMap, int]:
        shard = self.shards[place]
        fd, fingerprint = open_regular(shard.path)  # not as a source: its header was parsed before, which takes 0.1 ms
        try:
            _check_same(shard, fingerprint)
            return FileMap(fd, shard.fingerprint.st_size, shard.name), shard.offset
        finally:
            os.close(fd)

    def _check_sizes(self, places: Array) -> None:
        """Raise InputError when a file vanished or changed its size, as seen a moment ago at most."""
        now = time.monotonic()
        due = places[self._looked[places] < now - LOOK_SECONDS]
        self._looked[due] = now
        for place in due.tolist():
            shard = self.shards[place]
            try:
                size = os.stat(shard.path).st_size  # noqa: PTH116 - a path of text is half of the time
            except OSError:
                size = -1
            if size != shard.fingerprint.st_size:
                check_unchanged(shard.path, shard.fingerprint, shard.name)

    def check_unchanged(self) -> None:
        """Raise InputError when a file was written to, truncated, replaced or removed since."""
        for shard in self.shards:
            check_unchanged(shard.path, shard.fingerprint, shard.name)

    def close(self) -> None:
        """Close all files; harmless when repeated."""
        self._open.close()


def open_common(paths: Sequence[str], opening: Opening, files: ExitStack, *, text: bool = False) -> Rows | ShardsSource:
    """One file, or several as one, in the smallest dtype that holds the values of all exactly.

    Parameters
    ----------
    paths : sequence of str
        Files, at least one.
    opening : Opening
        Told that these are inputs.
    files : ExitStack
        Closes them.
    text : bool
        Whether they hold strings.

    Raises
    ------
    InputMissingError, InputError
        As for `ShardsSource`.
    """
    kind: Callable[..., Rows] = TextRows if text else NpySource
    if len(paths) == 1:
        source = kind(paths[0])
        files.enter_context(source)
        opening.inputs.append(source.fingerprint)
        return source
    several = files.enter_context(ShardsSource(paths, common=True, kind=kind))
    opening.inputs += [shard.fingerprint for shard in several.shards]
    return several


def _common(shards: Sequence[Shard], dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype that holds the values of all files; raise InputError if there is none."""
    found = dtypes[0] if len(set(dtypes)) == 1 else common_dtype(dtypes)  # one byte order is kept: maps are of files
    if found is None:
        first, other = odd_one(dtypes)
        raise InputError(
            f"{shards[other].name}: {dtypes[other].name}, but {dtypes[first].name} in {shards[first].name}; no dtype "
            "holds the values of both exactly: convert one of them first"
        )
    return found


def _check_alike(source: Rows, first: Spec, shards: Sequence[Shard], common: bool) -> None:
    """Raise InputError unless the rows of a file are such as those of the first."""
    if source.spec.row_shape != first.row_shape:
        differs = f"rows of shape {source.spec.row_shape}, but {first.row_shape}"
    elif not common and source.dtype.newbyteorder("=") != first.dtype.newbyteorder("="):
        differs = f"{source.dtype.name}, but {first.dtype.name}"
    else:
        return
    raise InputError(f"{source.name}: {differs} in {shards[0].name}; files that are read together must agree")


@dataclass(slots=True)
class _Opened:
    """A file, and how many are reading it."""

    source: Rows
    users: int = 0


class _OpenFiles:
    """The files read last, open; none is closed while somebody reads it."""

    def __init__(self, shards: Sequence[Shard], kind: Callable[..., Rows]) -> None:
        self._shards, self._kind = shards, kind
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._keep = OPEN_FILES

    @contextmanager
    def use(self, place: int) -> Iterator[Rows]:
        """A file, open for as long as the context lasts."""
        with self._lock:
            if not self._keep:
                raise ValueError(f"{self._shards[place].name} is closed")
            opened = self._opened.get(place) or _Opened(_reopen(self._shards[place], self._kind))
            self._opened[place] = opened
            self._opened.move_to_end(place)
            opened.users += 1
        try:
            yield opened.source
        finally:
            with self._lock:
                opened.users -= 1
                self._close_idle()

    def close(self) -> None:
        """Close all files, those in use once they are not."""
        with self._lock:
            self._keep = 0
            self._close_idle()

    def _close_idle(self) -> None:
        """Close files that nobody reads, those used longest ago first, until few enough are open."""
        idle = [place for place, opened in self._opened.items() if not opened.users]
        with ExitStack() as closing:
            for place in idle[: max(0, len(self._opened) - self._keep)]:
                closing.enter_context(self._opened.pop(place).source)


def _reopen(shard: Shard, kind: Callable[..., Rows]) -> Rows:
    """Open a file again; it must be the one that was looked at first."""
    check_unchanged(shard.path, shard.fingerprint, shard.name)
    source = kind(shard.path, shard.name)
    try:
        _check_same(shard, source.fingerprint)
    except InputError:
        source.close()
        raise
    return source


def _check_same(shard: Shard, fingerprint: Fingerprint) -> None:
    """Raise InputError unless the file that was opened is the one that was looked at first."""
    if fingerprint != shard.fingerprint:
        check_unchanged(shard.path, shard.fingerprint, shard.name)
        raise InputError(f"{shard.name}: replaced while it was read; run again")
