"""The stage that estimates counts by sketches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.counting.counted import Entries
from mlpipe.link import Array
from mlpipe.stages.counting import Counting, Layout
from mlpipe.stages.subjects import Subject
from mlpipe.workers import Workers

if TYPE_CHECKING:
    from mlpipe.counting.sketches import Estimate, Frequent


@dataclass(frozen=True)
class Estimated:
    """What sketches say; see `mlpipe.counting.counted.Counted`.

    Parameters
    ----------
    frequent : Frequent
        The most frequent values.
    estimate : Estimate
        Of the number of distinct values.
    """

    frequent: Frequent
    estimate: Estimate
    method: str = "sketches"
    spilled_bytes: int = 0

    @property
    def distinct(self) -> int:
        """About how many."""
        return round(self.estimate.value)

    @property
    def total(self) -> int:
        """Number of all values."""
        return self.frequent.total

    @property
    def missing(self) -> int:
        """How many are NaN."""
        return self.frequent.missing

    @property
    def bounds(self) -> dict[str, Any]:
        """How far from the truth it may be."""
        return {
            "distinct_low": round(self.estimate.low), "distinct_high": round(self.estimate.high),
            "confidence": 0.95, "count_error": self.frequent.error,
        }  # fmt: skip

    @property
    def why(self) -> str:
        """The same in words."""
        low, high = round(self.estimate.low), round(self.estimate.high)
        return f"{low:,} to {high:,} distinct in 95 of 100 cases; {self.frequent.why}"

    def by_value(self) -> Iterator[Entries]:
        """The most frequent values."""
        return self.frequent.by_value()

    def close(self) -> None:
        """Nothing is left behind."""


class Sketches:
    """Sketches of how many values there are, and of the most frequent ones; a `mlpipe.counting.counted.Counter`.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the values.

    Examples
    --------
    >>> sketches = Sketches(np.dtype("i8"))
    >>> with Workers(1) as workers:
    ...     sketches.add(np.array([3, 1, 3]), workers)
    ...     counted = sketches.finish(workers)
    >>> counted.distinct, [(keys[0].tolist(), counts.tolist()) for keys, counts in counted.by_value()]
    (2, [([1, 3], [1, 2])])
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        from mlpipe.counting.sketches import DistinctSketch, FrequentSketch

        self._dtype = dtype
        self._distinct, self._frequent = DistinctSketch(), FrequentSketch(dtype)

    def add(self, values: Array, workers: Workers, weights: Array | None = None) -> None:
        """Take in values; strings as their bytes."""
        if self._dtype.kind in "SU":
            values = values.reshape(-1).view(self._dtype)
        self._distinct.add(values)
        self._frequent.add(values)

    def finish(self, workers: Workers) -> Estimated:
        """What they say."""
        return Estimated(self._frequent.finish(), self._distinct.estimate())

    def close(self) -> None:
        """Give back memory."""
        self._frequent.close()


@dataclass(frozen=True)
class Estimating(Counting):
    """Estimates how often values occur, in memory that does not depend on how many there are."""

    def _facts(self) -> dict[str, Any]:
        return {"method": "sketches: HyperLogLog, and frequent values"}

    def _least(self, subject: Subject, threads: int) -> int:
        from mlpipe.counting.sketches import DISTINCT_BYTES, FREQUENT_BYTES

        return DISTINCT_BYTES + FREQUENT_BYTES

    def _counter(self, subject: Subject, layout: Layout) -> Sketches:
        return Sketches(subject.value)
