"""``mlpipe.value_counts``: how often each value of an array occurs."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Literal

import numpy as np

from mlpipe.counting.keys import check_dtype, from_keys, is_narrow, to_keys, wide_of
from mlpipe.counting.tally import Finished, Tally
from mlpipe.errors import UsageError
from mlpipe.kernels.count_keys import from_keys as restore
from mlpipe.kernels.counting import run_lengths
from mlpipe.link import Array
from mlpipe.workers import Workers

SMALL = 1 << 14
"""Values up to which sorting them is quicker than anything that has to be set up."""

ALONE = 1 << 18
"""Values up to which one thread is as quick as two."""


def value_counts(
    x: Any, *, sort: Literal["value", "count"] | None = "value", threads: int | None = None
) -> tuple[Array, Array]:
    """Count how often each value occurs.

    Values are equal as numbers are: -0.0 equals 0.0, and all NaN are one value.

    Parameters
    ----------
    x : array_like
        bool, integers or floats of up to 64 bits, of any shape.
    sort : {"value", "count"}, optional
        By value, ascending, NaN last; by count, descending, and where that is equal by value; or None, in any order.
    threads : int, optional
        Threads that compute; all processors by default.

    Returns
    -------
    values : ndarray, shape (distinct,)
        Each value once, in the dtype of `x`.
    counts : ndarray of int64, shape (distinct,)
        How often each occurs.

    Raises
    ------
    UsageError
        For other dtypes, or another `sort`.

    Examples
    --------
    >>> from mlpipe import value_counts
    >>> values, counts = value_counts([3.5, np.nan, 3.5, -1.0, np.nan])
    >>> values, counts
    (array([-1. ,  3.5,  nan]), array([1, 2, 2]))
    >>> value_counts([[4, 2], [4, 1]], sort="count")
    (array([4, 1, 2]), array([2, 1, 1]))
    """
    if sort not in ("value", "count", None):
        raise UsageError(f"sort={sort!r} is not known; give 'value', 'count' or None")
    if threads is not None and threads < 1:
        raise UsageError(f"threads={threads} do nothing; give 1 or more")
    array = np.asarray(x)
    dtype = check_dtype(array.dtype)
    array = np.ascontiguousarray(array, dtype).reshape(-1)
    if len(array) <= SMALL:
        values, counts = _small(array)
    else:
        values, counts = _large(array, threads or _processors(), sort is not None)
    if sort == "count":
        order = np.argsort(-counts, kind="stable")
        values, counts = values[order], counts[order]
    return values, counts


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _small(array: Array) -> tuple[Array, Array]:
    """By sorting."""
    if array.dtype.kind == "b":
        array = array.view(np.uint8) != 0
    keys = to_keys(array.astype(wide_of(array.dtype), copy=False))
    keys.sort()
    found, counts = np.empty(len(keys), np.uint64), np.empty(len(keys), np.int64)
    distinct = run_lengths(keys, found, counts)
    return from_keys(found[:distinct], array.dtype), counts[:distinct].copy()


def _large(array: Array, threads: int, in_order: bool) -> tuple[Array, Array]:
    threads = 1 if len(array) <= ALONE else threads
    with Workers(threads) as workers:
        tally = Tally(array.dtype, room=None, threads=threads, directory=tempfile.gettempdir(), rows=len(array))
        tally.add(array, workers)
        return _assembled(tally.finish(workers, in_order=in_order), array.dtype, workers)


def _assembled(finished: Finished, dtype: np.dtype, workers: Workers) -> tuple[Array, Array]:
    """All pieces of a table in memory one after the other."""
    pieces = finished.held()
    values, counts = np.empty(finished.distinct, dtype), np.empty(finished.distinct, np.int64)
    places = np.cumsum([0, *(len(keys) for keys, _ in pieces)]).tolist()

    def copy(task: int, _worker: int) -> None:
        keys, numbers = pieces[task]
        part = slice(places[task], places[task + 1])
        counts[part] = numbers
        if is_narrow(dtype):
            values[part] = from_keys(keys, dtype)
        else:
            restore(keys, values[part])

    workers.run(copy, range(len(pieces)))
    return values, counts
