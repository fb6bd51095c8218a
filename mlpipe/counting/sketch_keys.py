"""Values as sketches take them: 64-bit keys, or strings in which a character is a byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from mlpipe.counting.columns import Column, Text
from mlpipe.errors import UsageError
from mlpipe.link import Array

CHUNK = 1 << 16
"""Values that are handed to a sketch at once."""

NAN = np.array([np.nan], np.float64).view(np.uint64)
"""The key of all NaN."""


def numbers_only(values: Column) -> Array:
    """The values, if they are not text; raise UsageError if they are."""
    if isinstance(values, Text):
        raise UsageError("a sketch of numbers does not take text")
    return values


def keys_of(values: Array) -> Iterator[Array]:
    """Chunks of 64-bit keys, equal for equal values: all NaN one, and zeros without a sign."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK]
        if part.dtype.kind == "f":
            numbers = part.astype(np.float64) + 0.0
            keys = numbers.view(np.uint64)
            keys[np.isnan(numbers)] = NAN[0]
            yield keys
        elif part.dtype.kind == "u":
            yield part.astype(np.uint64)
        else:
            yield part.astype(np.int64).view(np.uint64)


def values_of(keys: Array, dtype: np.dtype[Any]) -> Array:
    """What keys stand for."""
    if dtype.kind == "f":
        return keys.view(np.float64).astype(dtype)
    return keys.astype(dtype) if dtype.kind == "u" else keys.view(np.int64).astype(dtype)


def strings_of(values: Column) -> Iterator[list[str]]:
    """Chunks of Python strings, equal for equal values; each byte of bytes is a character."""
    rows = len(values)
    if not isinstance(values, Text):
        values = values.reshape(-1)
        rows = values.size
    for start in range(0, rows, CHUNK):
        stop = min(start + CHUNK, rows)
        if isinstance(values, Text):
            offsets = values.offsets[start : stop + 1].tolist()
            content = values.content[offsets[0] : offsets[-1]].tobytes().decode("latin-1")
            yield [content[a - offsets[0] : b - offsets[0]] for a, b in itertools.pairwise(offsets)]
        elif values.dtype.kind == "S":
            yield [string.decode("latin-1") for string in values[start:stop].tolist()]
        else:
            yield [_encoded(string) for string in values[start:stop].tolist()]


def _encoded(string: str) -> str:
    """Its bytes as characters: what is half a character only is kept, too, and the order is that of characters."""
    return string.encode("utf-8", "surrogatepass").decode("latin-1")


def decoded(text: bytes) -> str:
    """The string that was encoded."""
    return text.decode("utf-8", "surrogatepass")
