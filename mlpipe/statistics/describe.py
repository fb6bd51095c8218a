"""What describes columns of numbers, in one pass: counts, extremes and where they are, sums and moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpipe.errors import InputError
from mlpipe.kernels import describe as kernels
from mlpipe.kernels import describe_merge as merging
from mlpipe.kernels import describe_records as records
from mlpipe.kernels import describe_strips as strips
from mlpipe.link import Array
from mlpipe.statistics.description import Description, Record, clear, described, empty_record, overall_of
from mlpipe.workers import Workers

GROUP_BYTES = 256 << 10
"""Bytes a group has about: it stays in a core's cache from the first look to the second, while the next one comes."""

GROUP_ROWS = 64
"""A group has so many rows at least."""

LANES = 64
"""Values side by side at least: of few columns, those of several rows; so their sums are short, and right."""

ALIGNED = 16
"""Lanes of few columns are a multiple of this, whatever the machine's vectors."""

SPAN = 4
"""Groups that go into one record before it is merged, so that workers do most of the merging."""

SLACK = 128 << 10
"""Bytes of small things."""

TASKS = 4
"""Tasks of a block for each worker, where there is enough to do."""

WIDE = 512
"""From so many columns on, workers take panels of columns instead."""

PANEL = 256
"""Columns of a panel; the last one has the rest as well."""

__all__ = ["Describe", "Description"]


class Describe:
    """Counts, extremes, sums and moments of each column and of all, in one pass and bounded memory.

    Mean and variance are right to 1e-12 however far the values are from zero, or from each other; nothing overflows.
    The same rows give the same bytes, whatever the blocks they come in and the threads.

    Parameters
    ----------
    columns : int
        How many.
    dtype : numpy.dtype
        Of the values: bool, integers, or floats.
    threads : int
        Of the workers.

    Examples
    --------
    >>> describe = Describe(1, np.dtype("f8"), threads=1)
    >>> with Workers(1) as workers:
    ...     describe.add(np.array([[1e9], [1e9 + 1], [np.nan], [1e9 + 2]]), workers)
    >>> found = describe.finish()
    >>> found.mean.tolist(), found.variance.tolist(), found.missing.tolist(), found.last_maximum.tolist()
    ([1000000001.0], [0.6666666666666666], [1], [3])
    """

    def __init__(self, columns: int, dtype: np.dtype[Any], threads: int) -> None:
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise InputError(f"statistics take bool, integers and floats, not {dtype.name}")
        self._columns, self._dtype = columns, dtype
        self._shape = shape = _Shape.of(columns, dtype)
        self._carry = np.empty((shape.rows if columns else 0, columns), shape.stored)
        self._rows, self._held, self._groups = 0, 0, 0
        scratch: dict[tuple[int, int, int], _Scratch] = {}
        self._panels = [_Panel(first, width, shape, scratch) for first, width in shape.panels()]

    @staticmethod
    def nbytes(columns: int, dtype: np.dtype[Any], threads: int, block_rows: int) -> int:
        """Bytes held while blocks of so many rows come in."""
        shape = _Shape.of(columns, dtype)
        size, width = shape.kept.itemsize, max((width for _, width in shape.panels()), default=0)
        record = 8 * (merging.RECORD_FLOATS + merging.RECORD_COUNTS) + 2 * size
        lanes = 2 * size + 8 * (strips.FLOATS + strips.COUNTS + strips.PLACES)
        spans = 2 + block_rows // (shape.rows * SPAN) if columns < WIDE else 0
        scratch = threads * (width * (record + 2 * size) + width * shape.side * lanes)
        converted = threads * SPAN * shape.rows * width * size if dtype == np.float16 else 0
        return columns * (shape.rows * dtype.itemsize + record * (8 + spans)) + scratch + converted + SLACK

    def add(self, rows: Array, workers: Workers) -> None:
        """Take in the rows that follow.

        Parameters
        ----------
        rows : ndarray, shape (n, columns)
            C-contiguous, of the dtype given.
        workers : Workers
            Threads, as many as given or fewer.
        """
        if rows.dtype != self._dtype or rows.shape[1:] != (self._columns,):
            raise ValueError(f"rows of {rows.dtype} and shape {rows.shape}, not {self._dtype} and (n, {self._columns})")
        self._rows += len(rows)
        if not rows.size:
            return
        group = self._shape.rows
        rows = rows.view(self._shape.stored)
        start = min(len(rows), group - self._held) if self._held else 0
        self._carry[self._held : self._held + start] = rows[:start]
        self._held += start
        if self._held and self._held < group:
            return
        pieces = [(self._carry, 1)] if self._held else []
        whole = (len(rows) - start) // group
        pieces.append((rows[start : start + whole * group], whole))
        self._run(pieces, workers)
        self._held = len(rows) - start - whole * group
        self._carry[: self._held] = rows[len(rows) - self._held :]

    def _run(self, pieces: list[tuple[Array, int]], workers: Workers) -> None:
        """Take in pieces of whole groups."""
        groups = sum(count for _, count in pieces)
        tasks = [task for panel in self._panels for task in panel.tasks(self._groups, groups, workers.threads)]

        def work(task: _Task, worker: int) -> None:
            before = self._groups
            for rows, count in pieces:
                first, last = max(task.first, before), min(task.last, before + count)
                if first < last:
                    task.panel.describe(rows, first - before, last - first, first, worker)
                before += count

        workers.run(work, tasks)
        self._groups += groups
        for panel in self._panels:
            panel.settle(self._groups - groups, self._groups)

    def finish(self) -> Description:
        """What was found; no more rows may come."""
        for panel in self._panels:
            panel.finish(self._carry[: self._held], self._rows - self._held)
        self._held = 0
        parts = [empty_record(0, self._shape.kept), *(panel.found() for panel in self._panels)]
        floats, counts, extremes = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
        total = (floats, counts, extremes)
        return described(self._rows, total, self._dtype, overall_of(self._rows, total, self._dtype))


