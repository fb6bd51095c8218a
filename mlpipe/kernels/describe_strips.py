"""Sums and extremes of a strip: a few neighbouring lanes of many rows, all in registers while the rows go by.

A lane is a column, or, of few columns, one of several rows side by side. It never meets another one here, so what
comes out does not depend on how many of them a machine takes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpipe.kernels.intrinsics import Arguments, signature_of
from mlpipe.kernels.simd import Emit, Value, host_width

STRIP = min(16, host_width().lanes(4))
"""Lanes of a strip: those of a vector of float32. Two vectors of float64 side by side hide each other's waiting."""

SUM, SUM_LOW, CENTRE, SQUARE, CUBE, FOURTH, SCALE, TOP, ONE, FLOATS = range(10)
"""Rows of a group's floats: the sum and what rounding dropped of it, what deviations are from, sums of their powers,
what values are multiplied with, largest finite magnitude (or the smallest, see `_look`), ones."""

ZEROS, MISSING, INFINITE, LOW_32, HIGH_32, CENTRE_LOW, CENTRE_HIGH, COUNTS = range(8)
"""Rows of a group's integers: numbers of values, the sum of integers in two parts, and their centre."""

FIRST_LOW, LAST_LOW, FIRST_HIGH, LAST_HIGH, PLACES = range(5)
"""Rows of the places of extremes."""

HALF = 32
"""Bits of the lower part of a 64-bit integer: sums of parts do not overflow."""

LINE = 64
"""Bytes of a cache line."""

LOCALITY = 2
"""Into the second level of caches. Nothing else sees through the strips' strides: without, rows of 128 float32 take 1.4
ns a value from main memory, with it 0.5 (0.55 if into the first level)."""

WHOLE, SMALL = ir.IntType(64), ir.IntType(32)


