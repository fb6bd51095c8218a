"""The micro-kernel: distances of a few rows of X to one panel of Y, held in registers.

A panel is `VECTORS` vectors wide: that many rows of Y, transposed, so that one load brings the same
feature of neighbouring rows. A strip is a few rows of X. Strip × panel sums live in registers while the
features go by; every metric in `metrics.py` is this one loop with its own `step`.

Rounding: sums run over `CHUNK` features at a time and the chunks are added up, so that float32 sums of
many equal terms stay within 1e-6; beyond `distances.FEATURES` features, partial sums are kept in
float64. The order of all this depends on the number of features alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox

from mlpipe.kernels.metrics import METRICS, Given, Metric
from mlpipe.kernels.simd import Emit, Value, host_width

VECTORS = 4
"""Vectors side by side in a panel: 4 rows × 4 vectors keep 16 sums busy, enough to hide the latency of fma."""

CHUNK = 32
"""Features summed before the sum is added to the total: rounding all one way costs at most 32 · 2⁻²⁵ < 1e-6."""

Slots = list[list[list[Value]]]  # [sum][row][vector]: stack slots that LLVM turns into registers


class MetricType(types.Opaque):  # type: ignore[misc]
    """The type of a metric: compiled code is specialised on it, so that no branch remains in the loop."""

    def __init__(self, key: str) -> None:
        self.metric_key = key
        super().__init__(f"Metric({key})")


register_model(MetricType)(models.OpaqueModel)


@typeof_impl.register(Metric)
def _type_of_metric(value: Metric, _context: Any) -> MetricType:
    return MetricType(value.key)


@unbox(MetricType)
def _unbox_metric(_type: MetricType, _value: Any, c: Any) -> NativeValue:
    return NativeValue(c.context.get_dummy_value())


def panel_width(itemsize: int) -> int:
    """Rows of Y in one panel, for elements of `itemsize` bytes."""
    return VECTORS * host_width().lanes(itemsize)


def strip_rows(sums: int) -> int:
    """Rows of X in one strip: half of the registers hold sums, the rest what is loaded."""
    return max(1, host_width().registers // 2 // VECTORS // sums)


class _Arguments:
    """The arguments of an intrinsic by name, with addresses of array elements."""

    def __init__(self, names: Sequence[str], context: Any, builder: Any, signature: Any, values: Any) -> None:
        self._context, self._builder = context, builder
        self._types = dict(zip(names, signature.args, strict=True))
        self._values = dict(zip(names, values, strict=True))
        self.metric = METRICS[self._types["metric"].metric_key]

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def double(self, name: str) -> bool:
        """Whether an array holds float64."""
        return bool(self._types[name].dtype == types.float64)

    def shape(self, name: str) -> list[Value]:
        array = self._context.make_array(self._types[name])(self._context, self._builder, self._values[name])
        return list(cgutils.unpack_tuple(self._builder, array.shape))

    def at(self, name: str, *indices: Value) -> Value:
        """Address of an element of a C-contiguous array."""
        array = self._context.make_array(self._types[name])(self._context, self._builder, self._values[name])
        offset = indices[0]
        for length, index in zip(self.shape(name)[1:], indices[1:], strict=True):
            offset = self._builder.add(self._builder.mul(offset, length), index)
        return self._builder.gep(array.data, [offset])


class _Strip:
    """Emits the loop over features for one strip × panel."""

    def __init__(self, builder: Any, arguments: _Arguments) -> None:
        self.builder = builder
        self.arguments = arguments
        self.metric = arguments.metric
        double = arguments.double("x")
        self.lanes = host_width().lanes(8 if double else 4)
        self.emit = Emit(builder, double, self.lanes)
        self.rows = strip_rows(self.metric.sums)
        self.given = Given(self._constant)

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Every (sum, row, vector) of the register tile."""
        return ((s, r, v) for s in range(self.metric.sums) for r in range(self.rows) for v in range(VECTORS))

    def row_indices(self) -> list[Value]:
        """Rows i, i+1, … but never past `last`: a strip at the edge repeats the last row."""
        builder, i, last = self.builder, self.arguments["i"], self.arguments["last"]
        rows = [builder.add(i, i.type(r)) for r in range(self.rows)]
        return [builder.select(builder.icmp_signed("<", row, last), row, last) for row in rows]

    def sums(self, rows: Sequence[Value], start: Value, stop: Value) -> Slots:
        """Sums over features start … stop, chunk by chunk."""
        builder, index, arguments = self.builder, start.type, self.arguments
        panel = arguments.at("panels", arguments["p"], index(0), index(0))
        x_rows = [arguments.at("x", row, index(0)) for row in rows]
        total, part = self._slots(), self._slots()
        self._clear(total)
        with cgutils.for_range_slice(builder, start, stop, index(CHUNK), index) as (first, _):
            end = builder.add(first, index(CHUNK))
            end = builder.select(builder.icmp_signed("<", end, stop), end, stop)
            self._clear(part)
            with cgutils.for_range_slice(builder, first, end, index(self.metric.features), index) as (k, _):
                self._step(part, x_rows, panel, k)
            for s, r, v in self.places():
                merged = self.metric.merge(self.emit, builder.load(total[s][r][v]), builder.load(part[s][r][v]))
                builder.store(merged, total[s][r][v])
        return total

    def _slots(self) -> Slots:
        def slot() -> Value:
            return cgutils.alloca_once(self.builder, self.emit.type)

        return [[[slot() for _ in range(VECTORS)] for _ in range(self.rows)] for _ in range(self.metric.sums)]

    def _clear(self, slots: Slots) -> None:
        for s, r, v in self.places():
            self.builder.store(self.emit.constant(0.0), slots[s][r][v])

    def _step(self, part: Slots, x_rows: Sequence[Value], panel: Value, k: Value) -> None:
        builder, emit = self.builder, self.emit
        features = [builder.add(k, k.type(f)) for f in range(self.metric.features)]
        width = k.type(VECTORS * self.lanes)

        def y_vector(feature: Value, v: int) -> Value:
            offset = builder.add(builder.mul(feature, width), k.type(v * self.lanes))
            return emit.load(builder.gep(panel, [offset]))

        y = [[y_vector(feature, v) for feature in features] for v in range(VECTORS)]
        weight = emit.broadcast(builder.load(self.arguments.at("weights", k))) if self.metric.weighted else None
        for r, x_row in enumerate(x_rows):
            x = [emit.broadcast(builder.load(builder.gep(x_row, [feature]))) for feature in features]
            for v in range(VECTORS):
                old = [builder.load(part[s][r][v]) for s in range(self.metric.sums)]
                for s, new in enumerate(self.metric.step(emit, old, x, y[v], Given(self._constant, weight))):
                    builder.store(new, part[s][r][v])

    def _constant(self, index: int) -> Value:
        value = self.builder.load(self.arguments.at("constants", ir.IntType(64)(index)))
        return self.emit.broadcast(value)


