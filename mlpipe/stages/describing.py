"""What `stats` is to find out, in how many passes, and what it holds for that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Room, Spec
from mlpipe.stages.fitting import columns_of
from mlpipe.statistics.covariance import Covariance
from mlpipe.statistics.describe import Describe
from mlpipe.statistics.histograms import MOST_PLOTTED, Histograms
from mlpipe.statistics.quantiles import Passes, plan_passes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to find out besides the description.

    Parameters
    ----------
    quantiles : tuple of float
        Fractions, 0 to 1.
    approx : bool
        Whether quantiles and distinct values are estimated, in one pass and little memory.
    unique : bool
        The number of distinct values.
    covariance : bool
        Covariances and correlations.
    histograms : bool
        Histograms of the first columns.
    """

    quantiles: tuple[float, ...] = ()
    approx: bool = False
    unique: bool = False
    covariance: bool = False
    histograms: bool = False


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How it will be done within some room.

    Parameters
    ----------
    passes : int
        Over the rows.
    nbytes : dict of str to int
        What is held, by what for.
    columns : int
        Values of a row.
    dtype : numpy.dtype
        Of the values.
    threads : int
        That compute.
    exact : tuple of Passes or None
        For the quantiles of columns, and of all values where there are several columns.
    tally_room : int
        Bytes for the distinct values of each column.
    together : int
        Columns whose distinct values are counted in one pass.
    directory : str
        Where temporary files go.
    """

    passes: int
    nbytes: dict[str, int]
    columns: int
    dtype: np.dtype[Any]
    threads: int
    exact: tuple[Passes, ...] = ()
    tally_room: int = 0
    together: int = 0
    directory: str = "."

    @property
    def facts(self) -> dict[str, Any]:
        """What the plan shows."""
        facts: dict[str, Any] = {}
        if self.exact:
            facts["passes_for_quantiles"] = max(one.passes for one in self.exact)
        if self.together:
            facts["passes_for_distinct_values"] = -(-sum(several(self.columns)) // self.together)
            facts["temporary_files"] = self.directory
        return facts


def arrange(wanted: Wanted, spec: Spec, room: Room, directory: str) -> Arrangement:
    """Share out the room; raise MemoryCeilingError where it does not do.

    Raises
    ------
    MemoryCeilingError
        With what would do.
    """
    columns, dtype, threads = columns_of(spec.row_shape), spec.dtype, room.threads
    held = {"statistics": Describe.nbytes(columns, dtype, threads, room.block_rows)}
    passes = 1
    exact: tuple[Passes, ...] = ()
    if wanted.covariance:
        held["covariance"] = Covariance.nbytes(columns, threads)
    if wanted.histograms:
        held["histograms"] = Histograms.nbytes(min(columns, MOST_PLOTTED), threads, room.block_rows)
        passes = 2
    if wanted.approx:
        held["sketches"] = _sketch_bytes(wanted, columns, threads)
    used = sum(held.values())
    least = used + _least(wanted, columns, dtype, threads)
    if room.nbytes < least:
        raise MemoryCeilingError("statistics do not fit", needs=least)
    left = room.nbytes - used
    if wanted.quantiles and not wanted.approx:
        share = (left // 2 if wanted.unique else left) // len(several(columns))
        exact = tuple(plan_passes(count, dtype, len(wanted.quantiles), share, threads) for count in several(columns))
        held["counters"] = sum(one.nbytes for one in exact)
        passes = max(passes, *(one.passes for one in exact))
        left -= held["counters"]
    arrangement = Arrangement(passes, held, columns, dtype, threads, exact, directory=directory)
    return _with_tallies(arrangement, left) if wanted.unique and not wanted.approx else arrangement


def several(columns: int) -> list[int]:
    """How many columns there are, and, where it is not the same, the one that all values make.

    Examples
    --------
    >>> several(1), several(3)
    ([1], [3, 1])
    """
    return [columns] if columns == 1 else [columns, 1]


def _least(wanted: Wanted, columns: int, dtype: np.dtype[Any], threads: int) -> int:
    """Bytes without which what is exact cannot be found, in however many passes."""
    if wanted.approx:
        return 0
    each = []
    if wanted.quantiles:
        counters = max(_least_counters(count, dtype, len(wanted.quantiles)) for count in several(columns))
        each.append(counters * len(several(columns)))
    if wanted.unique:
        from mlpipe.counting.tally import Tally

        each.append(Tally.least(dtype, threads))
    return max(each, default=0) * len(each)


def _least_counters(columns: int, dtype: np.dtype[Any], quantiles: int) -> int:
    try:
        return plan_passes(columns, dtype, quantiles, 0).nbytes
    except MemoryCeilingError as error:
        return error.needs


def _with_tallies(arrangement: Arrangement, left: int) -> Arrangement:
    """Room for counting distinct values: of as many columns at once as fit, the others in further passes."""
    from mlpipe.counting.tally import Tally

    tallies = sum(several(arrangement.columns))
    together = max(1, min(tallies, left // Tally.least(arrangement.dtype, arrangement.threads)))
    passes = max(arrangement.passes, -(-tallies // together))
    together = -(-tallies // passes)
    held = {**arrangement.nbytes, "distinct": together * (left // together)}
    return replace(arrangement, passes=passes, nbytes=held, tally_room=left // together, together=together)


def _sketch_bytes(wanted: Wanted, columns: int, threads: int) -> int:
    """Of a sketch for each column and one for all values, and of what they are fed with."""
    from mlpipe.counting import sketches

    each = with_food = 0
    if wanted.quantiles:
        each, with_food = 32 * sketches.K_QUANTILES, sketches.QUANTILE_BYTES
    if wanted.unique:
        each += sketches.DISTINCT_BYTES - 48 * sketches.CHUNK
        with_food += sketches.DISTINCT_BYTES
    return each * sum(several(columns)) + threads * with_food
