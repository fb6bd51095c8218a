"""Tables on their way into files: named columns, of numbers or of text, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from mlpipe.link import Array

CHUNK_CELLS = 1 << 15
"""Values that are written at once: as text, about as much as the cache of a core holds."""

CHUNK_BYTES = 1 << 20
"""Bytes of text that are written at once; a longer string has a chunk of its own."""


class TextColumn(Protocol):
    """Byte strings of any length, one after the other in one array."""

    @property
    def content(self) -> Array:
        """Their bytes."""

    @property
    def offsets(self) -> Array:
        """Where each begins in `content`, int64, and where the last one ends."""


class Strings(NamedTuple):
    """A `TextColumn`."""

    content: Array
    offsets: Array

    def tolist(self) -> list[bytes]:
        """Them as Python has them."""
        ends = self.offsets.tolist()
        return [self.content[ends[i] : ends[i + 1]].tobytes() for i in range(len(ends) - 1)]


Values: TypeAlias = "Array | Strings"
"""A column of a chunk."""


class Rows(Protocol):
    """A table: named columns that come in pieces, once."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""

    @property
    def dtypes(self) -> tuple[np.dtype[Any] | None, ...]:
        """Of the columns; None for text."""

    @property
    def rows(self) -> int | None:
        """How many there are; None when that is not known ahead."""

    @property
    def pieces(self) -> Iterator[tuple[Any, ...]]:
        """Columns, 1-D, of some rows after the other; the memory of a piece may be used again for the next."""


def chunks(piece: tuple[Any, ...], cells: int = CHUNK_CELLS, nbytes: int = CHUNK_BYTES) -> Iterator[tuple[Values, ...]]:
    """A piece of a table in parts that are views.

    Parameters
    ----------
    piece : tuple of ndarray or TextColumn
        At least one column.
    cells, nbytes : int
        Most values of a part, and bytes of each column of text in it, unless one row alone has more.
    """
    rows, total, start = max(1, cells // len(piece)), _length(piece[0]), 0
    while start < total:
        stop = _stop(piece, start, min(start + rows, total), nbytes)
        yield tuple(_part(column, start, stop) for column in piece)
        start = stop


def _length(column: Any) -> int:
    return len(column) if isinstance(column, np.ndarray) else len(column.offsets) - 1


def _stop(piece: tuple[Any, ...], start: int, stop: int, nbytes: int) -> int:
    """Where a part from `start` has to end, at `stop` at the latest, for its text to have no more bytes."""
    for column in piece:
        if not isinstance(column, np.ndarray):
            within = int(np.searchsorted(column.offsets, column.offsets[start] + nbytes, "right")) - 1
            stop = min(stop, max(within, start + 1))
    return stop


def _part(column: Any, start: int, stop: int) -> Values:
    if isinstance(column, np.ndarray):
        return column[start:stop]
    return Strings(column.content, column.offsets[start : stop + 1])


def joined(parts: list[tuple[Values, ...]]) -> tuple[Values, ...]:
    """Parts of a table, at least one, as one."""
    if len(parts) == 1:
        return parts[0]
    return tuple(_joined_column(list(column)) for column in zip(*parts, strict=True))


def _joined_column(parts: list[Values]) -> Values:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(cast("list[Array]", parts))
    texts = cast("list[Strings]", parts)
    content = np.concatenate([text.content[text.offsets[0] : text.offsets[-1]] for text in texts])
    lengths = np.concatenate([np.diff(text.offsets) for text in texts])
    return Strings(content, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))


def regrouped(pieces: Iterator[tuple[Any, ...]], rows: int, nbytes: int = CHUNK_BYTES) -> Iterator[tuple[Values, ...]]:
    """The rows of a table in parts of just so many, or as many as have so much text: where pieces end leaves no trace.

    Examples
    --------
    >>> pieces = iter([(np.arange(3),), (np.arange(3, 5),)])
    >>> [part[0].tolist() for part in regrouped(pieces, 2)]
    [[0, 1], [2, 3], [4]]
    """
    held: list[tuple[Values, ...]] = []
    count, used = 0, 0
    for piece in pieces:
        start, total = 0, _length(piece[0])
        while start < total:
            stop = min(total, start + rows - count)
            stop, size = _within(piece, start, stop, nbytes - used)
            if stop == start and held:
                yield joined(held)
                held, count, used = [], 0, 0
                continue
            stop = max(stop, start + 1)
            held.append(tuple(_copied(_part(column, start, stop)) for column in piece))
            count, used, start = count + stop - start, used + size, stop
            if count == rows:
                yield joined(held)
                held, count, used = [], 0, 0
    if held:
        yield joined(held)


def _within(piece: tuple[Any, ...], start: int, stop: int, nbytes: int) -> tuple[int, int]:
    """Where a part has to end, at `start` if need be, for its text to have no more bytes; and how many it has."""
    texts = [column for column in piece if not isinstance(column, np.ndarray)]
    if not texts:
        return stop, 0
    ends = sum(column.offsets[start : stop + 1] - column.offsets[start] for column in texts)
    stop = start + max(0, int(np.searchsorted(ends, nbytes, "right")) - 1)
    return stop, int(ends[max(stop - start, 1)])


def _copied(column: Values) -> Values:
    if isinstance(column, np.ndarray):
        return column.copy()
    start, stop = column.offsets[0], column.offsets[-1]
    return Strings(column.content[start:stop].copy(), column.offsets - start)
