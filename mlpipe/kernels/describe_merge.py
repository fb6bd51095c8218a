"""The formulas by which moments of some rows and of those that follow become one, a vector of columns at a time.

Numba's own loop over columns stays scalar, as LLVM would have to compare the addresses of too many arrays: 18 ns a
column instead of 3, which is most of the time of wide rows.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from mlpipe.kernels.intrinsics import Arguments, signature_of
from mlpipe.kernels.simd import Emit, Value, host_width

TOTAL, TOTAL_LOW, M2, M2_LOW, M3, M4, RECORD_FLOATS = range(7)
"""Rows of a record's floats: the sum and the sums of powers of deviations from the mean, some with what rounding
dropped; all of values times a power of two."""

COUNT, NANS, INFINITIES, NOUGHTS, PLACE, LIMB, CLASS, RECORD_COUNTS = 0, 1, 2, 3, 4, 8, 11, 12
"""Rows of a record's integers: of finite values, of NaN, of infinities, of zeros; first and last row of the minimum
and of the maximum, or -1; the sum of integers in three limbs; the class of magnitude."""

COLUMNS = 16
"""Records have a multiple of so many columns, the last ones empty."""

LANES = min(8, host_width().lanes(8))


class _Vector:
    """float64 lanes with the operators of arithmetic."""

    def __init__(self, emit: Emit, value: Value) -> None:
        self.emit, self.value = emit, value

    def _other(self, other: _Vector | float) -> Value:
        return other.value if isinstance(other, _Vector) else self.emit.constant(other)

    def __add__(self, other: _Vector | float) -> _Vector:
        return _Vector(self.emit, self.emit.add(self.value, self._other(other)))

    def __sub__(self, other: _Vector | float) -> _Vector:
        return _Vector(self.emit, self.emit.sub(self.value, self._other(other)))

    def __mul__(self, other: _Vector | float) -> _Vector:
        return _Vector(self.emit, self.emit.mul(self.value, self._other(other)))

    def __truediv__(self, other: _Vector) -> _Vector:
        return _Vector(self.emit, self.emit.div(self.value, other.value))

    def remainder(self, quotient: _Vector, divisor: _Vector) -> _Vector:
        """What a quotient leaves, exactly."""
        return _Vector(self.emit, self.emit.fma(self.emit.neg(quotient.value), divisor.value, self.value))

    def at_least(self, least: float) -> _Vector:
        """The larger of a value and a number."""
        limit = self.emit.constant(least)
        return _Vector(self.emit, self.emit.select(self.emit.test(">", self.value, limit), self.value, limit))

    def where_positive(self, of: _Vector) -> _Vector:
        """The value where another one is positive, else 0."""
        zero = self.emit.constant(0.0)
        return _Vector(self.emit, self.emit.select(self.emit.test(">", of.value, zero), self.value, zero))


def _two_sum(a: _Vector, b: _Vector) -> tuple[_Vector, _Vector]:
    """a + b, and what rounding drops (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _quotient(high: _Vector, low: _Vector, count: _Vector) -> tuple[_Vector, _Vector]:
    """(high + low) / count as two float64."""
    about = high / count
    return _two_sum(about, (high.remainder(about, count) + low) / count)


def _merge(a: Arguments, builder: Any) -> None:
    """Chan's and Pébay's formulas (P. Pébay, SAND2008-6212), with n and m values, whose means are d apart."""
    emit = Emit(builder, True, LANES)
    whole = ir.IntType(64)

    def get(name: str, row: int) -> _Vector:
        return _Vector(emit, emit.load(a.at(name, whole(row), a["place"])))

    def count(name: str) -> _Vector:
        pointer = builder.bitcast(a.at(name, whole(COUNT), a["place"]), ir.VectorType(whole, LANES).as_pointer())
        return _Vector(emit, builder.sitofp(builder.load(pointer, align=8), emit.type))

    def put(row: int, value: _Vector) -> None:
        emit.store(value.value, a.at("floats", whole(row), a["place"]))

    total, low, square, square_low, cube, fourth = (get("floats", row) for row in range(RECORD_FLOATS))
    others = [get("more_floats", row) for row in range(RECORD_FLOATS)]
    other_total, other_low, other_square, other_square_low, other_cube, other_fourth = others
    n, m = count("counts"), count("more_counts")
    mean, rest = _quotient(total, low, n.at_least(1.0))
    other, other_rest = _quotient(other_total, other_low, m.at_least(1.0))
    d = ((other - mean) + (other_rest - rest)).where_positive(n * m)
    of_all = (n + m).at_least(1.0)
    p, q = n / of_all, m / of_all
    between = d * d * n * q
    put(M4, fourth + (
        other_fourth
        + between * d * d * (p * p - p * q + q * q)
        + d * d * (p * p * other_square + q * q * square) * 6.0
        + d * (p * other_cube - q * cube) * 4.0
    ))  # fmt: skip
    put(M3, cube + (other_cube + between * d * (p - q) + d * (p * other_square - q * square) * 3.0))
    square, lost = _two_sum(square, other_square)
    square, also_lost = _two_sum(square, between)
    square, lost = _two_sum(square, lost + also_lost + square_low + other_square_low)
    put(M2, square)
    put(M2_LOW, lost)
    total, lost = _two_sum(total, other_total)
    total, lost = _two_sum(total, lost + low + other_low)
    put(TOTAL, total)
    put(TOTAL_LOW, lost)


@intrinsic  # type: ignore[untyped-decorator]
def merge_moments(typing: Any, place: Any, floats: Any, counts: Any, more_floats: Any, more_counts: Any) -> Any:
    """Merge the moments of columns `place` to `place` + LANES; both records of them are of one class."""
    return signature_of(
        _merge, place=place, floats=floats, counts=counts, more_floats=more_floats, more_counts=more_counts
    )
