"""Squared distances of rows rounded to 8 bits, 64 products at a time: which pairs can be near at all.

Rows of both sides are rounded to one grid, value = centre + step · integer. With D the squared distance of two rounded
rows in steps, √D · step differs from the true distance by no more than what rounding moved both rows. So pairs with
a large D are known to be far without having computed their distance: what this finds is who may be near.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.intrinsics import Arguments

LANES = 16
"""Rows of data in a vector: one 32-bit sum each."""

VECTORS = 4
ROWS = 4
"""Vectors of data and queries in a tile of registers: 16 sums, and 8 loads for 16 multiplications of 64 bytes."""

WIDTH = LANES * VECTORS
QUAD = 4
"""Features that one multiplication takes from each row."""

LARGEST = 127
SHIFT = 128
"""Added to the integers of queries, which the instruction takes to be unsigned."""

MOST_FEATURES = 8192
"""Sums of more might not fit into 32 bits."""

UNBOUNDED = 1 << 30


def available() -> bool:
    """Whether this processor multiplies bytes and adds them up in 512-bit vectors (VNNI)."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and features.get("avx512f"))


@intrinsic
def near_tile(_context, queries, i, last, panels, p, halves, norms, reach, first, near, places, counts, g):
    """Append to the candidates of queries i … those rows of panel p that may be near.

    With S = Σ (query + 128) · data − half of the row's own part (see `halves_of`), the squared distance in steps is the
    query's squared length − 2 S, or 1 more. A row may be near when S reaches `reach` of the query.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        names = (
            "queries",
            "i",
            "last",
            "panels",
            "p",
            "halves",
            "norms",
            "reach",
            "first",
            "near",
            "places",
            "counts",
            "g",
        )
        arguments = Arguments(names, context, builder, signature, values)
        i16, i32, i64 = ir.IntType(LANES), ir.IntType(32), ir.IntType(64)
        vector, mask_type = ir.VectorType(i32, LANES), ir.VectorType(ir.IntType(1), LANES)
        undefined = ir.Constant(vector, ir.Undefined)
        zero, two = (ir.Constant(vector, [value] * LANES) for value in (0, 2))

        def function(name: str, kind: Any) -> Any:
            return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)

        multiply = function("llvm.x86.avx512.vpdpbusd.512", ir.FunctionType(vector, [vector, vector, vector]))
        compress = function(
            "llvm.x86.avx512.mask.compress.v16i32", ir.FunctionType(vector, [vector, vector, mask_type])
        )

        def load(pointer: Any) -> Any:
            return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)

        def store(value: Any, pointer: Any) -> None:
            builder.store(value, builder.bitcast(pointer, vector.as_pointer()), align=4)

        def broadcast(scalar: Any) -> Any:
            one = builder.insert_element(undefined, scalar, i32(0))
            return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(i32, LANES), None))

        wanted = [builder.add(arguments["i"], i64(r)) for r in range(ROWS)]
        there = [builder.icmp_signed("<=", row, arguments["last"]) for row in wanted]
        rows = [builder.select(one, row, arguments["last"]) for one, row in zip(there, wanted, strict=True)]
        starts = [builder.bitcast(arguments.at("queries", row, i64(0)), i32.as_pointer()) for row in rows]
        panel = arguments.at("panels", arguments["p"], i64(0), i64(0))
        quads = arguments.shape("panels")[1]
        column = builder.mul(arguments["p"], i64(WIDTH))
        sums = [[cgutils.alloca_once(builder, vector) for _ in range(VECTORS)] for _ in range(ROWS)]
        for v in range(VECTORS):
            half = load(arguments.at("halves", builder.add(column, i64(v * LANES))))
            for r in range(ROWS):
                builder.store(half, sums[r][v])
        with cgutils.for_range(builder, quads) as loop:
            at = builder.mul(loop.index, i64(WIDTH * QUAD))
            y = [load(builder.gep(panel, [builder.add(at, i64(v * LANES * QUAD))])) for v in range(VECTORS)]
            for r in range(ROWS):
                x = broadcast(builder.load(builder.gep(starts[r], [loop.index]), align=4))
                for v in range(VECTORS):
                    builder.store(builder.call(multiply, [builder.load(sums[r][v]), x, y[v]]), sums[r][v])
        lanes = ir.Constant(vector, list(range(LANES)))
        index = builder.add(broadcast(builder.trunc(builder.add(arguments["first"], column), i32)), lanes)
        for r in range(ROWS):
            least = builder.select(there[r], builder.load(arguments.at("reach", rows[r])), i32(2**31 - 1))
            found = [builder.icmp_signed(">=", builder.load(sums[r][v]), broadcast(least)) for v in range(VECTORS)]
            any_found = builder.bitcast(functools.reduce(builder.or_, found), i16)
            with builder.if_then(builder.icmp_unsigned("!=", any_found, i16(0))):
                group = builder.add(arguments["g"], i64(r))
                place = arguments.at("counts", group)
                count = builder.load(place)
                norm = broadcast(builder.load(arguments.at("norms", rows[r])))
                for v in range(VECTORS):
                    apart = builder.sub(norm, builder.mul(builder.load(sums[r][v]), two))
                    rows_found = builder.add(index, ir.Constant(vector, [v * LANES] * LANES))
                    store(builder.call(compress, [apart, zero, found[v]]), arguments.at("near", group, count))
                    store(builder.call(compress, [rows_found, zero, found[v]]), arguments.at("places", group, count))
                    ones = builder.ctpop(builder.bitcast(found[v], i16))
                    count = builder.add(count, builder.zext(ones, i64))
                builder.store(count, place)
        return context.get_dummy_value()

    long = types.int64
    return types.void(
        queries, long, long, panels, long, halves, norms, reach, long, near, places, counts, long
    ), generate


@kernel
def quantize(rows, centre, step, shift, out, norms, errors):
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
            moved += rest * rest
            integer = np.int32(value)
            total += integer * integer
            out[i, k] = np.uint8((integer + shift) & 255)
        norms[i] = total
        errors[i] = math.sqrt(moved) * (1.0 + 1e-9)


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