@dataclass(frozen=True)
class _Shape:
    """How rows are laid out: they are stored as such, kept for the kernels as such, so many rows in a group."""

    columns: int
    stored: np.dtype[Any]
    kept: np.dtype[Any]
    kind: int
    side: int
    rows: int

    @staticmethod
    def of(columns: int, dtype: np.dtype[Any]) -> _Shape:
        """The layout of so many columns.

        Examples
        --------
        >>> shape = _Shape.of(3, np.dtype("f4"))
        >>> shape.side, shape.rows
        (32, 21824)
        """
        stored = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        kept = np.dtype(np.float32) if dtype == np.float16 else stored
        kind = kernels.FLOAT if kept.kind == "f" else kernels.LONG if kept.itemsize == 8 else kernels.SHORT
        side = 1
        while 0 < columns < LANES and (columns * side < LANES or columns * side % ALIGNED):
            side *= 2
        rows = max(GROUP_ROWS, GROUP_BYTES // kept.itemsize // max(1, columns))
        return _Shape(columns, stored, kept, kind, side, rows // side * side)

    def panels(self) -> Iterator[tuple[int, int]]:
        """First column and width of each panel."""
        if self.columns < WIDE:
            if self.columns:
                yield 0, self.columns
            return
        last = self.columns // PANEL - 1
        for panel in range(last + 1):
            yield panel * PANEL, PANEL if panel < last else self.columns - last * PANEL


@dataclass(frozen=True)
class _Task:
    """Groups of a panel for one worker."""

    panel: _Panel
    first: int
    last: int


class _Scratch:
    """What a worker needs to describe columns, each array contiguous."""

    def __init__(self, width: int, shape: _Shape) -> None:
        lanes = width * shape.side
        floats, counts = np.ones((strips.FLOATS, lanes)), np.zeros((strips.COUNTS, lanes), np.int64)
        places = np.zeros((strips.PLACES, lanes), np.int64)
        self.lanes = (np.zeros((2, lanes), shape.kept), floats, counts, places)
        self.record = empty_record(width, shape.kept)
        self.buffer: Array | None = None


class _Panel:
    """Columns that are described together.

    Groups are merged in order into the record of their span, and spans into the total; the one that a block cuts waits
    in slot 0. Of many columns, where workers take a panel each, all groups go into slot 0.
    """

    def __init__(self, first: int, width: int, shape: _Shape, scratch: dict[tuple[int, int, int], _Scratch]) -> None:
        self._first, self._width, self._shape, self._scratch = first, width, shape, scratch
        self._by_span, self._first_span = shape.columns < WIDE, 0
        self._best: dict[tuple[int, int], Array] = {}
        self._slots = [empty_record(width, shape.kept)]
        self._total = empty_record(width, shape.kept)

    def tasks(self, before: int, groups: int, threads: int) -> Iterator[_Task]:
        """Divide the groups that follow so many: whole spans, some together, as each group fetches the next one."""
        after = before + groups
        if not self._by_span:
            yield _Task(self, before, after)
            return
        self._first_span = before // SPAN
        spans = range(self._first_span, -(-after // SPAN))
        while len(self._slots) < len(spans):
            self._slots.append(empty_record(self._width, self._shape.kept))
        step = max(1, len(spans) // (TASKS * threads))
        for span in spans[::step]:
            yield _Task(self, max(before, span * SPAN), min(after, (span + step) * SPAN))

    def settle(self, before: int, after: int) -> None:
        """Merge the spans that are complete."""
        if not self._by_span:
            return
        first = before // SPAN
        for slot in range(after // SPAN - first):
            self._merge(slot)
        still_open = after // SPAN - first
        if 0 < still_open < len(self._slots):
            self._slots[0], self._slots[still_open] = self._slots[still_open], self._slots[0]

    def _merge(self, slot: int) -> None:
        records.merge(*self._total, *self._slots[slot])
        clear(self._slots[slot])

    def describe(self, rows: Array, start: int, groups: int, number: int, worker: int) -> None:
        """Take groups of rows, from group `start` of these on, into their records; `number` is the first one's."""
        group, shape = 0, self._shape
        while group < groups:  # a kernel call stays short, so that signals are seen
            span = (number + group) // SPAN
            count = min((span + 1) * SPAN - number - group, groups - group)
            first = (start + group) * shape.rows
            part = self._kept(rows[first : first + count * shape.rows], worker)
            slot = span - self._first_span if self._by_span else 0
            self._describe(part, shape, count, (number + group) * shape.rows, self._slots[slot], worker)
            group += count

    def finish(self, rows: Array, first_row: int) -> None:
        """Take in the last rows, which are no whole group; those that do not fill the lanes are one of their own."""
        shape, width = self._shape, self._width
        whole = len(rows) // shape.side * shape.side
        if whole:
            self._describe(self._kept(rows[:whole], 0), shape, 1, first_row, self._slots[0], 0)
        if whole < len(rows):
            lone = replace(shape, columns=max(width, ALIGNED), side=1)
            rest = np.zeros((len(rows) - whole, lone.columns), shape.kept)
            rest[:, :width] = rows[whole:]
            record = empty_record(lone.columns, shape.kept)
            self._describe(rest, lone, 1, first_row + whole, record, 0)
            records.merge(*self._slots[0], *record)
        self._merge(0)

    def found(self) -> Record:
        """The record of all rows."""
        floats, counts, extremes = (array[:, : self._width] for array in self._total)
        return floats, counts, extremes

    def _kept(self, rows: Array, worker: int) -> Array:
        """Rows as kernels take them; from this panel's first column on, if they are converted."""
        if self._shape.stored == self._shape.kept:
            return rows
        scratch = self._scratch_of(worker, self._width, self._shape)
        if scratch.buffer is None:  # kept: the system would have to clear its pages anew each time
            scratch.buffer = np.empty((SPAN * self._shape.rows, self._width), self._shape.kept)
        out = scratch.buffer[: len(rows)]
        bits = rows.view(np.uint16)
        if self._width == self._shape.columns:
            kernels.widen(bits.reshape(1, -1), 0, out.reshape(1, -1))
        else:
            kernels.widen(bits, self._first, out)
        return out

    def _describe(self, rows: Array, shape: _Shape, groups: int, first_row: int, record: Record, worker: int) -> None:
        """Take groups of rows into a record, the `first_row` on."""
        width = self._width if shape is self._shape else shape.columns
        scratch = self._scratch_of(worker, width, shape)
        who = (worker if self._by_span else 0, width)  # a panel of many columns is one worker's at a time
        if who not in self._best:
            self._best[who] = empty_record(width, shape.kept)[2]
        start = self._first if rows.shape[1] == shape.columns else 0
        kernels.describe_groups(
            rows.reshape(-1), start, rows.shape[1] * shape.side, len(rows) // groups // shape.side, width, shape.side,
            shape.kind, groups, first_row, self._best[who], *scratch.lanes, *scratch.record, *record,
        )  # fmt: skip

    def _scratch_of(self, worker: int, width: int, shape: _Shape) -> _Scratch:
        """A worker's scratch; panels of one width share it."""
        key = (worker, width * shape.side, width)
        if key not in self._scratch:
            self._scratch[key] = _Scratch(width, shape)
        return self._scratch[key]
