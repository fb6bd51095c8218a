"""Distances of rows rounded to 8 bits, 64 features at a time: which pairs can be near at all.

Rows of both sides are rounded to one grid, value = centre + step · integer. With D the squared distance of two rounded
rows in steps, √D · step differs from the true distance by no more than what rounding moved both rows. So pairs with
a large D are known to be far without having computed their distance: what this finds is who may be near. The same
holds of sums of absolute differences.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.integers import EmitIntegers, compresses
from mlpipe.kernels.intrinsics import Arguments

LANES = 16
"""Rows of data in a vector: one 32-bit sum each."""

VECTORS = 4
ROWS = 4
"""Vectors of data and queries in a tile of registers: 16 sums, and 8 loads for 16 multiplications of 64 bytes."""

WIDTH = LANES * VECTORS
QUAD = 4
"""Features that one multiplication takes from each row."""

OCTET = 8
"""The same of one sum of absolute differences."""

LARGEST = 127
SHIFT = 128
"""Added to the integers of queries, which the instruction takes to be unsigned."""

MOST_FEATURES = 8192
"""Sums of more might not fit into 32 bits."""

UNBOUNDED = 1 << 30


def available() -> bool:
    """Whether this processor multiplies bytes and adds them up in 512-bit vectors (VNNI)."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and features.get("avx512bw") and compresses())


