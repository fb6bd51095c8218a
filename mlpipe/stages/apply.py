"""``apply``: an expression of each value, or of columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpipe.declare import argument, option
from mlpipe.errors import InputError
from mlpipe.kernels.steps import Cast, Map, Steps, working
from mlpipe.link import Array, Run, Spec, Stage
from mlpipe.opening import Opening
from mlpipe.stages.cast import DType
from mlpipe.stages.expression import Expression, is_elementwise, parse, wrong
from mlpipe.stages.formula import Formulas
from mlpipe.stages.mapped import Mapped, pieces
from mlpipe.stages.rowwise import RowWise


@dataclass(frozen=True)
class Apply:
    """An expression of each value, such as 'log1p(abs(x)) / 3', or of columns, such as 'x[0] - x[-1]'.

    x is each value, x[3] the value of a column of the row, counted from 0, x[-1] that of the last. An expression
    with x gives as many values as the row has; one with columns alone gives one for the row; several, with commas
    between them, stand side by side. Operators are those of Python, functions those of NumPy, computed in float32
    for rows of float16 and float32, else in float64. All that there is: docs/expressions.md.

    Example: mlpipe run read examples/data/digits.npy then apply 'log1p(x) / 3' then nothing
    """

    expression: str = argument(help="What to compute.", metavar="EXPRESSION")
    dtype: DType | None = option(  # noqa: RUF009 - it makes a field
        None, help="Cast the result; whole numbers are cut off and kept in range."
    )

    def __post_init__(self) -> None:
        parse(self.expression)

    def open(self, opening: Opening) -> Stage:
        """The stage: one of its own where columns are named, else one that is fused with its neighbours."""
        expression = parse(self.expression)
        dtype = None if self.dtype is None else np.dtype(self.dtype)
        fusible = not expression.several and not expression.columns() and is_elementwise(expression.parts[0])
        return _EachValue(expression, dtype) if fusible else _EachRow(expression, dtype)


@dataclass(frozen=True)
class _EachValue(RowWise):
    """An expression of each value by itself."""

    expression: Expression
    dtype: np.dtype[Any] | None

    @property
    def name(self) -> str:
        """The verb."""
        return "apply"

    def plan(self, spec: Spec) -> Spec:
        """Rows of the same shape."""
        return replace(spec, dtype=_computed(spec, self.dtype))

    def steps(self, spec: Spec) -> Steps:
        """The expression, and the cast if one was asked for."""
        formulas = Formulas()
        text = formulas.number(self.expression.parts[0])
        constants = {f"k{place}": number for place, number in enumerate(_numbers(formulas, spec.dtype))}
        return [Map(text, constants), *([Cast(self.dtype)] if self.dtype is not None else [])]


@dataclass(frozen=True)
class _EachRow(Mapped):
    """Expressions that name columns, or stand side by side."""

    expression: Expression
    dtype: np.dtype[Any] | None

    @property
    def name(self) -> str:
        """The verb."""
        return "apply"

    def plan(self, spec: Spec) -> Spec:
        """As many values as the expressions give."""
        self._check(spec)
        wide = [is_elementwise(part) for part in self.expression.parts]
        row_shape: Sequence[int] = spec.row_shape if wide[0] else ()
        if self.expression.several:
            width = spec.row_shape[0] if spec.row_shape else 1
            row_shape = (sum(width if one else 1 for one in wide),)
        return replace(spec, row_shape=tuple(row_shape), dtype=_computed(spec, self.dtype))

    def _check(self, spec: Spec) -> None:
        """Raise for columns that the rows do not have."""
        columns, shape = self.expression.columns(), spec.row_shape
        if len(shape) > 1 and (columns or self.expression.several):
            raise InputError(f"apply: columns of rows of shape {shape}; they need rows of one dimension")
        for column in columns:
            if not shape:
                raise wrong(self.expression.text, column.place, "each row is one value; write x")
            if not -shape[0] <= column.index < shape[0]:
                raise wrong(self.expression.text, column.place, f"the rows have {shape[0]} columns")

    def prepare(self, spec: Spec) -> None:
        """Compile the expressions."""
        empty, made = (np.empty((0, math.prod(one.row_shape)), one.dtype) for one in (spec, self.plan(spec)))
        self._call(empty, made)

    def fill(self, data: Array, out: Array, first: int, run: Run) -> None:
        """Compute the expressions, a part of the rows in each thread."""
        rows, made = np.ascontiguousarray(data).reshape(len(data), -1), out.reshape(len(out), -1)
        run.workers.run(lambda part, _: self._call(rows[part], made[part]), pieces(len(rows), run.workers.threads))

    def _call(self, rows: Array, out: Array) -> None:
        from mlpipe.kernels.formulas import formulas_kernel
        from mlpipe.kernels.fused import storage

        formulas = Formulas()
        parts = [(formulas.number(part), is_elementwise(part)) for part in self.expression.parts]
        numbers = _numbers(formulas, rows.dtype)
        function = formulas_kernel(parts, formulas.columns, len(numbers), rows.dtype, out.dtype)
        function(storage(rows), storage(out), numbers)


def _computed(spec: Spec, dtype: np.dtype[Any] | None) -> np.dtype[Any]:
    """Dtype of the result."""
    if spec.dtype.kind not in "biuf":
        raise InputError(f"apply: rows of {spec.dtype.name}; it takes bool, integers and floats")
    return working(spec.dtype) if dtype is None else dtype


def _numbers(formulas: Formulas, dtype: np.dtype[Any]) -> Array:
    """The numbers of an expression in the dtype in which it is computed; too large ones become infinite."""
    with np.errstate(over="ignore"):
        return np.array(formulas.numbers).astype(working(dtype))
