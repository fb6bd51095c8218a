"""How many bins a histogram should have: the rules of `numpy.histogram_bin_edges`, by name, from a few facts.

Formulas and the reasons for them are in NumPy's documentation of that function, 2.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.counting.bins import difference
from mlpipe.errors import InputError


@dataclass(frozen=True)
class Facts:
    """What rules go by; the values are those inside the range.

    Parameters
    ----------
    size : int
        Number of values.
    low, high : scalar
        The smallest and the largest, in their dtype.
    deviation, skewness : float
        Standard deviation, and mean cube of the standardized values; NaN when not known.
    quartiles : tuple of (float, float)
        The lower and the upper one, in between interpolated.
    """

    size: int
    low: Any
    high: Any
    deviation: float = math.nan
    skewness: float = math.nan
    quartiles: tuple[float, float] = (math.nan, math.nan)

    @property
    def extent(self) -> Any:
        """From the smallest to the largest."""
        return difference(self.low, self.high)

    def rounded(self, value: float) -> Any:
        """In the type NumPy has it in: that of floats, float64 of integers."""
        kind = np.asarray(self.low).dtype
        return kind.type(value) if kind.kind == "f" else np.float64(value)


def _sqrt(facts: Facts) -> Any:
    return facts.extent / np.sqrt(facts.size)


def _sturges(facts: Facts) -> Any:
    return facts.extent / (np.log2(facts.size) + 1.0)


def _rice(facts: Facts) -> Any:
    return facts.extent / (2.0 * facts.size ** (1.0 / 3))


def _scott(facts: Facts) -> Any:
    return (24.0 * np.pi**0.5 / facts.size) ** (1.0 / 3.0) * facts.rounded(facts.deviation)


def _doane(facts: Facts) -> Any:
    n = facts.size
    if n <= 2 or not facts.deviation > 0:
        return 0.0
    spread = np.sqrt(6.0 * (n - 2) / ((n + 1.0) * (n + 3)))
    return facts.extent / (1.0 + np.log2(n) + np.log2(1.0 + abs(facts.rounded(facts.skewness)) / spread))


def _fd(facts: Facts) -> Any:
    lower, upper = facts.quartiles
    return 2.0 * np.subtract(upper, lower) * facts.size ** (-1.0 / 3.0)


def _auto(facts: Facts) -> Any:
    return min(max(_fd(facts), _sqrt(facts) / 2), _sturges(facts))


@dataclass(frozen=True)
class Rule:
    """A rule, and what it has to know.

    Parameters
    ----------
    width : callable
        Width of a bin, of `Facts`.
    deviation, quartiles : bool
        Whether it goes by them.
    """

    width: Callable[[Facts], Any]
    deviation: bool = False
    quartiles: bool = False


RULES = {
    "auto": Rule(_auto, quartiles=True),
    "doane": Rule(_doane, deviation=True),
    "fd": Rule(_fd, quartiles=True),
    "rice": Rule(_rice),
    "scott": Rule(_scott, deviation=True),
    "sqrt": Rule(_sqrt),
    "sturges": Rule(_sturges),
}
"""All but ``stone``, which compares histograms of every number of bins up to the root of the number of values."""


def number_of_bins(name: str, facts: Facts, first: Any, last: Any) -> int:
    """How many bins the rule wants between two edges.

    Raises
    ------
    InputError
        When values are too far apart to say.

    Examples
    --------
    >>> number_of_bins("sturges", Facts(1000, np.float64(0), np.float64(3)), 0.0, 3.0)
    11
    """
    if not facts.size:
        return 1
    with np.errstate(all="ignore"):
        width = RULES[name].width(facts)
        if width == 0:
            return 1
        if np.asarray(facts.low).dtype.kind in "iu" and width < 1:
            width = 1
        wanted = np.ceil(difference(first, last) / width)
    if not 1 <= wanted < 2**62:
        raise InputError(
            f"bins {name!r} cannot say how many: a bin of width {width} for values from {facts.low} to {facts.high}; "
            "give a number of bins, or a range"
        )
    return int(wanted)
