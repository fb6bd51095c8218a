"""How fast this processor could be at best: vector instructions it can do in a second, measured.

Registers only, nothing is loaded: sixteen independent chains of one instruction, on all threads at once.
A metric that needs n instructions for a pair of features can then not take less than
rows × rows × features × n / rate, whatever else is done well.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from benchmarks.harness import THREADS
from mlpipe.kernels.simd import Emit, host_width
from mlpipe.workers import Workers

ITERATIONS = 15_000_000

INSTRUCTIONS = {
    "euclidean": (2, 0, "sub, fma"),
    "sqeuclidean": (2, 0, "sub, fma"),
    "cityblock": (3, 0, "sub, and, add"),
    "chebyshev": (3, 0, "sub, and, max"),
    "canberra": (6, 1, "sub, and, add, compare, select, add; div"),
    "braycurtis": (6, 0, "sub, and, add; add, and, add"),
    "hamming": (2, 0, "compare, masked add"),
}
"""For one pair of features: instructions on the vector arithmetic ports, divisions, and which. Absolute values
of x and y alone are left out: one does for a whole strip."""


def _chains(divide: bool, double: bool) -> Any:
    """An intrinsic that runs `iterations` rounds of the chains and returns one lane of their sum."""

    @intrinsic
    def run(_context: Any, iterations: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            emit = Emit(builder, double, host_width().lanes(8 if double else 4))
            slots = [cgutils.alloca_once(builder, emit.type) for _ in range(host_width().registers // 2)]
            for number, slot in enumerate(slots):
                builder.store(emit.constant(1.0 + number), slot)
            with cgutils.for_range(builder, values[0]):
                for slot in slots:
                    value = builder.load(slot)
                    if divide:
                        builder.store(emit.div(emit.constant(3.0), value), slot)
                    else:
                        builder.store(emit.fma(value, emit.constant(0.999), emit.constant(0.5)), slot)
            total = functools.reduce(emit.add, [builder.load(slot) for slot in slots])
            lane = builder.extract_element(total, ir.IntType(32)(0))
            return lane if double else builder.fpext(lane, ir.DoubleType())

        return types.float64(types.intp), generate

    return run


@functools.cache
def rate(divide: bool, double: bool) -> float:
    """Elements a second that one kind of instruction can do, all threads together: best of ten."""
    chains = _chains(divide, double)

    @numba.njit(nogil=True)
    def spin(iterations: int) -> float:
        return chains(iterations)

    spin(1)
    iterations = ITERATIONS // 20 if divide else ITERATIONS  # some 50 ms
    lanes = host_width().lanes(8 if double else 4)
    shortest = float("inf")
    with Workers(THREADS) as workers:
        for _ in range(10):
            start = time.perf_counter()
            workers.run(lambda _task, _worker: spin(iterations), range(THREADS))
            shortest = min(shortest, time.perf_counter() - start)
    return iterations * (host_width().registers // 2) * lanes * THREADS / shortest


def least_seconds(metric: str, double: bool, rows: int, other_rows: int, features: int) -> float:
    """Time below which the arithmetic of a metric cannot go on this machine."""
    instructions, divisions, _ = INSTRUCTIONS[metric]
    elements = rows * other_rows * features
    slowest = instructions / rate(False, double)
    if divisions:
        slowest = max(slowest, divisions / rate(True, double))
    return elements * slowest
