"""Kernels that make other features of rows: 0 and 1 for classes, hashed categories, projections, mixing weights."""

from __future__ import annotations

import math

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.functions import exp
from mlpipe.kernels.randoms import _DROPPED, _UNIT, _cos_sin, _log, pair
from mlpipe.kernels.scalars import fma

COLUMNS = 512
"""Columns of a projection summed at a time: the sums of four rows stay in the first-level cache."""

ROWS = FEATURES = 4
"""Rows that share each load of the matrix, and features that share each load of the sums."""


@kernel
def one_hot(values, out):
    """Set 1 in the column of each value, 0 elsewhere; return the first row whose value has no column, or -1."""
    out[:] = 0
    for i in range(values.size):
        if values[i] < 0 or values[i] >= out.shape[1]:
            return i
        out[i, values[i]] = 1
    return -1


@kernel
def hash_features(key, rows, out):
    """Add 1 or -1, for every value, to the column of `out` that its hash names.

    Parameters
    ----------
    key : ndarray of uint64, shape (2,)
        From `mlpipe.keys.key`.
    rows : ndarray of integers, shape (rows, columns)
        Categories. The hash is `mlpipe.kernels.randoms.pair` of (value, column).
    out : ndarray of float32, shape (rows, size)
        Column: first word modulo size. Sign: minus when the second word is odd.
    """
    size, one = np.uint64(out.shape[1]), np.uint64(1)
    out[:] = 0
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            x, y = pair(key[0], key[1], np.uint64(np.int64(rows[i, j])), np.uint64(j))
            out[i, np.int64(x % size)] += np.float32(-1.0) if y & one else np.float32(1.0)


@kernel
def _add_one(value, factors, sums):
    """Add a value times a row of the matrix to the sums of one row."""
    for j in range(sums.size):
        sums[j] = fma(value, factors[j], sums[j])


@kernel
def _add_some(x, a, b, c, d, first, second, third, fourth):
    """Add four features of four rows, times four rows of the matrix: 16 products for each 4 sums loaded and stored."""
    x00, x01, x02, x03 = x[0, 0], x[0, 1], x[0, 2], x[0, 3]
    x10, x11, x12, x13 = x[1, 0], x[1, 1], x[1, 2], x[1, 3]
    x20, x21, x22, x23 = x[2, 0], x[2, 1], x[2, 2], x[2, 3]
    x30, x31, x32, x33 = x[3, 0], x[3, 1], x[3, 2], x[3, 3]
    for j in range(a.size):
        aj, bj, cj, dj = a[j], b[j], c[j], d[j]
        first[j] = fma(x03, dj, fma(x02, cj, fma(x01, bj, fma(x00, aj, first[j]))))
        second[j] = fma(x13, dj, fma(x12, cj, fma(x11, bj, fma(x10, aj, second[j]))))
        third[j] = fma(x23, dj, fma(x22, cj, fma(x21, bj, fma(x20, aj, third[j]))))
        fourth[j] = fma(x33, dj, fma(x32, cj, fma(x31, bj, fma(x30, aj, fourth[j]))))


@kernel
def project(rows, matrix, sums, out):
    """Rows times a matrix: every sum in float64 over the features in their order, rounded once for each.

    Parameters
    ----------
    rows : ndarray, shape (rows, features)
        Any numbers.
    matrix : ndarray of float64, shape (features, components)
        What they are multiplied with.
    sums : ndarray of float64, shape (ROWS, COLUMNS + FEATURES)
        Scratch.
    out : ndarray, shape (rows, components)
        The result.
    """
    count, features = rows.shape
    for left in range(0, matrix.shape[1], COLUMNS):
        right = min(left + COLUMNS, matrix.shape[1])
        wide = right - left
        for start in range(0, count, ROWS):
            some = min(ROWS, count - start)
            sums[:some, :wide] = 0.0
            k = 0
            while some == ROWS and k + FEATURES <= features:
                for i in range(ROWS):
                    for f in range(FEATURES):
                        sums[i, COLUMNS + f] = rows[start + i, k + f]
                _add_some(
                    sums[:, COLUMNS:], matrix[k, left:right], matrix[k + 1, left:right], matrix[k + 2, left:right],
                    matrix[k + 3, left:right], sums[0, :wide], sums[1, :wide], sums[2, :wide], sums[3, :wide],
                )  # fmt: skip
                k += FEATURES
            while k < features:
                for i in range(some):
                    _add_one(np.float64(rows[start + i, k]), matrix[k, left:right], sums[i, :wide])
                k += 1
            for i in range(some):
                for j in range(wide):
                    out[start + i, left + j] = sums[i, j]


@kernel
def mixing(key, start, alpha, out):
    """Weights from a Beta(alpha, alpha) distribution for consecutive rows.

    With T from Student's distribution of 2 alpha degrees of freedom, ½ + T / (2 √(2 alpha + T²)) has this one; and
    T is made of two uniform numbers by Bailey's method (1994). No number is rejected, whatever alpha is.

    Parameters
    ----------
    key : ndarray of uint64, shape (2,)
        From `mlpipe.keys.key`.
    start : int
        The first row.
    alpha : float
        Above 0.
    out : ndarray of float64, shape (rows,)
        The weights, 0 to 1.
    """
    for i in range(out.size):
        x, y = pair(key[0], key[1], np.uint64(start + i), np.uint64(0))
        power = exp(_log((float(x >> _DROPPED) + 1.0) * _UNIT) / alpha)
        cosine, _ = _cos_sin(float(y >> _DROPPED) * _UNIT)
        spread = cosine * cosine + power / (1.0 - power)
        out[i] = 0.5 if power == 1.0 or cosine == 0.0 else 0.5 + 0.5 * cosine / math.sqrt(spread)
