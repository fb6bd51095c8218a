"""Rows of different lengths as compressed sparse rows (CSR): three arrays, or pairs as CSV, however many there will be.

``indptr`` says where each row begins, and where the last one ends; ``indices`` and a third array hold what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mlpipe.errors import OutputError
from mlpipe.link import Array, Block, Spec
from mlpipe.npy_format import build_header
from mlpipe.opening import Opening
from mlpipe.writers.atomic import AtomicDirectory, AtomicFile, AtomicFiles
from mlpipe.writers.forms import arrays_form
from mlpipe.writers.output import FileOutput, Output, check_output, output
from mlpipe.writers.temporary import TemporaryFile
from mlpipe.writers.zipped import archive, hand_on, member

NAMES = ("indptr", "indices", "distances")
"""Of the files in a directory."""

COLUMNS = ("query", "neighbour", "distance")
"""Of a CSV."""

_INT = np.dtype(np.int64)
_PIECE_PAIRS = 1 << 16
"""That become text at once."""


@dataclass(slots=True)
class SparseRows(Block):
    """Entries on their way: `data` are values, `labels` their indices.

    Parameters
    ----------
    ends : ndarray of int64
        Where rows end of which no more entries come, counted from the first entry of all.
    """

    ends: Array = field(default_factory=lambda: np.empty(0, np.int64))


class Writing(Protocol):
    """A sparse matrix being written, row after row."""

    def append(self, ends: Array, indices: Array, values: Array) -> None:
        """Add entries, and the ends of the rows that they complete, counted from the first entry of all."""

    def sync(self) -> None:
        """Bring to disk what was stored."""


class CsrSink:
    """Where `SparseRows` go: a directory, a ``.npz`` that `scipy.sparse.load_npz` reads, or CSV; see `arrays_form`.

    A directory that is there is written into; of what it holds only files of these names are replaced, and these only
    with `--force`. In a ``.npz`` the values are called ``data``, as SciPy has it.

    Parameters
    ----------
    path : str
        Where to; ``-`` is stdout, as CSV.
    columns : int
        Of the matrix: there is no index from there on.
    opening : Opening
        Whether what is there may be replaced, and where temporary files go.
    names : sequence of str
        Of the arrays in a directory.
    header : sequence of str
        Of the columns of a CSV.

    Examples
    --------
    >>> import tempfile
    >>> from mlpipe.link import Labels
    >>> spec = Spec(None, (), np.dtype("f4"), Labels((), np.dtype("i8")))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     with CsrSink(f"{directory}/near", 9, Opening(ExitStack())).open(spec) as writing:
    ...         writing.write(SparseRows(0, np.array([0.5], "f4"), labels=np.array([3]), ends=np.array([0, 1])))
    ...     [np.load(f"{directory}/near/{name}.npy").tolist() for name in NAMES]
    [[0, 0, 1], [3], [0.5]]
    """

    sequential = True
    stored = True

    def __init__(
        self, path: str, columns: int, opening: Opening, names: Sequence[str] = NAMES, header: Sequence[str] = COLUMNS
    ) -> None:
        self._path, self._form, self._columns, self._opening = path, arrays_form(path, "three"), columns, opening
        self._names, self._header = names, header
        self.rows = self.entries = 0

    def check(self, spec: Spec) -> None:
        """Raise OutputError for what can be known to fail, changing nothing."""
        if self._form == "csv":
            check_output(self._path, self._opening)
        elif self._form == "npz":
            self._file(self._path).check()
        elif Path(self._path).is_dir():
            AtomicFiles(self._files()).check()
        else:
            self._directory().check()

    def offset(self, spec: Spec) -> int:
        """Not known ahead."""
        return 0

    def compile(self, spec: Spec) -> None:
        """Kernels are loaded when there is much to write."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Blocks]:
        """Start the output, which appears when the context ends without an error."""
        with self.opened(spec.dtype) as writing:
            blocks = _Blocks(writing)
            yield blocks
            self.rows, self.entries = blocks.rows, blocks.entries

    @contextmanager
    def opened(self, dtype: np.dtype[Any]) -> Iterator[Writing]:
        """The same for whoever has no blocks, but values of a dtype."""
        with ExitStack() as files:
            if self._form == "csv":
                out = files.enter_context(output(self._path, self._opening))
                out.append(",".join(self._header).encode() + b"\n")
                yield _Pairs(out)
            elif self._form == "npz":
                temporary = [files.enter_context(TemporaryFile(self._opening.temporary)) for _ in NAMES]
                archive = _Archive([_Array(file, kind, 0) for file, kind in zip(temporary, _kinds(dtype), strict=True)])
                out = FileOutput(files.enter_context(self._file(self._path)))
                yield archive
                archive.finish(out, temporary, self._columns)
            else:
                found = files.enter_context(self._opened_files())
                arrays = _Arrays([_Array(file, kind) for file, kind in zip(found, _kinds(dtype), strict=True)])
                yield arrays
                arrays.finish()

    @contextmanager
    def _opened_files(self) -> Iterator[Sequence[_File]]:
        """The files of a directory."""
        if Path(self._path).is_dir():
            files = self._files()
            with AtomicFiles(files):
                yield files
        else:
            with self._directory() as directory:
                yield directory.create(*((f"{name}.npy", None) for name in self._names))

    def _file(self, path: str) -> AtomicFile:
        return AtomicFile(path, size=None, force=self._opening.force, inputs=self._opening.inputs)

    def _files(self) -> list[AtomicFile]:
        return [self._file(str(Path(self._path) / f"{name}.npy")) for name in self._names]

    def _directory(self) -> AtomicDirectory:
        if os.path.lexists(self._path.rstrip("/")):
            raise OutputError(f"{self._path}: exists and is no directory; write to another one, or to a .npz")
        return AtomicDirectory(self._path, size=None)


