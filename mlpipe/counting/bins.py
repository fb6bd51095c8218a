"""The bins of a histogram: edges as NumPy makes them, and into which of them a value belongs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpipe.errors import InputError, UsageError
from mlpipe.kernels import histogram as kernels
from mlpipe.link import Array

SURE = 0.25
"""Edges that scale further than this from their place are searched instead: of the width of a bin."""

MOST_BINS = 1 << 31


class Bins:
    """Edges, and the kernels that find the bin of a value of one dtype; behind the bins are places for others.

    Values are cast to the type of the edges and compared there, in which NumPy's counts agree with its edges.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the values.
    edges : ndarray, shape (bins + 1,)
        Do not decrease; the last bin holds its upper edge, too.
    ends : tuple of (scalar, scalar), optional
        First and last edge, before they were cast to the type of the edges, if all bins are equally wide.
    """

    def __init__(self, dtype: np.dtype[Any], edges: Array, ends: tuple[Any, Any] | None = None) -> None:
        self.edges, self.number = edges, len(edges) - 1
        self._codes = np.dtype(f"u{dtype.itemsize}") if dtype.itemsize < 4 else None
        self._arguments: tuple[Any, ...]
        if self._codes is not None:
            values = np.arange(1 << 8 * dtype.itemsize).astype(self._codes).view(_counted_dtype(dtype))
            find = _searched(values, edges) if ends is None else _scaled(values, edges, *ends)
            self._arguments = (find,)
            self._count, self._weigh = kernels.count_lookup, kernels.weigh_lookup
            return
        scaling = None if ends is None else _scaling(dtype, edges, *ends)
        if scaling is None:
            self._arguments = (edges.astype(_compared(dtype, edges.dtype)),)
            self._count, self._weigh = kernels.count_between, kernels.weigh_between
        else:
            self._arguments = (*scaling, edges)
            self._count, self._weigh = kernels.count_uniform, kernels.weigh_uniform

    def count(self, values: Array, counts: Array) -> None:
        """Add the number of values in each bin to counts of shape (1 or ``COPIES``, number + 2)."""
        self._count(self._as_read(values), *self._arguments, counts)

    def weigh(self, values: Array, weights: Array, sums: Array, outside: Array) -> None:
        """Add the weights of the values in each bin, in order, and the number of those outside and NaN."""
        self._weigh(self._as_read(values), *self._arguments, weights, sums, outside)

    def _as_read(self, values: Array) -> Array:
        return values if self._codes is None else values.view(self._codes)


def uniform_bins(dtype: np.dtype[Any], number: int, first: Any, last: Any) -> Bins:
    """Bins of equal width, with the edges of `numpy.histogram_bin_edges`.

    Raises
    ------
    InputError
        When the range holds too few numbers of its type for so many bins, or is too wide for it.

    Examples
    --------
    >>> uniform_bins(np.dtype("f8"), 4, 0, 1).edges.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    dtype = _counted_dtype(dtype)
    first, last = widened(first, last)
    try:
        with np.errstate(all="ignore"):
            edges = np.histogram_bin_edges(np.empty(0, dtype), number, (first, last))
    except (ValueError, OverflowError):
        edges = np.empty(0)
    if not (np.isfinite(edges).all() and (edges[:-1] < edges[1:]).all() and len(edges) == number + 1):
        raise InputError(
            f"{number} bins from {first} to {last} cannot be told apart, or overflow, in {dtype.name}; "
            "give fewer bins or another range"
        )
    return Bins(dtype, edges, (first, last))


def explicit_bins(dtype: np.dtype[Any], edges: npt.ArrayLike | Sequence[float]) -> Bins:
    """Bins between edges that are given.

    Raises
    ------
    UsageError
        For edges that decrease, are NaN or no numbers, and for less than two.
    """
    given = np.asarray(edges)
    if given.ndim != 1 or given.size < 2 or given.dtype.kind not in "biuf" or given.dtype.itemsize > 8:
        raise UsageError(
            f"edges must be two numbers or more, in one row, not {given.dtype.name} of shape {given.shape}"
        )
    if np.isnan(given).any():
        raise UsageError(f"edge {int(np.isnan(given).argmax())} is NaN; edges must be numbers that do not decrease")
    wrong = given[:-1] > given[1:]
    if wrong.any():
        at = int(wrong.argmax())
        raise UsageError(f"edges must not decrease, but {given[at]} is followed by {given[at + 1]}")
    return Bins(_counted_dtype(dtype), given)


