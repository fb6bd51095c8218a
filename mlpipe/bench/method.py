"""A way to compute something, and what is compared of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Method:
    """One way to do a task.

    Parameters
    ----------
    name : str
        For machines.
    label : str
        For people.
    call : callable
        Takes a number of rows and works on that many, from the first one on.
    skipped : str or None
        Why it is not timed.
    compiled : bool
        Whether its first call compiles.
    first : int or None
        Rows of its first call; None for all.
    sampled : bool
        Whether its time is proportional to the rows, so that fewer may be timed.
    """

    name: str
    label: str
    call: Callable[[int], Any] = field(repr=False, default=lambda rows: None)
    skipped: str | None = None
    compiled: bool = False
    first: int | None = 1
    sampled: bool = False


class Problem(Protocol):
    """A task: its methods, and how their results are compared."""

    task: str
    title: str
    rows: int
    dtype: str
    skipped: str | None
    tolerance: float | None
    reference: str
    """The method that the others are compared with."""

    def methods(self, threads: int, numba_threads: int) -> Iterator[Method]:
        """All there are, those that cannot be used here, too; Numba may have fewer threads."""

    def difference(self, result: Any, rows: int, reference: Any, label: str) -> float:
        """How far off a result of so many rows is, relative to the largest value.

        The reference may be of another number of rows: then only those of both are compared.

        Raises
        ------
        MlpipeError
            If it is more than rounding.
        """
