"""Rows as CSV: the number of each, and its values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from mlpipe.link import Block, Spec
from mlpipe.opening import Opening
from mlpipe.writers.arrays import present
from mlpipe.writers.output import Output, check_output, output
from mlpipe.writers.rows import Values, chunks


class NumberedSink:
    """CSV with a line for each row: its number, counted from 0, and its values, none where they are NaN.

    Parameters
    ----------
    path : str
        Where to; ``-`` is stdout.
    names : sequence of str
        What the number is called, and the value; several values are ``value_0``, ``value_1`` and so on.
    opening : Opening
        Whether it may replace what is there.

    Examples
    --------
    >>> from contextlib import ExitStack
    >>> with NumberedSink("-", ("query", "value"), Opening(ExitStack())).open(Spec(2, (), np.dtype("f8"))) as writing:
    ...     writing.write(Block(0, np.array([0.5, np.nan])))
    query,value
    0,0.5
    1,
    """

    sequential = True
    stored = True

    def __init__(self, path: str, names: Sequence[str], opening: Opening) -> None:
        self._path, self._names, self._opening = path, names, opening

    def check(self, spec: Spec) -> None:
        """Raise OutputError for what can be known to fail, changing nothing."""
        check_output(self._path, self._opening)

    def offset(self, spec: Spec) -> int:
        """Text begins nowhere in particular."""
        return 0

    def compile(self, spec: Spec) -> None:
        """Kernels are loaded when there is much to write."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Lines]:
        """Write the heading; a file appears when the context ends without an error."""
        number, value = self._names
        count = math.prod(spec.row_shape)
        values = [f"{value}_{i}" for i in range(count)] if spec.row_shape not in ((), (1,)) else [value]
        with output(self._path, self._opening) as out:
            out.append(",".join([number, *values]).encode() + b"\n")
            yield _Lines(out)


class _Lines:
    """Rows on their way into text."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def write(self, block: Block) -> None:
        """Write a line for each row."""
        from mlpipe.writers.cells import csv_cells, lines

        rows = len(block.data)
        values = block.data.reshape(rows, math.prod(block.data.shape[1:]))
        for part in chunks((np.arange(block.start, block.start + rows), *values.T)):
            columns = [np.asarray(column) for column in part]
            cells: list[Values] = [present(one) if one.dtype.kind == "f" else one for one in columns]
            text = lines(cells, (b"\n", *[b","] * (len(cells) - 1)), csv_cells)
            self._out.append(text[1:])
            self._out.append(b"\n")

    def sync(self) -> None:
        """What has gone is gone."""
