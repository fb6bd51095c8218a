"""Weights: none below zero, and a sum that does not depend on how they were cut into blocks."""

from __future__ import annotations

import numpy as np

from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.counting import add_up
from mlpipe.link import Array

MOST = (1 << 63) - 1


class Scale:
    """Checks weights as they come, and adds them up.

    Parameters
    ----------
    dtype : dtype
        int64 or float64.

    Examples
    --------
    >>> scale = Scale(np.dtype(np.int64))
    >>> scale.check(np.array([2, 3]), 0).tolist(), scale.total
    ([2, 3], 5)
    >>> scale.check(np.array([1, -4]), 2)
    Traceback (most recent call last):
    ...
    mlpipe.errors.InputError: weight 3 is -4; weights must not be negative
    """

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.int64), np.dtype(np.float64)):
            raise UsageError(f"weights of dtype {self.dtype} are not added up; give int64 or float64")
        self._sum = 0
        self._parts = np.zeros(2)

    def check(self, weights: Array, first: int) -> Array:
        """Return them, contiguous; raise InputError for one that is negative, NaN or infinite, named by its row."""
        weights = np.ascontiguousarray(weights, self.dtype)
        wrong = ~(weights >= 0) | np.isinf(weights)
        if wrong.any():
            place = int(np.argmax(wrong))
            what = "negative" if weights[place] < 0 else "NaN or infinite"
            raise InputError(f"weight {first + place} is {weights[place]}; weights must not be {what}")
        if self.dtype.kind == "f":
            add_up(weights, self._parts)
            return weights
        self._sum += (int((weights >> 32).sum()) << 32) + int((weights & 0xFFFFFFFF).sum())
        if self._sum > MOST:
            raise InputError(f"integer weights sum to more than {MOST}; give them as float64")
        return weights

    @property
    def total(self) -> int | float:
        """Of all weights so far."""
        return float(self._parts.sum()) if self.dtype.kind == "f" else self._sum
