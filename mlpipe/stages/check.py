"""``check``: rows that are not as they should be end the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.bounds import first_outside
from mlpipe.link import Array, Blocks, Held, Run, Spec
from mlpipe.readers.raw import parse_dtype
from mlpipe.stages.streaming import Streaming

PIECE = 1 << 16
"""Values looked at by one call of the kernel."""


@dataclass(frozen=True)
class Check(Streaming):
    """End the run with exit code 4 at the first value that is not as it should be.

    Rows go through unchanged; the message names the row, as it is counted here, and the column, both from 0. NaN
    lies within no bounds. Bounds are rounded to the dtype of the rows, as NumPy does when it compares them. Labels
    are not looked at.

    Example: mlpipe run read examples/data/digits.npy then check --finite --min 0 --max 16 --dtype uint8 then nothing
    """

    finite: bool = option(False, help="No value is NaN or infinite.")
    min: float | None = option(None, help="No value is below.", metavar="A")
    max: float | None = option(None, help="No value is above.", metavar="B")
    dtype: str | None = option(None, help="Rows have this dtype, such as float32.", metavar="T")

    def __post_init__(self) -> None:
        if (self.finite, self.min, self.max, self.dtype) == (False, None, None, None):
            raise UsageError("check: nothing to check; give --finite, --min, --max or --dtype")
        for flag, bound in (("--min", self.min), ("--max", self.max)):
            if bound is not None and math.isnan(bound):
                raise UsageError(f"check {flag} nan: give a number; --finite refuses NaN")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise UsageError(f"check --min {self.min:g} --max {self.max:g}: the first must not be above the second")
        if self.dtype is not None:
            parse_dtype(self.dtype, "check --dtype")

    def plan(self, spec: Spec) -> Spec:
        """The same rows, if they have the dtype."""
        if self.dtype is not None and spec.dtype != parse_dtype(self.dtype, "check --dtype").newbyteorder("="):
            raise InputError(f"check --dtype {self.dtype}: rows are {spec.dtype}")
        if spec.dtype.kind == "c" and (self.min, self.max) != (None, None):
            raise InputError(f"check --min, --max: {spec.dtype} values are not ordered")
        return spec

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Hand on what was looked at."""
        place, bounds = 0, None
        for block in blocks:
            if bounds is None:
                bounds = self._bounds(block.data.dtype)
            for low, high in bounds:
                self._look(np.ascontiguousarray(block.data), place, low, high)
            block.start = place
            place += len(block.data)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block

    def _bounds(self, dtype: np.dtype[Any]) -> list[tuple[Any, Any]]:
        """Bounds in the type in which values are compared; none if any value will do."""
        if dtype.kind in "fc":
            return self._float_bounds(dtype) if (self.finite, self.min, self.max) != (False, None, None) else []
        if self.min is None and self.max is None:
            return []
        least, most = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        low = least if self.min is None else max(least, _whole(self.min, math.ceil, least, most))
        high = most if self.max is None else min(most, _whole(self.max, math.floor, least, most))
        wide = np.int64 if dtype.kind == "i" else np.uint64
        # A bound that no value reaches may not fit into 64 bits; these leave out every value, too.
        return [(wide(low), wide(high)) if low <= most and high >= least else (wide(1), wide(0))]

    def _float_bounds(self, dtype: np.dtype[Any]) -> list[tuple[Any, Any]]:
        facts = np.finfo(dtype)
        end = float(facts.max) if self.finite else math.inf
        with np.errstate(over="ignore"):  # a bound that is infinite in this dtype
            low, high = (float(facts.dtype.type(one)) for one in (_or(self.min, -math.inf), _or(self.max, math.inf)))
        compared = np.float64 if facts.dtype.itemsize == 8 else np.float32
        return [(compared(max(low, -end)), compared(min(high, end)))]

    def _look(self, rows: Array, place: int, low: Any, high: Any) -> None:
        """Raise InputError for the first value outside."""
        values = rows.reshape(-1)
        if values.dtype.kind in "bc":
            values = values.view(np.uint8 if values.dtype.kind == "b" else np.finfo(values.dtype).dtype)
        for start in range(0, len(values), PIECE):
            piece = values[start : start + PIECE]
            # Numba has no float16.
            found = first_outside(piece.astype(np.float32) if piece.dtype == np.float16 else piece, low, high)
            if found >= 0:
                self._refuse(rows, (start + found) // (len(values) // rows.size), place)

    def _refuse(self, rows: Array, index: int, place: int) -> NoReturn:
        """Raise InputError for the value at an index."""
        row, *column = np.unravel_index(index, rows.shape)
        value = rows.reshape(-1)[index]
        where = f"row {place + int(row)}"
        if column:
            where += f", column {int(column[0]) if len(column) == 1 else tuple(map(int, column))}"
        if self.finite and not np.isfinite(value):
            wrong = "is not finite"
        elif np.isnan(value):
            wrong = "lies within no bounds"
        elif self.min is not None and value.item() < self.min:
            wrong = f"is below --min {self.min!r}"
        else:
            wrong = f"is above --max {self.max!r}"
        raise InputError(f"check: {where}: {value} {wrong}")


def _or(bound: float | None, default: float) -> float:
    return default if bound is None else bound


def _whole(bound: float, rounding: Callable[[float], int], least: int, most: int) -> int:
    """A bound as a whole number; one beyond the dtype if the bound is."""
    if least <= bound <= most:
        return rounding(bound)
    return least - 1 if bound < least else most + 1
