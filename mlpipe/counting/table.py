"""What is shown and written of counts: named columns, in the order asked for, cut to what was asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mlpipe.counting.columns import Column, Text, column_bytes
from mlpipe.counting.counted import Counted
from mlpipe.counting.gathering import Columns, part
from mlpipe.counting.order import ByCount, Most, in_arrival_order
from mlpipe.link import Array

Sort = Literal["count", "value", "none"]

_MOST_SHARE = 6
"""`Most` holds twice what is asked for, and copies it to cut it."""


@dataclass(frozen=True)
class Table:
    """Named columns, which come in pieces, once.

    Parameters
    ----------
    names : tuple of str
        Of the columns, which are 1-D.
    dtypes : tuple of (numpy.dtype or None)
        Of the columns; None for text.
    rows : int or None
        How many there are; None when that is not known ahead.
    pieces : iterator of tuple of Column
        Bounded pieces, none of them larger than one that was counted; their memory may be used again.

    Examples
    --------
    >>> table = table_of({"value": np.array([3, 5]), "count": np.array([2, 1])})
    >>> table.names, table.rows, [[column.tolist() for column in piece] for piece in table.pieces]
    (('value', 'count'), 2, [[[3, 5], [2, 1]]])
    """

    names: tuple[str, ...]
    dtypes: tuple[np.dtype[Any] | None, ...]
    rows: int | None
    pieces: Iterator[Columns]

    def close(self) -> None:
        """Give back memory and temporary files; harmless when repeated, or after the last piece."""
        close = getattr(self.pieces, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True)
class Arrangement:
    """Which rows of a table of counts are wanted, in which order, and what is said of them.

    Parameters
    ----------
    sort : {"count", "value", "none"}
        Descending by count, ties ascending by value; ascending by value; or in whatever order is at hand, which
        happens to be by value too.
    top : int, optional
        Only so many rows: those that occur most often, of ties the first ones by value.
    min_count : int or float, optional
        Only rows that occur at least so often.
    normalize : bool
        Add a column ``share``: the part of all that was counted, whatever was cut.
    cumulative : bool
        Add a column ``cumulative``: the sum of the counts, or with `normalize` of the shares, down to each row.
    """

    sort: Sort = "count"
    top: int | None = None
    min_count: int | float | None = None
    normalize: bool = False
    cumulative: bool = False

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the columns that follow the counts."""
        return ("share",) * self.normalize + ("cumulative",) * self.cumulative


def arranged(counted: Counted, arrangement: Arrangement, names: Sequence[str], *, room: int, directory: str) -> Table:
    """Arrange what was counted.

    Where rows are ordered by count, or the most frequent ones are wanted, all are looked at before this returns.

    Parameters
    ----------
    counted : Counted
        A finished table; its `by_value` is used up. It must stay open until the last piece.
    arrangement : Arrangement
        What is wanted.
    names : sequence of str
        Of the key columns; 2-D ones, of whole rows, have a name for each of their columns.
    room : int
        Bytes that may be held besides what `counted` holds.
    directory : str
        For temporary files of what does not fit.

    Returns
    -------
    Table
        Key columns, ``count``, and those of `Arrangement.extra`. Where nothing was counted, its keys are int64.
    """
    pieces: Iterator[Columns] = ((*entries.keys, entries.counts) for entries in counted.by_value())
    pieces = (piece for piece in pieces if len(piece[0]))
    rows: int | None = counted.distinct
    if arrangement.min_count is not None:
        pieces, rows = _frequent(pieces, arrangement.min_count), None
    first, pieces = _peeked(pieces)
    if arrangement.top is not None or arrangement.sort == "count":
        rows, pieces = _chosen(pieces, first, counted.distinct, arrangement, room, directory)
    pieces = (tuple(_flat(piece)) for piece in pieces)
    if arrangement.extra:
        pieces = _extended(pieces, counted.total, arrangement)
    keys: list[np.dtype[Any] | None] = [np.dtype(np.int64)] * len(names)
    counts: np.dtype[Any] | None = np.dtype(np.float64 if isinstance(counted.total, float) else np.int64)
    if first is not None:
        *keys, counts = (None if isinstance(column, Text) else column.dtype for column in _flat(first))
    extra = [np.dtype(np.float64) if arrangement.normalize else counts] * len(arrangement.extra)
    if len(keys) != len(names):
        raise ValueError(f"{len(names)} names for {len(keys)} key columns")
    return Table((*names, "count", *arrangement.extra), (*keys, counts, *extra), rows, pieces)


