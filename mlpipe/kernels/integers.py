"""Vectors of integers: the vocabulary beside `simd.Emit` for picking elements out, and what does the same without.

Compressing (AVX-512) moves the lanes of a mask together, so that what is wanted is appended without a branch for each
element. Elsewhere the plain loops in `picking.py` do it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from mlpipe.kernels.simd import Value, host_width

REGISTER_BITS = 512


def compresses() -> bool:
    """Whether vectors are of 512 bits, with instructions that compress (AVX-512)."""
    return host_width().bits == REGISTER_BITS


class EmitIntegers:
    """Vectors of 32-bit or 64-bit integers that fill a register of 512 bits, written into an LLVM builder.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where instructions go.
    bits : int
        Of an element: 32 or 64.
    """

    def __init__(self, builder: Any, bits: int) -> None:
        self.builder = builder
        self.bits = bits
        self.lanes = REGISTER_BITS // bits
        self.scalar = ir.IntType(bits)
        self.type = ir.VectorType(self.scalar, self.lanes)
        self.mask = ir.VectorType(ir.IntType(1), self.lanes)
        self.mask_bits = ir.IntType(self.lanes)

    def constant(self, value: int) -> Value:
        """The same constant in every lane."""
        return ir.Constant(self.type, [value] * self.lanes)

    def counting(self, first: int = 0) -> Value:
        """first, first + 1, …."""
        return ir.Constant(self.type, list(range(first, first + self.lanes)))

    def load(self, pointer: Value) -> Value:
        """Consecutive elements, which need not be aligned to the vector."""
        return self.builder.load(self._cast(pointer), align=self.bits // 8)

    def store(self, value: Value, pointer: Value) -> None:
        """Write consecutive elements, which need not be aligned to the vector."""
        self.builder.store(value, self._cast(pointer), align=self.bits // 8)

    def broadcast(self, scalar: Value) -> Value:
        """One scalar in every lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, ir.IntType(32)(0))
        return self.builder.shuffle_vector(
            one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        )  # fmt: skip

    def compress(self, value: Value, mask: Value) -> Value:
        """The lanes of the mask, moved to the front; zeros behind them.

        In a register, and stored whole: compressing into memory is microcode on Zen 4, a hundred cycles a vector.
        """
        signature = ir.FunctionType(self.type, [self.type, self.type, self.mask])
        function = self.function(f"llvm.x86.avx512.mask.compress.v{self.lanes}i{self.bits}", signature)
        return self.builder.call(function, [value, self.constant(0), mask])

    def count(self, mask: Value) -> Value:
        """How many lanes are set, as a 64-bit integer."""
        ones = self.builder.ctpop(self.builder.bitcast(mask, self.mask_bits))
        return self.builder.zext(ones, ir.IntType(64))

    def any(self, mask: Value) -> Value:
        """Whether any lane is set."""
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(mask, self.mask_bits), self.mask_bits(0))

    def part(self, mask: Value, first: int, lanes: int) -> Value:
        """Some lanes of a mask, as a mask."""
        chosen = ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(first, first + lanes)))
        return self.builder.shuffle_vector(mask, mask, chosen)

    def function(self, name: str, kind: Any) -> Any:
        """An LLVM intrinsic, declared once a module."""
        return self.builder.module.globals.get(name) or ir.Function(self.builder.module, kind, name)

    def _cast(self, pointer: Value) -> Value:
        return self.builder.bitcast(pointer, self.type.as_pointer())
