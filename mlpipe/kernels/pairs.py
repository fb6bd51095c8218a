"""Distances of single pairs, the very numbers that tiles of them hold.

For what is asked for here and there: the same operations in the same order as `tile.py` and `distances.py` have them,
four pairs side by side, since each sum has to wait for itself.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.distances import FEATURES
from mlpipe.kernels.tile import CHUNK

ROOT, SQUARE, HALF = 0, 1, 2
"""What becomes of a sum of squared differences: its root, itself, or half of it (of rows of length 1)."""


@intrinsic
def _fma(_context, a, b, c):
    """a · b + c, rounded once."""

    def generate(_target, builder, _signature, values):
        return builder.fma(*values)

    kind = types.float64 if types.float64 in (a, b, c) else types.float32
    return kind(kind, kind, kind), generate


@kernel
def _sums(x, rows, a, b, c, d, start, stop):
    """Sums of squared differences of a row and four others over features start … stop."""
    zero = x.dtype.type(0)
    s, t, u, v = zero, zero, zero, zero
    for first in range(start, stop, CHUNK):
        e, f, g, h = zero, zero, zero, zero
        for k in range(first, min(first + CHUNK, stop)):
            value = x[k]
            i, j, m, n = value - rows[a, k], value - rows[b, k], value - rows[c, k], value - rows[d, k]
            e, f, g, h = _fma(i, i, e), _fma(j, j, f), _fma(m, m, g), _fma(n, n, h)
        s, t, u, v = s + e, t + f, u + g, v + h
    return s, t, u, v


@kernel
def _finish(total, how):
    """The distance; rounded to float32, a root in float64 is the root in float32."""
    if how == ROOT:
        return math.sqrt(total)
    if how == HALF:
        return min(total * 0.5, 2.0)
    return total


@kernel
def pair_distances(x, rows, a, b, c, d, how, out):
    """Distances of a row to four others.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (features,)
        Prepared, as the others are.
    rows : ndarray, shape (count, features)
        Among which the others are.
    a, b, c, d : int
        Which.
    how : int
        ROOT, SQUARE or HALF.
    out : ndarray of the output's type, shape (4,)
        The distances.
    """
    features = x.shape[0]
    s, t, u, v = 0.0, 0.0, 0.0, 0.0
    for start in range(0, features, FEATURES):
        e, f, g, h = _sums(x, rows, a, b, c, d, start, min(start + FEATURES, features))
        s, t, u, v = s + np.float64(e), t + np.float64(f), u + np.float64(g), v + np.float64(h)
    out[0], out[1], out[2], out[3] = _finish(s, how), _finish(t, how), _finish(u, how), _finish(v, how)
