"""What is found of columns, and records of it under way, which kernels fill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpipe.kernels import describe_merge as merging
from mlpipe.kernels import describe_records as records
from mlpipe.link import Array

Record = tuple[Array, Array, Array]


@dataclass(frozen=True)
class Description:
    """What describes columns, and all values together (`overall`, of one column, its places as row and column).

    Moments are those of finite values; extremes take in infinities; NaN is passed over.

    Parameters
    ----------
    rows : int
        Of the input.
    count, missing, infinite, zeros : ndarray of int64, shape (columns,)
        Numbers of values that are not NaN, NaN, infinite, zero.
    minimum, maximum : ndarray, shape (columns,)
        Extremes, in the dtype of the values; NaN of a column without values (then float64, if those are integers).
    first_minimum, last_minimum, first_maximum, last_maximum : ndarray of int64, shape (columns,) or (1, 2)
        First and last row of each extreme, counted from 0; -1 where there is none.
    sum : ndarray, shape (columns,)
        Of floats, to 1e-15 of the sum of magnitudes; of integers exact: int64, or Python integers where that is not
        enough.
    mean, variance, std, skewness, kurtosis : ndarray of float64, shape (columns,)
        Of the population; skewness g1, kurtosis in excess of the normal distribution's (g2). NaN where not defined.
    overall : Description or None
        All columns as one; None in itself.
    """

    rows: int
    count: Array
    missing: Array
    infinite: Array
    zeros: Array
    minimum: Array
    maximum: Array
    first_minimum: Array
    last_minimum: Array
    first_maximum: Array
    last_maximum: Array
    sum: Array
    mean: Array
    variance: Array
    std: Array
    skewness: Array
    kurtosis: Array
    overall: Description | None = None


def empty_record(width: int, dtype: np.dtype[Any]) -> Record:
    """A record of no rows; it has some columns to spare."""
    width = -(-width // merging.COLUMNS) * merging.COLUMNS
    floats = np.zeros((merging.RECORD_FLOATS, width))
    counts = np.zeros((merging.RECORD_COUNTS, width), np.int64)
    return clear((floats, counts, np.zeros((2, width), dtype)))


def clear(record: Record) -> Record:
    """Forget what is in a record."""
    floats, counts, extremes = record
    floats[:], counts[:] = 0, 0
    counts[merging.PLACE : merging.LIMB] = -1
    counts[merging.CLASS] = -records.LAST_CLASS
    limits: Any = np.iinfo(extremes.dtype) if extremes.dtype.kind in "iu" else None
    extremes[0], extremes[1] = (limits.max, limits.min) if limits else (np.inf, -np.inf)
    return record


def overall_of(rows: int, total: Record, dtype: np.dtype[Any]) -> Description:
    """All columns as one."""
    one, of_all = empty_record(1, total[2].dtype), empty_record(1, total[2].dtype)
    records.merge_columns(total[0].shape[1], *total, *one, *of_all)
    of_all = (of_all[0][:, :1].copy(), of_all[1][:, :1].copy(), of_all[2][:, :1].copy())
    found = described(rows, of_all, dtype, None)
    places: dict[str, Any] = {}
    for which, name in enumerate(("minimum", "maximum")):
        value = of_all[2][which, 0]
        firsts, lasts = total[1][merging.PLACE + 2 * which : merging.PLACE + 2 * which + 2]
        columns = np.flatnonzero((total[2][which] == value) & (firsts >= 0))
        first = last = (-1, -1)
        if len(columns):
            first = min((int(firsts[column]), int(column)) for column in columns)
            last = max((int(lasts[column]), int(column)) for column in columns)
        places[f"first_{name}"], places[f"last_{name}"] = np.array([first]), np.array([last])
    return replace(found, **places)


def described(rows: int, total: Record, dtype: np.dtype[Any], overall: Description | None) -> Description:
    """What a record says."""
    floats, counts, extremes = total
    results = np.empty((6, counts.shape[1]))
    records.finish(floats, counts, results)
    count = counts[merging.COUNT] + counts[merging.INFINITIES]
    if dtype.kind != "f":
        extremes = extremes.astype(dtype) if count.any() else np.full(extremes.shape, np.nan)
    else:
        extremes = np.where(count > 0, extremes, np.nan).astype(dtype) + dtype.type(0)  # not -0.0
    sums = results[0] if dtype.kind == "f" else _whole_sums(counts)
    places = counts[merging.PLACE : merging.LIMB]
    return Description(
        rows, count, counts[merging.NANS], counts[merging.INFINITIES], counts[merging.NOUGHTS],
        extremes[0], extremes[1], places[0], places[1], places[2], places[3],
        sums, results[1], results[2], results[3], results[4], results[5], overall,
    )  # fmt: skip


def _whole_sums(counts: Array) -> Array:
    """Sums of integers: int64, or Python integers where one is beyond that."""
    low, middle, high = counts[merging.LIMB : merging.LIMB + 3].tolist()
    sums = [a + (b << 32) + (c << 64) for a, b, c in zip(low, middle, high, strict=True)]
    fits = all(-(1 << 63) <= value < 1 << 63 for value in sums)
    return np.array(sums, np.int64 if fits else object)
