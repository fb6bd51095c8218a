"""Loops as people write them with Numba, for comparison with ours: no vector types, no tiles, never from a cache.

Nothing but the comparisons uses them. Each function is plain Python; `scalar`, `parallel` and `fast` compile it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import numba
import numpy as np
from numba import prange


def pair(x, y):
    """Euclidean distance of two vectors."""
    total = 0.0
    for k in prange(x.shape[0]):
        difference = x[k] - y[k]
        total += difference * difference
    return sqrt(total)


def batch(x, y):
    """Euclidean distance of every row of x to every row of y."""
    out = np.empty((x.shape[0], y.shape[0]), x.dtype)
    for i in prange(x.shape[0]):
        for j in range(y.shape[0]):
            total = 0.0
            for k in range(x.shape[1]):
                difference = x[i, k] - y[j, k]
                total += difference * difference
            out[i, j] = sqrt(total)
    return out


def count(values, low, size, parts):
    """How often each of low … low + size − 1 occurs in each part: tables that remain to be added up."""
    tables = np.zeros((parts, size), np.int64)
    for part in prange(parts):
        for i in range(part * len(values) // parts, (part + 1) * len(values) // parts):
            tables[part, values[i] - low] += 1
    return tables


def count_by_dict(values):
    """How often each value occurs, in a dict; values in any order."""
    found = {values[0]: 0}
    for value in values:
        if value in found:
            found[value] += 1
        else:
            found[value] = 1
    keys, counts = np.empty(len(found), values.dtype), np.empty(len(found), np.int64)
    place = 0
    for key, number in found.items():
        keys[place], counts[place] = key, number
        place += 1  # noqa: SIM113 - a dict of Numba's
    return keys, counts


def scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for one thread."""
    compiled: Callable[..., Any] = numba.njit(function)
    return compiled


def parallel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with Numba's parallel target."""
    compiled: Callable[..., Any] = numba.njit(parallel=True)(function)
    return compiled


def fast(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same with all of fast-math, which takes NaN and the order of sums lightly."""
    compiled: Callable[..., Any] = numba.njit(parallel=True, fastmath=True)(function)
    return compiled


@contextmanager
def numba_threads(wanted: int) -> Iterator[int]:
    """Have the parallel target use so many threads, or as many as Numba has; yields how many these are."""
    before = numba.get_num_threads()
    used = min(wanted, int(numba.config.NUMBA_NUM_THREADS))
    numba.set_num_threads(used)
    try:
        yield used
    finally:
        numba.set_num_threads(before)


def _nothing(x):
    total = 0.0
    for k in prange(x.shape[0]):
        total += x[k]
    return total


def start_compiler() -> None:
    """Compile something small, so that what comes first does not pay for starting the compiler and its threads."""
    for compiled in (scalar, parallel):
        compiled(_nothing)(np.zeros(2))
