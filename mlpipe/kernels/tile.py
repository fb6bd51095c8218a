"""The micro-kernel: distances of a few rows of X to one panel of Y, held in registers.

A panel is a few vectors wide: that many rows of Y, transposed, so that one load brings the same
feature of neighbouring rows. A strip is a few rows of X. Strip × panel sums live in registers while the
features go by; every metric in `metrics.py` is this one loop with its own `step`.

Rounding: sums run over `CHUNK` features at a time and the chunks are added up, so that float32 sums of
many equal terms stay within 1e-6; beyond `distances.FEATURES` features, partial sums are kept in
float64. The order of all this depends on the number of features alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox

from mlpipe.kernels.intrinsics import Arguments, signature_of
from mlpipe.kernels.metrics import METRICS, Given, Metric
from mlpipe.kernels.simd import Emit, Value, host_width

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


def panel_vectors(metric: Metric) -> int:
    """Vectors side by side in a panel: fewer where each keeps more than one register busy."""
    return host_width().panel if metric.sums == metric.features == 1 else 4


def panel_width(metric: Metric, itemsize: int) -> int:
    """Rows of Y in one panel, for elements of `itemsize` bytes."""
    return panel_vectors(metric) * host_width().lanes(itemsize)


def strip_rows(metric: Metric) -> int:
    """Rows of X in one strip: half of the registers hold sums, the rest what is loaded."""
    return max(1, host_width().registers // 2 // panel_vectors(metric) // metric.sums)


def narrow_rows(metric: Metric) -> int:
    """Rows of X in a strip that meets one vector of a panel, not all: fewer sums, for every row loads its own value."""
    return max(1, host_width().registers // 4 // metric.sums)


def metric_of(arguments: Arguments) -> Metric:
    """The metric that an intrinsic is compiled for."""
    return METRICS[arguments.type("metric").metric_key]


class _Strip:
    """Emits the loop over features for one strip × panel, or × one vector of a panel, counted from `vector`."""

    def __init__(self, builder: Any, arguments: Arguments, vector: Value = None) -> None:
        self.builder = builder
        self.arguments = arguments
        self.metric = metric_of(arguments)
        double = arguments.double("x")
        self.lanes = host_width().lanes(8 if double else 4)
        self.emit = Emit(builder, double, self.lanes)
        self.width = panel_vectors(self.metric) * self.lanes
        self.rows, self.vectors = strip_rows(self.metric), panel_vectors(self.metric)
        self.column = ir.Constant(ir.IntType(64), 0)
        if vector is not None:
            self.rows, self.vectors = narrow_rows(self.metric), 1
            self.column = builder.mul(vector, vector.type(self.lanes))
        self.given = Given(self._constant)

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Every (sum, row, vector) of the register tile."""
        return ((s, r, v) for s in range(self.metric.sums) for r in range(self.rows) for v in range(self.vectors))

    def row_indices(self) -> list[Value]:
        """Rows i, i+1, … but never past `last`: a strip at the edge repeats the last row."""
        builder, i, last = self.builder, self.arguments["i"], self.arguments["last"]
        rows = [builder.add(i, i.type(r)) for r in range(self.rows)]
        return [builder.select(builder.icmp_signed("<", row, last), row, last) for row in rows]

    def sums(self, rows: Sequence[Value], start: Value, stop: Value) -> Slots:
        """Sums over features start … stop, chunk by chunk."""
        builder, index, arguments = self.builder, start.type, self.arguments
        panel = arguments.at("panels", arguments["p"], index(0), self.column)
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

        return [[[slot() for _ in range(self.vectors)] for _ in range(self.rows)] for _ in range(self.metric.sums)]

    def _clear(self, slots: Slots) -> None:
        for s, r, v in self.places():
            self.builder.store(self.emit.constant(0.0), slots[s][r][v])

    def _step(self, part: Slots, x_rows: Sequence[Value], panel: Value, k: Value) -> None:
        builder, emit = self.builder, self.emit
        features = [builder.add(k, k.type(f)) for f in range(self.metric.features)]
        width = k.type(self.width)

        def y_vector(feature: Value, v: int) -> Value:
            offset = builder.add(builder.mul(feature, width), k.type(v * self.lanes))
            return emit.load(builder.gep(panel, [offset]))

        y = [[y_vector(feature, v) for feature in features] for v in range(self.vectors)]
        weight = emit.broadcast(builder.load(self.arguments.at("weights", k))) if self.metric.weighted else None
        for r, x_row in enumerate(x_rows):
            x = [emit.broadcast(builder.load(builder.gep(x_row, [feature]))) for feature in features]
            for v in range(self.vectors):
                old = [builder.load(part[s][r][v]) for s in range(self.metric.sums)]
                for s, new in enumerate(self.metric.step(emit, old, x, y[v], Given(self._constant, weight))):
                    builder.store(new, part[s][r][v])

    def _constant(self, index: int) -> Value:
        value = self.builder.load(self.arguments.at("constants", ir.IntType(64)(index)))
        return self.emit.broadcast(value)


