"""Access to the arrays of a generated loop, which are known not to overlap, and sums of a row's scratch.

Numba says nothing about overlap, so that LLVM compares the addresses of every two arrays before each loop,
and above eight comparisons leaves the loop scalar. Each access therefore names the array it goes to.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpipe.kernels.scalars import Emitter
from mlpipe.kernels.simd import Emit, Value

LANES = 16
"""Partial sums of a row: one number on every machine, so that the bytes are the same."""


def _mark(builder: Any, instruction: Any, place: str) -> None:
    """Say that an access goes to the array called `place`, and to none that is written to under another name."""
    module = builder.module
    domain = module.add_metadata(["mlpipe fused"])
    written = ("x", "out", *(f"s{n}" for n in range(16)))
    own = module.add_metadata([f"mlpipe {place}", domain])
    others = [module.add_metadata([f"mlpipe {name}", domain]) for name in written if name != place]
    instruction.set_metadata("alias.scope", module.add_metadata([own]))
    instruction.set_metadata("noalias", module.add_metadata(others))


def _address(context: Any, builder: Any, kind: Any, array: Value, index: Value) -> Value:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@functools.cache
def load(place: str) -> Any:
    """An intrinsic of (array, index): the element of the array called `place`."""

    @intrinsic  # type: ignore[untyped-decorator]
    def get(typing: Any, array: Any, index: Any) -> tuple[Any, Emitter]:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
            value = builder.load(_address(context, builder, array, *values), align=array.dtype.bitwidth // 8)
            _mark(builder, value, place)
            return value

        return array.dtype(array, types.int64), emit

    return get


@functools.cache
def store(place: str) -> Any:
    """An intrinsic of (array, index, value): put it into the array called `place`."""

    @intrinsic  # type: ignore[untyped-decorator]
    def put(typing: Any, array: Any, index: Any, value: Any) -> tuple[Any, Emitter]:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
            pointer = _address(context, builder, array, *values[:2])
            _mark(builder, builder.store(values[2], pointer, align=array.dtype.bitwidth // 8), place)
            return context.get_dummy_value()

        return types.void(array, types.int64, array.dtype), emit

    return put


def _over_row(neutral: float, combine: Any) -> Any:
    """An intrinsic of (scratch, count): its first elements combined, lane by lane, then the lanes by halves.

    The scratch, float64, is a multiple of `LANES` long; what is beyond `count` is overwritten.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def over_row(typing: Any, scratch: Any, count: Any) -> tuple[Any, Emitter]:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
            whole, vector = ir.IntType(64), Emit(builder, True, LANES)
            data = context.make_array(scratch)(context, builder, values[0]).data
            padded = builder.and_(builder.add(values[1], whole(LANES - 1)), whole(-LANES))
            with cgutils.for_range_slice(builder, values[1], padded, whole(1)) as (index, _):
                builder.store(vector.scalar(neutral), builder.gep(data, [index]))
            total = cgutils.alloca_once_value(builder, vector.constant(neutral))
            with cgutils.for_range_slice(builder, whole(0), padded, whole(LANES)) as (index, _):
                builder.store(combine(vector, builder.load(total), vector.load(builder.gep(data, [index]))), total)
            empty = builder.icmp_signed("==", values[1], whole(0))
            return builder.select(empty, vector.scalar(0.0), _folded(builder, builder.load(total), combine))

        return types.float64(scratch, types.int64), emit

    return over_row


def _folded(builder: Any, lanes: Value, combine: Any) -> Value:
    """The lanes of a vector combined by halves."""
    count, index = LANES, ir.IntType(32)
    while count > 1:
        count //= 2
        halves = [
            builder.shuffle_vector(
                lanes, lanes, ir.Constant(ir.VectorType(index, count), [index(start + n) for n in range(count)])
            )
            for start in (0, count)
        ]
        lanes = combine(Emit(builder, True, count), *halves)
    return builder.extract_element(lanes, index(0))


def _add(vector: Emit, a: Value, b: Value) -> Value:
    return vector.add(a, b)


def _larger(vector: Emit, a: Value, b: Value) -> Value:
    """The larger, and NaN if one is."""
    builder = vector.builder
    takes_b = builder.or_(builder.fcmp_ordered(">", b, a), builder.fcmp_unordered("uno", b, b))
    return vector.select(takes_b, b, a)


row_sum = _over_row(0.0, _add)
row_max = _over_row(float("-inf"), _larger)
