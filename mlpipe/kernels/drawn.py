"""What the loops of row-wise stages call that is no arithmetic: random numbers for joined rows, places among edges."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.randoms import normal, uniform

NAMES = ("draw_normal", "draw_uniform", "left_place", "right_place")


@kernel
def draw_normal(k0, k1, row, span, rows, out):
    """Standard normals for rows of `span` values that lie one after the other, the first at position `row`."""
    key = np.empty(2, np.uint64)
    key[0], key[1] = k0, k1
    normal(key, row, out[: rows * span].reshape(rows, span))


@kernel
def draw_uniform(k0, k1, row, span, rows, out):
    """Numbers in [0, 1); as `draw_normal`."""
    key = np.empty(2, np.uint64)
    key[0], key[1] = k0, k1
    uniform(key, row, out[: rows * span].reshape(rows, span))


@kernel
def left_place(edges, value):
    """How many edges are smaller than a value; all of them, if it is NaN."""
    low, count = 0, edges.shape[1]
    while count > 1:  # the same steps for every value, and none of them takes a branch
        half = count >> 1
        low += 0 if value <= edges[0, low + half - 1] else half
        count -= half
    return low + (0 if value <= edges[0, low] else 1)


@kernel
def right_place(edges, value):
    """How many edges are not larger than a value; all of them, if it is NaN."""
    low, count = 0, edges.shape[1]
    while count > 1:
        half = count >> 1
        low += 0 if value < edges[0, low + half - 1] else half
        count -= half
    return low + (0 if value < edges[0, low] else 1)
