"""A table of counts as rows of one array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.counting.columns import Column
from mlpipe.errors import InputError, UsageError
from mlpipe.link import Array, Blocks, Run, Spec
from mlpipe.stages.streaming import BUFFERS, Buffers
from mlpipe.stages.subjects import Subject

if TYPE_CHECKING:
    from mlpipe.counting.table import Table
    from mlpipe.stages.count_features import CountFeatures

EXACT = 1 << 53
"""Up to where float64 holds every whole number."""


def made_spec(options: CountFeatures, subject: Subject, weight: np.dtype[Any] | None) -> Spec:
    """Rows of key, count, and what else was asked for, in a dtype that holds them all.

    Parameters
    ----------
    options : CountFeatures
        The verb.
    subject : Subject
        What is counted; all tables have the same columns.
    weight : numpy.dtype or None
        Of the weights, if there are any.

    Raises
    ------
    UsageError
        For text.
    """
    if any(field.dtype.kind in "SU" for field in subject.fields):
        raise UsageError("count-features: text and counts make no array; use mlpipe count-features -o counts.csv")
    width = (subject.table is not None) + sum(math.prod(field.row_shape) for field in subject.fields) + 1
    width += options.normalize + options.cumulative
    if options.bins is not None or options.edges is not None:
        width += 1  # where a bin begins, and where it ends
    return Spec(None, (width,), _dtype(options, subject, weight))


def _dtype(options: CountFeatures, subject: Subject, weight: np.dtype[Any] | None) -> np.dtype[Any]:
    dtypes = [field.dtype for field in subject.fields]
    real = options.normalize or options.approx or options.bins is not None or options.edges is not None
    if real or any(dtype.kind == "f" for dtype in [*dtypes, *([] if weight is None else [weight])]):
        return np.dtype(np.float64)
    if all(dtype != np.uint64 for dtype in dtypes):
        return np.dtype(np.int64)
    # A count is never negative, so that the widest unsigned integers hold it, too.
    return np.dtype(np.float64 if any(dtype.kind == "i" for dtype in dtypes) else np.uint64)


def rows_of(table: Table, made: Spec, rows: int, share: float, run: Run) -> Blocks:
    """The table as blocks.

    Parameters
    ----------
    table : Table
        Used up.
    made : Spec
        Of the rows.
    rows : int
        Of a block, at most.
    share : float
        Of the input, that the first block completes.
    run : Run
        In which they are used.
    """
    buffers, place = Buffers(run, made, rows, BUFFERS), 0
    for piece in table.pieces:
        columns = [_in(made.dtype, name, column) for name, column in zip(table.names, piece, strict=True)]
        for start in range(0, len(columns[0]), rows):
            block = buffers.take(min(rows, len(columns[0]) - start))
            for number, column in enumerate(columns):
                block.data[:, number] = column[start : start + rows]
            block.start, block.share = place, share
            place, share = place + len(block.data), 0.0
            yield block


def _in(dtype: np.dtype[Any], name: str, column: Column) -> Array:
    """A column in the dtype of the array; raise InputError if that changes a value."""
    if not isinstance(column, np.ndarray):
        raise InputError(f"count-features: {name} is text, which no array of numbers holds")
    if column.dtype.kind in "iu" and dtype.kind == "f" and column.dtype.itemsize == 8:
        wrong = (column > EXACT) | (column < -EXACT) if column.dtype.kind == "i" else column > EXACT
        if wrong.any():
            value = column[int(wrong.argmax())]
            raise InputError(
                f"count-features: {name} {value} is not exact in float64, in which the array has to be; use mlpipe "
                "count-features -o counts.npz"
            )
    return column.astype(dtype, copy=False)
