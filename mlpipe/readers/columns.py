"""Some of the rows and columns of a source, and one column as labels."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlpipe.errors import InputError, UsageError
from mlpipe.link import Array, Labels, Source, Spec, gather_into, read_into
from mlpipe.readers.closing import Closing

SCRATCH_BYTES = 1 << 20
"""Of whole rows, from which columns are taken."""

RUN = 8
"""Columns that follow each other are copied as such, which takes a fifth of the time, where so many do on average."""

_RANGE = re.compile(r"\s*(-?[0-9]{1,18})?\s*:\s*(-?[0-9]{1,18})?\s*")
_INDEX = re.compile(r"\s*-?[0-9]{1,18}\s*")


def parse_range(text: str, flag: str) -> slice:
    """Rows ``a:b`` as in Python; either may be left out, or count from the end.

    Examples
    --------
    >>> parse_range("10:", "--rows")
    slice(10, None, None)
    """
    match = _RANGE.fullmatch(text)
    if not match:
        raise UsageError(f"{flag} {text}: give a range such as 100:200, 100: or :-1")
    return slice(*(None if part is None else int(part) for part in match.groups()))


def parse_columns(text: Any) -> Any:
    """Parts of a list of columns, each an index or a range.

    Examples
    --------
    >>> parse_columns("0,3:7,-1")
    ('0', '3:7', '-1')
    """
    return tuple(text.split(",")) if isinstance(text, str) else text


def check_columns(columns: Sequence[int | str]) -> None:
    """Raise UsageError for what is neither an index nor a range.

    Examples
    --------
    >>> check_columns(["0", "x"])
    Traceback (most recent call last):
    mlpipe.errors.UsageError: --columns x: give indices and ranges, such as 0,3:7,-1
    """
    for one in columns or ("nothing",):
        if not (_INDEX.fullmatch(str(one)) or _RANGE.fullmatch(str(one))):
            raise UsageError(f"--columns {one}: give indices and ranges, such as 0,3:7,-1")


def resolve_columns(columns: Sequence[int | str], count: int, name: str) -> list[int]:
    """Indices from 0 on, in the order given.

    Parameters
    ----------
    columns : sequence of int or str
        Indices and ranges; both may count from the end.
    count : int
        Columns there are.
    name : str
        What messages call the input.

    Raises
    ------
    InputError
        For an index that there is not.

    Examples
    --------
    >>> resolve_columns(["0", "3:5", "-1"], 8, "X.npy")
    [0, 3, 4, 7]
    """
    found: list[int] = []
    for one in map(str, columns):
        if ":" in one:
            found += range(count)[parse_range(one, "--columns")]
        else:
            found.append(_index(int(one), count, "--columns", name))
    return found


def _runs(columns: Array) -> list[tuple[slice, slice]]:
    """Columns that follow each other: where they go, and where they are.

    Examples
    --------
    >>> _runs(np.array([7, 8, 9, 2]))
    [(slice(0, 3, None), slice(7, 10, None)), (slice(3, 4, None), slice(2, 3, None))]
    """
    starts = np.flatnonzero(np.diff(columns, prepend=-2) != 1).tolist()
    return [
        (slice(first, stop), slice(int(columns[first]), int(columns[stop - 1]) + 1))
        for first, stop in itertools.pairwise([*starts, len(columns)])
    ]


def _index(index: int, count: int, flag: str, name: str) -> int:
    if not -count <= index < count:
        raise InputError(f"{flag} {index}: {name} has {count} columns, from 0 to {count - 1}, or -{count} to -1")
    return index % count


class PartSource(Closing):
    """Some of the rows and columns of a source, and one column as labels.

    Parameters
    ----------
    source : Source
        Of which; closed with this one.
    rows : slice, optional
        Which rows, without a step.
    columns : sequence of int or str, optional
        Which columns make a row; by default all but that of the labels, which is never among them.
    label_column : int, optional
        Which column is the label.

    Raises
    ------
    InputError
        If rows have no columns, or not those.

    Examples
    --------
    >>> from mlpipe.readers.array import ArraySource
    >>> source = PartSource(ArraySource(np.arange(12).reshape(4, 3), "X"), slice(1, 3), label_column=-1)
    >>> x, y = np.empty((2, 2), int), np.empty(2, int)
    >>> source.read_labelled(0, x, y)
    >>> x.tolist(), y.tolist()
    ([[3, 4], [6, 7]], [5, 8])
    """

    def __init__(
        self,
        source: Source,
        rows: slice | None = None,
        columns: Sequence[int | str] | None = None,
        label_column: int | None = None,
    ) -> None:
        spec = source.spec
        self._source, self.name, self.seekable = source, source.name, source.seekable
        self._first, stop, _ = (rows or slice(None)).indices(spec.rows or 0)
        self._label: int | None = None
        self._columns: Array | None = None
        self.spec: Spec = replace(spec, rows=max(0, stop - self._first))
        if columns is None and label_column is None:
            return
        if len(spec.row_shape) != 1:
            raise InputError(
                f"{self.name}: rows of shape {spec.row_shape} have no columns to choose from; reshape them"
            )
        count = spec.row_shape[0]
        chosen = list(range(count)) if columns is None else resolve_columns(columns, count, self.name)
        labels = spec.labels
        if label_column is not None:
            self._label = _index(label_column, count, "--label-column", self.name)
            chosen = [one for one in chosen if one != self._label]
            labels = Labels((), spec.dtype.newbyteorder("="))
        self._columns = np.array(chosen, np.intp)
        self._runs = _runs(self._columns)
        self.spec = replace(self.spec, row_shape=(len(chosen),), labels=labels)

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with rows from `start` on, without labels."""
        if self._columns is None:
            self._source.read_rows(self._first + start, out)
        else:
            self._take_from(start, out, None)

    def read_labelled(self, start: int, out: Array, labels: Array) -> None:
        """Fill `out` and `labels`."""
        if self._columns is None:
            read_into(self._source, self._first + start, out, labels)
        else:
            self._take_from(start, out, labels)

    def gather(self, rows: Array, out: Array, labels: Array | None = None) -> None:
        """Fill `out`, and `labels` if there are any, with rows in any order."""
        rows = rows + self._first
        if self._columns is None:
            gather_into(self._source, rows, out, labels)
        else:
            self._take(lambda first, stop, *into: gather_into(self._source, rows[first:stop], *into), out, labels)

    def check_unchanged(self) -> None:
        """Raise InputError when the source changed."""
        self._source.check_unchanged()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _take_from(self, start: int, out: Array, labels: Array | None) -> None:
        """Take columns of consecutive rows."""
        start += self._first
        self._take(lambda first, _, *into: read_into(self._source, start + first, *into), out, labels)

    def _take(self, read: Callable[..., None], out: Array, labels: Array | None) -> None:
        """Take columns of whole rows, a few at a time.

        `read` is called with the first of them, the one after the last, and the arrays to fill.
        """
        spec = self._source.spec
        count = max(1, SCRATCH_BYTES // max(1, spec.row_bytes))
        whole = np.empty((min(count, len(out)), *spec.row_shape), spec.dtype.newbyteorder("="))
        for first in range(0, len(out), count):
            stop = min(len(out), first + count)
            rows, part = whole[: stop - first], None if labels is None else labels[first:stop]
            read(first, stop, rows, part if self._label is None else None)
            self._split(rows, out[first:stop], part)

    def _split(self, rows: Array, out: Array, labels: Array | None) -> None:
        """Take columns of rows in memory."""
        with np.errstate(over="ignore", invalid="ignore"):
            if len(self._runs) * RUN <= out.shape[1] or len(self._runs) == 1:
                for place, run in self._runs:
                    np.copyto(out[:, place], rows[:, run], casting="unsafe")
            elif self._columns is not None:
                np.copyto(out, np.take(rows, self._columns, axis=1, mode="clip"), casting="unsafe")
            if labels is not None and self._label is not None:
                np.copyto(labels, rows[:, self._label], casting="unsafe")
