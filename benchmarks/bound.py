"""How fast this processor could be at best: a metric's own arithmetic, in registers, measured.

Nothing is loaded and nothing stored: both threads repeat the metric's step on as many independent sums as fill
half of the registers. Whatever else a kernel does well, it cannot take less than rows × rows × features / rate.
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
from mlpipe.kernels.metrics import METRICS, Given
from mlpipe.kernels.simd import Emit, Value, host_width
from mlpipe.workers import Workers

ITERATIONS = 3_000_000


def _sums(metric: str) -> int:
    """Independent sums that keep the units busy: half of the registers."""
    return host_width().registers // 2 // METRICS[metric].sums


def _opaque(emit: Emit, value: Value) -> Value:
    """The same value, of which the compiler no longer knows anything; no instruction."""
    register = "w" if host_width().name == "NEON" else "v" if host_width().bits == 512 else "x"
    signature = ir.FunctionType(emit.type, [emit.type])
    return emit.builder.asm(signature, "", f"={register},0", [value], side_effect=True)


def _steps(metric: str, double: bool) -> Any:
    """An intrinsic that takes `iterations` steps with each of the sums and returns one lane of their total."""
    kind = METRICS[metric]

    @intrinsic
    def run(_context: Any, iterations: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, values: Any) -> Any:
            emit = Emit(builder, double, host_width().lanes(8 if double else 4))
            one, x, y = (_opaque(emit, emit.constant(number)) for number in (1.0, 1.25, 0.5))
            given = Given(lambda _index: one)
            slots = [cgutils.alloca_once(builder, emit.type) for _ in range(kind.sums * _sums(metric))]
            for slot in slots:
                builder.store(emit.constant(0.0), slot)
            with cgutils.for_range(builder, values[0]):
                for first in range(0, len(slots), kind.sums):
                    group = slots[first : first + kind.sums]
                    new = kind.step(emit, [builder.load(slot) for slot in group], [x], [y], given)
                    for slot, value in zip(group, new, strict=True):
                        builder.store(value, slot)
                    x = _opaque(emit, x)
            total = functools.reduce(emit.add, [builder.load(slot) for slot in slots])
            lane = builder.extract_element(total, ir.IntType(32)(0))
            return lane if double else builder.fpext(lane, ir.DoubleType())

        return types.float64(types.intp), generate

    return run


@functools.cache
def rate(metric: str, double: bool) -> float:
    """Pairs of features a second that the arithmetic allows, all threads together: best of ten."""
    steps = _steps(metric, double)

    @numba.njit(nogil=True)
    def spin(iterations: int) -> float:
        return steps(iterations)

    spin(1)
    lanes = host_width().lanes(8 if double else 4)
    shortest = float("inf")
    with Workers(THREADS) as workers:
        for _ in range(10):
            start = time.perf_counter()
            workers.run(lambda _task, _worker: spin(ITERATIONS), range(THREADS))
            shortest = min(shortest, time.perf_counter() - start)
    return ITERATIONS * _sums(metric) * lanes * THREADS / shortest


def least_seconds(metric: str, double: bool, rows: int, other_rows: int, features: int) -> float:
    """Time below which the arithmetic of a metric cannot go on this machine."""
    return rows * other_rows * features / rate(metric, double)