def _kinds(dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
    """Of the three arrays."""
    return [_INT, _INT, dtype]


class _Blocks:
    """`SparseRows` on their way."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self.rows = self.entries = 0

    def write(self, block: Block) -> None:
        """Store entries, which follow those stored before."""
        if not isinstance(block, SparseRows) or block.labels is None or block.start != self.entries:
            raise ValueError(f"entry {block.start} comes where {self.entries} is next")
        self._writing.append(block.ends, block.labels, block.data)
        self.rows, self.entries = self.rows + len(block.ends), self.entries + len(block.data)

    def sync(self) -> None:
        """Bring to disk what was stored."""
        self._writing.sync()


class _File(Protocol):
    """What arrays are written to."""

    def pwrite(self, data: Array, offset: int) -> None:
        """Write all of it."""


class _Array:
    """A one-dimensional array that grows."""

    def __init__(self, file: _File, dtype: np.dtype[Any], offset: int | None = None) -> None:
        self._file, self.dtype, self.count = file, dtype, 0
        self._offset = len(build_header((0,), dtype)) if offset is None else offset

    def append(self, values: Array) -> None:
        """Add values."""
        if len(values):
            place = self._offset + self.count * self.dtype.itemsize
            self._file.pwrite(np.ascontiguousarray(values, self.dtype), place)
        self.count += len(values)

    def finish(self) -> None:
        """Write the header."""
        self._file.pwrite(np.frombuffer(build_header((self.count,), self.dtype), np.uint8), 0)

    def sync(self) -> None:
        """Bring to disk what was stored, if it is a file that will stay."""
        sync = getattr(self._file, "sync", None)
        if sync is not None:
            sync()


class _Arrays:
    """The three arrays."""

    def __init__(self, arrays: Sequence[_Array]) -> None:
        self._indptr, self._indices, self._values = self.arrays = arrays
        self._indptr.append(np.zeros(1, np.int64))

    def append(self, ends: Array, indices: Array, values: Array) -> None:
        """Add entries, and the ends of rows."""
        self._indptr.append(ends)
        self._indices.append(indices)
        self._values.append(values)

    def finish(self) -> None:
        """Write the headers."""
        for array in self.arrays:
            array.finish()

    def sync(self) -> None:
        """Bring to disk what was stored."""
        for array in self.arrays:
            array.sync()


class _Archive(_Arrays):
    """The three arrays in temporary files, of which one file is made: their headers come first, and are not known."""

    def finish(self, out: FileOutput, files: Sequence[TemporaryFile], columns: int) -> None:  # type: ignore[override]
        """Write the file."""
        shape = np.array([self._indptr.count - 1, columns])
        with archive(out) as into:
            for name, small in (("format", np.array(b"csr")), ("shape", shape)):
                with member(into, name, small.shape, small.dtype) as stream:
                    stream.write(small.tobytes())
            for name, array, file in zip(("indptr", "indices", "data"), self.arrays, files, strict=True):
                with member(into, name, (array.count,), array.dtype) as stream:
                    hand_on(file, array.count * array.dtype.itemsize, stream)


class _Pairs:
    """Entries on their way into text: a line for each."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._row = self._entry = 0

    def append(self, ends: Array, indices: Array, values: Array) -> None:
        """Write entries."""
        from mlpipe.writers.cells import csv_cells, lines

        for start in range(0, len(indices), _PIECE_PAIRS):
            part = slice(start, start + _PIECE_PAIRS)
            places = np.arange(self._entry + start, self._entry + start + len(indices[part]))
            rows = self._row + np.searchsorted(ends, places, "right")
            text = lines((rows, indices[part], values[part]), (b"\n", b",", b","), csv_cells)
            self._out.append(text[1:])
            self._out.append(b"\n")
        self._row, self._entry = self._row + len(ends), self._entry + len(indices)

    def sync(self) -> None:
        """What has gone is gone."""
