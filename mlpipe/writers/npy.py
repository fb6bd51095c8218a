"""Sinks that write a ``.npy`` array: to a file, in any order, or to a pipe, row by row.

Both give the same bytes, and those of `numpy.save`.
"""

from __future__ import annotations

import os
import select
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import numpy as np

from mlpipe.errors import OutputError, UsageError
from mlpipe.link import Array, Block, Spec
from mlpipe.opening import labels_path
from mlpipe.writers.atomic import AtomicFile, AtomicFiles
from mlpipe.writers.target import FileIdentity, check_room, failure, is_input
from mlpipe.writers.temporary import TemporaryFile
from mlpipe.writers.tiles import Layout as Layout
from mlpipe.writers.tiles import (
    Store,
    Tiles,
    array_bytes,
    check_ends,
    labels_block,
    labels_spec,
    npy_header,
)

PIECE_BYTES = 1 << 20
"""Of a temporary file that is handed on."""


class NpySink:
    """A ``.npy`` file, filled in any order, that appears whole or not at all.

    Labels go into a file of their own beside it (`mlpipe.opening.labels_path`), which appears together with it. Where
    the number of rows is not known, the file grows and its header is completed at the end, to the same bytes.

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
        self.rows: int | None = None

    def check(self, spec: Spec) -> None:
        """Raise OutputError for what can be known to fail, changing nothing.

        The output exists and `force` was not given, is an input, is not a regular file; its directory does
        not exist or cannot be written; there is no room for it.
        """
        check_ends(spec)
        AtomicFiles([self._file(path, part) for path, part in self._parts(spec)]).check()

    def offset(self, spec: Spec) -> int:
        """Length of the header."""
        return len(npy_header(spec))

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Arrays]:
        """Start the file, and one for labels; they appear when the context ends without an error.

        Raises
        ------
        OutputError
            For whatever `check` would refuse, and when the system refuses something.
        LockedError
            If another run is writing the same output.
        """
        with open_together([self], spec) as [arrays]:
            yield arrays

    def _parts(self, spec: Spec) -> list[tuple[str | os.PathLike[str], Spec]]:
        """The files, and what each holds."""
        rows = (self._path, replace(spec, labels=None))
        return [rows] if spec.labels is None else [rows, (labels_path(self._path), labels_spec(spec, spec.labels))]

    def _file(self, path: str | os.PathLike[str], spec: Spec) -> AtomicFile:
        size = array_bytes(spec)
        return AtomicFile(path, size=size, force=self._force, inputs=self._inputs, hint=self._hint)


@contextmanager
def open_together(sinks: Sequence[NpySink], spec: Spec) -> Iterator[list[_Arrays]]:
    """Start the files of several sinks, for rows of `spec` each; all appear when the context ends, or none."""
    parts = [[(sink._file(path, part), part) for path, part in sink._parts(spec)] for sink in sinks]
    with AtomicFiles([file for some in parts for file, _ in some]):
        arrays = [
            _Arrays([_Array(file, part, sink._layout) for file, part in some])
            for sink, some in zip(sinks, parts, strict=True)
        ]
        yield arrays
        for sink, some in zip(sinks, arrays, strict=True):
            sink.rows = some.finish()


class _Array:
    """A ``.npy`` array on its way into a file."""

    def __init__(self, file: AtomicFile, spec: Spec, layout: Layout) -> None:
        self._file, self._spec = file, spec
        header = npy_header(spec)
        file.pwrite(header, 0)

        def store(data: Array, at: int) -> None:
            file.pwrite(data, len(header) + at * data.itemsize)

        self.tiles = Tiles(spec, layout, store, file.sync)

    def finish(self) -> None:
        """Check that it is whole, and complete the header where the number of rows was not known."""
        self.tiles.check_complete()
        if self._spec.rows is None:
            self._file.pwrite(npy_header(replace(self._spec, rows=self.tiles.rows)), 0)


class _Arrays:
    """Rows, and their labels if they have any."""

    def __init__(self, arrays: Sequence[_Array]) -> None:
        self._arrays = arrays
        self._rows, *self._labels = (array.tiles for array in arrays)

    def finish(self) -> int:
        """Complete the headers; return how many rows there are."""
        for array in self._arrays:
            array.finish()
        return self._rows.rows

    def write(self, block: Block) -> None:
        """Store a tile, and the labels of its rows once."""
        self._rows.write(block)
        if self._labels and block.column == 0:
            self._labels[0].write(labels_block(block))

    def sync(self) -> None:
        """Bring to disk what was stored."""
        for tiles in (self._rows, *self._labels):
            tiles.sync()


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
        self.rows: int | None = None

    def check(self, spec: Spec) -> None:
        """Raise OutputError if it is an input, or a file on a disk without room; UsageError if labels have no place."""
        check_ends(spec)
        if spec.labels is not None:
            raise UsageError(f"write -: {self._name} holds one array; add --labels column, or write to a file")
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            raise failure(self._name, error) from error
        if is_input(status, self._inputs):
            raise OutputError(f"{self._name}: also an input, which writing it would destroy; redirect to another file")
        if stat.S_ISREG(status.st_mode):
            check_room(self._name, self._fd, array_bytes(spec) or 0)

    def offset(self, spec: Spec) -> int:
        """Length of the header."""
        return len(npy_header(spec))

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[Tiles]:
        """Write the header; what was written before an error stays written.

        Where the number of rows is not known, they first go into a temporary file without a name: the header, which
        says it, comes before them.

        Raises
        ------
        OutputError
            If the reader went away or the system refuses something.
        """
        self.check(spec)
        if spec.rows is None:
            with TemporaryFile(tempfile.gettempdir()) as file:
                tiles = Tiles(spec, self._layout, lambda data, at: file.pwrite(data, at * data.itemsize), lambda: None)
                yield tiles
                tiles.check_complete()
                whole = replace(spec, rows=tiles.rows)
                self._write_all(memoryview(npy_header(whole)))
                self._hand_on(file, whole.nbytes or 0)
        else:
            self._write_all(memoryview(npy_header(spec)))
            tiles = Tiles(spec, self._layout, self._in_order(), lambda: None)
            yield tiles
            tiles.check_complete()
        self.rows = tiles.rows

    def _hand_on(self, file: TemporaryFile, size: int) -> None:
        """Write what a temporary file holds."""
        buffer = np.empty(min(size, PIECE_BYTES), np.uint8)
        for at in range(0, size, PIECE_BYTES):
            piece = buffer[: size - at]
            file.pread(piece, at)
            self._write_all(piece.data)

    def _in_order(self) -> Store:
        """A store for what comes in order."""
        reached = 0

        def append(data: Array, at: int) -> None:
            nonlocal reached
            if at != reached:
                raise ValueError(f"element {at} comes where {reached} is next: a pipe takes whole rows in order")
            reached += data.size
            self._write_all(data.reshape(-1).view(np.uint8).data)

        return append

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
