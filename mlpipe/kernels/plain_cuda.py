"""Loops as people write them for a GPU with Numba, for comparison with ours; the one shim in front of ``numba.cuda``.

numba-cuda, where it is installed, takes the place of Numba's own CUDA target under the same name.
"""

from __future__ import annotations

import ctypes
import os
from math import sqrt
from typing import Any

import numpy as np

try:
    from numba import cuda
except ImportError:  # a Numba that leaves CUDA to numba-cuda
    cuda = None

SIMULATOR = "NUMBA_ENABLE_CUDASIM"
_BLOCK = 256
_SIDE = 16


def why_not() -> str | None:
    """Why nothing can be timed on a GPU here; None where one can be used.

    Examples
    --------
    >>> reason = why_not()
    >>> reason is None or len(reason) > 0
    True
    """
    if os.environ.get(SIMULATOR, "0") not in ("", "0"):
        return f"{SIMULATOR} is set: times of the simulator say nothing of a GPU"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 not found)"
    try:
        usable = cuda is not None and bool(cuda.is_available())
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a driver or a toolkit, there is no GPU to use
        return f"Numba cannot use the GPU: {type(error).__name__}: {error}"
    return None if usable else "Numba finds no usable GPU or toolkit; run: pip install 'numba-cuda[cu13]'"


def pair(x, y, total):
    """Add the squared differences of two vectors to ``total[0]``."""
    part = 0.0
    for k in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        difference = x[k] - y[k]
        part += difference * difference
    cuda.atomic.add(total, 0, part)


def batch(x, y, out):
    """Distance of every row of x to every row of y, one a thread."""
    j, i = cuda.grid(2)
    if i < out.shape[0] and j < out.shape[1]:
        total = 0.0
        for k in range(x.shape[1]):
            difference = x[i, k] - y[j, k]
            total += difference * difference
        out[i, j] = sqrt(total)


def count(values, low, table):
    """Count values into a table that begins with low."""
    for i in range(cuda.grid(1), values.shape[0], cuda.gridsize(1)):
        cuda.atomic.add(table, values[i] - low, 1)


class Device:
    """Kernels of one comparison, compiled afresh.

    Copies go to and from the device by `put` and the functions themselves: what they return is on the host again.
    """

    def __init__(self) -> None:
        self._pair, self._batch, self._count = cuda.jit(pair), cuda.jit(batch), cuda.jit(count)

    def name(self) -> str:
        """What the GPU calls itself."""
        name = cuda.get_current_device().name
        return name.decode() if isinstance(name, bytes) else str(name)

    def put(self, array: Any) -> Any:
        """Copy an array to the device."""
        return cuda.to_device(np.ascontiguousarray(array))

    def pair(self, x: Any, y: Any) -> float:
        """Euclidean distance of two vectors that are on the device."""
        total = cuda.to_device(np.zeros(1))
        self._pair[min(1024, -(-max(1, x.shape[0]) // _BLOCK)), _BLOCK](x, y, total)
        return sqrt(total.copy_to_host()[0])

    def batch(self, x: Any, y: Any) -> Any:
        """Distances of rows that are on the device."""
        out = cuda.device_array((x.shape[0], y.shape[0]), x.dtype)
        grid = -(-y.shape[0] // _SIDE), -(-x.shape[0] // _SIDE)
        self._batch[grid, (_SIDE, _SIDE)](x, y, out)
        return out.copy_to_host()

    def count(self, values: Any, low: int, size: int) -> Any:
        """Counts of low … low + size − 1 among values that are on the device."""
        table = cuda.to_device(np.zeros(size, np.uint64))
        self._count[min(4096, -(-max(1, values.shape[0]) // _BLOCK)), _BLOCK](values, low, table)
        return table.copy_to_host().astype(np.int64)
