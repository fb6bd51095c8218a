"""``mlpipe bench kernels``: every way to compute a distance or a count, timed side by side, results compared."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlpipe.bench.count_task import Count
from mlpipe.bench.data import Data
from mlpipe.bench.distance_tasks import Batch, Pair
from mlpipe.bench.facts import Clock
from mlpipe.bench.method import Method, Problem
from mlpipe.bench.timing import Timed, timed
from mlpipe.kernels import plain
from mlpipe.kernels._jit import cache_state
from mlpipe.measure.comparison import KernelsComparison, Task, Timing

TASKS = ("pair", "batch", "count")


@dataclass(frozen=True)
class Settings:
    """How to compare.

    Parameters
    ----------
    threads : int
        Of methods that have several.
    repeat : int
        Samples of each method, where there is time for so many.
    budget : float
        Seconds for the samples of one method at one task.
    tasks : sequence of str
        Which tasks.
    """

    threads: int
    repeat: int = 5
    budget: float = 1.0
    tasks: Sequence[str] = TASKS


def compare_kernels(
    data: Data, settings: Settings, said: dict[str, Any], ready: Callable[[str], object] = lambda label: None
) -> KernelsComparison:
    """Time all methods at all tasks.

    Parameters
    ----------
    data : Data
        What is worked on.
    settings : Settings
        How.
    said : dict
        What the record has as settings.
    ready : callable
        Told of each method that is done.

    Raises
    ------
    MlpipeError
        If a result differs from NumPy's by more than rounding.
    """
    clock, notes = Clock(), list(data.notes)
    with plain.numba_threads(settings.threads) as used:
        if used < settings.threads:
            notes.append(f"Numba runs at most {used} threads here; set NUMBA_NUM_THREADS for more")
        plain.start_compiler()
        found = [_task(problem, settings, used, notes, ready) for problem in _problems(data, settings.tasks)]
    return {**clock.facts("kernels", said, data.inputs, notes, ("numba-cuda",)), "tasks": found}


def _problems(data: Data, tasks: Sequence[str]) -> list[Problem]:
    makers: dict[str, Callable[[], Problem]] = {
        "pair": lambda: Pair(data.x[0], data.y[-1]),
        "batch": lambda: Batch(data.x, data.y),
        "count": lambda: Count(data.values, data.no_values),
    }
    return [makers[name]() for name in TASKS if name in tasks]


def _task(problem: Problem, settings: Settings, threads: int, notes: list[str], ready: Callable[[str], object]) -> Task:
    """Time all methods at one task; NumPy comes first, for the others are compared with it."""
    found: Task = {
        "task": problem.task, "title": problem.title, "rows": problem.rows, "dtype": problem.dtype,
        "skipped": problem.skipped, "tolerance": problem.tolerance, "methods": [],
    }  # fmt: skip
    if problem.skipped is not None:
        return found
    methods = list(problem.methods(settings.threads, threads))
    order = {method.name: place for place, method in enumerate(methods)}
    facts: dict[str, Timing] = {}
    reference: Timed | None = None
    for method in sorted(methods, key=lambda method: method.name != problem.reference):
        if method.skipped is not None:
            facts[method.name] = _timing(method, None, None)
            continue
        kernels = cache_state()["entries"] if method.name == "mlpipe" else 0
        try:
            one = _timed(method, problem, settings)
        except Exception as error:
            if not method.name.startswith("cuda"):
                raise
            reason = " ".join(f"the GPU failed: {type(error).__name__}: {error}".split())
            facts[method.name] = _timing(replace(method, skipped=reason), None, None)
            continue
        if method.name == "mlpipe":
            made = cache_state()["entries"] - kernels
            how = f"compiled {made} kernels, and kept them" if made else "took its kernels from its cache"
            notes.append(f"{problem.task}: mlpipe {how}")
        reference = one if reference is None else reference
        difference = problem.difference(one.result, one.rows, reference.result, method.label)
        facts[method.name] = _timing(method, one, difference)
        ready(f"{problem.task}: {method.label}")
    found["methods"] = _with_ratios([facts[name] for name in order])
    return found


def _timed(method: Method, problem: Problem, settings: Settings) -> Timed:
    gc.collect()
    return timed(
        method.call, problem.rows, repeat=settings.repeat, budget=settings.budget, compiled=method.compiled,
        first=problem.rows if method.first is None else method.first, sampled=method.sampled,
    )  # fmt: skip


def _timing(method: Method, found: Timed | None, difference: float | None) -> Timing:
    return {
        "method": method.name,
        "label": method.label,
        "skipped": method.skipped,
        "best_s": None if found is None else found.best,
        "median_s": None if found is None else found.median,
        "samples_s": [] if found is None else found.samples,
        "loops": None if found is None else found.loops,
        "compile_s": None if found is None else found.compile_s,
        "measured_rows": None if found is None else found.rows,
        "extrapolated": found is not None and found.extrapolated,
        "against_python": None,
        "against_numpy": None,
        "largest_difference": difference,
    }


def _with_ratios(methods: list[Timing]) -> list[Timing]:
    """How many times faster each is than pure Python, and than the faster of NumPy's ways."""
    python = [one["best_s"] for one in methods if one["method"] == "python" and one["best_s"]]
    numpy = [one["best_s"] for one in methods if one["method"].startswith("numpy") and one["best_s"]]
    for one in methods:
        if one["best_s"]:
            one["against_python"] = python[0] / one["best_s"] if python else None
            one["against_numpy"] = min(numpy) / one["best_s"] if numpy else None
    return methods
