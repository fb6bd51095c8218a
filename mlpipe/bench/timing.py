"""How long a call takes: compiling apart, best and median of several, a sample of the rows where all take too long."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SHORTEST = 1e-3
"""Seconds of one sample: shorter calls are repeated in a loop, and a sample is their mean."""


@dataclass(frozen=True)
class Timed:
    """What timing a call found.

    Parameters
    ----------
    samples : list of float
        Seconds of one call on `rows` rows, one for each sample.
    loops : int
        Calls that each sample is the mean of.
    compile_s : float or None
        What the first call took longer than later ones; None for what is not compiled.
    rows, of_rows : int
        Rows that were worked on, of how many there are.
    result : object
        What the last call returned.
    """

    samples: list[float]
    loops: int
    compile_s: float | None
    rows: int
    of_rows: int
    result: Any

    @property
    def extrapolated(self) -> bool:
        """Whether times on all rows are those of some, scaled."""
        return self.rows < self.of_rows

    @property
    def best(self) -> float:
        """Seconds of the shortest sample, on all rows."""
        return min(self.samples) * self._scale

    @property
    def median(self) -> float:
        """Seconds of the middle sample, on all rows."""
        return statistics.median(self.samples) * self._scale

    @property
    def _scale(self) -> float:
        return self.of_rows / self.rows if self.extrapolated else 1.0


def timed(
    call: Callable[[int], Any], rows: int, *, repeat: int, budget: float, compiled: bool = False, first: int = 1,
    sampled: bool = True,
) -> Timed:  # fmt: skip
    """Time a call.

    Parameters
    ----------
    call : callable
        Takes the number of rows, from the first one on, to work on.
    rows : int
        All there are.
    repeat : int
        Samples, fewer where they would take longer than `budget`, but one at least.
    budget : float
        Seconds for all samples.
    compiled : bool
        Whether the first call compiles.
    first : int
        Rows of that call, and of the second one, which tells how long the first would have taken otherwise.
    sampled : bool
        Whether the time is proportional to the rows, so that fewer may be timed where one call on all of them takes
        longer than the budget.

    Returns
    -------
    Timed

    Examples
    --------
    >>> found = timed(lambda rows: sum(range(rows)), 1000, repeat=3, budget=1.0)
    >>> found.result, len(found.samples), found.extrapolated, found.compile_s
    (499500, 3, False, None)
    """
    some = min(first, rows)
    last, result = _seconds(call, some)
    compile_s = None
    if compiled:
        before = last
        last, result = _seconds(call, some)
        compile_s = max(0.0, before - last)
    while some < rows and (not sampled or 2 * last <= budget / repeat or last * rows / some <= budget):
        some = _more(some, rows, last, budget, budget / repeat) if sampled else rows
        last, result = _seconds(call, some)
    loops = max(1, math.ceil(SHORTEST / max(last, 1e-9)))
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < repeat and (not samples or time.perf_counter() - began < budget):
        start = time.perf_counter()
        for _ in range(loops):
            result = call(some)
        samples.append((time.perf_counter() - start) / loops)
    return Timed(samples, loops, compile_s, some, rows, result)


def _more(some: int, rows: int, seconds: float, budget: float, target: float) -> int:
    """Rows to go on with: all, if that fits into the budget, else as many as suit one sample."""
    if seconds * rows / some <= budget:
        return rows
    return min(rows, max(2 * some, int(0.9 * some * target / max(seconds, 1e-9))))


def _seconds(call: Callable[[int], Any], rows: int) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call(rows)
    return time.perf_counter() - start, result