def checked_range(ends: tuple[Any, Any]) -> tuple[Any, Any]:
    """A range that may be divided; raise UsageError if it may not."""
    first, last = (_number(end) for end in ends)
    if np.result_type(first, last).kind not in "biuf" or np.result_type(first, last).itemsize > 8:
        raise UsageError(f"range {first} … {last} must be two numbers")
    if not (np.isfinite(first) and np.isfinite(last)):
        raise UsageError(f"range {first} … {last} is not finite")
    if first > last:
        raise UsageError(f"range {first} … {last}: the first number must not be larger than the second")
    return first, last


def widened(first: Any, last: Any) -> tuple[Any, Any]:
    """Half a unit to each side, where there is nothing in between."""
    return (first - 0.5, last + 0.5) if first == last else (first, last)


def difference(first: Any, last: Any) -> Any:
    """How far the last is from the first, in their type; exact for integers of any size."""
    kind = np.result_type(first, last)
    if kind.kind in "iu":
        return np.float64(int(last) - int(first))
    with np.errstate(over="ignore"):
        return np.subtract(last, first, dtype=kind)


def _number(end: Any) -> Any:
    """An end of a range; an integer that no type of 64 bits holds becomes a float."""
    if not isinstance(end, bool | int | float | np.number):
        raise UsageError(f"range: {end!r} is not a number")
    return float(end) if isinstance(end, int) and not -(2**63) <= end < 2**64 else end


def _counted_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _compared(dtype: np.dtype[Any], edges: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which NumPy compares values with edges; integers as wide as there are."""
    common = np.result_type(dtype, edges)
    return common if common.kind == "f" else np.dtype(f"{common.kind}8")


def _limits(dtype: np.dtype[Any], number: np.dtype[Any], first: Any, last: Any) -> tuple[Any, Any]:
    """What values are compared with to be inside: integers with integers if the range is of them."""
    if dtype.kind in "iu" and np.result_type(first, last).kind in "iu":
        known = np.iinfo(dtype)
        if first > known.max or last < known.min:
            return dtype.type(1), dtype.type(0)  # nothing is inside
        return dtype.type(max(int(first), known.min)), dtype.type(min(int(last), known.max))
    return number.type(first), number.type(last)


def _scaling(dtype: np.dtype[Any], edges: Array, first: Any, last: Any) -> tuple[Any, ...] | None:
    """What the kernel scales by, and how far it may be wrong; None when that is too far to be of use."""
    number, bins = edges.dtype, len(edges) - 1
    kind = number.type
    base, span, scale = kind(first), kind(difference(first, last)), kind(bins)
    with np.errstate(all="ignore"):
        scaled = ((edges - base) / span * scale).astype(np.float64)
    wrong = float(abs(scaled - np.arange(bins + 1)).max()) + 4 * bins * float(np.finfo(number).eps)
    if not wrong < SURE:
        return None
    return (*_limits(dtype, number, first, last), base, span, scale, kind(wrong))


def _searched(values: Array, edges: Array) -> Array:
    """The bin of each value between edges; behind the bins are what is outside and NaN."""
    bins = len(edges) - 1
    common = np.result_type(values.dtype, edges.dtype)
    values, edges = values.astype(common), edges.astype(common)
    places = np.searchsorted(edges[:-1], values, "right") - 1
    inside = (values >= edges[0]) & (values <= edges[-1])
    return np.where(inside, places, bins + np.isnan(values)).astype(np.int64)


def _scaled(values: Array, edges: Array, first: Any, last: Any) -> Array:
    """The bin of each value, in the very steps of `numpy.histogram`: in float16, one bin may be more than rounding."""
    bins = len(edges) - 1
    inside = (values >= first) & (values <= last)
    kept = values[inside].astype(edges.dtype)
    with np.errstate(all="ignore"):
        offset = np.subtract(kept, first, dtype=np.result_type(kept, first))
        places = (offset / difference(first, last) * bins).astype(np.intp)
    places[places == bins] -= 1
    places = np.clip(places, 0, bins - 1)
    places[kept < edges[places]] -= 1
    places[(kept >= edges[places + 1]) & (places != bins - 1)] += 1
    found = np.where(np.isnan(values), bins + 1, bins).astype(np.int64)
    found[inside] = places
    return found
