"""Values of a file that go with the rows on their way: weights, labels, the truth about them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import Array, Block, Run, Source, Spec


def check_beside(source: Source, spec: Spec, flag: str) -> None:
    """Raise InputError unless a file has one value for each row, as far as their number is known.

    Parameters
    ----------
    source : Source
        The file.
    spec : Spec
        The rows.
    flag : str
        How messages begin.
    """
    if math.prod(source.spec.row_shape) != 1:
        shape = (source.spec.rows, *source.spec.row_shape)
        raise InputError(f"{flag} {source.name}: shape {shape}; there must be one value for each row")
    if spec.rows is not None and source.spec.rows != spec.rows:
        raise _differ(source, flag, spec.rows)


def _differ(source: Source, flag: str, rows: int) -> InputError:
    return InputError(f"{flag} {source.name}: {source.spec.rows} values for {rows} rows; there must be one for each")


class Beside:
    """The values of a file, handed out in step with the rows that come; one for each is no axis of its own.

    Parameters
    ----------
    source : Source
        The file, checked by `check_beside` or by whoever takes several values a row.
    name : str
        Of the link that reads it, as in `side_sources`.
    flag : str
        How messages begin.
    rows : int
        Values read at once.
    run : Run
        In which they are used.
    """

    def __init__(self, source: Source, name: str, flag: str, rows: int, run: Run) -> None:
        self._source, self._flag = source, flag
        self._dtype = source.spec.dtype.newbyteorder("=")
        total = int(source.spec.rows or 0)
        ranges = ((start, min(total, start + rows)) for start in range(0, total, rows))
        self._blocks: Iterator[Block] = run.read(source, ranges, self._dtype, name)
        shape = source.spec.row_shape
        self._row_shape = () if math.prod(shape) == 1 else shape
        self._values = np.empty((0, *self._row_shape), self._dtype)
        self._block: Block | None = None
        self._taken = 0

    def take(self, count: int) -> Array:
        """The next values, as a new array.

        Raises
        ------
        InputError
            If there are not so many.
        """
        out, filled = np.empty((count, *self._row_shape), self._dtype), 0
        while filled < count:
            if not len(self._values):
                self._next(self._taken + count)
            some = self._values[: count - filled]
            out[filled : filled + len(some)] = some
            self._values, filled = self._values[len(some) :], filled + len(some)
        self._taken += count
        return out

    def _next(self, rows: int) -> None:
        if self._block is not None:
            self._block.release()
        self._block = next(self._blocks, None)
        if self._block is None:
            raise InputError(
                f"{self._flag} {self._source.name}: {self._source.spec.rows} values, but there are {rows} rows or "
                "more; there must be one for each"
            )
        self._values = self._block.data.reshape(-1, *self._row_shape)

    def finish(self) -> None:
        """Raise InputError if values are left."""
        if self._taken != self._source.spec.rows:
            raise _differ(self._source, self._flag, self._taken)