def arranged_each(
    counted: Sequence[tuple[int, Counted]],
    arrangement: Arrangement,
    names: Sequence[str],
    *,
    room: int,
    directory: str,
) -> Table:
    """Arrange what was counted of each of several columns, one table below the other.

    They are arranged one at a time, so that `room` is for one.

    Parameters
    ----------
    counted : sequence of tuple of int and Counted
        Numbers of columns, and what was counted of each; at least one. Each is closed after its last row.
    arrangement, names, room, directory
        As for `arranged`.

    Returns
    -------
    Table
        A first column ``column`` says which it is.
    """

    def one(item: tuple[int, Counted]) -> Table:
        return arranged(item[1], arrangement, names, room=room, directory=directory)

    def pieces(first: Table) -> Iterator[Columns]:
        table: Table | None = first
        for item in counted:
            table = table or one(item)
            for piece in table.pieces:
                yield np.full(len(piece[0]), item[0], np.int64), *piece
            item[1].close()
            table = None

    first, rows = one(counted[0]), None
    if arrangement.min_count is None:
        most = [one.distinct for _, one in counted]
        rows = sum(most if arrangement.top is None else (min(one, arrangement.top) for one in most))
    return Table(("column", *first.names), (np.dtype(np.int64), *first.dtypes), rows, pieces(first))


def table_of(columns: dict[str, Column]) -> Table:
    """A table that is in memory."""
    whole = tuple(columns.values())
    dtypes = tuple(None if isinstance(column, Text) else column.dtype for column in whole)
    return Table(tuple(columns), dtypes, len(whole[0]), iter([whole]))


def _peeked(pieces: Iterator[Columns]) -> tuple[Columns | None, Iterator[Columns]]:
    """The first piece, or None, and all of them."""
    first = next(pieces, None)
    return first, iter(()) if first is None else itertools.chain([first], pieces)


def _flat(piece: Columns) -> Iterator[Column]:
    """Columns of which none is 2-D."""
    for column in piece:
        if isinstance(column, Text) or column.ndim == 1:
            yield column
        else:
            yield from column.T


def _frequent(pieces: Iterator[Columns], least: int | float) -> Iterator[Columns]:
    """Rows that occur at least so often."""
    for piece in pieces:
        keep = _array(piece[-1]) >= least
        if keep.all():
            yield piece
        elif keep.any():
            yield part(piece, keep)


def _chosen(
    pieces: Iterator[Columns], first: Columns | None, distinct: int, wanted: Arrangement, room: int, directory: str
) -> tuple[int | None, Iterator[Columns]]:
    """Rows in the order and number wanted, and how many they are, if known."""
    top = wanted.top
    if top is not None and top >= distinct:
        top = None
    if first is None or (top is None and wanted.sort != "count"):
        return (0 if first is None else None if wanted.min_count is not None else distinct), pieces
    row_bytes = max(1, sum(map(column_bytes, first)) // len(first[0]))
    if top is not None and top * row_bytes * _MOST_SHARE <= room:
        most = Most(top)
        for piece in pieces:
            most.add(piece)
        found = most.rows()
        pieces = iter(() if found is None else (found,))
        if wanted.sort != "count":
            return (0 if found is None else len(found[0])), pieces
        top = None
    elif wanted.sort != "count" and top is not None:
        known = top if wanted.min_count is None else None
        return known, (piece for piece in in_arrival_order(pieces, top, room, directory) if len(piece[0]))
    return _by_count(pieces, top, distinct, room, directory)


def _by_count(
    pieces: Iterator[Columns], top: int | None, most: int, room: int, directory: str
) -> tuple[int, Iterator[Columns]]:
    """The first rows by descending count, of so many at most."""
    sorting = ByCount(room, directory, most)
    try:
        for piece in pieces:
            sorting.add(piece)
    except BaseException:
        sorting.close()
        raise
    rows = sorting.rows if top is None else min(top, sorting.rows)

    def ordered() -> Iterator[Columns]:
        left = rows
        with sorting:
            for piece in sorting.pieces():
                yield part(piece, slice(0, left))
                left -= len(piece[0])
                if left <= 0:
                    return

    return rows, ordered()


def _extended(pieces: Iterator[Columns], total: int | float, wanted: Arrangement) -> Iterator[Columns]:
    """Columns that say how large each part is, and what they come to."""
    carry: Any = 0

    def share(counts: Array) -> Array:
        with np.errstate(all="ignore"):  # of nothing but weights of 0, each is no share
            shares: Array = counts / total
        return shares

    for piece in pieces:
        counts = _array(piece[-1])
        extra: list[Column] = [share(counts)] if wanted.normalize else []
        if wanted.cumulative:
            # One number after the other, so that it does not matter where pieces end; and shares of sums, not sums of
            # shares, so that whole numbers stay exact and the last one is 1.
            sums = np.cumsum(np.concatenate([np.array([carry], counts.dtype), counts]))
            carry = sums[-1]
            extra.append(share(sums[1:]) if wanted.normalize else sums[1:])
        yield (*piece, *extra)


def _array(column: Column) -> Array:
    if not isinstance(column, np.ndarray):
        raise TypeError("counts are numbers")
    return column