class _Strip:
    """What the kernels below have in common: the lanes' types, running values, and the loop over rows."""

    def __init__(self, arguments: Arguments, builder: Any, lanes: int) -> None:
        self.arguments, self.builder, self.lanes = arguments, builder, lanes
        self.kind = arguments.type("x").dtype
        self.is_float = isinstance(self.kind, types.Float)
        self.signed = self.is_float or bool(self.kind.signed)
        whole = ir.IntType(self.kind.bitwidth)
        self.element = (ir.FloatType() if self.kind.bitwidth == 32 else ir.DoubleType()) if self.is_float else whole
        self.wide = Emit(builder, True, lanes)  # float64
        self.native = Emit(builder, self.kind.bitwidth == 64, lanes)  # of floats

    def vector(self, element: Value, value: Any = 0) -> Value:
        """A constant in every lane."""
        return ir.Constant(ir.VectorType(element, self.lanes), [ir.Constant(element, value)] * self.lanes)

    def running(self, element: Value, value: Any = 0) -> Value:
        """A variable; it becomes a register."""
        variable = cgutils.alloca_once(self.builder, ir.VectorType(element, self.lanes))
        self.builder.store(self.vector(element, value), variable)
        return variable

    def update(self, variable: Value, change: Callable[[Value], Value]) -> None:
        """Replace a variable's value by what becomes of it."""
        self.builder.store(change(self.builder.load(variable)), variable)

    @contextmanager
    def rows(self, fetch: bool = False) -> Iterator[tuple[Value, Value]]:
        """The loop: the lanes' values in a row, and its number. It may fetch what lies where the next group will be."""
        a, builder = self.arguments, self.builder
        ahead = builder.mul(a["count"], a["stride"])
        with cgutils.for_range(builder, a["count"]) as loop:
            place = builder.add(a["start"], builder.mul(loop.index, a["stride"]))
            if fetch:
                size = self._size(self.element)
                for line in range(0, self.lanes, max(1, LINE // size)):
                    self._fetch(a.at("x", builder.add(builder.add(place, ahead), WHOLE(line))))
            yield self._load(a.at("x", place), self.element), loop.index

    def _fetch(self, pointer: Value) -> None:
        """Ask for a cache line, which need not exist."""
        builder, byte = self.builder, ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, SMALL, SMALL, SMALL])
        name = "llvm.prefetch.p0i8" if "i8*" in str(byte) else "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [builder.bitcast(pointer, byte), SMALL(0), SMALL(LOCALITY), SMALL(1)])

    def _load(self, pointer: Value, element: Value) -> Value:
        pointer = self.builder.bitcast(pointer, ir.VectorType(element, self.lanes).as_pointer())
        return self.builder.load(pointer, align=1 if element == ir.IntType(8) else self._size(element))

    @staticmethod
    def _size(element: Value) -> int:
        return {"float": 4, "double": 8}.get(str(element)) or int(element.width) // 8

    def get(self, name: str, row: int) -> Value:
        """What an array holds for the lanes in a row."""
        a = self.arguments
        kind = a.type(name).dtype
        element = self.element if kind == self.kind else ir.DoubleType() if kind == types.float64 else WHOLE
        return self._load(a.at(name, WHOLE(row), a["place"]), element)

    def put(self, name: str, row: int, value: Value) -> None:
        """Write what was found for the lanes."""
        a, builder = self.arguments, self.builder
        pointer = builder.bitcast(a.at(name, WHOLE(row), a["place"]), value.type.as_pointer())
        builder.store(value, pointer, align=self._size(value.type.element))

    def widened(self, variable: Value) -> Value:
        """A running count as 64-bit integers."""
        return self.builder.zext(self.builder.load(variable), ir.VectorType(WHOLE, self.lanes))

    def less(self, a: Value, b: Value) -> Value:
        """Mask of a < b; not where one is NaN."""
        if self.is_float:
            return self.builder.fcmp_ordered("<", a, b)
        return (self.builder.icmp_signed if self.signed else self.builder.icmp_unsigned)("<", a, b)

    def equal(self, a: Value, b: Value) -> Value:
        """Mask of a == b; not where one is NaN."""
        return self.builder.fcmp_ordered("==", a, b) if self.is_float else self.builder.icmp_signed("==", a, b)

    def count(self, variable: Value, mask: Value) -> None:
        """Add 1 where the mask is set."""
        one = self.builder.zext(mask, ir.VectorType(SMALL, self.lanes))
        self.update(variable, lambda old: self.builder.add(old, one))

    def finite(self, value: Value) -> Value:
        """Mask of finite values."""
        return self.builder.fcmp_ordered("<", self.native.abs(value), self.native.constant(float("inf")))

    def to_double(self, value: Value) -> Value:
        """Values as float64; exact but for 64-bit integers."""
        if self.element == ir.DoubleType():
            return value
        if self.is_float:
            return self.builder.fpext(value, self.wide.type)
        return (self.builder.sitofp if self.signed else self.builder.uitofp)(value, self.wide.type)

    def parts(self, value: Value) -> tuple[Value, Value]:
        """The lower and upper half of 64-bit integers."""
        half = self.vector(WHOLE, HALF)
        low = self.builder.and_(value, self.vector(WHOLE, (1 << HALF) - 1))
        return low, (self.builder.ashr if self.signed else self.builder.lshr)(value, half)

    def add_exactly(self, total: Value, low: Value, x: Value, one: Value) -> None:
        """Add float64 values to a sum, and what rounding drops to another (Knuth's TwoSum).

        Two of the seven additions are multiply-adds with a 1 that LLVM does not know of, for processors that add and
        multiply side by side: 0.26 ns a value instead of 0.32.
        """
        wide = self.wide
        before = self.builder.load(total)
        after = wide.add(before, x)
        part = wide.sub(after, before)
        lost = wide.fma(wide.sub(before, wide.sub(after, part)), one, wide.sub(x, part))
        self.update(low, lambda old: wide.fma(lost, one, old))
        self.builder.store(after, total)


def _limits(kind: Any) -> tuple[Any, Any]:
    """Neutral values of a minimum and a maximum."""
    if isinstance(kind, types.Float):
        return float("inf"), -float("inf")
    return kind.maxval, kind.minval


