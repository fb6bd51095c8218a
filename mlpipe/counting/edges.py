"""Finding the bins of a histogram: at once when they are given, else from passes over the values."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpipe.counting.bins import Bins, checked_range, explicit_bins, uniform_bins, widened
from mlpipe.counting.facts import GROUP, Deviations, Extent, Groups, Inside, Quartiles, take
from mlpipe.counting.rules import RULES, Facts, number_of_bins
from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.link import Array
from mlpipe.workers import Workers

MOST_BY_RULE = 1 << 27
"""More bins than this are hardly meant: some value is far from all others."""

SCRATCH_BYTES = 5 * 8 * GROUP
"""What a thread needs while it takes in a group, for whichever learner it is."""


def known_bins(
    dtype: np.dtype[Any], bins: Any, edges: npt.ArrayLike | None, ends: tuple[Any, Any] | None
) -> Bins | None:
    """The bins, if no value has to be seen for them; None otherwise.

    Raises
    ------
    UsageError
        For bins, edges and ranges that make no sense.
    """
    if edges is not None:
        # NumPy passes over a range beside edges; so it is not refused here.
        return explicit_bins(dtype, edges)
    number = _checked(bins)
    if ends is None:
        return None
    ends = checked_range(ends)
    return None if number is None else uniform_bins(dtype, number, *ends)


def _checked(bins: Any) -> int | None:
    """How many bins; None for a rule."""
    if isinstance(bins, str):
        if bins == "stone":
            raise UsageError(
                "bins 'stone' compares histograms of 1 to √n bins, each from a pass over all values; give another "
                "rule, such as 'fd', or a number of bins"
            )
        if bins not in RULES:
            raise UsageError(f"bins {bins!r} is not a number, nor one of the rules {', '.join(sorted(RULES))}")
        return None
    try:
        number = operator.index(bins)
    except TypeError:
        raise UsageError(f"bins {bins!r} is not a whole number, nor a rule") from None
    if number < 1:
        raise UsageError(f"bins must be 1 or more, not {number}")
    return number


def learning_bytes(dtype: np.dtype[Any], asked: int | str, threads: int, *, small: bool = False) -> int:
    """What an `EdgesLearner` holds at most, besides the scratch memory of threads."""
    rule = RULES.get(asked) if isinstance(asked, str) else None
    if rule is None:
        return 0
    groups = Groups.nbytes(dtype) if rule.deviation else 0
    return groups + (Quartiles.nbytes(threads, small=small) if rule.quartiles else 0)


class EdgesLearner:
    """Finds bins of equal width from passes over the values.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the values.
    asked : int or str
        Number of bins, or the rule for it.
    ends : tuple of (float, float), optional
        First and last edge, if they are given.
    threads : int
        Of the workers.
    small : bool
        Whether to do with little memory, and more passes.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        asked: int | str,
        ends: tuple[Any, Any] | None,
        threads: int,
        *,
        small: bool = False,
    ) -> None:
        self.asked = asked
        self._dtype, self._small = dtype, small
        self._ends = None if ends is None else checked_range(ends)
        self._inside = Inside(self._ends)
        self._rule = RULES[asked] if isinstance(asked, str) else None
        summed = self._rule is not None and self._rule.deviation
        self._groups = Groups(dtype) if summed else None  # else the order does not matter
        self._extent = Extent(dtype, self._inside, summed=summed)
        self._step: Extent | Deviations | None = self._extent
        wanted = self._rule is not None and self._rule.quartiles
        self._quartiles = Quartiles(dtype, self._inside, threads, small=small) if wanted else None

    @property
    def passes(self) -> int:
        """Over all values, at most."""
        if self._quartiles is not None:
            return Quartiles.passes(self._dtype, small=self._small)
        return 2 if self._rule is not None and self._rule.deviation else 1

    def add(self, values: Array, workers: Workers) -> None:
        """Take in values that follow."""
        groups: Sequence[Array]
        if self._groups is None:
            groups = [values[start : start + GROUP] for start in range(0, len(values), GROUP)]
        else:
            groups = [group for (group,) in self._groups.whole(values)]
        take(self._step, self._quartiles, groups, workers)

    def finish(self, most: int) -> Bins | None:
        """End a pass: the bins, or None if it takes another one.

        Parameters
        ----------
        most : int
            A rule that makes more bins than this is refused.

        Raises
        ------
        InputError
            When values are NaN or infinite and no range is given; when bins are too many, or too narrow.
        MemoryCeilingError
            When a rule makes more bins than fit.
        """
        if self._groups is not None:
            with Workers(1) as workers:
                take(self._step, self._quartiles, self._groups.rest(), workers)
            self._groups = Groups(self._dtype)
        first, last = self._ends or self._extent.ends()
        if isinstance(self.asked, str):
            facts = self._facts()
            if facts is None:
                return None
            number = number_of_bins(self.asked, facts, *widened(first, last))
            self._check(number, most)
        else:
            number = operator.index(self.asked)
        return uniform_bins(self._dtype, number, first, last)

    def _check(self, number: int, most: int) -> None:
        if number > MOST_BY_RULE:
            raise InputError(f"bins {self.asked!r} makes {number} bins, more than memory holds; give fewer, or a range")
        if number > most:
            raise MemoryCeilingError(
                f"bins {self.asked!r} makes {number} bins, of which {most} fit into memory; raise the ceiling, or give "
                "a number of bins",
                needs=number,
            )

    def _facts(self) -> Facts | None:
        """What the rule goes by; None if that takes another pass."""
        extent, zero = self._extent, self._dtype.type(0)
        if not extent.size:
            return Facts(0, zero, zero)
        more: dict[str, Any] = {}
        if self._quartiles is not None:
            found = self._quartiles.finish(extent.size)
            self._step = None
            if found is None:
                return None
            more = {"quartiles": found}
        elif self._rule is not None and self._rule.deviation:
            if isinstance(self._step, Extent):
                self._step = Deviations(extent.mean, self._inside)
                return None
            if isinstance(self._step, Deviations):
                deviation, skewness = (0.0, 0.0) if extent.low == extent.high else self._step.finish()
                more = {"deviation": deviation, "skewness": skewness}
        return Facts(extent.size, extent.low, extent.high, **more)
