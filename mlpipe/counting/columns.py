"""Columns of a table of counts: arrays, or text of any length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mlpipe.link import Array

_WORD = 8
"""Bytes of text that are compared at once."""

_FEW = 256
"""Texts that are better sorted one by one than word by word."""


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """Byte strings of any length, one after the other in one array.

    Parameters
    ----------
    content : ndarray of uint8, 1-D
        Their bytes; there may be more before the first and after the last.
    offsets : ndarray of int64, shape (rows + 1,)
        Where each begins in `content`, and where the last one ends.

    Examples
    --------
    >>> Text.of([b"to", b"", b"be"]).offsets.tolist()
    [0, 2, 2, 4]
    """

    content: Array
    offsets: Array

    @classmethod
    def of(cls, strings: Iterable[bytes]) -> Text:
        """The column that holds these."""
        strings = list(strings)
        offsets = np.zeros(len(strings) + 1, np.int64)
        np.cumsum([len(string) for string in strings], out=offsets[1:])
        return cls(np.frombuffer(b"".join(strings), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all of them, and of the offsets."""
        return int(self.offsets[-1] - self.offsets[0]) + self.offsets.nbytes

    @property
    def lengths(self) -> Array:
        """Bytes of each."""
        return np.diff(self.offsets)

    def copy(self) -> Text:
        """The same in memory of its own, without what is before the first and after the last."""
        first = self.offsets[0]
        return Text(self.content[first : self.offsets[-1]].copy(), self.offsets - first)

    def tolist(self) -> list[bytes]:
        """Them as Python has them."""
        ends = self.offsets.tolist()
        first = ends[0]
        whole = self.content[first : ends[-1]].tobytes()
        return [whole[start - first : stop - first] for start, stop in itertools.pairwise(ends)]


Column: TypeAlias = "Array | Text"
"""An array, whose first axis is the row of the table (2-D where whole rows are counted), or text."""


def length(column: Column) -> int:
    """Rows of a column."""
    return len(column)


def column_bytes(column: Column) -> int:
    """Bytes of what a column says; an array that it is a view of may be larger.

    Examples
    --------
    >>> column_bytes(np.zeros((3, 2), "f4")), column_bytes(Text.of([b"to", b"be"]))
    (24, 28)
    """
    return column.nbytes


