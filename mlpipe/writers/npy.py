"""Sinks that write a ``.npy`` array: to a file, in any order, or to a pipe, row by row.

Both give the same bytes, and those of `numpy.save`.
"""

from __future__ import annotations

import math
import os
import select
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

import numpy as np

from mlpipe.errors import OutputError
from mlpipe.link import Array, Block, Spec
from mlpipe.npy_format import build_header
from mlpipe.writers.atomic import AtomicFile
from mlpipe.writers.target import FileIdentity, check_room, failure, is_input

Layout = Literal["matrix", "condensed"]
Store = Callable[[Array, int], None]
"""Writes contiguous values at a position, counted in elements."""


class NpySink:
    """A ``.npy`` file, filled in any order, that appears whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Where it will appear.
    force : bool
        Whether a file that is there may be replaced.
    layout : {"matrix", "condensed"}
        What blocks are: tiles of the output, or tiles of a square matrix of which only what lies above the
        diagonal is stored, row after row, as `scipy.spatial.distance.pdist` orders it.
    inputs : sequence of FileIdentity
        What `os.stat` says of files that must not be replaced.
    hint : str
        What to do instead when there is no room.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = f"{directory}/D.npy"
    ...     with NpySink(path).open(Spec(2, (3,), np.dtype("f4"))) as writing:
    ...         writing.write(Block(0, np.array([[5], [6]], "f4"), column=2))
    ...         writing.write(Block(0, np.array([[1, 2], [3, 4]], "f4")))
    ...     np.load(path)
    array([[1., 2., 5.],
           [3., 4., 6.]], dtype=float32)
    """

    sequential = False
    stored = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        layout: Layout = "matrix",
        inputs: Sequence[FileIdentity] = (),
        hint: str = "",
    ) -> None:
        self._path, self._force, self._layout, self._inputs, self._hint = path, force, layout, inputs, hint

    def check(self, spec: Spec) -> None:
        """Raise OutputError for what can be known to fail, changing nothing.

        The output exists and `force` was not given, is an input, is not a regular file; its directory does
        not exist or cannot be written; there is no room for it.
        """
        self._file(spec).check()

    def offset(self, spec: Spec) -> int:
        """Length of the header."""
        return len(npy_header(spec))

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Tiles]:
        """Start the file; it appears when the context ends without an error.

        Raises
        ------
        OutputError
            For whatever `check` would refuse, and when the system refuses something.
        LockedError
            If another run is writing the same output.
        """
        header = npy_header(spec)
        with self._file(spec) as file:
            file.pwrite(header, 0)

            def store(data: Array, at: int) -> None:
                file.pwrite(data, len(header) + at * data.itemsize)

            tiles = _Tiles(spec, self._layout, store, file.sync)
            yield tiles
            tiles.check_complete()

    def _file(self, spec: Spec) -> AtomicFile:
        size = len(npy_header(spec)) + (spec.nbytes or 0)
        return AtomicFile(self._path, size=size, force=self._force, inputs=self._inputs, hint=self._hint)


