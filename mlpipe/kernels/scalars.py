"""Operations on one value that Numba lacks, as LLVM instructions that its loop vectoriser takes along.

None branches and none calls a library on processors with fused multiply-add and half-precision conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mlpipe.kernels.simd import Value

NAMES = ("where", "fma", "truncate", "one_nan", "saturate", "to_half", "from_half")
"""What generated loops may use."""

Emitter = Callable[[Any, Any, Any, Any], Value]

MANTISSA = {types.float32: 23, types.float64: 52}
"""Bits of a float after the point."""

MAGIC = {types.float32: 1.5 * 2.0**23, types.float64: 1.5 * 2.0**52}
"""Added to a whole number, it leaves that number in the last bits."""

ROOT = {types.float32: 0x3F3504F3, types.float64: 0x3FE6A09E667F3BCD}
"""Bits of √½."""


def _whole(kind: Any) -> Any:
    """The LLVM integer as wide as a float."""
    return ir.IntType(kind.bitwidth)


def _bits(value: float, kind: Any) -> Value:
    """Bits of a constant, as an LLVM integer."""
    code = ir.Constant(_float(kind), value)
    return code.bitcast(_whole(kind))


def _float(kind: Any) -> Any:
    return ir.FloatType() if kind == types.float32 else ir.DoubleType()


@intrinsic  # type: ignore[untyped-decorator]
def where(typing: Any, condition: Any, yes: Any, no: Any) -> tuple[Any, Emitter]:
    """`yes` if the condition holds, else `no`, both of one type and both computed."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        return builder.select(*values)

    return (yes(types.boolean, yes, yes), emit) if yes == no else (None, None)  # type: ignore[return-value]


@intrinsic  # type: ignore[untyped-decorator]
def fma(typing: Any, a: Any, b: Any, c: Any) -> tuple[Any, Emitter]:
    """a · b + c, rounded once."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        return builder.fma(*values)

    return a(a, a, a), emit


@intrinsic  # type: ignore[untyped-decorator]
def truncate(typing: Any, a: Any) -> tuple[Any, Emitter]:
    """The whole part of a float."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        kind = _float(a)
        function = builder.module.declare_intrinsic("llvm.trunc", [kind], ir.FunctionType(kind, [kind]))
        return builder.call(function, values)

    return a(a), emit


@intrinsic  # type: ignore[untyped-decorator]
def split(typing: Any, x: Any) -> tuple[Any, Emitter]:
    """m and k, x = m · 2ᵏ, √½ ≤ m < √2, of a positive normal number; k is a float too."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        whole, mantissa = _whole(x), MANTISSA[x]
        bits = builder.bitcast(values[0], whole)
        k = builder.ashr(builder.sub(bits, whole(ROOT[x])), whole(mantissa))
        m = builder.bitcast(builder.sub(bits, builder.shl(k, whole(mantissa))), _float(x))
        # Not `sitofp`: AVX2 has none for 64 bits.
        shifted = builder.bitcast(builder.add(k, _bits(MAGIC[x], x)), _float(x))
        return context.make_tuple(builder, signature.return_type, [m, builder.fsub(shifted, _float(x)(MAGIC[x]))])

    return types.UniTuple(x, 2)(x), emit


@intrinsic  # type: ignore[untyped-decorator]
def scale(typing: Any, x: Any, n: Any) -> tuple[Any, Emitter]:
    """x · 2ⁿ for a whole float n, also where 2ⁿ itself is out of range."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        whole, mantissa = _whole(x), whole_of(MANTISSA[x])
        bias = whole((1 << (x.bitwidth - MANTISSA[x] - 2)) - 1)
        shifted = builder.fadd(values[1], _float(x)(MAGIC[x]))
        exponent = builder.sub(builder.bitcast(shifted, whole), _bits(MAGIC[x], x))
        half = builder.ashr(exponent, whole(1))
        product = values[0]
        for part in (half, builder.sub(exponent, half)):
            power = builder.bitcast(builder.shl(builder.add(part, bias), mantissa), _float(x))
            product = builder.fmul(product, power)
        return product

    def whole_of(count: int) -> Value:
        return _whole(x)(count)

    return x(x, x), emit


