"""Rows of an array in memory."""

from __future__ import annotations

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import Array, Spec
from mlpipe.readers.closing import Closing


class ArraySource(Closing):
    """An array as a source, so that arrays and files take the same way.

    Parameters
    ----------
    array : ndarray
        At least one dimension, of bool, int or float; never copied whole.
    name : str
        What messages call it.

    Examples
    --------
    >>> source, out = ArraySource(np.eye(3, dtype=">i2"), "X"), np.empty((1, 3), "f4")
    >>> source.read_rows(1, out)
    >>> out.tolist()
    [[0.0, 1.0, 0.0]]
    """

    seekable = True

    def __init__(self, array: Array, name: str) -> None:
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise InputError(f"{name} has dtype {array.dtype}; bool, integers and float16 to float64 are supported")
        if array.ndim == 0:
            raise InputError(f"{name} is a single value; rows are needed")
        self.array = array
        self.name = name
        self.spec = Spec(len(array), array.shape[1:], array.dtype)

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with rows from `start` on, converted to its dtype."""
        with np.errstate(over="ignore"):
            np.copyto(out, self.array[start : start + len(out)].reshape(out.shape), casting="unsafe")

    def check_unchanged(self) -> None:
        """Nothing to check: the array is the caller's."""

    def close(self) -> None:
        """Nothing to close."""
