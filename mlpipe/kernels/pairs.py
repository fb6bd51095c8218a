"""Distances of single pairs, the very numbers that tiles of them hold.

For what is asked for here and there: the same operations in the same order as `tile.py` and `distances.py` have them.
A tile has many rows of Y side by side in a vector, which rows picked here and there are not. But a sum over features is
made of sums over chunks of them, added up in order, and these do not wait for each other: rows are folded so that the
same feature of several chunks lies side by side, and the lanes of a vector are chunks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.distances import FEATURES
from mlpipe.kernels.intrinsics import Arguments
from mlpipe.kernels.simd import Emit
from mlpipe.kernels.tile import CHUNK

ROOT, SQUARE, HALF, ABSOLUTE = 0, 1, 2, 3
"""What becomes of a sum of squared differences: its root, itself, or half of it (of rows of length 1); or a sum of
absolute differences."""

TOGETHER = 8
"""Pairs side by side, for each sum has to wait for itself."""


LANES = (1, 2, 4, 8)


def lanes_of(features: int) -> int:
    """Chunks side by side in folded rows: one of `LANES`."""
    chunks = -(-features // CHUNK)
    return next((lanes for lanes in LANES if chunks <= lanes), LANES[-1])


def folded_width(features: int) -> int:
    """Elements of a folded row: a row itself if it has one chunk."""
    lanes = lanes_of(features)
    return features if lanes == 1 else -(-features // (lanes * CHUNK)) * lanes * CHUNK


@kernel
def fold(rows, start, stop, lanes, out):
    """Fold rows: feature t of chunk c becomes element (c // lanes · CHUNK + t) · lanes + c % lanes.

    `out` holds zeros where there is no feature, which add nothing to a sum; rows of one chunk stay as they are.
    """
    features = rows.shape[1]
    for i in range(start, stop):
        for k0 in range(0, features, CHUNK):
            c = k0 // CHUNK
            at = c // lanes * CHUNK * lanes + c % lanes
            for k in range(k0, min(k0 + CHUNK, features)):
                out[i - start, at] = rows[i, k]
                at += lanes


def _summing(squares: bool) -> Any:
    """The intrinsic that sums the chunks of pairs: squared or absolute differences."""

    @intrinsic
    def sums(_context, x, rows, index, lanes, steps, out):
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            arguments = Arguments(("x", "rows", "index", "lanes", "steps", "out"), context, builder, signature, values)
            i64, count = ir.IntType(64), len(signature.args[3])
            emit = Emit(builder, arguments.double("x"), count)
            steps, width = arguments["steps"], arguments.shape("x")[0]
            starts = [
                arguments.at("rows", builder.load(arguments.at("index", i64(r))), i64(0)) for r in range(TOGETHER)
            ]
            slots = [cgutils.alloca_once(builder, emit.type) for _ in range(TOGETHER)]
            group = builder.mul(steps, i64(count))
            with cgutils.for_range_slice(builder, i64(0), width, group, i64) as (first, number):
                for slot in slots:
                    builder.store(emit.constant(0.0), slot)
                with cgutils.for_range(builder, steps) as loop:
                    at = builder.add(first, builder.mul(loop.index, i64(count)))
                    value = emit.load(arguments.at("x", at))
                    for start, slot in zip(starts, slots, strict=True):
                        apart = emit.sub(value, emit.load(builder.gep(start, [at])))
                        old = builder.load(slot)
                        new = emit.fma(apart, apart, old) if squares else emit.add(old, emit.abs(apart))
                        builder.store(new, slot)
                for r, slot in enumerate(slots):
                    target = arguments.at("out", i64(r), builder.mul(number, i64(count)))
                    emit.store(builder.load(slot), target)
            return context.get_dummy_value()

        return types.void(x, rows, index, lanes, types.int64, out), generate

    return sums


_square_sums, _absolute_sums = _summing(True), _summing(False)


@kernel
def _finish(total, how):
    """The distance; rounded to float32, a root in float64 is the root in float32."""
    if how == ROOT:
        return math.sqrt(total)
    if how == HALF:
        return min(total * 0.5, 2.0)
    return total


@kernel
def pair_distances(x, rows, index, lanes, how, sums, out):
    """Distances of a row to eight others.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (width,)
        Prepared and folded, as the others are.
    rows : ndarray, shape (count, width)
        Among which the others are.
    index : ndarray of int64, shape (8,)
        Which.
    lanes : tuple of int
        As many as there are lanes, for it is compiled for that.
    how : int
        ROOT, SQUARE, HALF or ABSOLUTE.
    sums : ndarray, shape (8, chunks)
        Scratch of the type of x.
    out : ndarray of the output's type, shape (8,)
        The distances.
    """
    width = x.shape[0]
    chunk = CHUNK if len(lanes) > 1 else width
    if how == ABSOLUTE:
        _absolute_sums(x, rows, index, lanes, chunk, sums)
    else:
        _square_sums(x, rows, index, lanes, chunk, sums)
    chunks, most = width // max(1, chunk), FEATURES // CHUNK
    for r in range(TOGETHER):
        total = 0.0
        for start in range(0, chunks, most):
            part = sums[r, start]
            for c in range(start + 1, min(start + most, chunks)):
                part += sums[r, c]
            total += np.float64(part)
        out[r] = _finish(total, how)
