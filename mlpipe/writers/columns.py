"""Labels as the last column of the rows they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import Array, Block, Sink, Spec, Writing
from mlpipe.writers.tiles import labels_block

SCRATCH_BYTES = 1 << 20
"""Of rows with their labels, on their way to the sink."""


LIMIT = 2.0**63
"""From here on, what becomes of a float as an integer is not defined."""


class LabelColumnSink:
    """A sink that gets the labels as one more column of the rows, which have to hold them without loss.

    Parameters
    ----------
    sink : Sink
        Where rows go; those without labels as they are.
    """

    sequential = True

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self.stored: bool = sink.stored

    @property
    def rows(self) -> int | None:
        """Rows that were written."""
        rows: int | None = self._sink.rows
        return rows

    def holds(self, spec: Spec) -> Spec:
        """What is written of rows like these."""
        return _joined(spec)

    def check(self, spec: Spec) -> None:
        """Raise InputError if rows cannot have one more column, and what the sink raises."""
        self._sink.check(_joined(spec))

    def offset(self, spec: Spec) -> int:
        """As the sink says."""
        offset: int = self._sink.offset(_joined(spec))
        return offset

    def compile(self, spec: Spec) -> None:
        """Nothing is compiled."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[Writing]:
        """Start writing."""
        sink: Sink = self._sink
        with sink.open(_joined(spec)) as writing:
            yield writing if spec.labels is None else _Joining(writing, _joined(spec))


def _joined(spec: Spec) -> Spec:
    """Rows with their labels as the last column."""
    if spec.labels is None:
        return spec
    if len(spec.row_shape) != 1 or spec.labels.row_shape:
        raise InputError(
            f"write --labels column: rows of shape {spec.row_shape} with labels of shape {spec.labels.row_shape}; "
            "it takes rows of one axis with one label each; use --labels files"
        )
    return replace(spec, row_shape=(spec.row_shape[0] + 1,), labels=None)


class _Joining:
    """Puts labels behind the rows of every block."""

    def __init__(self, writing: Writing, spec: Spec) -> None:
        self._writing, self._dtype = writing, spec.dtype
        rows = max(1, SCRATCH_BYTES // max(1, spec.row_bytes))
        self._scratch = np.empty((rows, *spec.row_shape), spec.dtype)

    def write(self, block: Block) -> None:
        """Hand on whole rows, a few at a time."""
        labels = labels_block(block).data
        for first in range(0, len(block.data), len(self._scratch)):
            part = labels[first : first + len(self._scratch)]
            joined = self._scratch[: len(part)]
            joined[:, :-1] = block.data[first : first + len(part)]
            _convert(part, joined[:, -1], block.start + first)
            self._writing.write(Block(block.start + first, joined))

    def sync(self) -> None:
        """Bring to disk what was stored."""
        self._writing.sync()


def _convert(labels: Array, out: Array, start: int) -> None:
    """Store labels as another dtype, or raise InputError for the first that it cannot hold."""
    with np.errstate(all="ignore"):
        np.copyto(out, labels, casting="unsafe")
        # Whatever the dtypes: NumPy calls it safe to make float64 of int64.
        same = (out.astype(labels.dtype) == labels) & ((out < 0) == (labels < 0))
        if labels.dtype.kind == "f":
            same |= np.isnan(labels) & (out != out)  # NaN, if it can be one
        if "f" in (kinds := {labels.dtype.kind, out.dtype.kind}) and len(kinds) > 1:
            same &= np.abs(labels if labels.dtype.kind == "f" else out) < LIMIT
    if not same.all():
        row = int(np.argmin(same))
        raise InputError(
            f"write --labels column: label {labels[row]} of row {start + row} is no {out.dtype} value; "
            "use --labels files, or cast the rows first"
        )