class HasDescriptor(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Descriptor of it."""


class StreamSink:
    """A ``.npy`` array on a pipe or an open file: the header, then whole rows, strictly in order.

    Parameters
    ----------
    file : int or file object
        Where to; a descriptor, or an object with a `fileno` whose own buffer is empty.
    name : str
        What messages call it.
    layout : {"matrix", "condensed"}
        As for `NpySink`.
    inputs : sequence of FileIdentity
        Files that must not be written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     with StreamSink(file).open(Spec(1, (2,), np.dtype("f4"))) as writing:
    ...         writing.write(Block(0, np.array([[1, 2]], "f4")))
    ...     _ = file.seek(0)
    ...     np.load(file)
    array([[1., 2.]], dtype=float32)
    """

    sequential = True
    stored = True

    def __init__(
        self,
        file: int | HasDescriptor,
        name: str = "standard output",
        *,
        layout: Layout = "matrix",
        inputs: Sequence[FileIdentity] = (),
    ) -> None:
        self._fd = file if isinstance(file, int) else file.fileno()
        self._name, self._layout, self._inputs = name, layout, inputs

    def check(self, spec: Spec) -> None:
        """Raise OutputError if it is an input, or a file on a disk without room."""
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            raise failure(self._name, error) from error
        if is_input(status, self._inputs):
            raise OutputError(f"{self._name}: also an input, which writing it would destroy; redirect to another file")
        if stat.S_ISREG(status.st_mode):
            check_room(self._name, self._fd, len(npy_header(spec)) + (spec.nbytes or 0))

    def offset(self, spec: Spec) -> int:
        """Length of the header."""
        return len(npy_header(spec))

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Tiles]:
        """Write the header; what was written before an error stays written.

        Raises
        ------
        OutputError
            If the reader went away or the system refuses something.
        """
        self.check(spec)
        self._write_all(memoryview(npy_header(spec)))
        reached = 0

        def append(data: Array, at: int) -> None:
            nonlocal reached
            if at != reached:
                raise ValueError(f"element {at} comes where {reached} is next: a pipe takes whole rows in order")
            reached += data.size
            self._write_all(data.reshape(-1).view(np.uint8).data)

        tiles = _Tiles(spec, self._layout, append, lambda: None)
        yield tiles
        tiles.check_complete()

    def _write_all(self, rest: memoryview) -> None:
        try:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:  # somebody else made the pipe non-blocking
                    select.select([], [self._fd], [])
        except BrokenPipeError as error:
            raise OutputError(f"{self._name}: closed by its reader before all was written") from error
        except OSError as error:
            raise failure(self._name, error) from error


def npy_header(spec: Spec) -> bytes:
    """Header of a ``.npy`` file that holds `spec`, with the bytes of `numpy.save`.

    128 bytes for any matrix. Aligning the data to whole pages instead would gain nothing: writing past the
    page cache only asks that memory and file lie alike in their pages.

    Examples
    --------
    >>> len(npy_header(Spec(10**9, (10**9,), np.dtype("f8"))))
    128
    """
    if spec.rows is None:
        raise ValueError("a .npy header needs the number of rows")
    return build_header((spec.rows, *spec.row_shape), spec.dtype)


class _Tiles:
    """Turns blocks into runs of elements that follow one another in the output."""

    def __init__(self, spec: Spec, layout: Layout, store: Store, sync: Callable[[], None]) -> None:
        self._dtype, self._store, self._sync = spec.dtype, store, sync
        self._total = (spec.rows or 0) * math.prod(spec.row_shape)
        self._stored = 0
        self._condensed = layout == "condensed"
        if self._condensed:
            side = _side(self._total)
            self._rows, self._columns = side, side
        else:
            self._rows, self._columns = spec.rows or 0, math.prod(spec.row_shape)

    def write(self, block: Block) -> None:
        """Store a tile at its position."""
        data = block.data.reshape(len(block.data), -1) if block.data.size else np.empty((0, 0), self._dtype)
        bottom, right = block.start + data.shape[0], block.column + data.shape[1]
        inside = block.start >= 0 and bottom <= self._rows and block.column >= 0 and right <= self._columns
        if data.dtype != self._dtype or not inside:
            raise ValueError(
                f"{data.dtype} tile of shape {data.shape} at row {block.start}, column {block.column} "
                f"of a {self._dtype} output of {self._rows} x {self._columns}"
            )
        for values, position in self._runs(block, np.ascontiguousarray(data)):
            self._store(values, position)
            self._stored += values.size

    def sync(self) -> None:
        """Bring what was stored to disk."""
        self._sync()

    def check_complete(self) -> None:
        """Raise unless everything was written: zeros that nobody computed must not pass for values."""
        if self._stored < self._total:
            raise RuntimeError(f"only {self._stored} of {self._total} elements were written")

    def _runs(self, block: Block, data: Array) -> Iterator[tuple[Array, int]]:
        """Parts of a tile, each with its position in the output."""
        columns = self._columns
        if self._condensed:
            for row, values in enumerate(data, block.start):
                first = max(row + 1, block.column)
                if first < block.column + len(values):
                    yield values[first - block.column :], columns * row - row * (row + 1) // 2 + first - row - 1
        elif data.shape[1] == columns:
            yield data, block.start * columns
        else:
            for row, values in enumerate(data, block.start):
                yield values, row * columns + block.column


def _side(pairs: int) -> int:
    """Rows of the square matrix that has so many elements above its diagonal.

    Examples
    --------
    >>> _side(6), _side(0)
    (4, 1)
    """
    return (1 + math.isqrt(1 + 8 * pairs)) // 2
