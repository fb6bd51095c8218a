"""Values as 64-bit keys in the same order, and back; and a line of memory written past the cache.

The key of an integer is the integer, its sign bit turned round; that of a float its bits, turned round so that they
ascend, with one key for both zeros, and the last one for every NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.intrinsics import Arguments, signature_of

LINE = 8
"""Keys of a cache line."""

NAN = 0xFFFFFFFFFFFFFFFF
"""The key of every NaN of 64 bits; no other float has it."""

_SIGN64, _SIGN32 = np.uint64(1 << 63), np.uint32(1 << 31)
_INFINITY64, _INFINITY32 = np.uint64(0x7FF << 52), np.uint32(0xFF << 23)
_NAN64, _NAN32 = np.uint64(NAN), np.uint32(0xFFFFFFFF)
_REST64, _REST32 = np.uint64((1 << 63) - 1), np.uint32((1 << 31) - 1)
_ZERO32 = np.uint32(0)


def ordered(value: Any) -> Any:
    """The key of a value of 32 or 64 bits, inside of kernels."""
    raise NotImplementedError


@overload(ordered)
def _ordered(value):
    if value == types.float64:

        def from_double(value):
            bits = np.float64(value).view(np.uint64)
            rest = bits & _REST64
            key = ~bits if bits >> np.uint64(63) else bits | _SIGN64
            key = _SIGN64 if rest == np.uint64(0) else key
            return _NAN64 if rest > _INFINITY64 else key

        return from_double
    if value == types.float32:

        def from_single(value):
            bits = np.float32(value).view(np.uint32)
            rest = bits & _REST32
            key = np.uint32(~bits) if bits >> np.uint32(31) else np.uint32(bits | _SIGN32)
            key = _SIGN32 if rest == _ZERO32 else key
            return np.uint64(_NAN32 if rest > _INFINITY32 else key)

        return from_single
    if value.signed:
        return lambda value: np.uint64(np.int64(value)) ^ _SIGN64
    return lambda value: np.uint64(value)


def restored(key: Any, sample: Any) -> Any:
    """The value of a key, in the type of `sample`, inside of kernels."""
    raise NotImplementedError


@overload(restored)
def _restored(key, sample):
    if sample == types.float64:

        def to_double(key, sample):
            bits = key ^ _SIGN64 if key & _SIGN64 else ~key
            return np.uint64(0x7FF8 << 48).view(np.float64) if key == _NAN64 else np.uint64(bits).view(np.float64)

        return to_double
    if sample == types.float32:

        def to_single(key, sample):
            low = np.uint32(key)
            bits = low ^ _SIGN32 if low & _SIGN32 else ~low
            return np.uint32(0x7FC0 << 16).view(np.float32) if low == _NAN32 else np.uint32(bits).view(np.float32)

        return to_single
    kind = sample
    if kind.signed:
        return lambda key, sample: kind(np.int64(key ^ _SIGN64))
    return lambda key, sample: kind(key)


@kernel
def to_keys(values, out):
    """Keys of values.

    Parameters
    ----------
    values : ndarray of int32, uint32, int64, uint64, float32 or float64, shape (count,)
        What has keys.
    out : ndarray of uint64, shape (count,)
        The keys.
    """
    for i in range(values.shape[0]):
        out[i] = ordered(values[i])


@kernel
def from_keys(keys, out):
    """Undo `to_keys`."""
    for i in range(keys.shape[0]):
        out[i] = restored(keys[i], out[0])


@intrinsic
def stream_line(_context, line, start, out, place):
    """Write eight keys, a line of `line` from `start` on, to a line of `out`, past the cache."""

    def body(arguments: Arguments, builder: Any) -> None:
        vector = ir.VectorType(ir.IntType(64), LINE).as_pointer()
        source = builder.bitcast(arguments.at("line", arguments["start"]), vector)
        target = builder.bitcast(arguments.at("out", arguments["place"]), vector)
        stored = builder.store(builder.load(source, align=64), target, align=64)
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))

    return signature_of(body, line=line, start=start, out=out, place=place)
