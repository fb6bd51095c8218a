"""A sink that keeps no rows: it summarises a matrix as its tiles go by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from mlpipe.kernels.summary import EXPONENTS, GROUP, LANES, SPLIT, summarise
from mlpipe.link import Block, Spec

_BIAS = 1075  # exponent bits e stand for a significand times 2 to the e − 1075


@dataclass(frozen=True, slots=True)
class Summary:
    """What a matrix of distances holds. The same for any tiles.

    Parameters
    ----------
    shape : tuple of int
        Of the matrix.
    dtype : str
        Of its elements.
    pairs : int
        Values that were summarised.
    missing, infinite : int
        NaN among them, and infinities; neither is part of the mean.
    minimum, mean, maximum : float or None
        None when there is nothing to take them of. The mean comes from float64 sums of 64 columns, which are added
        up exactly.
    closest, farthest : tuple of int or None
        Row and column of the minimum and of the maximum; of equal ones the first.
    """

    shape: tuple[int, ...]
    dtype: str
    pairs: int
    missing: int
    infinite: int
    minimum: float | None
    mean: float | None
    maximum: float | None
    closest: tuple[int, int] | None
    farthest: tuple[int, int] | None


class SummarySink:
    """Smallest, mean and largest value, and where.

    Parameters
    ----------
    above : bool
        Only what lies above the diagonal counts: X against itself.

    Examples
    --------
    >>> sink = SummarySink()
    >>> with sink.open(Spec(1, (3,), np.dtype("f8"))) as writing:
    ...     writing.write(Block(0, np.array([[1.0, 5.0, np.nan]])))
    >>> summary = sink.summary()
    >>> summary.minimum, summary.mean, summary.farthest, summary.missing
    (1.0, 3.0, (0, 1), 1)
    """

    sequential = False
    stored = False

    def __init__(self, above: bool = False) -> None:
        self._above = above
        self._low, self._high = np.zeros(EXPONENTS, np.int64), np.zeros(EXPONENTS, np.int64)
        self._found = np.array([np.inf, -np.inf])
        self._at = np.array([-1, -1, -1, -1, 0, 0, 0])
        self._lanes = np.empty((3, LANES))
        self._sums = np.empty(0)
        self._spec = Spec(0, (0,), np.dtype(np.float64))

    def check(self, spec: Spec) -> None:
        """Nothing can fail."""

    def offset(self, spec: Spec) -> int:
        """Nothing is stored anywhere."""
        return 0

    def compile(self, spec: Spec) -> None:
        """Load the kernel by a tile without rows."""
        self.write(Block(0, np.empty((0, 1), spec.dtype)))

    @contextmanager
    def open(self, spec: Spec) -> Iterator[SummarySink]:
        """Start a summary of `spec`."""
        self._spec = spec
        yield self

    def write(self, block: Block) -> None:
        """Take in a tile."""
        groups = block.data.shape[1] // GROUP + 2
        if len(self._sums) < groups:
            self._sums = np.empty(groups)
        summarise(
            block.data, block.start, block.column, self._above, self._sums, self._sums.view(np.int64), self._lanes,
            self._low, self._high, self._found, self._at,
        )  # fmt: skip

    def sync(self) -> None:
        """Nothing is on any disk."""

    def summary(self) -> Summary:
        """What was seen."""
        finite, missing, infinite = (int(count) for count in self._at[4:])
        pairs = finite + missing + infinite

        def place(which: int) -> tuple[int, int] | None:
            row, column = (int(value) for value in self._at[2 * which : 2 * which + 2])
            return None if row < 0 else (row, column)

        def extreme(which: int) -> float | None:
            return None if self._at[2 * which] < 0 else float(self._found[which])

        shape: tuple[Any, ...] = (self._spec.rows, *self._spec.row_shape)
        mean = float(self._total() / finite) if finite else None
        return Summary(
            shape, str(self._spec.dtype), pairs, missing, infinite, extreme(0), mean, extreme(1), place(0), place(1)
        )

    def _total(self) -> Fraction:
        total = 0
        for exponent in np.flatnonzero(self._low | self._high):
            significand = (int(self._high[exponent]) << SPLIT) + int(self._low[exponent])
            total += significand << max(int(exponent), 1)
        return Fraction(total, 1 << _BIAS)
