"""Which rows, or which values, an expression holds for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.steps import working
from mlpipe.link import Array, Spec
from mlpipe.stages.expression import Call, Expression, Number, is_elementwise, parse
from mlpipe.stages.formula import Formulas
from mlpipe.stages.loop import TASK_BYTES
from mlpipe.stages.mapped import pieces
from mlpipe.workers import Workers


@dataclass(frozen=True)
class Where:
    """A condition in the grammar of ``apply``; a number holds unless it is 0.

    Parameters
    ----------
    flag : str
        How messages begin.
    expression : Expression
        Of one row; of each value if it names ``x`` alone.

    Examples
    --------
    >>> condition = Where.of("x[0] > 1", "--where")
    >>> with Workers(1) as workers:
    ...     condition.holds(np.array([[1, 2], [2, 3]]), workers).tolist()
    [False, True]
    """

    flag: str
    expression: Expression

    @classmethod
    def of(cls, text: str, flag: str) -> Where:
        """Read a condition; raise UsageError for what is none."""
        try:
            expression = parse(text)
        except UsageError as error:
            raise UsageError(f"{flag} {str(error).removeprefix('apply ')}") from None
        if expression.several:
            raise UsageError(f"{flag} {text!r}: several expressions; join conditions with and, or, not")
        return cls(flag, expression)

    @property
    def of_each_value(self) -> bool:
        """Whether it holds or not for each value, not for the row."""
        return is_elementwise(self.expression.parts[0])

    def check(self, spec: Spec) -> None:
        """Raise InputError for columns that rows do not have."""
        shape = spec.row_shape
        if spec.dtype.kind not in "biuf":
            raise InputError(f"{self.flag}: rows of {spec.dtype.name}; conditions take bool, integers and floats")
        if len(shape) > 1 and self.expression.columns():
            raise InputError(f"{self.flag}: columns of rows of shape {shape}; they need rows of one dimension")
        for column in self.expression.columns():
            if not shape:
                raise InputError(f"{self.flag}: x[{column.index}], but each row is one value; write x")
            if not -shape[0] <= column.index < shape[0]:
                raise InputError(
                    f"{self.flag}: x[{column.index}], but rows have {shape[0]} columns, from 0 to {shape[0] - 1}, or "
                    f"-{shape[0]} to -1"
                )

    def holds(self, rows: Array, workers: Workers) -> Array:
        """For which rows it holds, bool of shape (rows,); or values, of shape (rows, values).

        Parameters
        ----------
        rows : ndarray, shape (rows, ...)
            C-contiguous.
        workers : Workers
            Threads that compute.
        """
        from mlpipe.kernels.formulas import formulas_kernel
        from mlpipe.kernels.fused import storage

        flat = rows.reshape(len(rows), -1) if rows.size else np.empty((len(rows), 1), rows.dtype)
        out = np.empty((len(rows), flat.shape[1] if self.of_each_value else 1), np.bool_)
        # A number compared with 0 is a truth value; not not makes one of it.
        truth = Call("not", (Call("not", self.expression.parts),)) if self._known() else self.expression.parts[0]
        formulas = Formulas()
        text = formulas.number(truth)
        numbers = _numbers(formulas, rows.dtype)
        named = [(text, self.of_each_value)]
        function = formulas_kernel(named, formulas.columns, len(numbers), rows.dtype, out.dtype)
        if rows.nbytes < TASK_BYTES:
            function(storage(flat), storage(out), numbers)
        else:
            parts = pieces(len(flat), workers.threads)
            workers.run(lambda part, _: function(storage(flat[part]), storage(out[part]), numbers), parts)
        return out if self.of_each_value else out[:, 0]

    def _known(self) -> bool:
        return not isinstance(self.expression.parts[0], Number)


def _numbers(formulas: Formulas, dtype: np.dtype[Any]) -> Array:
    """The numbers of an expression in the dtype in which it is computed; too large ones become infinite."""
    with np.errstate(over="ignore"):
        return np.array(formulas.numbers).astype(working(dtype))
