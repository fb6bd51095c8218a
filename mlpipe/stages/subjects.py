"""What is counted of rows: every value, some columns, pairs of them, or rows as a whole, alone or by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.errors import InputError, UsageError
from mlpipe.link import Array, Labels, Source, Spec
from mlpipe.npy_format import check_dtype
from mlpipe.stages.count_features import CARRIED

if TYPE_CHECKING:
    from mlpipe.stages.count_features import CountFeatures


@dataclass(frozen=True)
class Subject:
    """What one table counts.

    Parameters
    ----------
    columns : tuple of int or None
        Columns of which each row gives a value, or the values of one key together; None for all values, one by one.
    whole : bool
        Whether a row is one key.
    label : numpy.dtype or None
        Of the label that comes before each key, if there is one.
    value : numpy.dtype
        Of the values.
    row_shape : tuple of int
        Of a row.
    table : int or None
        Which column this is the table of, where there are several tables.

    Examples
    --------
    >>> pairs = Subject((0, 2), False, None, np.dtype("u1"), (3,))
    >>> pairs.of(np.array([[1, 2, 3], [4, 5, 6]], "u1"), None)["1"].tolist(), pairs.names
    ([3, 6], ('x[0]', 'x[2]'))
    """

    columns: tuple[int, ...] | None
    whole: bool
    label: np.dtype[Any] | None
    value: np.dtype[Any]
    row_shape: tuple[int, ...]
    table: int | None = None

    @property
    def fields(self) -> tuple[Labels, ...]:
        """Parts of a key: shape and dtype of each."""
        parts = [] if self.label is None else [Labels((), self.label)]
        if self.whole:
            return (*parts, Labels((math.prod(self.row_shape),), self.value))
        return (*parts, *[Labels((), self.value)] * (len(self.columns) if self.columns else 1))

    @property
    def single(self) -> bool:
        """Whether a key is one value."""
        return len(self.fields) == 1 and not self.whole

    @property
    def names(self) -> tuple[str, ...]:
        """Headings of the columns of a key."""
        label = () if self.label is None else ("label",)
        if self.whole:
            return (*label, *(f"x[{column}]" for column in range(math.prod(self.row_shape))))
        if self.columns is not None and len(self.columns) > 1:
            return (*label, *(f"x[{column}]" for column in self.columns))
        return (*label, "value")

    @property
    def keys_of_row(self) -> int:
        """Keys that a row gives."""
        return 1 if self.whole or self.columns is not None else math.prod(self.row_shape)

    @property
    def key_bytes(self) -> int:
        """Bytes of a key."""
        return sum(field.row_bytes for field in self.fields)

    def of(self, rows: Array, labels: Array | None) -> Array:
        """The keys of some rows: values of their own dtype, or records.

        Parameters
        ----------
        rows : ndarray, shape (rows, *row_shape)
            C-contiguous.
        labels : ndarray, shape (rows,), or None
            One for each row.
        """
        flat = rows.reshape(len(rows), math.prod(self.row_shape))
        if self.single:
            values = flat if self.columns is None else flat[:, self.columns[0]]
            return np.ascontiguousarray(values).reshape(-1)
        if self.whole and labels is None:
            return np.ascontiguousarray(flat)
        return self._records(flat, labels)

    def _records(self, flat: Array, labels: Array | None) -> Array:
        parts = [(str(n), field.dtype, field.row_shape) for n, field in enumerate(self.fields)]
        records = np.empty((len(flat), self.keys_of_row), np.dtype(parts))
        place = 0
        if labels is not None:
            records["0"] = labels[:, None]
            place = 1
        if self.whole:
            records[str(place)] = flat[:, None, :]
        elif self.columns is None:
            records[str(place)] = flat
        else:
            for column in self.columns:
                records[str(place)] = flat[:, column, None]
                place += 1
        return records.reshape(-1)


def column_places(columns: Sequence[int], spec: Spec, flag: str) -> list[int]:
    """Columns from 0 on, each once, in the order given.

    Raises
    ------
    InputError
        For rows without columns, and for a column that they do not have.

    Examples
    --------
    >>> column_places([0, -1, 0], Spec(5, (3,), np.dtype("f4")), "--column")
    [0, 2]
    """
    if len(spec.row_shape) > 1:
        raise InputError(f"{flag}: rows of shape {spec.row_shape} have no columns to choose from; reshape them")
    count = spec.row_shape[0] if spec.row_shape else 1
    for column in columns:
        if not -count <= column < count:
            valid = f"from 0 to {count - 1}, or -{count} to -1" if count else "none"
            raise InputError(f"{flag} {column}: rows have {count} column{'s' * (count != 1)}, {valid}")
    return list(dict.fromkeys(column % count for column in columns))


def subjects_of(options: CountFeatures, spec: Spec, labels: Source | None) -> tuple[Subject, ...]:
    """What the options ask for, a table each.

    Parameters
    ----------
    options : CountFeatures
        The verb.
    spec : Spec
        The rows that come.
    labels : Source or None
        The file that --by names.
    """
    value = spec.dtype if options.cast is None else np.dtype(options.cast)
    one = Subject(None, options.rows, _label(options, spec, labels), value, counted_shape(options, spec))
    if options.pairs is not None:
        places = [column_places([column], spec, "count-features --pairs")[0] for column in options.pairs]
        return (replace(one, columns=tuple(places)),)
    if options.each_column:
        column_places([], spec, "count-features --each-column")
        columns = range(spec.row_shape[0] if spec.row_shape else 1)
        if not columns:  # a table without rows
            return (replace(one, table=0),)
        return tuple(replace(one, columns=(column,), table=column) for column in columns)
    places = column_places(options.column, spec, "count-features --column") if options.column else []
    if len(places) == 1:
        return (replace(one, columns=(places[0],)),)
    return tuple(replace(one, columns=(column,), table=column) for column in places) or (one,)


def counted_shape(options: CountFeatures, spec: Spec) -> tuple[int, ...]:
    """Shape of the rows that are counted: single values, where a condition leaves out single values."""
    condition = options.condition()
    return () if condition is not None and condition.of_each_value else spec.row_shape


def _label(options: CountFeatures, spec: Spec, labels: Source | None) -> np.dtype[Any] | None:
    if options.by is None:
        return None
    if labels is not None:
        return labels.spec.dtype.newbyteorder("=")
    return None if spec.labels is None else spec.labels.dtype


def check_rows(options: CountFeatures, spec: Spec) -> None:
    """Raise for rows that cannot be counted as the options ask for."""
    if spec.endless:
        raise UsageError("count-features counts all rows, but they never stop coming; put head before it")
    if spec.dtype.kind not in "SU":
        check_dtype(spec.dtype, "count-features")
    for flag in ("--cast", "--where", "--bins", "--edges") if spec.dtype.kind in "SU" else ():
        if flag in options.given():
            raise InputError(f"count-features {flag}: rows are text, of {spec.dtype}; it takes numbers")
    if (condition := options.condition()) is not None:
        condition.check(spec)
        if condition.of_each_value and math.prod(spec.row_shape) != 1:
            _check_each_value(options)
    if options.rows and not math.prod(spec.row_shape):
        raise InputError("count-features --rows: rows hold no values")
    if options.by == CARRIED:
        _check_carried(spec)


def _check_each_value(options: CountFeatures) -> None:
    if options.column or options.each_column or options.rows or options.pairs is not None:
        raise UsageError(
            f"count-features --where {options.where!r}: x is each value, but rows are counted by columns or as a "
            "whole; name a column, such as x[0]"
        )


def _check_carried(spec: Spec) -> None:
    if spec.labels is None:
        raise InputError(
            "count-features --by labels: rows carry no labels; name a file, or read some with read --labels"
        )
    if math.prod(spec.labels.row_shape) != 1:
        raise InputError(f"count-features --by labels: a label of shape {spec.labels.row_shape} is not one value")
