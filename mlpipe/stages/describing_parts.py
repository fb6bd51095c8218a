"""What `stats` keeps while rows go by: a part for each kind of statistic, each with the passes it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mlpipe.link import Array
from mlpipe.stages.describing import Arrangement, Wanted, several
from mlpipe.statistics.covariance import Covariance
from mlpipe.statistics.describe import Describe
from mlpipe.statistics.histograms import MOST_PLOTTED, Histograms
from mlpipe.statistics.quantiles import Quantiles
from mlpipe.statistics.results import Found, missing_of
from mlpipe.workers import Workers

if TYPE_CHECKING:
    from mlpipe.counting.tally import Tally


class Part(Protocol):
    """One kind of statistic."""

    def add(self, rows: Array, workers: Workers) -> None:
        """Take in rows, flat to two dimensions and C-contiguous."""

    def end_pass(self, found: Found, workers: Workers) -> None:
        """All rows went by: tell what was found, once that is known."""

    def close(self) -> None:
        """Give back memory and files."""


class _Done:
    """A part that holds nothing to give back."""

    def close(self) -> None:
        """Nothing."""


class _Described(_Done):
    """The description, in the first pass."""

    def __init__(self, how: Arrangement) -> None:
        self._describe, self._over = Describe(how.columns, how.dtype, how.threads), False

    def add(self, rows: Array, workers: Workers) -> None:
        if not self._over:
            self._describe.add(rows, workers)

    def end_pass(self, found: Found, workers: Workers) -> None:
        if not self._over:
            found.description, self._over = self._describe.finish(), True


class _Exact(_Done):
    """Quantiles of columns, and of all values, digit by digit."""

    def __init__(self, at: Sequence[float], how: Arrangement) -> None:
        self._of = [
            Quantiles(count, how.dtype, at, one.passes, one.copies)
            for count, one in zip(several(how.columns), how.exact, strict=True)
        ]
        self._more = [True] * len(self._of)

    def add(self, rows: Array, workers: Workers) -> None:
        for one, more, shape in zip(self._of, self._more, (rows.shape, (-1, 1)), strict=False):
            if more:
                one.add(rows.reshape(shape), workers)

    def end_pass(self, found: Found, workers: Workers) -> None:
        self._more = [more and one.end_pass() for one, more in zip(self._of, self._more, strict=True)]
        if not any(self._more):
            values = [one.values() for one in self._of]
            found.quantiles = np.concatenate([*values, values[-1]][:2], axis=1)


class _Sketched(_Done):
    """Quantiles by sketches, in the first pass."""

    def __init__(self, at: Sequence[float], how: Arrangement) -> None:
        from mlpipe.counting.sketches import QuantileSketch

        self._at, self._over = at, False
        self._sketches = [QuantileSketch() for _ in range(sum(several(how.columns)))]

    def add(self, rows: Array, workers: Workers) -> None:
        """Feed a sketch for each column, and that for all values."""
        if not self._over:
            workers.run(lambda place, _: self._sketches[place].add(_column(rows, place)), range(len(self._sketches)))

    def end_pass(self, found: Found, workers: Workers) -> None:
        """Ask the sketches."""
        if not self._over:
            values = np.array([sketch.quantiles(self._at) for sketch in self._sketches])
            found.quantiles = np.concatenate([values, values[-1:]])[: found.columns + 1].T
            found.rank_error, self._over = max(sketch.rank_error for sketch in self._sketches), True


class _Estimated(_Done):
    """Numbers of distinct values by sketches, in the first pass."""

    def __init__(self, how: Arrangement) -> None:
        from mlpipe.counting.sketches import DistinctSketch

        self._over = False
        self._sketches = [DistinctSketch() for _ in range(sum(several(how.columns)))]

    def add(self, rows: Array, workers: Workers) -> None:
        """Feed a sketch for each column, and that for all values."""
        if not self._over:
            workers.run(lambda place, _: self._sketches[place].add(_column(rows, place)), range(len(self._sketches)))

    def end_pass(self, found: Found, workers: Workers) -> None:
        """Ask the sketches, for which all NaN are one value."""
        if self._over:
            return
        estimates = [sketch.estimate() for sketch in self._sketches]
        values = np.array([one.value for one in estimates])
        values -= missing_of(found)[: len(values)] > 0
        found.distinct = np.concatenate([values, values[-1:]])[: found.columns + 1]
        errors = [max(one.high - one.value, one.value - one.low) / max(one.value, 1.0) for one in estimates]
        found.distinct_error, self._over = max(errors), True


def _column(rows: Array, place: int) -> Array:
    """A column; the one after the last is all values."""
    return np.ascontiguousarray(rows[:, place] if place < rows.shape[1] else rows).reshape(-1)


class _Distinct:
    """Numbers of distinct values: exact, of some columns in each pass."""

    def __init__(self, how: Arrangement, rows: int | None) -> None:
        self._how, self._rows, self._first = how, rows, 0
        self._counters: list[Tally] = []
        self._counts: list[int] = []

    def add(self, rows: Array, workers: Workers) -> None:
        """Count some of the columns; the one after the last is all values."""
        self._counters = self._counters or self._start()
        for place, counter in enumerate(self._counters, self._first):
            counter.add(_column(rows, place), workers)

    def _start(self) -> list[Tally]:
        from mlpipe.counting.tally import Tally

        how, tallies = self._how, sum(several(self._how.columns))
        counters: list[Tally] = []
        for place in range(self._first, min(tallies, self._first + how.together)):
            rows = None if self._rows is None else self._rows * (how.columns if place == how.columns else 1)
            counters.append(
                Tally(how.dtype, room=how.tally_room, threads=how.threads, directory=how.directory, rows=rows)
            )
        return counters

    def end_pass(self, found: Found, workers: Workers) -> None:
        """Say how many there were, NaN not among them."""
        tallies = sum(several(self._how.columns))
        for counter in self._counters:
            counted = counter.finish(workers, in_order=False)
            self._counts.append(counted.distinct - int(missing_of(found)[len(self._counts)] > 0))
            counted.close()
        self.close()
        self._first += self._how.together
        if self._first < tallies or found.distinct is not None:
            return
        counts = self._counts or [0] * tallies  # of no rows
        found.distinct = np.array([*counts, counts[-1]][: self._how.columns + 1], np.int64)

    def close(self) -> None:
        """End all counters."""
        for counter in self._counters:
            counter.close()
        self._counters = []


class _Drawn(_Done):
    """Histograms: of which the first pass finds the ends, and the second one the counts."""

    def __init__(self, how: Arrangement) -> None:
        count = min(how.columns, MOST_PLOTTED)
        self._whole = how.dtype.kind in "biu"
        self._low, self._high = np.full(count, np.inf), np.full(count, -np.inf)
        self._histograms: Histograms | None = None
        self._over = False

    def add(self, rows: Array, workers: Workers) -> None:
        """Look at the first columns."""
        if self._over:
            return
        values = rows[:, : len(self._low)]
        if self._histograms is not None:
            self._histograms.add(values, workers)
            return
        finite = np.isfinite(values)
        values = values.astype(np.float64)
        self._low = np.minimum(self._low, values.min(0, initial=np.inf, where=finite))
        self._high = np.maximum(self._high, values.max(0, initial=-np.inf, where=finite))

    def end_pass(self, found: Found, workers: Workers) -> None:
        """Begin to count, or show the counts."""
        if self._histograms is None:
            none = self._low > self._high
            self._low[none] = self._high[none] = np.nan
            self._histograms = Histograms(self._low, self._high, whole=self._whole)
            return
        if not self._over:
            found.histograms, self._over = self._histograms.finish(), True


class _Covaried(_Done):
    """Covariance, in the first pass."""

    def __init__(self, how: Arrangement) -> None:
        self._covariance, self._over = Covariance(how.columns, how.threads), False

    def add(self, rows: Array, workers: Workers) -> None:
        if not self._over:
            self._covariance.add(rows, workers)

    def end_pass(self, found: Found, workers: Workers) -> None:
        if not self._over:
            self._covariance.finish(workers)
            found.covariance, self._over = self._covariance, True


class Describing:
    """All parts, across the passes.

    Parameters
    ----------
    wanted : Wanted
        What to find out.
    how : Arrangement
        In which way.
    rows : int or None
        How many there will be, if that is known.
    """

    def __init__(self, wanted: Wanted, how: Arrangement, rows: int | None) -> None:
        self.found, self.done = Found(how.columns), 0
        self._columns = how.columns
        self._parts = _make_parts(wanted, how, rows)

    @classmethod
    def compile(cls, wanted: Wanted, how: Arrangement, workers: Workers) -> None:
        """Compile or load the kernels, by a row of one value."""
        small = Arrangement(how.passes, {}, 1, how.dtype, how.threads, how.exact[:1])
        trial = cls(replace(wanted, unique=False), small, 1)
        try:
            for _ in range(how.passes):
                trial.add(np.zeros((1, 1), how.dtype), workers)
                trial.end_pass(workers)
        finally:
            trial.close()

    def add(self, data: Array, workers: Workers) -> None:
        """Take in rows of any shape."""
        rows = np.ascontiguousarray(data).reshape(len(data), self._columns)
        if rows.size:
            for part in self._parts:
                part.add(rows, workers)
        if not self.done:
            self.found.rows += len(rows)

    def end_pass(self, workers: Workers) -> None:
        """All rows went by."""
        for part in self._parts:
            part.end_pass(self.found, workers)
        self.done += 1

    def close(self) -> None:
        """Give back memory and files."""
        for part in self._parts:
            part.close()


def _make_parts(wanted: Wanted, how: Arrangement, rows: int | None) -> list[Part]:
    """The parts, the description first: others build on it."""
    parts: list[Part] = [_Described(how)]
    if how.exact:
        parts.append(_Exact(wanted.quantiles, how))
    if wanted.approx and wanted.quantiles:
        parts.append(_Sketched(wanted.quantiles, how))
    if wanted.unique:
        parts.append(_Estimated(how) if wanted.approx else _Distinct(how, rows))
    if wanted.covariance:
        parts.append(_Covaried(how))
    if wanted.histograms:
        parts.append(_Drawn(how))
    return parts