def _look(strip: _Strip) -> None:
    """Extremes, zeros and the sum; NaN and infinity get into the sum of floats, which tells that there are some.

    Float32 values are added up plainly, for float64 holds such sums exactly unless magnitudes differ by more than 2²⁰
    or so; whoever asked can tell by the smallest one, in TOP. That takes 0.14 ns a value instead of 0.26.
    """
    builder, native = strip.builder, strip.native
    least, most = _limits(strip.kind)
    low, high = strip.running(strip.element, least), strip.running(strip.element, most)
    zeros, nothing = strip.running(SMALL), strip.vector(strip.element)
    sums = [strip.running(ir.DoubleType() if strip.is_float else WHOLE) for _ in range(2)]
    one, tiny = strip.get("floats", ONE), strip.running(strip.element, least)
    with strip.rows(fetch=True) as (x, _):
        strip.update(low, lambda old: builder.select(strip.less(x, old), x, old))
        strip.update(high, lambda old: builder.select(strip.less(old, x), x, old))
        is_zero = strip.equal(x, nothing)
        strip.count(zeros, is_zero)
        if strip.is_float and strip.kind.bitwidth == 32:
            size = builder.select(is_zero, native.constant(float("inf")), native.abs(x))
            strip.update(tiny, lambda old: builder.select(strip.less(size, old), size, old))
            strip.update(sums[0], lambda old: strip.wide.add(old, strip.to_double(x)))
        elif strip.is_float:
            strip.add_exactly(sums[0], sums[1], x, one)
        elif strip.kind.bitwidth == 64:
            for total, part in zip(sums, strip.parts(x), strict=True):
                strip.update(total, lambda old, part=part: builder.add(old, part))  # type: ignore[misc]
        else:
            long = (builder.sext if strip.signed else builder.zext)(x, ir.VectorType(WHOLE, strip.lanes))
            strip.update(sums[0], lambda old: builder.add(old, long))
    strip.put("extremes", 0, builder.load(low))
    strip.put("extremes", 1, builder.load(high))
    strip.put("counts", ZEROS, strip.widened(zeros))
    if strip.is_float:
        strip.put("floats", TOP, strip.to_double(builder.load(tiny)))
    for row, total in zip((SUM, SUM_LOW) if strip.is_float else (LOW_32, HIGH_32), sums, strict=True):
        strip.put("floats" if strip.is_float else "counts", row, builder.load(total))


def _odd(strip: _Strip) -> None:
    """Numbers of NaN and infinities, and the largest finite magnitude."""
    builder, native = strip.builder, strip.native
    missing, infinite = strip.running(SMALL), strip.running(SMALL)
    top = strip.running(strip.element)
    with strip.rows() as (x, _):
        size = native.abs(x)
        strip.count(missing, builder.fcmp_unordered("uno", x, x))
        strip.count(infinite, strip.equal(size, native.constant(float("inf"))))
        size = builder.select(strip.finite(x), size, native.constant(0.0))
        strip.update(top, lambda old: builder.select(strip.less(old, size), size, old))
    strip.put("counts", MISSING, strip.widened(missing))
    strip.put("counts", INFINITE, strip.widened(infinite))
    strip.put("floats", TOP, strip.to_double(builder.load(top)))


def _sum(strip: _Strip) -> None:
    """The sum of finite values, times a scale."""
    total, low = strip.running(ir.DoubleType()), strip.running(ir.DoubleType())
    scale, one = strip.get("floats", SCALE), strip.get("floats", ONE)
    with strip.rows() as (x, _):
        finite = strip.builder.select(strip.finite(x), x, strip.native.constant(0.0))
        strip.add_exactly(total, low, strip.wide.mul(strip.to_double(finite), scale), one)
    strip.put("floats", SUM, strip.builder.load(total))
    strip.put("floats", SUM_LOW, strip.builder.load(low))