@intrinsic
def byte_tile(_context, queries, i, last, panels, p, halves, out, column, least, group, fresh):
    """Sums of four queries i … and the 64 rows of panel p, negated, into ``out[:, column:]``.

    With S = Σ (query + 128) · data − half of the row's own part (see `pack_quads`), the squared distance in steps is
    the query's squared length − 2 S, or 1 more. −S goes out, so that small ones are near; and the least of each four
    goes to ``least[:, group:]``, or of these and what is there unless `fresh`.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        names = ("queries", "i", "last", "panels", "p", "halves", "out", "column", "least", "group", "fresh")
        arguments = Arguments(names, context, builder, signature, values)
        emit, i32, i64 = EmitIntegers(builder, 32), ir.IntType(32), ir.IntType(64)
        multiply = emit.function(
            "llvm.x86.avx512.vpdpbusd.512", ir.FunctionType(emit.type, [emit.type, emit.type, emit.type])
        )
        starts = [builder.bitcast(row, i32.as_pointer()) for row in _query_rows(arguments, builder)]
        panel = arguments.at("panels", arguments["p"], i64(0), i64(0))
        column = builder.mul(arguments["p"], i64(WIDTH))
        sums = [[cgutils.alloca_once(builder, emit.type) for _ in range(VECTORS)] for _ in range(ROWS)]
        for v in range(VECTORS):
            half = emit.load(arguments.at("halves", builder.add(column, i64(v * LANES))))
            for r in range(ROWS):
                builder.store(half, sums[r][v])
        with cgutils.for_range(builder, arguments.shape("panels")[1]) as loop:
            at = builder.mul(loop.index, i64(WIDTH * QUAD))
            y = [emit.load(builder.gep(panel, [builder.add(at, i64(v * LANES * QUAD))])) for v in range(VECTORS)]
            for r in range(ROWS):
                x = emit.broadcast(builder.load(builder.gep(starts[r], [loop.index]), align=4))
                for v in range(VECTORS):
                    builder.store(builder.call(multiply, [builder.load(sums[r][v]), x, y[v]]), sums[r][v])
        for r in range(ROWS):
            found = [builder.sub(emit.constant(0), builder.load(slot)) for slot in sums[r]]
            _hand_out(emit, arguments, r, found)
        return context.get_dummy_value()

    long = types.int64
    return types.void(queries, long, long, panels, long, halves, out, long, least, long, long), generate


@intrinsic
def sad_tile(_context, queries, i, last, panels, p, halves, out, column, least, group, fresh):
    """Sums of absolute differences of four queries i … and the 64 rows of panel p into ``out[:, column:]``.

    The rest as for `byte_tile`, but that the panels are those of `pack_octets`, and both sides are shifted.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        names = ("queries", "i", "last", "panels", "p", "halves", "out", "column", "least", "group", "fresh")
        arguments = Arguments(names, context, builder, signature, values)
        emit, wide, i64 = EmitIntegers(builder, 32), EmitIntegers(builder, 64), ir.IntType(64)
        octets = ir.VectorType(ir.IntType(8), LANES * QUAD)
        differences = emit.function("llvm.x86.avx512.psad.bw.512", ir.FunctionType(wide.type, [octets, octets]))
        starts = [builder.bitcast(row, i64.as_pointer()) for row in _query_rows(arguments, builder)]
        steps = builder.udiv(arguments.shape("panels")[1], i64(2))
        size = WIDTH // 2 * OCTET
        found: list[list[Any]] = [[] for _ in range(ROWS)]
        for half in range(2):  # 64 rows at once would be twice as many sums as there are registers for
            panel = arguments.at("panels", arguments["p"], builder.mul(steps, i64(half)), i64(0))
            sums = [[cgutils.alloca_once(builder, wide.type) for _ in range(VECTORS)] for _ in range(ROWS)]
            for row in sums:
                for slot in row:
                    builder.store(wide.constant(0), slot)
            with cgutils.for_range(builder, steps) as loop:
                at = builder.mul(loop.index, i64(size))
                y = [wide.load(builder.gep(panel, [builder.add(at, i64(v * size // VECTORS))])) for v in range(VECTORS)]
                y = [builder.bitcast(vector, octets) for vector in y]
                for r in range(ROWS):
                    x = wide.broadcast(builder.load(builder.gep(starts[r], [loop.index]), align=4))
                    x = builder.bitcast(x, octets)
                    for v in range(VECTORS):
                        apart = builder.call(differences, [x, y[v]])
                        builder.store(builder.add(builder.load(sums[r][v]), apart), sums[r][v])
            narrow = ir.VectorType(ir.IntType(32), wide.lanes)
            both = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(LANES)))
            for r in range(ROWS):
                parts = [builder.trunc(builder.load(slot), narrow) for slot in sums[r]]
                found[r] += [builder.shuffle_vector(parts[v], parts[v + 1], both) for v in range(0, VECTORS, 2)]
        column = builder.mul(arguments["p"], i64(WIDTH))
        begin = [emit.load(arguments.at("halves", builder.add(column, i64(v * LANES)))) for v in range(VECTORS)]
        for r in range(ROWS):
            _hand_out(emit, arguments, r, [builder.add(one, other) for one, other in zip(found[r], begin, strict=True)])
        return context.get_dummy_value()

    long = types.int64
    return types.void(queries, long, long, panels, long, halves, out, long, least, long, long), generate


def _query_rows(arguments: Arguments, builder: Any) -> list[Any]:
    """Addresses of the queries i …, the last one repeated where there are no more."""
    rows = [builder.add(arguments["i"], ir.IntType(64)(r)) for r in range(ROWS)]
    last = arguments["last"]
    rows = [builder.select(builder.icmp_signed("<=", row, last), row, last) for row in rows]
    return [arguments.at("queries", row, ir.IntType(64)(0)) for row in rows]


def _hand_out(emit: EmitIntegers, arguments: Arguments, r: int, found: list[Any]) -> None:
    """Store what was found for a query, and the least of it."""
    builder, i64 = emit.builder, ir.IntType(64)
    for v, vector in enumerate(found):
        emit.store(vector, arguments.at("out", i64(r), builder.add(arguments["column"], i64(v * emit.lanes))))
    place = arguments.at("least", i64(r), arguments["group"])
    fresh = builder.icmp_signed("!=", arguments["fresh"], i64(0))
    before = builder.select(fresh, emit.constant(2**31 - 1), emit.load(place))
    for vector in found:
        before = builder.select(builder.icmp_signed("<", vector, before), vector, before)
    emit.store(before, place)


@kernel
def quantize(rows, centre, step, shift, absolute, out, norms, errors):
    """Round rows to the grid.

    Parameters
    ----------
    rows : ndarray of float32 or float64, shape (n, features)
        Finite.
    centre : ndarray of float64, shape (features,)
    step : float
        Of the grid.
    shift : int
        Added to the integers.
    absolute : bool
        Whether lengths are sums of absolute values, not roots of sums of squares.
    out : ndarray of uint8, shape (n, at least features)
        Integers from −127 to 127, plus the shift, modulo 256; the rest of a row stays as it is.
    norms : ndarray of int32, shape (n,)
        Squared lengths of the rounded rows, in steps.
    errors : ndarray of float64, shape (n,)
        At least how far rounding moved each row.
    """
    inverse = 1.0 / step
    for i in range(rows.shape[0]):
        total, moved = np.int32(0), 0.0
        for k in range(rows.shape[1]):
            away = rows[i, k] - centre[k]
            value = np.rint(min(max(away * inverse, -127.0), 127.0))
            rest = away - value * step
            moved += abs(rest) if absolute else rest * rest
            integer = np.int32(value)
            total += integer * integer
            out[i, k] = np.uint8((integer + shift) & 255)
        norms[i] = total
        errors[i] = (moved if absolute else math.sqrt(moved)) * (1.0 + 1e-9)


@kernel
def pack_quads(rows, norms, panels, halves):
    """Lay rows out as `near_tile` reads them: four features of one row, of the next, … of 64; then the next four.

    Parameters
    ----------
    rows : ndarray of uint8, shape (n, features, a multiple of 4)
        Rounded rows, not shifted.
    norms : ndarray of int32, shape (n,)
        Their squared lengths.
    panels : ndarray of uint8, shape (panels, quads, 256)
        Zeros; filled in place.
    halves : ndarray of int32, shape (64 · panels,)
        What sums begin with: minus half of what a row adds to squared distances whatever the query. Where there is no
        row, so little that nothing reaches anything.
    """
    halves[:] = -(2**31 - 1)
    for i in range(rows.shape[0]):
        p, c, total = i // WIDTH, i % WIDTH, np.int32(0)
        for k in range(rows.shape[1]):
            panels[p, k // QUAD, QUAD * c + k % QUAD] = rows[i, k]
            total += np.int8(rows[i, k])
        halves[i] = -((norms[i] + 2 * SHIFT * total) >> 1)


@kernel
def pack_octets(rows, panels, halves):
    """Lay rows out as `sad_tile` reads them: eight features of one row, of the next, … of 32; then the next eight.

    Parameters
    ----------
    rows : ndarray of uint8, shape (n, features, a multiple of 8)
        Rounded and shifted rows.
    panels : ndarray of uint8, shape (panels, 2 · octets, 256)
        Zeros; filled in place: 32 rows, then the others.
    halves : ndarray of int32, shape (64 · panels,)
        What is added to sums: nothing, but very much where there is no row.
    """
    halves[:] = UNBOUNDED
    octets = panels.shape[1] // 2
    for i in range(rows.shape[0]):
        p, c = i // WIDTH, i % WIDTH
        at = c // (WIDTH // 2) * octets
        for k in range(rows.shape[1]):
            panels[p, at + k // OCTET, c % (WIDTH // 2) * OCTET + k % OCTET] = rows[i, k]
        halves[i] = 0
