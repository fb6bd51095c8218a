"""Random numbers that depend on a key, a row and a column alone: any part can be drawn at any time, in any thread.

The generator is Threefry-2x64 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
1, 2, 3", SC 2011), which turns a counter (row, pair of columns) into two words of 64 bits. Keys come from
`mlpipe.keys`.

Normals are made with additions, multiplications, divisions and square roots alone, which IEEE 754 rounds in one way
on every machine; the logarithms and sines of a system's library differ in the last bit.
"""

from __future__ import annotations

import math

import numpy as np

from mlpipe.kernels._jit import kernel

_PARITY = np.uint64(0x1BD11BDAA9FC1A22)
_ROTATIONS = tuple(np.uint64(bits) for bits in (16, 42, 12, 31, 16, 32, 24, 21))
_R0, _R1, _R2, _R3, _R4, _R5, _R6, _R7 = _ROTATIONS
_C1, _C2, _C3, _C4, _C5 = (np.uint64(number) for number in range(1, 6))
_WORD = np.uint64(64)
_CHUNK = 128
"""Counters worked on together: they stay in the first-level cache."""
_DROPPED = np.uint64(11)
_UNIT = 2.0**-53
_ONE_BITS = np.int64(1023)
_FRACTION_BITS = np.int64(52)
_FRACTION = np.int64((1 << 52) - 1)
_ONE = np.int64(1023 << 52)
_LOG_2 = math.log(2.0)


@kernel
def _rounds(x, y, a, b, c, d):
    """Four rounds: add, rotate, exclusive or."""
    x += y
    y = ((y << a) | (y >> (_WORD - a))) ^ x
    x += y
    y = ((y << b) | (y >> (_WORD - b))) ^ x
    x += y
    y = ((y << c) | (y >> (_WORD - c))) ^ x
    x += y
    y = ((y << d) | (y >> (_WORD - d))) ^ x
    return x, y


@kernel
def pair(k0, k1, x, y):
    """Two words of 64 bits for a key (k0, k1) and a counter (x, y), all of them uint64."""
    k2 = _PARITY ^ k0 ^ k1
    x, y = x + k0, y + k1
    x, y = _rounds(x, y, _R0, _R1, _R2, _R3)
    x, y = x + k1, y + k2 + _C1
    x, y = _rounds(x, y, _R4, _R5, _R6, _R7)
    x, y = x + k2, y + k0 + _C2
    x, y = _rounds(x, y, _R0, _R1, _R2, _R3)
    x, y = x + k0, y + k1 + _C3
    x, y = _rounds(x, y, _R4, _R5, _R6, _R7)
    x, y = x + k1, y + k2 + _C4
    x, y = _rounds(x, y, _R0, _R1, _R2, _R3)
    return x + k2, y + k0 + _C5


