"""Statistics of an array in memory, by the kernels the command line uses."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mlpipe.errors import InputError, UsageError
from mlpipe.measure.host import processors
from mlpipe.statistics.describe import Describe, Description
from mlpipe.workers import Workers

BLOCK_BYTES = 2 << 20
"""Rows taken in at a time."""

SMALL = 1 << 16
"""Values below which starting threads costs more than it brings."""


def describe(x: npt.ArrayLike, *, threads: int | None = None) -> Description:
    """Statistics of each column and of all values, in one pass.

    Parameters
    ----------
    x : array_like, shape (rows, ...)
        Of bool, int or float. What lies behind the first axis are columns.
    threads : int, optional
        Threads that compute; as many as there are processors for this process when not given. The result is the same.

    Returns
    -------
    Description
        What there is to know.

    Raises
    ------
    InputError
        For another dtype, or a single value.
    """
    rows = np.asarray(x)
    if rows.dtype.kind not in "biuf" or rows.dtype.itemsize > 8:
        raise InputError(f"describe takes bool, integers and floats of up to 64 bits, not {rows.dtype}")
    if not rows.ndim:
        raise InputError("describe takes rows, not a single value; reshape it to (1,)")
    if threads is not None and threads < 1:
        raise UsageError(f"threads = {threads}: give 1 or more")
    columns, dtype = math.prod(rows.shape[1:]), rows.dtype.newbyteorder("=")
    count = (1 if rows.size < SMALL else threads) or processors()
    found = Describe(columns, dtype, count)
    step = max(1, BLOCK_BYTES // max(1, columns * dtype.itemsize))
    with Workers(count) as workers:
        for start in range(0, len(rows) if columns else 0, step):
            block = np.ascontiguousarray(rows[start : start + step], dtype)
            found.add(block.reshape(len(block), columns), workers)
    return found.finish()
