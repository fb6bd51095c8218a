"""What every counter offers: blocks go in, a table of distinct values and their counts comes out, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from mlpipe.counting.columns import Column
from mlpipe.link import Array
from mlpipe.workers import Workers


class Entries(NamedTuple):
    """Some rows of a table of counts.

    Parameters
    ----------
    keys : tuple of Column
        What was counted: one column for single values, two for pairs or labelled values; the first axis of each is
        the row of the table.
    counts : ndarray of int64 or float64, shape (rows,)
        How often each occurred, or the sum of its weights.
    """

    keys: tuple[Column, ...]
    counts: Array


class Counted(Protocol):
    """A finished table, which may be larger than memory."""

    @property
    def distinct(self) -> int:
        """Rows of the table."""

    @property
    def total(self) -> int | float:
        """Sum of all counts."""

    @property
    def missing(self) -> int:
        """Of how many values NaN is the one; they are in the table too, as its last row by value."""

    @property
    def method(self) -> str:
        """How it was counted, in a word or two: ``dense``, ``table``, ``partitions``, ``partitions on disk``."""

    @property
    def why(self) -> str:
        """Why so, in half a sentence."""

    @property
    def spilled_bytes(self) -> int:
        """What went through temporary files."""

    def by_value(self) -> Iterator[Entries]:
        """The table in bounded pieces, ascending by key (column after column), NaN last; once."""

    def close(self) -> None:
        """Give back memory and files; harmless when repeated."""


class Counter(Protocol):
    """Counts what comes in; made for one dtype and one room."""

    def add(self, values: Array, workers: Workers, weights: Array | None = None) -> None:
        """Take in values; the array may be reused afterwards.

        Parameters
        ----------
        values : ndarray
            C-contiguous, in the machine's byte order; what shape, the counter says.
        workers : Workers
            Threads that compute.
        weights : ndarray of int64 or float64, shape (len(values),), optional
            Given always or never, as the counter was made for.
        """

    def finish(self, workers: Workers) -> Counted:
        """The table of all that came in; no more may come."""

    def close(self) -> None:
        """Give back memory and files, finished or not; harmless when repeated."""
