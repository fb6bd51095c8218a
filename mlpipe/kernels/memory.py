"""Access to the arrays of a generated loop, which are known not to overlap, and sums of a row's scratch.

Numba says nothing about overlap, so that LLVM compares the addresses of every two arrays before each loop,
and above eight comparisons leaves the loop scalar. Each access therefore names the array it goes to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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


def _over_rows(neutral: float, combine: Callable[[Emit, Value, Value], Value]) -> Any:
    """An intrinsic of (values, span, rows, out): each row's values combined, lane by lane, then the lanes by halves.

    Rows of `span` values, float64, lie one after the other; the scratch is `LANES` longer than they are. An empty row
    gives 0.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def over_rows(typing: Any, values: Any, span: Any, rows: Any, out: Any) -> tuple[Any, Emitter]:
        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Value:
            whole, vector = ir.IntType(64), Emit(builder, True, LANES)
            _, span, rows, _ = given
            data, numbers = (context.make_array(signature.args[n])(context, builder, given[n]).data for n in (0, 3))
            lanes = ir.Constant(ir.VectorType(whole, LANES), [whole(n) for n in range(LANES)])
            total = cgutils.alloca_once(builder, vector.type)
            with cgutils.for_range_slice(builder, whole(0), rows, whole(1)) as (row, _):
                builder.store(vector.constant(neutral), total)
                first = builder.mul(row, span)
                with cgutils.for_range_slice(builder, whole(0), span, whole(LANES)) as (start, _):
                    loaded = vector.load(builder.gep(data, [builder.add(first, start)]))
                    inside = builder.icmp_signed("<", lanes, _splat(builder, builder.sub(span, start)))
                    loaded = builder.select(inside, loaded, vector.constant(neutral))
                    builder.store(combine(vector, builder.load(total), loaded), total)
                empty = builder.icmp_signed("==", span, whole(0))
                number = builder.select(empty, vector.scalar(0.0), _folded(builder, builder.load(total), combine))
                builder.store(number, builder.gep(numbers, [row]))
            return context.get_dummy_value()

        return types.void(values, types.int64, types.int64, out), emit

    return over_rows


def _splat(builder: Any, value: Value) -> Value:
    """An integer in every lane."""
    kind, index = ir.VectorType(value.type, LANES), ir.IntType(32)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, index(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, LANES), None))


@intrinsic  # type: ignore[untyped-decorator]
def spread(typing: Any, numbers: Any, span: Any, rows: Any, out: Any) -> tuple[Any, Emitter]:
    """Each row's number, float64, `span` times; `out`, of either float type, is `LANES` longer than that.

    A row's last vector reaches into the next row, which is written afterwards.
    """

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Value:
        whole, double = ir.IntType(64), bool(out.dtype == types.float64)
        _, span, rows, _ = given
        vector = Emit(builder, double, LANES)
        data, made = (context.make_array(signature.args[n])(context, builder, given[n]).data for n in (0, 3))
        with cgutils.for_range_slice(builder, whole(0), rows, whole(1)) as (row, _):
            number = builder.load(builder.gep(data, [row]))
            filled = vector.broadcast(number if double else builder.fptrunc(number, ir.FloatType()))
            first = builder.mul(row, span)
            with cgutils.for_range_slice(builder, whole(0), span, whole(LANES)) as (start, _):
                vector.store(filled, builder.gep(made, [builder.add(first, start)]))
        return context.get_dummy_value()

    return types.void(numbers, types.int64, types.int64, out), emit


def _folded(builder: Any, lanes: Value, combine: Callable[[Emit, Value, Value], Value]) -> Value:
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


sum_rows = _over_rows(0.0, _add)
max_rows = _over_rows(float("-inf"), _larger)
