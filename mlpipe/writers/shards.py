"""A directory of ``.npy`` files of so many rows each, with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from mlpipe.link import Array, Block, Spec
from mlpipe.opening import labels_path
from mlpipe.writers.atomic import AtomicDirectory
from mlpipe.writers.draft import Draft
from mlpipe.writers.tiles import array_bytes, check_ends, labels_block, labels_spec, npy_header

SHARD_BYTES = 256 << 20
"""Of a shard, where nobody says how many rows it shall have."""

MANIFEST = "manifest.json"
PIECE_BYTES = 1 << 20


class ShardsSink:
    """A directory of ``.npy`` files, written one after the other, that appears whole or not at all.

    Files are named shard-00000.npy and so on; labels are in shard-00000-labels.npy. The file manifest.json says what
    the rows are, and of each file how many rows and bytes it has and its SHA-256, as ``sha256sum`` computes it.

    Parameters
    ----------
    path : str or path-like
        Where the directory will appear. One that is there is never replaced.
    rows_per_shard : int, optional
        Rows of every file but the last; by default as many as make 256 MiB.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ShardsSink(f"{folder}/out", 2).open(Spec(3, (1,), np.dtype("f4"))) as writing:
    ...         writing.write(Block(0, np.array([[1], [2], [3]], "f4")))
    ...     sorted(os.listdir(f"{folder}/out")), np.load(f"{folder}/out/shard-00001.npy").tolist()
    (['manifest.json', 'shard-00000.npy', 'shard-00001.npy'], [[3.0]])
    """

    sequential = True
    stored = True

    def __init__(self, path: str | os.PathLike[str], rows_per_shard: int | None = None) -> None:
        self._path, self._rows_per_shard = path, rows_per_shard
        self.rows: int | None = None

    def check(self, spec: Spec) -> None:
        """Raise OutputError if it exists or cannot be made, or there is no room."""
        check_ends(spec)
        self._directory(spec).check()

    def offset(self, spec: Spec) -> int:
        """Length of a header."""
        return len(npy_header(spec))

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Shards]:
        """Start the directory; it appears when the context ends without an error.

        Raises
        ------
        OutputError
            For whatever `check` would refuse, and when the system refuses something.
        LockedError
            If another run is writing the same output.
        """
        with self._directory(spec) as directory:
            shards = _Shards(directory, spec, self._shard_rows(spec))
            yield shards
            shards.finish()
            self.rows = shards.rows

    def _shard_rows(self, spec: Spec) -> int:
        return self._rows_per_shard or max(1, SHARD_BYTES // max(1, spec.row_bytes))

    def _directory(self, spec: Spec) -> AtomicDirectory:
        parts = _parts(spec)
        rows = self._shard_rows(spec)
        total = None
        if spec.rows is not None:
            files = max(1, -(-spec.rows // rows))
            total = sum(files * len(npy_header(part)) + spec.rows * part.row_bytes for part in parts)
            rows = min(rows, spec.rows)
        largest = max(len(npy_header(part)) + rows * part.row_bytes for part in parts)
        return AtomicDirectory(self._path, size=total, largest=largest)


def _parts(spec: Spec) -> list[Spec]:
    """What is written: rows, and labels."""
    rows = replace(spec, labels=None)
    return [rows] if spec.labels is None else [rows, labels_spec(spec, spec.labels)]


class _Shards:
    """Rows that come in order, cut into files."""

    def __init__(self, directory: AtomicDirectory, spec: Spec, shard_rows: int) -> None:
        self._directory, self._spec, self._shard_rows = directory, spec, shard_rows
        self._open: list[_ShardFile] = []
        self._written: list[dict[str, Any]] = []
        self.rows = 0

    def write(self, block: Block) -> None:
        """Store whole rows, which follow those stored before."""
        if block.start != self.rows or block.column:
            raise ValueError(f"row {block.start}, column {block.column} comes where row {self.rows} is next")
        arrays = [block.data] if self._spec.labels is None else [block.data, labels_block(block).data]
        at = 0
        while at < len(block.data):
            if not self._open:
                self._start()
            stop = min(len(block.data), at + self._open[0].room)
            for file, array in zip(self._open, arrays, strict=True):
                file.append(array[at:stop])
            self.rows += stop - at
            at = stop
            if not self._open[0].room:
                self._end()

    def sync(self) -> None:
        """Bring to disk what was stored."""
        self._directory.sync()

    def finish(self) -> None:
        """Complete the last file and write the manifest."""
        if self._spec.rows is not None and self.rows < self._spec.rows:
            raise RuntimeError(f"only {self.rows} of {self._spec.rows} rows were written")
        if not self._open and not self._written:
            self._start()  # without rows, yet the shape of one
        if self._open:
            self._end()
        content = (json.dumps(self._manifest(), indent=1) + "\n").encode()
        [file] = self._directory.create((MANIFEST, len(content)))
        file.pwrite(content, 0)

    def _start(self) -> None:
        rows, sure = self._shard_rows, self._spec.rows is not None
        if self._spec.rows is not None:
            rows = min(rows, self._spec.rows - self.rows)
        name = f"shard-{len(self._written):05}.npy"
        names = (name, labels_path(name).name)
        parts = [(name, replace(part, rows=rows)) for name, part in zip(names, _parts(self._spec), strict=False)]
        drafts = self._directory.create(*((name, array_bytes(part) if sure else None) for name, part in parts))
        self._open = [_ShardFile(draft, name, part) for draft, (name, part) in zip(drafts, parts, strict=True)]

    def _end(self) -> None:
        facts, *labels = (file.end() for file in self._open)
        self._written.append(facts | dict(zip(("labels",), labels, strict=False)))
        self._open.clear()

    def _manifest(self) -> dict[str, Any]:
        kinds = [{"shape": list(part.row_shape), "dtype": part.dtype.str} for part in _parts(self._spec)]
        return {
            "format": "mlpipe shards 1",
            "rows": self.rows,
            "rows_per_shard": self._shard_rows,
            **dict(zip(("row", "label"), kinds, strict=False)),
            "shards": self._written,
        }


class _ShardFile:
    """One ``.npy`` file that is written from its start to its end."""

    def __init__(self, draft: Draft, name: str, spec: Spec) -> None:
        self._draft, self._name, self._spec = draft, name, spec
        self._header = npy_header(spec)
        self._draft.pwrite(self._header, 0)
        self._sum = hashlib.sha256(self._header)
        self._rows = 0

    @property
    def room(self) -> int:
        """Rows that may still come."""
        return (self._spec.rows or 0) - self._rows

    def append(self, rows: Array) -> None:
        """Store rows."""
        if rows.dtype != self._spec.dtype or rows.shape[1:] != self._spec.row_shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} and {rows.dtype} among {self._spec}")
        rows = np.ascontiguousarray(rows)
        if rows.size:
            self._draft.pwrite(rows, len(self._header) + self._rows * self._spec.row_bytes)
            self._sum.update(rows.reshape(-1).view(np.uint8).data)
        self._rows += len(rows)

    def end(self) -> dict[str, Any]:
        """Complete the header if fewer rows came than there was room for; return what the manifest says."""
        size = len(self._header) + self._rows * self._spec.row_bytes
        if self.room:
            self._header = npy_header(replace(self._spec, rows=self._rows))
            self._draft.pwrite(self._header, 0)
            self._sum = hashlib.sha256()
            for piece in _pieces(self._draft, size):
                self._sum.update(piece)
        self._draft.rest()
        return {"file": self._name, "rows": self._rows, "bytes": size, "sha256": self._sum.hexdigest()}


def _pieces(draft: Draft, size: int) -> Iterator[bytes]:
    for at in range(0, size, PIECE_BYTES):
        yield draft.pread(PIECE_BYTES, at)
