"""Sinks for rows and their labels as two named arrays: in a directory, or in a ``.npz``."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from mlpipe.errors import OutputError
from mlpipe.link import Array, Block, Spec
from mlpipe.opening import Opening
from mlpipe.writers.atomic import AtomicDirectory, AtomicFile, AtomicFiles
from mlpipe.writers.output import FileOutput
from mlpipe.writers.target import FileIdentity
from mlpipe.writers.temporary import TemporaryFile
from mlpipe.writers.tiles import Tiles, array_bytes, labels_block, labels_spec, npy_header
from mlpipe.writers.zipped import archive, hand_on, member


def _parts(spec: Spec) -> list[Spec]:
    """What the rows are, and what their labels are."""
    if spec.labels is None:
        raise ValueError("two arrays are written: rows, and their labels")
    return [replace(spec, labels=None), labels_spec(spec, spec.labels)]


class ArraysSink:
    """A directory with an array for the rows and one for their labels, which appear together or not at all.

    A directory that is there is written into; of what it holds only files of these names are replaced, and these only
    with `force`.

    Parameters
    ----------
    path : str or path-like
        The directory.
    names : sequence of str
        Of the two arrays.
    force : bool
        Whether files that are there may be replaced.
    inputs : sequence of FileIdentity
        Files that must not be replaced.

    Examples
    --------
    >>> import tempfile
    >>> from mlpipe.link import Labels
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     spec = Spec(1, (2,), np.dtype("i8"), Labels((2,), np.dtype("f4")))
    ...     with ArraysSink(f"{directory}/near", ("indices", "distances")).open(spec) as writing:
    ...         writing.write(Block(0, np.array([[3, 1]]), labels=np.array([[0.5, 2]], "f4")))
    ...     sorted(os.listdir(f"{directory}/near")), np.load(f"{directory}/near/indices.npy").tolist()
    (['distances.npy', 'indices.npy'], [[3, 1]])
    """

    sequential = False
    stored = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        names: Sequence[str],
        *,
        force: bool = False,
        inputs: Sequence[FileIdentity] = (),
    ) -> None:
        self._path, self._names, self._force, self._inputs = Path(path), names, force, inputs

    def check(self, spec: Spec) -> None:
        """Raise OutputError for what can be known to fail, changing nothing."""
        if self._path.is_dir():
            self._files(spec).check()
        else:
            self._directory(spec).check()

    def offset(self, spec: Spec) -> int:
        """Length of a header."""
        return len(npy_header(spec))

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Writing]:
        """Start both arrays; they appear when the context ends without an error.

        Raises
        ------
        OutputError
            For whatever `check` would refuse, and when the system refuses something.
        LockedError
            If another run is writing the same output.
        """
        parts = _parts(spec)
        if self._path.is_dir():
            files = self._each(spec)
            with AtomicFiles(files):
                yield from _written(files, parts)
            return
        with self._directory(spec) as directory:
            named = [(f"{name}.npy", array_bytes(part)) for name, part in zip(self._names, parts, strict=True)]
            yield from _written(directory.create(*named), parts)

    def _each(self, spec: Spec) -> list[AtomicFile]:
        return [
            AtomicFile(
                self._path / f"{name}.npy", size=array_bytes(part), force=self._force, inputs=self._inputs
            )
            for name, part in zip(self._names, _parts(spec), strict=True)
        ]  # fmt: skip

    def _files(self, spec: Spec) -> AtomicFiles:
        return AtomicFiles(self._each(spec))

    def _directory(self, spec: Spec) -> AtomicDirectory:
        if os.path.lexists(self._path):
            raise OutputError(f"{self._path}: exists and is no directory; write to another one, or to a .npz")
        sizes = [array_bytes(part) or 0 for part in _parts(spec)]
        return AtomicDirectory(self._path, size=sum(sizes), largest=max(sizes))


class _File(Protocol):
    """What arrays are written to."""

    def pwrite(self, data: bytes | Array, offset: int) -> None:
        """Write all of it."""

    def sync(self) -> None:
        """Bring it to disk."""


def _written(files: Sequence[_File], parts: Sequence[Spec]) -> Iterator[_Writing]:
    """Arrays on their way into files; afterwards they are known to be whole."""
    writing = _Writing([_tiles(file, part) for file, part in zip(files, parts, strict=True)])
    yield writing
    writing.check_complete()


def _tiles(file: _File, spec: Spec) -> Tiles:
    header = npy_header(spec)
    file.pwrite(header, 0)
    return Tiles(spec, "matrix", lambda data, at: file.pwrite(data, len(header) + at * data.itemsize), file.sync)


class _Writing:
    """Rows, and their labels."""

    def __init__(self, tiles: Sequence[Tiles]) -> None:
        self._rows, self._labels = tiles

    def write(self, block: Block) -> None:
        """Store a block."""
        self._rows.write(block)
        self._labels.write(labels_block(block))

    def sync(self) -> None:
        """Bring to disk what was stored."""
        self._rows.sync()
        self._labels.sync()

    def check_complete(self) -> None:
        """Raise unless everything was written."""
        self._rows.check_complete()
        self._labels.check_complete()


class NpzSink:
    """A ``.npz`` of two arrays, rows and their labels, the same bytes for the same arrays.

    The second array is written after the first one, so that until then it is in a temporary file.

    Parameters
    ----------
    path : str
        Where it will appear, whole or not at all.
    names : sequence of str
        Of the two arrays.
    opening : Opening
        Whether it may replace what is there, and where temporary files go.
    """

    sequential = True
    stored = True

    def __init__(self, path: str, names: Sequence[str], opening: Opening) -> None:
        self._path, self._names, self._opening = path, names, opening

    def check(self, spec: Spec) -> None:
        """Raise OutputError for what can be known to fail, changing nothing."""
        self._file(spec).check()

    def offset(self, spec: Spec) -> int:
        """Not known: rows do not begin on a page."""
        return 0

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Archive]:
        """Start the file, which appears when the context ends without an error."""
        parts = _parts(spec)
        with (
            TemporaryFile(self._opening.temporary, parts[1].nbytes or 0) as kept,
            self._file(spec) as file,
            archive(FileOutput(file)) as into,
        ):
            with _member(into, self._names[0], parts[0]) as stream:
                writing = _Archive(stream, kept, spec)
                yield writing
            writing.check_complete()
            with _member(into, self._names[1], parts[1]) as stream:
                hand_on(kept, parts[1].nbytes or 0, stream)

    def _file(self, spec: Spec) -> AtomicFile:
        """The file; room is made as it grows."""
        return AtomicFile(self._path, size=None, force=self._opening.force, inputs=self._opening.inputs)


def _member(into: zipfile.ZipFile, name: str, spec: Spec) -> AbstractContextManager[IO[bytes]]:
    """An array of an archive, of which the header is written."""
    return member(into, name, (int(spec.rows or 0), *spec.row_shape), spec.dtype)


class _Archive:
    """Rows that come in order, and their labels."""

    def __init__(self, stream: IO[bytes], kept: TemporaryFile, spec: Spec) -> None:
        self._stream, self._kept, self._rows = stream, kept, spec.rows
        self._stored = self._at = 0

    def write(self, block: Block) -> None:
        """Store whole rows, which follow those stored before."""
        if block.start != self._stored or block.column:
            raise ValueError(f"row {block.start} comes where {self._stored} is next")
        labels = np.ascontiguousarray(labels_block(block).data)
        if labels.size:
            self._stream.write(np.ascontiguousarray(block.data).reshape(-1).view(np.uint8).data)
            self._kept.pwrite(labels, self._at)
        self._at += labels.nbytes
        self._stored += len(block.data)

    def sync(self) -> None:
        """The end is not written yet."""

    def check_complete(self) -> None:
        """Raise unless all rows came."""
        if self._stored != self._rows:
            raise RuntimeError(f"only {self._stored} of {self._rows} rows were written")
