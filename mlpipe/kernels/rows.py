"""Kernels over rows: what some metrics want done to every row first, and moments of columns.

Every result depends on the row (or the order of the rows) alone, never on how rows are cut into blocks.
"""

from __future__ import annotations

import math

from mlpipe.kernels._jit import kernel


@kernel
def to_unit(rows, weights, centre, out, status):
    """Rows scaled to length one, after subtracting their mean if `centre`.

    Parameters
    ----------
    rows, out : ndarray, shape (count, features)
        May be the same array.
    weights : ndarray, shape (features,)
        Weight of each feature in means and lengths, float64.
    centre : bool
        Subtract the weighted mean of each row first.
    status : ndarray, shape (count,)
        0, or NaN for a row without a direction: all zero, all equal if centred, or not finite.
    """
    count, features = rows.shape
    total = 0.0
    for k in range(features):
        total += weights[k]
    for i in range(count):
        mean = 0.0
        varies = not centre
        if centre:
            for k in range(features):
                mean += weights[k] * float(rows[i, k])
                varies = varies or rows[i, k] != rows[i, 0]
            mean /= total
        square = 0.0
        for k in range(features):
            value = float(rows[i, k]) - mean
            square += weights[k] * (value * value)
        fit = varies and square > 0.0 and math.isfinite(square)
        status[i] = 0.0 if fit else math.nan
        scale = 1.0 / math.sqrt(square) if fit else 0.0
        for k in range(features):
            out[i, k] = (float(rows[i, k]) - mean) * math.sqrt(weights[k]) * scale


@kernel
def to_proportions(rows, out, status):
    """Rows divided by their sum; `status` is infinity for a row that is no distribution, else 0."""
    count, features = rows.shape
    for i in range(count):
        total = 0.0
        negative = False
        for k in range(features):
            total += rows[i, k]
            negative = negative or rows[i, k] < 0
        improper = negative or total == 0.0
        status[i] = math.inf if improper else 0.0
        for k in range(features):
            out[i, k] = 0.0 if improper else rows[i, k] / total


@kernel
def to_truth(rows, out):
    """1 where a value is not zero (NaN is not), else 0."""
    count, features = rows.shape
    for i in range(count):
        for k in range(features):
            out[i, k] = 1.0 if rows[i, k] != 0 else 0.0


SPLITTER = 134217729.0
"""2²⁷ + 1: splits a float64 into two halves whose products are exact (Dekker 1971)."""


@kernel
def to_projection(rows, matrix, matrix_high, high, low, out):
    """row · matrix in twice the precision, so that differences of near-duplicates keep their digits.

    Parameters
    ----------
    rows : ndarray, shape (count, features)
        float64.
    matrix, matrix_high : ndarray, shape (features, features)
        float64, and the upper half of the digits of its elements (see `upper_half`).
    high, low : ndarray, shape (count, features)
        Scratch.
    out : ndarray, shape (count, 2 · features)
        High and low part of each value, side by side: sums of exact products, with exact additions
        (Ogita, Rump and Oishi 2005, Dot2).
    """
    count, features = rows.shape
    high[:] = 0.0
    low[:] = 0.0
    for k in range(features):
        for i in range(count):  # a row of the matrix serves all rows while it is in the cache
            value = rows[i, k]
            scaled = SPLITTER * value
            value_high = scaled - (scaled - value)
            value_low = value - value_high
            for j in range(features):
                factor, factor_high = matrix[k, j], matrix_high[k, j]
                factor_low = factor - factor_high
                product = value * factor
                error = value_low * factor_low - (
                    ((product - value_high * factor_high) - value_low * factor_high) - value_high * factor_low
                )
                before = high[i, j]
                total = before + product
                part = total - before
                high[i, j] = total
                low[i, j] += ((before - (total - part)) + (product - part)) + error
    for i in range(count):
        for j in range(features):
            total = high[i, j] + low[i, j]
            out[i, 2 * j] = total
            out[i, 2 * j + 1] = low[i, j] + (high[i, j] - total)


@kernel
def upper_half(matrix, out):
    """The upper half of the digits of each element, by Dekker's splitting."""
    for k in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            scaled = SPLITTER * matrix[k, j]
            out[k, j] = scaled - (scaled - matrix[k, j])


@kernel
def cosine_of_first(rows, status):
    """Cosine of the first feature of each row."""
    for i in range(rows.shape[0]):
        status[i] = math.cos(rows[i, 0])


@kernel
def add_columns(rows, total, lost):
    """Add rows to the column sums, row after row; `lost` keeps what rounding dropped (Neumaier 1974)."""
    count, features = rows.shape
    for i in range(count):
        for k in range(features):
            value = rows[i, k]
            before = total[k]
            after = before + value
            lost[k] += (before - after) + value if abs(before) >= abs(value) else (value - after) + before
            total[k] = after


@kernel
def add_squares(rows, mean, total):
    """Add squared deviations from the mean to the column sums, row after row."""
    count, features = rows.shape
    for i in range(count):
        for k in range(features):
            value = rows[i, k] - mean[k]
            total[k] += value * value


@kernel
def add_products(rows, mean, first, stop, total):
    """Add products of deviations to rows first … stop of the matrix of column products."""
    count, features = rows.shape
    for i in range(count):
        for a in range(first, stop):
            value = rows[i, a] - mean[a]
            for b in range(features):
                total[a, b] += value * (rows[i, b] - mean[b])