def _signature(body: Callable[[_Arguments, Any], None], **arguments: Any) -> tuple[Any, Any]:
    """Signature and generator of an intrinsic that returns nothing; integers arrive as 64-bit ones."""
    kinds = [types.intp if isinstance(kind, types.Integer) else kind for kind in arguments.values()]

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        body(_Arguments(list(arguments), context, builder, signature, values), builder)
        return context.get_dummy_value()

    return types.void(*kinds), generate


@intrinsic
def tile(_context, metric, x, i, last, panels, p, weights, x_rows, y_rows, constants, out, row, column):
    """Distances of the rows i … of X to panel p, over all features, into ``out[row:, column:]``."""

    def body(arguments: _Arguments, builder: Any) -> None:
        strip = _Strip(builder, arguments)
        rows = strip.row_indices()
        zero, features = arguments["i"].type(0), arguments.shape("x")[1]
        sums = strip.sums(rows, zero, features)
        first = builder.mul(arguments["p"], zero.type(VECTORS * strip.lanes))
        for r, v in itertools.product(range(strip.rows), range(VECTORS)):
            lane = zero.type(v * strip.lanes)
            given = Given(
                strip.given.constant,
                x=strip.emit.broadcast(builder.load(arguments.at("x_rows", rows[r]))),
                y=strip.emit.load(arguments.at("y_rows", builder.add(first, lane))),
            )
            value = strip.metric.finish(strip.emit, [builder.load(group[r][v]) for group in sums], given)
            to_row = builder.add(arguments["row"], zero.type(r))
            target = arguments.at("out", to_row, builder.add(arguments["column"], lane))
            _store(strip.emit, value, target, arguments.double("out"))

    return _signature(
        body, metric=metric, x=x, i=i, last=last, panels=panels, p=p, weights=weights,
        x_rows=x_rows, y_rows=y_rows, constants=constants, out=out, row=row, column=column,
    )  # fmt: skip


