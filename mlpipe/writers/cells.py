"""Columns as text, many rows at once: what CSV and JSON files are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from mlpipe.link import Array
from mlpipe.writers.rows import Strings, Values

FEW = 512
"""Rows that Python makes text of: loading kernels takes longer, and the text is the same."""

_FLOAT_BITS = {2: (10, 5), 4: (23, 8), 8: (52, 11)}
"""Bits of the fraction and of the exponent, by bytes."""

_QUOTED = b',"\r\n'
"""What has to be quoted in CSV."""

_SPECIAL = np.isin(np.arange(256), list(_QUOTED))

Cells: TypeAlias = Callable[[Values], Values]
"""Makes of a column one of integers, which are written in decimal, or of text, which is written as it is."""


def lines(columns: Sequence[Values], before: Sequence[bytes], cells: Cells) -> Array:
    """Rows as text, one after the other.

    Parameters
    ----------
    columns : sequence of ndarray or Strings
        At least one.
    before : sequence of bytes
        What to write before each column: what separates rows, and what separates columns.
    cells : callable
        `csv_cells` or `json_cells`.

    Returns
    -------
    ndarray of uint8

    Examples
    --------
    >>> lines([np.array([3, 10]), np.array([0.5, np.nan])], [b";", b":"], csv_cells).tobytes()
    b';3:0.5;10:nan'
    """
    ready = [cells(column) for column in columns]
    if _length(ready[0]) <= FEW:
        parts = [_bytes(column) for column in ready]
        rows = (part for row in zip(*parts, strict=True) for pair in zip(before, row, strict=True) for part in pair)
        return np.frombuffer(b"".join(rows), np.uint8)
    from mlpipe.kernels.tables import integer_widths, put_integers, put_text

    widths: Any = sum(len(text) for text in before)
    for column in ready:
        if isinstance(column, Strings):
            widths = widths + np.diff(column.offsets)
        else:
            widths = widths + np.zeros(len(column), np.int64)
            integer_widths(column, widths)
    places = np.cumsum(widths)
    out = np.empty(int(places[-1]) if len(places) else 0, np.uint8)
    places -= widths
    for text, column in zip(before, ready, strict=True):
        mark = np.frombuffer(text, np.uint8)
        if isinstance(column, Strings):
            put_text(column.content, column.offsets, mark, places, out)
        else:
            put_integers(column, mark, places, out)
    return out


def _length(column: Values) -> int:
    return len(column.offsets) - 1 if isinstance(column, Strings) else len(column)


def _bytes(column: Values) -> list[bytes]:
    return column.tolist() if isinstance(column, Strings) else [b"%d" % value for value in column.tolist()]


def csv_cells(column: Values) -> Values:
    """As CSV has it: floats in the fewest digits that read back to them, text quoted where it has to be."""
    if isinstance(column, Strings):
        return _quoted(column)
    if column.dtype.kind in "SU":
        return _quoted(_strings(column))
    if column.dtype.kind == "f":
        return float_strings(column)
    return _chosen(column, (b"False", b"True")) if column.dtype.kind == "b" else _integers(column)


def json_cells(column: Values) -> Values:
    """As JSON has it: NaN and infinities, which it does not know, are null, bytes that are not UTF-8 escaped."""
    if isinstance(column, Strings):
        return _json_strings(column)
    if column.dtype.kind in "SU":
        return _json_strings(_strings(column))
    if column.dtype.kind == "f":
        return _with_nulls(float_strings(column), np.isfinite(column))
    return _chosen(column, (b"false", b"true")) if column.dtype.kind == "b" else _integers(column)


def json_string(value: bytes) -> str:
    r"""Text as JSON has it, bytes that are not UTF-8 as backslash escapes.

    Examples
    --------
    >>> print(json_string(b'say "\xff"'))
    "say \"\\xff\""
    """
    return json.dumps(value.decode("utf-8", "backslashreplace"), ensure_ascii=False)


def float_strings(column: Array) -> Strings:
    """Floats as Python writes them: the fewest digits that read back to the same value of the same dtype.

    Examples
    --------
    >>> float_strings(np.array([0.1, 1e16, -0.0, np.inf], "f4")).tolist()
    [b'0.1', b'1e+16', b'-0.0', b'inf']
    """
    size = column.dtype.itemsize
    if size == 8 and len(column) <= FEW:
        return _of([repr(value).encode() for value in column.tolist()])
    from mlpipe.kernels.shortest import powers
    from mlpipe.kernels.tables import FLOAT_BYTES, put_floats

    bits = np.ascontiguousarray(column).view(f"u{size}").astype(np.uint64, copy=False)
    offsets, content = np.empty(len(bits) + 1, np.int64), np.empty(len(bits) * FLOAT_BYTES, np.uint8)
    put_floats(bits, *_FLOAT_BITS[size], powers(), offsets, content)
    return Strings(content, offsets)


def _integers(column: Array) -> Array:
    return np.ascontiguousarray(column, np.uint64 if column.dtype == np.uint64 else np.int64)


def _chosen(column: Array, words: tuple[bytes, ...]) -> Strings:
    """A word for each value, of as many as there are values."""
    return _taken(_of(words), column.astype(np.int64))


def _of(strings: Sequence[bytes]) -> Strings:
    offsets = np.cumsum([0, *map(len, strings)], dtype=np.int64)
    return Strings(np.frombuffer(b"".join(strings), np.uint8), offsets)


def _taken(strings: Strings, places: Array) -> Strings:
    if len(places) <= FEW:
        known = strings.tolist()
        return _of([known[place] for place in places.tolist()])
    from mlpipe.kernels.tables import gather_text

    offsets = np.zeros(len(places) + 1, np.int64)
    np.cumsum(np.diff(strings.offsets)[places], out=offsets[1:])
    content = np.empty(int(offsets[-1]), np.uint8)
    gather_text(strings.content, strings.offsets, places, offsets, content)
    return Strings(content, offsets)


def _with_nulls(strings: Strings, known: Array) -> Strings:
    """The strings of what is known, ``null`` for the rest."""
    if known.all():
        return strings
    end = strings.offsets[-1]
    content = np.concatenate([strings.content[:end], np.frombuffer(b"null", np.uint8)])
    more = Strings(content, np.append(strings.offsets, end + 4))
    return _taken(more, np.where(known, np.arange(len(known)), len(known)))


def _strings(column: Array) -> Strings:
    """Fixed-width strings without what fills them up, in UTF-8."""
    if column.dtype.kind == "U":
        column = np.char.encode(column, "utf-8", "backslashreplace")
    if len(column) <= FEW:
        return _of(column.tolist())
    from mlpipe.kernels.tables import fixed_text

    width = column.dtype.itemsize
    flat = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), width)
    offsets, content = np.empty(len(column) + 1, np.int64), np.empty(flat.size, np.uint8)
    fixed_text(flat, offsets, content)
    return Strings(content, offsets)


def _quoted(strings: Strings) -> Strings:
    if len(strings.offsets) - 1 <= FEW:
        return _of([_quoted_one(value) for value in strings.tolist()])
    from mlpipe.kernels.tables import quote, quoted_bytes

    size = quoted_bytes(strings.content, strings.offsets, _SPECIAL)
    if size == strings.offsets[-1] - strings.offsets[0]:
        return strings
    offsets, content = np.empty(len(strings.offsets), np.int64), np.empty(size, np.uint8)
    quote(strings.content, strings.offsets, _SPECIAL, offsets, content)
    return Strings(content, offsets)


def _quoted_one(value: bytes) -> bytes:
    if not any(byte in value for byte in _QUOTED):
        return value
    return b'"' + value.replace(b'"', b'""') + b'"'


def _json_strings(strings: Strings) -> Strings:
    return _of([json_string(value).encode() for value in strings.tolist()])