@kernel
def words(key, start, out):
    """64-bit words for rows from `start` on.

    Parameters
    ----------
    key : ndarray of uint64, shape (2,)
        From `mlpipe.keys.key`.
    start : int
        The first row.
    out : ndarray of uint64, shape (rows, columns)
        Each word depends on the key, its row and its column only.
    """
    k0, k1 = key[0], key[1]
    rows, columns = out.shape
    if columns == 1:  # a loop over the rows, so that it is vectorised
        for i in range(rows):
            out[i, 0], _ = pair(k0, k1, np.uint64(start + i), np.uint64(0))
        return
    for i in range(rows):
        row = np.uint64(start + i)
        for j in range(columns // 2):
            out[i, 2 * j], out[i, 2 * j + 1] = pair(k0, k1, row, np.uint64(j))
        if columns % 2:
            out[i, columns - 1], _ = pair(k0, k1, row, np.uint64(columns // 2))


@kernel
def uniform(key, start, out):
    """Numbers in [0, 1), multiples of 2⁻⁵³, for rows from `start` on; as `words`, with float64 in `out`."""
    k0, k1 = key[0], key[1]
    rows, columns = out.shape
    if columns == 1:
        for i in range(rows):
            x, _ = pair(k0, k1, np.uint64(start + i), np.uint64(0))
            out[i, 0] = float(x >> _DROPPED) * _UNIT
        return
    for i in range(rows):
        row = np.uint64(start + i)
        for j in range(columns // 2):
            x, y = pair(k0, k1, row, np.uint64(j))
            out[i, 2 * j] = float(x >> _DROPPED) * _UNIT
            out[i, 2 * j + 1] = float(y >> _DROPPED) * _UNIT
        if columns % 2:
            x, _ = pair(k0, k1, row, np.uint64(columns // 2))
            out[i, columns - 1] = float(x >> _DROPPED) * _UNIT


@kernel
def _log(value):
    """Natural logarithm of a positive, normal number: the series of artanh, the same bits everywhere."""
    bits = np.float64(value).view(np.int64)
    exponent = float((bits >> _FRACTION_BITS) - _ONE_BITS)
    mantissa = np.int64((bits & _FRACTION) | _ONE).view(np.float64)  # 1 … 2
    high = mantissa > 1.4142135623730951
    mantissa = 0.5 * mantissa if high else mantissa
    exponent = exponent + 1.0 if high else exponent
    s = (mantissa - 1.0) / (mantissa + 1.0)
    q = s * s  # at most 0.0295, so that what is left out is below 2⁻⁵⁶
    p = 1 / 23
    p = p * q + 1 / 21
    p = p * q + 1 / 19
    p = p * q + 1 / 17
    p = p * q + 1 / 15
    p = p * q + 1 / 13
    p = p * q + 1 / 11
    p = p * q + 1 / 9
    p = p * q + 1 / 7
    p = p * q + 1 / 5
    p = p * q + 1 / 3
    return exponent * _LOG_2 + (2.0 * s + 2.0 * s * (q * p))


@kernel
def _cos_sin(turns):
    """Cosine and sine of an angle in turns, 0 … 1, from their series around the nearest quarter."""
    quarter = np.floor(4.0 * turns + 0.5)
    x = (4.0 * turns - quarter) * (0.5 * math.pi)  # the difference is exact, and x at most π/4
    q = x * x
    c = 1 / 20922789888000  # 1 / 16!
    c = c * q - 1 / 87178291200
    c = c * q + 1 / 479001600
    c = c * q - 1 / 3628800
    c = c * q + 1 / 40320
    c = c * q - 1 / 720
    c = c * q + 1 / 24
    c = 1.0 - (0.5 * q - q * q * c)
    s = 1 / 355687428096000  # 1 / 17!
    s = s * q - 1 / 1307674368000
    s = s * q + 1 / 6227020800
    s = s * q - 1 / 39916800
    s = s * q + 1 / 362880
    s = s * q - 1 / 5040
    s = s * q + 1 / 120
    s = s * q - 1 / 6
    s = x + x * (q * s)
    odd = quarter == 1.0 or quarter == 3.0
    cosine, sine = (s, c) if odd else (c, s)
    cosine = -cosine if quarter == 1.0 or quarter == 2.0 else cosine
    sine = -sine if quarter == 2.0 or quarter == 3.0 else sine
    return cosine, sine


@kernel
def _draw(key, row, turn, turns, x, y):
    """Words of as many counters as `x` and `y` hold, from a row's pair `turn` on; returns the counter that follows.

    The counters come first, so that what is made of them is vectorised whatever the number of columns is.
    """
    for t in range(x.shape[0]):
        x[t], y[t] = row, turn
        turn += 1
        if turn == turns:
            row, turn = row + 1, 0
    k0, k1 = key[0], key[1]
    for t in range(x.shape[0]):
        x[t], y[t] = pair(k0, k1, x[t], y[t])
    return row, turn


@kernel
def _place(first, second, i, turn, out):
    """Put pairs where they belong, from row i and its pair `turn` on; columns may be odd."""
    columns = out.shape[1]
    for t in range(first.shape[0]):
        out[i, 2 * turn] = first[t]
        if 2 * turn + 1 < columns:
            out[i, 2 * turn + 1] = second[t]
        turn += 1
        if 2 * turn >= columns:
            i, turn = i + 1, 0


@kernel
def normal(key, start, out):
    """Standard normals (Box and Muller 1958) for rows from `start` on; as `words`, with float64 in `out`."""
    # In steps of which each is vectorised; in one loop it took four times as long.
    turns = (out.shape[1] + 1) // 2
    x, y = np.empty(_CHUNK, np.uint64), np.empty(_CHUNK, np.uint64)
    first, second = np.empty(_CHUNK), np.empty(_CHUNK)
    row, turn = start, 0
    for done in range(0, out.shape[0] * turns, _CHUNK):
        count = min(_CHUNK, out.shape[0] * turns - done)
        i, at = row - start, turn
        row, turn = _draw(key, row, turn, turns, x[:count], y[:count])
        for t in range(count):
            radius = math.sqrt(-2.0 * _log((float(x[t] >> _DROPPED) + 1.0) * _UNIT))
            cosine, sine = _cos_sin(float(y[t] >> _DROPPED) * _UNIT)
            first[t], second[t] = radius * cosine, radius * sine
        _place(first[:count], second[:count], i, at, out)
