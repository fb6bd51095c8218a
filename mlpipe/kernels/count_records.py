"""Fields of records as words that compare as the values do, and back.

The first value of a field lies in the uppermost bits of its first word, so that comparing words compares values one
after the other. All NaN are one, greater than all others; -0 is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.intrinsics import Arguments

WHOLE, SIGNED, REAL, TRUTH = 0, 1, 2, 3
"""Kinds of values: compared by their bits as they are, signed integers, floats, booleans."""

_U1, _U7, _U8, _U15, _U16, _U31, _U32, _U48, _U63 = (np.uint64(n) for n in (1, 7, 8, 15, 16, 31, 32, 48, 63))
_EVEN8, _EVEN16 = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_LOW16, _LOW32 = np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
_SEVEN, _TOPS = np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x8080808080808080)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@intrinsic
def word_at(_context, array, index):
    """Eight bytes of an array from an index on, wherever it lies."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        at = Arguments(("array", "index"), context, builder, signature, values).at("array", values[1])
        return builder.load(builder.bitcast(at, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(array, types.intp), emit


@kernel
def _swapped(word, size):
    """The values of a word, of `size` bytes each, in the opposite order."""
    if size < 8:
        word = (word << _U32) | (word >> _U32)
    if size < 4:
        word = ((word & _EVEN16) << _U16) | ((word >> _U16) & _EVEN16)
    if size < 2:
        word = ((word & _EVEN8) << _U8) | ((word >> _U8) & _EVEN8)
    return word


@kernel
def _ordered(bits, sign, infinity):
    """The bits of a float as a number that compares as it does."""
    top = np.uint64(1) << sign
    magnitude = bits & (top - _U1)
    turned = (~bits & (top | (top - _U1))) if bits & top else bits | top
    turned = top if magnitude == 0 else turned
    return (top | (top - _U1)) if magnitude > infinity else turned


@kernel
def _restored(bits, sign, nan):
    """What `_ordered` was made of; `nan` for NaN."""
    top = np.uint64(1) << sign
    whole = top | (top - _U1)
    turned = bits ^ top if bits & top else ~bits & whole
    return nan if bits == whole else turned


_INF64, _INF32, _INF16 = np.uint64(0x7FF << 52), np.uint64(0xFF << 23), np.uint64(0x1F << 10)
_NAN64, _NAN32, _NAN16 = np.uint64(0xFFF << 51), np.uint64(0x1FF << 22), np.uint64(0x3F << 9)


@kernel
def _signs(size):
    """The sign bits of the values in a word."""
    if size == 8:
        return np.uint64(0x8000000000000000)
    if size == 4:
        return np.uint64(0x8000000080000000)
    return np.uint64(0x8000800080008000) if size == 2 else _TOPS


@kernel
def encode(source, kind, size, out):
    """Turn words as they lie in memory into words that compare as their values do.

    Parameters
    ----------
    source : ndarray of uint64, shape (count, words)
        Little-endian.
    kind, size : int
        Of the values; `size` in bytes.
    out : ndarray of uint64, shape (count, words)
        May be `source`.
    """
    count, width = source.shape
    if kind == REAL:
        for i in range(count):
            for k in range(width):
                word = source[i, k]
                if size == 8:
                    out[i, k] = _ordered(word, _U63, _INF64)
                elif size == 4:
                    upper, lower = _ordered(word & _LOW32, _U31, _INF32), _ordered(word >> _U32, _U31, _INF32)
                    out[i, k] = (upper << _U32) | lower
                else:
                    turned = np.uint64(0)
                    for _ in range(4):
                        turned = (turned << _U16) | _ordered(word & _LOW16, _U15, _INF16)
                        word >>= _U16
                    out[i, k] = turned
        return
    mask = _signs(size) if kind == SIGNED else np.uint64(0)
    for i in range(count):
        for k in range(width):
            word = source[i, k]
            if kind == TRUTH:
                word = ((((word & _SEVEN) + _SEVEN) | word) & _TOPS) >> _U7
            out[i, k] = _swapped(word, size) ^ mask


@kernel
def decode(words, kind, size):
    """Undo `encode`, in place; `words` of shape (count, words)."""
    count, width = words.shape
    for i in range(count):
        for k in range(width):
            word = words[i, k]
            if kind != REAL:
                words[i, k] = _swapped(word ^ (_signs(size) if kind == SIGNED else np.uint64(0)), size)
            elif size == 8:
                words[i, k] = _restored(word, _U63, _NAN64)
            elif size == 4:
                lower, upper = _restored(word >> _U32, _U31, _NAN32), _restored(word & _LOW32, _U31, _NAN32)
                words[i, k] = (upper << _U32) | lower
            else:
                turned = np.uint64(0)
                for _ in range(4):
                    turned = (turned << _U16) | _restored(word & _LOW16, _U15, _NAN16)
                    word >>= _U16
                words[i, k] = turned


@kernel
def load_field(rows, first, nbytes, out):
    """Copy bytes of rows into words, the last one filled up with zeros.

    Parameters
    ----------
    rows : ndarray of uint8, shape (count, bytes)
        C-contiguous.
    first, nbytes : int
        Which bytes.
    out : ndarray of uint64, shape (count, words)
        Filled, little-endian.
    """
    count, stride = rows.shape
    flat = rows.reshape(rows.size)
    whole, rest = nbytes >> 3, nbytes & 7
    for i in range(count):
        at = i * stride + first
        for k in range(whole):
            out[i, k] = word_at(flat, at + 8 * k)
        if rest:
            at += 8 * whole
            if at + 8 <= flat.shape[0]:
                last = word_at(flat, at) & ((_U1 << np.uint64(8 * rest)) - _U1)
            else:
                last = np.uint64(0)
                for k in range(rest):
                    last |= np.uint64(flat[at + k]) << np.uint64(8 * k)
            out[i, whole] = last


@kernel
def mark_missing(words, first, count, size, out):
    """Set those records in `out`, of bool, that hold a NaN in a field of floats.

    Parameters
    ----------
    words : ndarray of uint64, shape (records, words)
        Of `encode`.
    first, count : int
        Which words are the field's.
    size : int
        Bytes of a float.
    out : ndarray of bool, shape (records,)
        Set where there is one, else left as it is.
    """
    for i in range(words.shape[0]):
        for k in range(first, first + count):
            word = words[i, k]
            if size == 8:
                out[i] |= word == _ALL
            elif size == 4:
                out[i] |= (word >> _U32 == _LOW32) | (word & _LOW32 == _LOW32)
            else:
                for _ in range(4):
                    out[i] |= word & _LOW16 == _LOW16
                    word >>= _U16