def take(column: Column, places: Array | slice) -> Column:
    """Some rows of a column, in the order given.

    Parameters
    ----------
    column : Column
        Of any kind.
    places : ndarray of integers or bool, or slice
        Which; a slice of consecutive rows gives a view.

    Examples
    --------
    >>> take(Text.of([b"to", b"be", b"or"]), np.array([2, 0])).tolist()
    [b'or', b'to']
    >>> take(np.array([1, 2, 3]), slice(1, None)).tolist()
    [2, 3]
    """
    if not isinstance(column, Text):
        return column[places]
    if isinstance(places, slice):
        start, stop, step = places.indices(len(column))
        if step == 1:
            return Text(column.content, column.offsets[start : max(start, stop) + 1])
        places = np.arange(start, stop, step)
    if places.dtype == np.bool_:
        places = np.flatnonzero(places)
    lengths = column.lengths[places]
    offsets = np.zeros(len(places) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    from mlpipe.kernels.tables import gather_text  # late, for arrays need no Numba

    content = np.empty(int(offsets[-1]), np.uint8)
    gather_text(column.content, column.offsets, places.astype(np.int64, copy=False), offsets, content)
    return Text(content, offsets)


def concatenate(columns: Sequence[Column]) -> Column:
    """Columns of one kind, at least one, as one; a single one is handed on as it is.

    Examples
    --------
    >>> concatenate([Text.of([b"to"]), Text.of([b"be", b"or"])]).tolist()
    [b'to', b'be', b'or']
    """
    if len(columns) == 1:
        return columns[0]
    texts = [column for column in columns if isinstance(column, Text)]
    if not texts:
        return np.concatenate([column for column in columns if not isinstance(column, Text)])
    if len(texts) < len(columns):
        raise TypeError("text and arrays make no column together")
    content = np.concatenate([text.content[text.offsets[0] : text.offsets[-1]] for text in texts])
    offsets = np.zeros(sum(map(len, texts)) + 1, np.int64)
    np.cumsum(np.concatenate([text.lengths for text in texts]), out=offsets[1:])
    return Text(content, offsets)


def order_of(keys: Sequence[Column]) -> Array:
    """The rows of a table in ascending order of its key columns: the first one decides, then the second and so on.

    Numbers go by value, all NaN are equal and last, and −0.0 equals 0.0; text goes by bytes. Rows of a 2-D column are
    compared from left to right. Rows whose keys are all equal keep their order.

    Parameters
    ----------
    keys : sequence of Column
        At least one, all of the same length.

    Returns
    -------
    ndarray of int64, shape (rows,)
        Places, as `take` wants them.

    Examples
    --------
    >>> order_of([np.array([2.0, np.nan, 1.0, 2.0]), Text.of([b"b", b"a", b"c", b"a"])]).tolist()
    [2, 3, 0, 1]
    """
    columns = [_sortable(key) for key in keys]
    if len(columns) == 1:
        return np.argsort(columns[0], kind="stable")
    return np.lexsort(columns[::-1])


def begins(keys: Sequence[Column]) -> Array:
    """Which rows of a table differ from the row before them; the first one does.

    Values are equal as `order_of` has them equal.

    Returns
    -------
    ndarray of bool, shape (rows,)

    Examples
    --------
    >>> begins([np.array([1.0, np.nan, np.nan, 0.0, -0.0])]).tolist()
    [True, True, False, True, False]
    """
    new = np.zeros(len(keys[0]), bool)
    new[:1] = True
    for key in keys:
        new[1:] |= _differ(key)
    return new


def _differ(column: Column) -> Array:
    """Which rows, from the second on, differ from the one before."""
    if isinstance(column, Text):
        ranks = _ranks(column)
        differ: Array = np.diff(ranks) != 0
        return differ
    after, before = column[1:], column[:-1]
    differ = after != before
    if column.dtype.kind == "f":
        differ &= (after == after) | (before == before)
    return np.any(differ, axis=1) if differ.ndim > 1 else differ


def _sortable(column: Column) -> Array:
    """An array that NumPy sorts as the column has to be."""
    if isinstance(column, Text):
        return _ranks(column)
    if column.ndim == 1:
        return column
    if column.dtype.kind in "SU":
        return _dense(np.lexsort(column.T[::-1]), column)
    return _as_bytes(column)


def _dense(order: Array, column: Array) -> Array:
    """The rank of each row, equal rows having the same, of their order."""
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.cumsum(begins([column[order]]))
    return ranks


def _as_bytes(rows: Array) -> Array:
    """A byte string for each row of numbers, in the same order as the rows.

    The strings are of one width, so that it does not matter that NumPy pads them with zeros to compare them.
    """
    size, kind = rows.dtype.itemsize, rows.dtype.kind
    unsigned: Any = np.dtype(f"u{size}")
    top = unsigned.type(1 << (8 * size - 1))
    if kind == "f":
        bits = np.where(rows != rows, np.nan, rows + rows.dtype.type(0)).astype(rows.dtype, copy=False).view(unsigned)
        bits = np.where(bits & top, ~bits, bits | top)
        bits[rows != rows] = np.iinfo(unsigned).max
    else:
        bits = np.ascontiguousarray(rows).view(unsigned)
        bits = bits ^ top if kind == "i" else bits
    swapped = np.ascontiguousarray(bits, unsigned.newbyteorder(">"))
    return swapped.view(f"S{max(1, size * rows.shape[1])}").reshape(-1) if rows.shape[1] else np.zeros(len(rows), "i1")


def _ranks(text: Text) -> Array:
    """The rank of each string among all by their bytes; equal ones have the same."""
    ranks = np.zeros(len(text), np.int64)
    undecided, depth = np.arange(len(text)), 0
    while len(undecided) > _FEW:
        words, used = _words(text, undecided, depth)
        group = ranks[undecided]
        order = np.lexsort((used, words, group))
        group, words, used = group[order], words[order], used[order]
        new, other = np.zeros((2, len(order)), bool)
        new[:1] = other[:1] = True
        other[1:] = group[1:] != group[:-1]
        new[1:] = other[1:] | (words[1:] != words[:-1]) | (used[1:] != used[:-1])
        # The ranks of a group are as many as it has strings, so that ranks within it stay clear of the next group's.
        places = np.arange(len(order))
        within = _latest(places, new) - _latest(places, other)
        ranks[undecided[order]] = group + within
        alone = new & np.append(new[1:], True)
        undecided = undecided[order][~alone & (used == _WORD)]
        depth += _WORD
    return _rank_few(text, undecided, ranks)


def _latest(places: Array, marks: Array) -> Array:
    """The last marked place up to each."""
    return np.maximum.accumulate(np.where(marks, places, 0))


def _words(text: Text, places: Array, depth: int) -> tuple[Array, Array]:
    """Some bytes of each string from `depth` on, as a number that compares as they do, and how many there were."""
    starts, stops = text.offsets[places] + depth, text.offsets[places + 1]
    used = np.clip(stops - starts, 0, _WORD)
    words = np.zeros(len(places), np.uint64)
    for k in range(_WORD):
        there = used > k
        byte = np.zeros(len(places), np.uint64)
        byte[there] = text.content[starts[there] + k]
        words = (words << np.uint64(8)) | byte
    return words, used


def _rank_few(text: Text, places: Array, ranks: Array) -> Array:
    """Complete the ranks of strings whose ranks so far say their group."""
    strings = [text.content[text.offsets[place] : text.offsets[place + 1]].tobytes() for place in places.tolist()]
    groups = ranks[places].tolist()
    order = sorted(range(len(strings)), key=lambda i: (groups[i], strings[i]))
    within, rank = 0, 0
    for at, i in enumerate(order):
        before = order[at - 1] if at else i
        if at == 0 or groups[i] != groups[before]:
            within = rank = 0
        elif strings[i] != strings[before]:
            rank = within
        ranks[places[i]] = groups[i] + rank
        within += 1
    return ranks