@intrinsic  # type: ignore[untyped-decorator]
def one_nan(typing: Any, x: Any) -> tuple[Any, Emitter]:
    """x with every NaN the same: the sign of one that arithmetic makes depends on the order of operands.

    Told by the bits, because LLVM's arithmetic takes one NaN to be as good as another.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        whole, mantissa = _whole(x), MANTISSA[x]
        infinity = ((1 << (x.bitwidth - mantissa - 1)) - 1) << mantissa
        bits = builder.bitcast(values[0], whole)
        size = builder.and_(bits, whole((1 << (x.bitwidth - 1)) - 1))
        is_nan = builder.icmp_unsigned(">", size, whole(infinity))
        return builder.bitcast(builder.select(is_nan, whole(infinity | 1 << (mantissa - 1)), bits), _float(x))

    return x(x), emit


@intrinsic  # type: ignore[untyped-decorator]
def to_half(typing: Any, x: Any) -> tuple[Any, Emitter]:
    """Bits of the nearest float16, as uint16."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        single = values[0] if x == types.float32 else _to_odd(builder, values[0])
        return builder.bitcast(builder.fptrunc(single, ir.HalfType()), ir.IntType(16))

    return types.uint16(x), emit


def _to_odd(builder: Any, x: Value) -> Value:
    """A float64 as float32, its last bit set where it is not exact: rounding once more is then right."""
    whole = ir.IntType(32)
    near = builder.fptrunc(x, ir.FloatType())
    back = builder.fpext(near, ir.DoubleType())
    bits = builder.bitcast(near, whole)
    absolute = builder.module.declare_intrinsic("llvm.fabs", [ir.DoubleType()])
    beyond = builder.fcmp_ordered(">", builder.call(absolute, [back]), builder.call(absolute, [x]))
    inexact = builder.fcmp_ordered("!=", back, x)
    bits = builder.sub(bits, builder.zext(beyond, whole))
    return builder.bitcast(builder.or_(bits, builder.zext(inexact, whole)), ir.FloatType())


@intrinsic  # type: ignore[untyped-decorator]
def from_half(typing: Any, bits: Any) -> tuple[Any, Emitter]:
    """The float32 of a float16's bits."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        return builder.fpext(builder.bitcast(values[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), emit


@intrinsic  # type: ignore[untyped-decorator]
def saturate(typing: Any, x: Any, like: Any) -> tuple[Any, Emitter]:
    """A float as the nearest integer of the type of `like`, towards zero; NaN as 0.

    Not ``llvm.fptosi.sat``, which the loop vectoriser leaves scalar (measured: ten times as slow).
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        kind, whole = _float(x), ir.IntType(max(32, like.bitwidth))
        digits = like.bitwidth - like.signed
        least, most = -(2**digits) if like.signed else 0, 2**digits - 1
        inside = float(most) if digits <= MANTISSA[x] + 1 else 2.0**digits - 2.0 ** (digits - MANTISSA[x] - 1)
        value = builder.select(builder.fcmp_ordered("ord", values[0], values[0]), values[0], kind(0.0))
        for relation, end in ((">", inside), ("<", float(least))):
            value = builder.select(builder.fcmp_ordered(relation, value, kind(end)), kind(end), value)
        convert = builder.fptosi if like.signed or like.bitwidth < 32 else builder.fptoui
        result = convert(value, whole)
        if inside != most:
            above = builder.fcmp_ordered(">=", values[0], kind(2.0**digits))
            result = builder.select(above, whole(most), result)
        return builder.trunc(result, ir.IntType(like.bitwidth)) if like.bitwidth < 32 else result

    return like(x, like), emit


def polynomial(coefficients: Sequence[float]) -> Any:
    """An intrinsic of x: c₀ + c₁x + c₂x² + …, by Horner's rule, each step rounded once."""

    @intrinsic  # type: ignore[untyped-decorator]
    def evaluate(typing: Any, x: Any) -> tuple[Any, Emitter]:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Value:
            kind = _float(x)
            total = kind(coefficients[-1])
            for coefficient in reversed(coefficients[:-1]):
                total = builder.fma(total, values[0], kind(coefficient))
            return total

        return x(x), emit

    return evaluate