def _whole_sums(strip: _Strip, arguments: Arguments, builder: Any) -> None:
    """Distances of a strip, over all features, into ``out[row:, column of the strip:]``."""
    rows = strip.row_indices()
    zero, features = arguments["i"].type(0), arguments.shape("x")[1]
    sums = strip.sums(rows, zero, features)
    first = builder.add(builder.mul(arguments["p"], zero.type(strip.width)), strip.column)
    for r, v in itertools.product(range(strip.rows), range(strip.vectors)):
        lane = zero.type(v * strip.lanes)
        given = Given(
            strip.given.constant,
            x=strip.emit.broadcast(builder.load(arguments.at("x_rows", rows[r]))),
            y=strip.emit.load(arguments.at("y_rows", builder.add(first, lane))),
        )
        value = strip.metric.finish(strip.emit, [builder.load(group[r][v]) for group in sums], given)
        to_row = builder.add(arguments["row"], zero.type(r))
        target = arguments.at("out", to_row, builder.add(strip.column, lane))
        _store(strip.emit, value, target, arguments.double("out"))


@intrinsic
def tile(_context, metric, x, i, last, panels, p, weights, x_rows, y_rows, constants, out, row):
    """Distances of the rows i … of X to panel p into ``out[row:]``."""

    def body(arguments: Arguments, builder: Any) -> None:
        _whole_sums(_Strip(builder, arguments), arguments, builder)

    return signature_of(
        body, metric=metric, x=x, i=i, last=last, panels=panels, p=p, weights=weights,
        x_rows=x_rows, y_rows=y_rows, constants=constants, out=out, row=row,
    )  # fmt: skip


@intrinsic
def narrow_tile(_context, metric, x, i, last, panels, p, vector, weights, x_rows, y_rows, constants, out, row):
    """Distances of the rows i … of X to one vector of panel p into the same columns of ``out[row:]``."""

    def body(arguments: Arguments, builder: Any) -> None:
        _whole_sums(_Strip(builder, arguments, arguments["vector"]), arguments, builder)

    return signature_of(
        body, metric=metric, x=x, i=i, last=last, panels=panels, p=p, vector=vector, weights=weights,
        x_rows=x_rows, y_rows=y_rows, constants=constants, out=out, row=row,
    )  # fmt: skip


@intrinsic
def partial_tile(_context, metric, x, i, last, start, stop, panels, p, weights, constants, sums, row, column):
    """Merge the sums over features start … stop into the float64 array ``sums[:, row:, column:]``."""

    def body(arguments: Arguments, builder: Any) -> None:
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

    return signature_of(
        body, metric=metric, x=x, i=i, last=last, start=start, stop=stop, panels=panels, p=p, weights=weights,
        constants=constants, sums=sums, row=row, column=column,
    )  # fmt: skip


@intrinsic
def finish_row(_context, metric, x_row, y_rows, j, constants, sums, row, column, out, to):
    """Distances of one row to one panel, from the float64 ``sums[:, row, column:]`` into ``out[to, :]``."""

    def body(arguments: Arguments, builder: Any) -> None:
        double = arguments.double("y_rows")
        emit, metric = Emit(builder, True, host_width().lanes(8)), metric_of(arguments)
        index = arguments["row"].type

        def widened(value: Value, kind: Value) -> Value:
            return value if double else builder.fpext(value, kind)

        def constant(i: int) -> Value:
            return emit.broadcast(widened(builder.load(arguments.at("constants", index(i))), emit.scalar))

        x = emit.broadcast(widened(arguments["x_row"], emit.scalar))
        for lane in range(0, panel_width(metric, 8 if double else 4), emit.lanes):
            y = Emit(builder, double, emit.lanes).load(arguments.at("y_rows", builder.add(arguments["j"], index(lane))))
            column = builder.add(arguments["column"], index(lane))
            places = [arguments.at("sums", index(s), arguments["row"], column) for s in range(metric.sums)]
            given = Given(constant, x=x, y=widened(y, emit.type))
            value = metric.finish(emit, [emit.load(place) for place in places], given)
            _store(emit, value, arguments.at("out", arguments["to"], index(lane)), arguments.double("out"))

    return signature_of(
        body, metric=metric, x_row=x_row, y_rows=y_rows, j=j, constants=constants, sums=sums, row=row,
        column=column, out=out, to=to,
    )  # fmt: skip


def _store(emit: Emit, value: Value, target: Value, double: bool) -> None:
    """Store in the precision of the output: sums of a float32 job may be float64."""
    value = emit.one_nan(value)
    emit.store(emit.narrow(value) if emit.double and not double else value, target)