def _deviate(strip: _Strip, careful: bool) -> None:
    """Sums of the second to fourth power of deviations from the centre."""
    builder, wide = strip.builder, strip.wide
    powers = [strip.running(ir.DoubleType()) for _ in range(3)]
    split = not strip.is_float and strip.kind.bitwidth == 64
    centre = None if split else strip.get("floats", CENTRE)
    scale = strip.get("floats", SCALE) if careful else None
    middle = [strip.get("counts", row) for row in (CENTRE_LOW, CENTRE_HIGH)] if split else []
    with strip.rows() as (x, _):
        if split:
            low, high = (builder.sub(part, of) for part, of in zip(strip.parts(x), middle, strict=True))
            low, high = builder.sitofp(low, wide.type), builder.sitofp(high, wide.type)
            d = wide.fma(high, wide.constant(2.0**HALF), low)
        elif careful:
            finite = strip.finite(x)
            d = wide.sub(wide.mul(strip.to_double(x), scale), centre)
            d = builder.select(finite, d, wide.constant(0.0))
        else:
            d = wide.sub(strip.to_double(x), centre)
        square = wide.mul(d, d)
        strip.update(powers[0], lambda old: wide.add(old, square))
        strip.update(powers[1], lambda old: wide.fma(square, d, old))
        strip.update(powers[2], lambda old: wide.fma(square, square, old))
    for row, total in zip((SQUARE, CUBE, FOURTH), powers, strict=True):
        strip.put("floats", row, builder.load(total))


def _find(strip: _Strip) -> None:
    """First and last row that holds the extremes; -1 where none does."""
    builder = strip.builder
    targets = [strip.get("extremes", row) for row in (0, 1)]
    found = [strip.running(SMALL, -1) for _ in range(PLACES)]
    kind, index = ir.VectorType(SMALL, strip.lanes), SMALL
    nowhere = strip.vector(SMALL, -1)
    with strip.rows() as (x, row):
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), builder.trunc(row, SMALL), index(0))
        here = builder.shuffle_vector(first, first, ir.Constant(kind, None))
        for which, target in enumerate(targets):
            match = strip.equal(x, target)
            before = builder.load(found[2 * which])
            new = builder.and_(match, builder.icmp_signed("==", before, nowhere))
            builder.store(builder.select(new, here, before), found[2 * which])
            last = builder.load(found[2 * which + 1])
            builder.store(builder.select(match, here, last), found[2 * which + 1])
    for row, place in enumerate(found):
        strip.put("places", row, builder.sext(builder.load(place), ir.VectorType(WHOLE, strip.lanes)))


def _for_floats(body: Callable[[_Strip], None]) -> Callable[[_Strip], None]:
    """Nothing at all for integers."""
    return lambda strip: body(strip) if strip.is_float else None


def _intrinsic(body: Callable[[_Strip], None], *names: str) -> Any:
    """An intrinsic of (x, start, stride, count, place, two or three arrays).

    x : ndarray, flat. start : where the strip's first row begins. stride : from one row to the next. count : rows.
    place : the strip's first lane in the arrays, which have a row for each result.
    """

    def of(x: Any, start: Any, stride: Any, count: Any, place: Any, *arrays: Any) -> Any:
        given = {"x": x, "start": start, "stride": stride, "count": count, "place": place}
        given |= dict(zip(names, arrays, strict=True))
        return signature_of(lambda arguments, builder: body(_Strip(arguments, builder, STRIP)), **given)

    def with_two(typing: Any, x: Any, start: Any, stride: Any, count: Any, place: Any, a: Any, b: Any) -> Any:
        return of(x, start, stride, count, place, a, b)

    def with_three(typing: Any, x: Any, start: Any, stride: Any, count: Any, place: Any, a: Any, b: Any, c: Any) -> Any:
        return of(x, start, stride, count, place, a, b, c)

    return intrinsic(with_two if len(names) == 2 else with_three)


look = _intrinsic(_look, "extremes", "floats", "counts")
odd = _intrinsic(_for_floats(_odd), "floats", "counts")
add_up = _intrinsic(_for_floats(_sum), "floats", "counts")
deviate = _intrinsic(partial(_deviate, careful=False), "floats", "counts")
deviate_carefully = _intrinsic(_for_floats(partial(_deviate, careful=True)), "floats", "counts")
find = _intrinsic(_find, "extremes", "places")


@intrinsic  # type: ignore[untyped-decorator]
def stay_apart(typing: Any) -> Any:
    """Keep the function this is in from being made part of others: they compile in half of the time."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate
