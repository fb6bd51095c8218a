"""Rows as CSV, with the number of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from mlpipe.link import Array, Block, Spec, Writing
from mlpipe.opening import Opening
from mlpipe.writers.output import Output, check_output, output
from mlpipe.writers.rows import Strings, Values, chunks
from mlpipe.writers.tiles import labels_block


class CsvSink:
    """A heading and lines; what differs is `heading` and `lines`.

    Parameters
    ----------
    path : str
        Where to; ``-`` is stdout.
    names : sequence of str
        What the heading is made of.
    opening : Opening
        Whether it may replace what is there.
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
    def open(self, spec: Spec) -> Iterator[Writing]:
        """Write the heading; a file appears when the context ends without an error."""
        with output(self._path, self._opening) as out:
            out.append(",".join(self.heading(spec)).encode() + b"\n")
            yield self.lines(out)

    def heading(self, spec: Spec) -> Sequence[str]:
        """Names of the columns."""
        return self._names

    def lines(self, out: Output) -> Writing:
        """What makes text of rows."""
        raise NotImplementedError


class NumberedSink(CsvSink):
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

    def heading(self, spec: Spec) -> Sequence[str]:
        """The number, and the values."""
        number, value = self._names
        several = spec.row_shape not in ((), (1,))
        return [number, *([f"{value}_{i}" for i in range(math.prod(spec.row_shape))] if several else [value])]

    def lines(self, out: Output) -> Writing:
        """A line for each row."""
        return _Lines(out)


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


class PairsSink(CsvSink):
    """CSV of all pairs: number of the row, each of its values, and the label of that; no label where that is NaN.

    Parameters
    ----------
    path : str
        Where to; ``-`` is stdout.
    names : sequence of str
        Of the three columns.
    opening : Opening
        Whether it may replace what is there.
    """

    def lines(self, out: Output) -> Writing:
        """A line for each value of each row."""
        return _Pairs(out)


class _Pairs:
    """Rows on their way into text."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def write(self, block: Block) -> None:
        """Write a line for each value of each row."""
        from mlpipe.writers.cells import csv_cells, lines

        labels = labels_block(block).data
        count = labels.shape[1] if labels.ndim > 1 else 1
        done = 0
        for part in chunks((block.data.reshape(-1), labels.reshape(-1))):
            value, label = (np.asarray(column) for column in part)
            row = block.start + np.arange(done, done + len(value)) // count
            done += len(value)
            text = lines((row, value, present(label)), (b"\n", b",", b","), csv_cells)
            self._out.append(text[1:])
            self._out.append(b"\n")

    def sync(self) -> None:
        """What has gone is gone."""


def present(values: Array) -> Strings:
    """Floats as text; nothing where they are NaN.

    Examples
    --------
    >>> present(np.array([0.5, np.nan])).tolist()
    [b'0.5', b'']
    """
    from mlpipe.writers.cells import float_strings

    text, missing = float_strings(values), np.isnan(values)
    if not missing.any():
        return text
    lengths = np.diff(text.offsets)
    content = text.content[: text.offsets[-1]][np.repeat(~missing, lengths)]
    return Strings(content, np.concatenate([[0], np.cumsum(np.where(missing, 0, lengths))]).astype(np.int64))
