"""Blocks to their places in a ``.npy`` array, its header, and the labels beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from mlpipe.errors import UsageError
from mlpipe.link import Array, Block, Labels, Spec
from mlpipe.npy_format import build_header

Layout = Literal["matrix", "condensed"]
Store = Callable[[Array, int], None]
"""Writes contiguous values at a position, counted in elements."""


def npy_header(spec: Spec) -> bytes:
    """Header of a ``.npy`` file that holds `spec`, with the bytes of `numpy.save`.

    It has the same length whatever the number of rows, so that one that is not known ahead is put in at the end.
    128 bytes for any matrix. Aligning the data to whole pages instead would gain nothing: writing past the
    page cache only asks that memory and file lie alike in their pages.

    Examples
    --------
    >>> len(npy_header(Spec(10**9, (10**9,), np.dtype("f8"))))
    128
    """
    return build_header((spec.rows or 0, *spec.row_shape), spec.dtype)


def array_bytes(spec: Spec) -> int | None:
    """Bytes of a ``.npy`` file that holds `spec`, or None when their number is not known.

    Examples
    --------
    >>> array_bytes(Spec(10, (4,), np.dtype("f4")))
    288
    """
    return None if spec.nbytes is None else len(npy_header(spec)) + spec.nbytes


def labels_spec(spec: Spec, labels: Labels) -> Spec:
    """The labels of rows as rows of their own."""
    return Spec(spec.rows, labels.row_shape, labels.dtype)


def labels_block(block: Block) -> Block:
    """The labels of a block as a block of their own."""
    if block.labels is None:
        raise ValueError(f"rows from {block.start} on come without their labels")
    return Block(block.start, block.labels)


def check_ends(spec: Spec) -> None:
    """Raise UsageError for rows that never stop coming."""
    if spec.endless:
        raise UsageError("write: the rows never end, so they cannot be written; put head before it, or end in nothing")


class Tiles:
    """Turns blocks into runs of elements that follow one another in the output.

    Parameters
    ----------
    spec : Spec
        The output; with an unknown number of rows it has those that come.
    layout : {"matrix", "condensed"}
        As for `NpySink`.
    store : callable
        Where they go.
    sync : callable
        Brings to disk what was stored.
    """

    def __init__(self, spec: Spec, layout: Layout, store: Store, sync: Callable[[], None]) -> None:
        self._dtype, self._store, self._sync = spec.dtype, store, sync
        self._columns = math.prod(spec.row_shape)
        self._limit = spec.rows
        self._rows = spec.rows or 0
        self._stored = 0
        self._condensed = layout == "condensed"
        self._total = self._rows * self._columns
        if self._condensed:
            self._limit = self._rows = self._columns = _side(self._total)

    @property
    def rows(self) -> int:
        """Rows of the output, those that came so far where their number was not known."""
        return self._rows

    def write(self, block: Block) -> None:
        """Store a tile at its position."""
        rows = len(block.data)
        data = block.data.reshape(rows, -1) if block.data.size else np.empty((rows, 0), self._dtype)
        bottom, right = block.start + data.shape[0], block.column + data.shape[1]
        inside = block.start >= 0 and (self._limit is None or bottom <= self._limit)
        if data.dtype != self._dtype or not inside or block.column < 0 or right > self._columns:
            raise ValueError(
                f"{data.dtype} tile of shape {data.shape} at row {block.start}, column {block.column} "
                f"of a {self._dtype} output of {self._limit} x {self._columns}"
            )
        if self._limit is None and bottom > self._rows:
            self._rows, self._total = bottom, bottom * self._columns
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
