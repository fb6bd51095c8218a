"""What `stats` found, by name: for each column, and for all values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.link import Array, Spec

if TYPE_CHECKING:
    from mlpipe.statistics.covariance import Covariance
    from mlpipe.statistics.describe import Description
    from mlpipe.statistics.histograms import Histogram

PLACES = ("first_minimum", "last_minimum", "first_maximum", "last_maximum")
"""Rows in which the extremes are; -1 where there are none."""

COUNTS = ("count", "missing", "infinite", "zeros", *PLACES)
"""Whole numbers."""

NUMBERS = ("minimum", "maximum", "sum", "mean", "variance", "std", "skewness", "kurtosis")


@dataclass(slots=True)
class Found:
    """What all parts found.

    Parameters
    ----------
    columns : int
        Values of a row.
    rows : int
        How many went by.
    description : Description
        Of each column and of all values.
    quantiles : ndarray of float64, shape (quantiles, columns + 1), or None
        The last column is about all values.
    rank_error : float or None
        By which part of all ranks an estimated quantile may be off; None where quantiles are exact.
    distinct : ndarray, shape (columns + 1,), or None
        Distinct values, NaN not among them; int64, or float64 where they are estimated.
    distinct_error : float or None
        By which part they may be off, at 95 % confidence.
    covariance : Covariance or None
        Of the columns.
    histograms : list of Histogram or None
        Of the first columns.
    """

    columns: int
    rows: int = 0
    description: Description | None = None
    quantiles: Array | None = None
    rank_error: float | None = None
    distinct: Array | None = None
    distinct_error: float | None = None
    covariance: Covariance | None = None
    histograms: list[Histogram] | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of rows.

    Parameters
    ----------
    rows : int
        How many there were.
    row_shape : tuple of int
        Of one.
    dtype : str
        Of the values.
    names : sequence of str
        Of the columns.
    ddof : int
        What the count was lessened by to divide for variance and standard deviation, and for covariances.
    variance, overall_variance : ndarray and float
        Divided by the count itself, whatever `ddof` is.
    columns : mapping of str to ndarray, shape (columns,)
        By the names of `COUNTS` and `NUMBERS`; ``distinct`` if that was asked for.
    overall : mapping of str to number
        The same of all values.
    quantiles : tuple of float
        Fractions.
    of_columns, of_all : ndarray of float64, shapes (quantiles, columns) and (quantiles,)
        The quantiles.
    rank_error, distinct_error : float or None
        Of what was estimated.
    covariance, correlation : ndarray, shape (columns, columns), or None
        If asked for.
    histograms : sequence of Histogram or None
        Of the first columns, if asked for.
    """

    rows: int
    row_shape: tuple[int, ...]
    dtype: str
    names: Sequence[str]
    ddof: int
    variance: Array
    overall_variance: float
    columns: Mapping[str, Array]
    overall: Mapping[str, Any]
    quantiles: tuple[float, ...]
    of_columns: Array
    of_all: Array
    rank_error: float | None = None
    distinct_error: float | None = None
    covariance: Array | None = None
    correlation: Array | None = None
    histograms: Sequence[Histogram] | None = None

    def __len__(self) -> int:
        return len(self.names)


def statistics_of(found: Found, spec: Spec, quantiles: Sequence[float], ddof: int) -> Statistics:
    """What was found of rows of `spec`, by name."""
    if found.description is None:
        raise RuntimeError("no pass was made")
    columns, overall = described(found.description)
    variance, overall_variance = columns["variance"], float(overall["variance"])
    for numbers in (columns, overall):
        finite = numbers["count"] - numbers["infinite"]  # of which moments are
        numbers["variance"] = with_ddof(numbers["variance"], finite, ddof)
        numbers["std"] = np.sqrt(numbers["variance"])
    if found.distinct is not None:
        columns["distinct"], overall["distinct"] = found.distinct[:-1], found.distinct[-1]
    names = column_names(spec.row_shape)
    values = np.empty((0, len(names) + 1)) if found.quantiles is None else found.quantiles
    pairs = found.covariance
    return Statistics(
        found.rows, spec.row_shape, spec.dtype.name, names, ddof, variance, overall_variance, columns, overall,
        tuple(quantiles), values[:, :-1], values[:, -1], found.rank_error, found.distinct_error,
        None if pairs is None else pairs.covariance(ddof), None if pairs is None else pairs.correlation(),
        found.histograms,
    )  # fmt: skip


def described(description: Description) -> tuple[dict[str, Array], dict[str, Any]]:
    """A description by name: of each column, and of all values, whose places are rows."""
    overall = description.overall or description
    columns: dict[str, Array] = {name: getattr(description, name) for name in (*COUNTS, *NUMBERS)}
    return columns, {name: np.reshape(getattr(overall, name), -1)[0] for name in columns}


def missing_of(found: Found) -> Array:
    """How many values are missing of each column, and of all."""
    if found.description is None:
        raise RuntimeError("no pass was made")
    columns, overall = described(found.description)
    return np.append(columns["missing"], overall["missing"])


def with_ddof(variance: Any, count: Any, ddof: int) -> Array:
    """A variance divided by the count, as one divided by the count less `ddof`; NaN where nothing is left.

    Examples
    --------
    >>> with_ddof(np.array([2.0, 2.0]), np.array([3, 1]), 1).tolist()
    [3.0, nan]
    """
    if not ddof:
        return np.asarray(variance, np.float64)
    left = np.asarray(count, np.float64) - ddof
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.asarray(variance, np.float64) * (np.asarray(count, np.float64) / np.where(left > 0, left, 1.0))
    return np.where(left > 0, found, np.nan)


def column_names(row_shape: tuple[int, ...]) -> list[str]:
    """What columns are called: their indices.

    Examples
    --------
    >>> column_names((3,)), column_names((1, 2)), column_names(())
    (['0', '1', '2'], ['0,0', '0,1'], ['0'])
    """
    return [",".join(map(str, place)) for place in np.ndindex(row_shape)] if row_shape else ["0"]