@intrinsic
def partial_tile(_context, metric, x, i, last, start, stop, panels, p, weights, constants, sums, row, column):
    """Merge the sums over features start … stop into the float64 array ``sums[:, row:, column:]``."""

    def body(arguments: _Arguments, builder: Any) -> None:
        strip = _Strip(builder, arguments)
        new = strip.sums(strip.row_indices(), arguments["start"], arguments["stop"])
        wide = Emit(builder, True, strip.lanes if strip.emit.double else strip.lanes // 2)
        index = arguments["row"].type
        for s, r, v in strip.places():
            value = builder.load(new[s][r][v])
            for h, part in enumerate((value,) if strip.emit.double else strip.emit.widen(value)):
                column = builder.add(arguments["column"], index(v * strip.lanes + h * wide.lanes))
                target = arguments.at("sums", index(s), builder.add(arguments["row"], index(r)), column)
                wide.store(strip.metric.merge(wide, wide.load(target), part), target)

    return _signature(
        body, metric=metric, x=x, i=i, last=last, start=start, stop=stop, panels=panels, p=p, weights=weights,
        constants=constants, sums=sums, row=row, column=column,
    )  # fmt: skip


@intrinsic
def finish_row(_context, metric, x_row, y_rows, j, constants, sums, row, column, out, to):
    """Distances of one row to one panel, from the float64 ``sums[:, row, column:]`` into ``out[to, :]``."""

    def body(arguments: _Arguments, builder: Any) -> None:
        double = arguments.double("y_rows")
        emit = Emit(builder, True, host_width().lanes(8))
        index = arguments["row"].type

        def widened(value: Value, kind: Value) -> Value:
            return value if double else builder.fpext(value, kind)

        def constant(i: int) -> Value:
            return emit.broadcast(widened(builder.load(arguments.at("constants", index(i))), emit.scalar))

        x = emit.broadcast(widened(arguments["x_row"], emit.scalar))
        for lane in range(0, panel_width(8 if double else 4), emit.lanes):
            y = Emit(builder, double, emit.lanes).load(arguments.at("y_rows", builder.add(arguments["j"], index(lane))))
            column = builder.add(arguments["column"], index(lane))
            places = [arguments.at("sums", index(s), arguments["row"], column) for s in range(arguments.metric.sums)]
            given = Given(constant, x=x, y=widened(y, emit.type))
            value = arguments.metric.finish(emit, [emit.load(place) for place in places], given)
            _store(emit, value, arguments.at("out", arguments["to"], index(lane)), arguments.double("out"))

    return _signature(
        body, metric=metric, x_row=x_row, y_rows=y_rows, j=j, constants=constants, sums=sums, row=row,
        column=column, out=out, to=to,
    )  # fmt: skip


def _store(emit: Emit, value: Value, target: Value, double: bool) -> None:
    """Store in the precision of the output: sums of a float32 job may be float64."""
    value = emit.one_nan(value)
    emit.store(emit.narrow(value) if emit.double and not double else value, target)
