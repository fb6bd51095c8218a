"""``mlpipe bench scaling``: how the time of distances and of counts grows with rows, features and threads."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.api import pairwise_distances
from mlpipe.bench.data import Data
from mlpipe.bench.facts import Clock
from mlpipe.bench.timing import timed
from mlpipe.counting.in_memory import value_counts
from mlpipe.errors import UsageError
from mlpipe.link import Array
from mlpipe.measure.comparison import Point, ScalingComparison, Series

TASKS = ("distances", "count")

STEPS = 4
"""Sizes of a series that nobody named: each twice the one before."""


@dataclass(frozen=True)
class Settings:
    """What to vary.

    Parameters
    ----------
    rows, features, values, threads : sequence of int
        Sizes, ascending. While one varies, the others have their last size; so have threads.
    metric : str
        Of the distances.
    repeat : int
        Samples of each point, where there is time for so many.
    budget : float
        Seconds for the samples of one point.
    tasks : sequence of str
        ``distances``, ``count``.
    """

    rows: Sequence[int]
    features: Sequence[int]
    values: Sequence[int]
    threads: Sequence[int]
    metric: str = "euclidean"
    repeat: int = 5
    budget: float = 1.0
    tasks: Sequence[str] = TASKS


def ladder(largest: int, steps: int = STEPS) -> list[int]:
    """Sizes up to the largest, each about twice the one before.

    Examples
    --------
    >>> ladder(2000), ladder(3), ladder(1)
    ([250, 500, 1000, 2000], [1, 3], [1])
    """
    return sorted({max(1, largest >> step) for step in range(steps)})


def thread_ladder(most: int) -> list[int]:
    """1, 2, 4 … and the most there are.

    Examples
    --------
    >>> thread_ladder(1), thread_ladder(6)
    ([1], [1, 2, 4, 6])
    """
    return sorted({min(most, 1 << step) for step in range(most.bit_length() + 1)})


def growth(values: Sequence[float], seconds: Sequence[float]) -> tuple[float, float | None]:
    """The power of the value that time grows as, by least squares of logarithms, and its standard error.

    Two points have no error to tell.

    Examples
    --------
    >>> exponent, error = growth([1, 2, 4], [3.0, 12.0, 48.0])
    >>> round(exponent, 9), round(error, 9)
    (2.0, 0.0)
    """
    x, y = np.log(np.asarray(values, float)), np.log(np.asarray(seconds, float))
    x -= x.mean()
    y -= y.mean()
    slope = float(x @ y / (x @ x))
    if len(x) < 3:
        return slope, None
    left = y - slope * x
    return slope, math.sqrt(float(left @ left) / (len(x) - 2) / float(x @ x))


def compare_scaling(
    data: Data, settings: Settings, said: dict[str, Any], ready: Callable[[str], object] = lambda label: None
) -> ScalingComparison:
    """Time every point of every series.

    Parameters
    ----------
    data : Data
        At least as many rows, features and values as the largest sizes.
    settings : Settings
        What to vary.
    said : dict
        What the record has as settings.
    ready : callable
        Told of each series that is done.
    """
    clock, notes, series = Clock(), list(data.notes), []
    if "count" in settings.tasks and data.values is None:
        notes.append(f"counts are left out: {data.no_values}")
    for make in _planned(data, settings):
        series.append(make())
        ready(series[-1]["title"])
    if not series:
        raise UsageError("nothing varies; give at least two sizes, such as --rows 500,1000,2000")
    return {**clock.facts("scaling", said, data.inputs, notes), "series": series}


def _planned(data: Data, settings: Settings) -> Iterator[Callable[[], Series]]:
    """Series to be measured: those of which there are two points at least."""
    one = settings
    if "distances" in one.tasks:
        fixed = {"rows": one.rows[-1], "features": one.features[-1], "threads": one.threads[-1]}
        sizes = {"rows": one.rows, "features": one.features, "threads": one.threads}
        expected = {"rows": 2.0, "features": 1.0}

        def distances(size: dict[str, int]) -> Callable[[int], Any]:
            x = np.ascontiguousarray(data.x[: size["rows"], : size["features"]])
            y = x.copy()  # not against itself, where half of the work is left out
            return lambda _: pairwise_distances(x, y, one.metric, threads=size["threads"])

        yield from _series("distances", f"{one.metric} distances", sizes, fixed, expected, distances, settings)
    if "count" in one.tasks and data.values is not None:
        values: Array = data.values
        fixed = {"values": one.values[-1], "threads": one.threads[-1]}

        def count(size: dict[str, int]) -> Callable[[int], Any]:
            return lambda _: value_counts(values[: size["values"]], threads=size["threads"])

        sizes = {"values": one.values, "threads": one.threads}
        yield from _series("count", "counts of values", sizes, fixed, {"values": 1.0}, count, settings)


def _series(
    task: str, title: str, sizes: dict[str, Sequence[int]], fixed: dict[str, int], expected: dict[str, float],
    make: Callable[[dict[str, int]], Callable[[int], Any]], settings: Settings,
) -> Iterator[Callable[[], Series]]:  # fmt: skip
    """One series for each thing that varies."""
    for varies, values in sizes.items():
        if len(values) < 2:
            continue
        others = {name: size for name, size in fixed.items() if name != varies}

        def measure(varies: str = varies, values: Sequence[int] = values, others: dict[str, int] = others) -> Series:
            points = [_point(value, make({**others, varies: value}), settings) for value in values]
            found: Series = {
                "task": task, "title": title, "varies": varies, "fixed": others, "points": points, "exponent": None,
                "exponent_error": None, "expected": expected.get(varies),
            }  # fmt: skip
            if varies == "threads":
                _efficiency(points)
            else:
                best = [point["best_s"] for point in points]
                found["exponent"], found["exponent_error"] = growth(values, best)
            return found

        yield measure


def _point(value: int, call: Callable[[int], Any], settings: Settings) -> Point:
    gc.collect()
    found = timed(call, 1, repeat=settings.repeat, budget=settings.budget, compiled=True)
    return {
        "value": value, "best_s": found.best, "median_s": found.median, "samples_s": found.samples, "efficiency": None,
    }  # fmt: skip


def _efficiency(points: list[Point]) -> None:
    """What is left of each thread's time, beside that of the fewest."""
    first = points[0]
    for point in points:
        point["efficiency"] = first["best_s"] * first["value"] / (point["best_s"] * point["value"])
