"""Vectors: how wide they are on this machine, and how to emit arithmetic on them.

Numba's own loop vectoriser neither keeps a register tile nor picks the widest lanes, so the distance
micro-kernel is emitted as LLVM vector code. `Emit` is the whole vocabulary: a metric is written in it
once and works at any width. A lane always belongs to one output value and never meets another, so the
result does not depend on the number of lanes.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir

Value = Any  # an llvmlite value; llvmlite ships no types

SIMD_VARIABLE = "MLPIPE_SIMD_BITS"


@dataclass(frozen=True, slots=True)
class Width:
    """A vector register file.

    Parameters
    ----------
    name : str
        What `mlpipe doctor` calls it.
    bits : int
        Of a register.
    registers : int
        How many there are.
    panel : int
        Vectors side by side in the distance kernel's panels, where a metric keeps one sum.
    """

    name: str
    bits: int
    registers: int
    panel: int = 4

    def lanes(self, itemsize: int) -> int:
        """Elements of `itemsize` bytes in one register."""
        return self.bits // (8 * itemsize)


AVX512 = Width("AVX-512", 512, 32)
ZEN4 = Width("AVX-512 in halves", 512, 32, panel=8)
"""One 512-bit load a cycle, so fewer rows and more vectors: 2 × 8 does 45 · 10⁹ features a second, 4 × 4 does 41."""
AVX2 = Width("AVX2", 256, 16)
NEON = Width("NEON", 128, 32)
BASELINE = Width("128-bit baseline", 128, 16)


@functools.cache
def host_width() -> Width:
    """Widest vectors of this processor; ``MLPIPE_SIMD_BITS=256`` (or 128) asks for narrower ones.

    Examples
    --------
    >>> host_width().bits in (128, 256, 512)
    True
    """
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        width = ZEN4 if binding.get_host_cpu_name() == "znver4" else AVX512
    elif features.get("avx2") and features.get("fma"):
        width = AVX2
    elif "neon" in features or binding.get_default_triple().startswith("aarch64"):
        width = NEON
    else:
        width = BASELINE
    wanted = os.environ.get(SIMD_VARIABLE, "")
    if wanted in ("128", "256") and int(wanted) < width.bits:
        width = AVX2 if wanted == "256" else BASELINE
    return width


def describe() -> dict[str, Any]:
    """What `mlpipe doctor` shows: name, bits, and lanes per precision.

    Examples
    --------
    >>> sorted(describe())
    ['bits', 'float32_lanes', 'float64_lanes', 'name', 'processor']
    """
    width = host_width()
    return {
        "name": width.name,
        "bits": width.bits,
        "float32_lanes": width.lanes(4),
        "float64_lanes": width.lanes(8),
        "processor": binding.get_host_cpu_name(),
    }


class Emit:
    """Vector arithmetic of one element type and width, written into an LLVM builder.

    Every method takes and returns LLVM values of the vector type. No fast-math flags: NaN, infinities,
    signed zeros and the order of operations are what the code says.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where instructions go.
    double : bool
        float64 elements instead of float32.
    lanes : int
        Elements per vector.
    """

    def __init__(self, builder: Any, double: bool, lanes: int) -> None:
        self.builder = builder
        self.lanes = lanes
        self.double = double
        self.itemsize = 8 if double else 4
        self.scalar = ir.DoubleType() if double else ir.FloatType()
        self.type = ir.VectorType(self.scalar, lanes)

    def constant(self, value: float) -> Value:
        """The same constant in every lane."""
        return ir.Constant(self.type, [ir.Constant(self.scalar, value)] * self.lanes)

    def load(self, pointer: Value) -> Value:
        """Consecutive elements at `pointer`, which need not be aligned to the vector."""
        return self.builder.load(self._cast(pointer, self.type), align=self.itemsize)

    def store(self, value: Value, pointer: Value) -> None:
        """Write consecutive elements at `pointer`, which need not be aligned to the vector."""
        itemsize = 8 if value.type.element == ir.DoubleType() else 4
        self.builder.store(value, self._cast(pointer, value.type), align=itemsize)

    def stream(self, value: Value, pointer: Value) -> None:
        """Write past the caches, at a `pointer` aligned to the vector."""
        store = self.builder.store(value, self._cast(pointer, value.type), align=self.lanes * self.itemsize)
        one = ir.Constant(ir.IntType(32), 1)
        store.set_metadata("nontemporal", self.builder.module.add_metadata([one]))

    def broadcast(self, scalar: Value) -> Value:
        """One scalar in every lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        index = ir.IntType(32)
        first = self.builder.insert_element(undefined, scalar, index(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, self.lanes), None))

    def add(self, a: Value, b: Value) -> Value:
        """a + b."""
        return self.builder.fadd(a, b)

    def sub(self, a: Value, b: Value) -> Value:
        """a - b."""
        return self.builder.fsub(a, b)

    def neg(self, a: Value) -> Value:
        """-a."""
        return self.builder.fneg(a)

    def mul(self, a: Value, b: Value) -> Value:
        """a · b."""
        return self.builder.fmul(a, b)

    def div(self, a: Value, b: Value) -> Value:
        """a / b."""
        return self.builder.fdiv(a, b)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a · b + c, rounded once."""
        return self.call("llvm.fma", a, b, c)

    def abs(self, a: Value) -> Value:
        """|a|."""
        return self.call("llvm.fabs", a)

    def sqrt(self, a: Value) -> Value:
        """Square root, correctly rounded."""
        return self.call("llvm.sqrt", a)

    def power(self, a: Value, b: Value) -> Value:
        """a ** b, lane by lane through the C library."""
        return self.call("llvm.pow", a, b)

    def log(self, a: Value) -> Value:
        """Natural logarithm, lane by lane through the C library."""
        return self.call("llvm.log", a)

    def sin(self, a: Value) -> Value:
        """Sine, lane by lane through the C library."""
        return self.call("llvm.sin", a)

    def asin(self, a: Value) -> Value:
        """Arc sine, lane by lane through the C library."""
        return self.call("llvm.asin", a)

    def test(self, relation: str, a: Value, b: Value) -> Value:
        """Lane mask of an ordered comparison (false for NaN), except ``!=``, which is true for NaN."""
        if relation == "!=":
            return self.builder.fcmp_unordered("!=", a, b)
        return self.builder.fcmp_ordered(relation, a, b)

    def present(self, a: Value, b: Value) -> Value:
        """Lane mask: neither is NaN."""
        return self.builder.fcmp_ordered("ord", a, b)

    def both(self, a: Value, b: Value) -> Value:
        """Lane mask: a and b."""
        return self.builder.and_(a, b)

    def select(self, mask: Value, a: Value, b: Value) -> Value:
        """`a` where the mask is set, else `b`."""
        return self.builder.select(mask, a, b)

    def one_nan(self, a: Value) -> Value:
        """`a` with every NaN the same: the sign of an operation on two depends on which it meets first.

        Told by the bits, because LLVM's arithmetic takes one NaN to be as good as another.
        """
        size = 8 * self.itemsize
        kind = ir.VectorType(ir.IntType(size), self.lanes)
        infinity, nan = (0x7FF << 52, 0x7FF8 << 48) if self.double else (0xFF << 23, 0x7FC0 << 16)
        limit, one, magnitude = (
            ir.Constant(kind, [bits] * self.lanes) for bits in (infinity, nan, 2 ** (size - 1) - 1)
        )
        bits = self.builder.bitcast(a, kind)
        is_nan = self.builder.icmp_unsigned(">", self.builder.and_(bits, magnitude), limit)
        return self.builder.bitcast(self.builder.select(is_nan, one, bits), self.type)

    def call(self, intrinsic: str, *arguments: Value) -> Value:
        """An LLVM intrinsic of this vector type, such as ``llvm.fma``."""
        name = f"{intrinsic}.v{self.lanes}f{8 * self.itemsize}"
        signature = ir.FunctionType(self.type, [self.type] * len(arguments))
        function = self.builder.module.globals.get(name)
        if function is None:
            function = ir.Function(self.builder.module, signature, name)
        return self.builder.call(function, arguments)

    def widen(self, a: Value) -> tuple[Value, Value]:
        """The two halves of a float32 vector as float64 vectors of half the lanes."""
        half = self.lanes // 2
        wide = ir.VectorType(ir.DoubleType(), half)
        index = ir.VectorType(ir.IntType(32), half)
        parts = (ir.Constant(index, [first + lane for lane in range(half)]) for first in (0, half))
        low, high = (self.builder.shuffle_vector(a, a, part) for part in parts)
        return self.builder.fpext(low, wide), self.builder.fpext(high, wide)

    def narrow(self, a: Value) -> Value:
        """A float64 vector rounded to float32."""
        return self.builder.fptrunc(a, ir.VectorType(ir.FloatType(), self.lanes))

    def _cast(self, pointer: Value, pointee: Value) -> Value:
        return self.builder.bitcast(pointer, pointee.as_pointer())
