"""Values as 64-bit keys in the same order, and back; which dtypes can be counted so."""

from __future__ import annotations

import numpy as np

from mlpipe.errors import UsageError
from mlpipe.kernels import count_keys
from mlpipe.link import Array

NARROW_BYTES = 2
"""Values of so many bytes at most are counted by their bits."""


def check_dtype(dtype: np.dtype) -> np.dtype:
    """Return a dtype in the machine's byte order, or raise UsageError if its values have no keys.

    Examples
    --------
    >>> check_dtype(np.dtype(">i4")) == np.dtype(np.int32)
    True
    """
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise UsageError(f"values of dtype {dtype} cannot be counted here; give bool, integers or floats of 64 bits")
    return dtype.newbyteorder("=")


def is_narrow(dtype: np.dtype) -> bool:
    """Whether there are so few values that each may have a counter."""
    return dtype.itemsize <= NARROW_BYTES


def wide_of(dtype: np.dtype) -> np.dtype:
    """The smallest dtype with keys that holds all values of a dtype.

    Examples
    --------
    >>> wide_of(np.dtype(np.float16)), wide_of(np.dtype(bool)), wide_of(np.dtype(np.int64))
    (dtype('float32'), dtype('uint32'), dtype('int64'))
    """
    if not is_narrow(dtype):
        return dtype
    return np.dtype({"b": np.uint32, "u": np.uint32, "i": np.int32, "f": np.float32}[dtype.kind])


def bits_of(values: Array) -> Array:
    """Narrow values as unsigned integers of the same size; bool, whatever byte it holds, as 0 or 1."""
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    return values.view(np.uint8 if values.dtype.itemsize == 1 else np.uint16)


def values_of_bits(counters: Array, dtype: np.dtype) -> tuple[Array, Array]:
    """Distinct narrow values, ascending, and their counts, of a counter for each pattern of bits.

    Examples
    --------
    >>> counters = np.zeros(256, np.int64)
    >>> counters[[1, 255]] = 5, 6
    >>> values_of_bits(counters, np.dtype(np.int8))
    (array([-1,  1], dtype=int8), array([6, 5]))
    """
    if dtype.kind == "b":
        counters = np.array([counters[0], counters[1:].sum()])
    found = np.flatnonzero(counters)
    values = found.astype(np.uint8 if dtype.itemsize == 1 else np.uint16).view(dtype)
    keys = to_keys(values.astype(wide_of(dtype)))
    order = np.argsort(keys, kind="stable")
    firsts = np.flatnonzero(np.diff(keys[order], prepend=keys[order][:1] ^ np.uint64(1)))
    if not len(firsts):
        return values, counters[found]
    return from_keys(keys[order][firsts], dtype), np.add.reduceat(counters[found][order], firsts)


def to_keys(values: Array) -> Array:
    """Keys of values of 32 or 64 bits.

    Examples
    --------
    >>> keys = to_keys(np.array([np.nan, 1.0, -0.0, 0.0, -np.inf]))
    >>> keys.argsort(kind="stable").tolist(), bool(keys[2] == keys[3])
    ([4, 2, 3, 1, 0], True)
    """
    out = np.empty(len(values), np.uint64)
    count_keys.to_keys(values, out)
    return out


def from_keys(keys: Array, dtype: np.dtype) -> Array:
    """Values of keys, in a dtype which may be narrow.

    Examples
    --------
    >>> from_keys(to_keys(np.array([-7, 3])), np.dtype(np.int8))
    array([-7,  3], dtype=int8)
    """
    out = np.empty(len(keys), wide_of(dtype))
    if len(keys):
        count_keys.from_keys(keys, out)
    return out.astype(dtype, copy=False)


def nan_key(dtype: np.dtype) -> int | None:
    """The key of NaN; None where there is none."""
    if dtype.kind != "f":
        return None
    return count_keys.NAN if dtype.itemsize == 8 else (1 << 32) - 1
