"""Powers, for the loop vectoriser: xᵖ = exp(p · log x), with the logarithm in two parts where float64 is wanted.

An error of the logarithm comes out p · log x times as large, up to 745 times; so it is carried to about 64 digits
of base 2, by Fast2Sum and fused multiply-add (Dekker 1971). Values that are float32 in the end need none of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from mlpipe.kernels.functions import EXPONENTIAL, EXTENT, LN2, LOGARITHM
from mlpipe.kernels.scalars import fma, polynomial, scale, split, truncate, where

NAMES = ("precise_power", "quick_power")
"""What steps may use."""

TINY = float(np.finfo(np.float64).tiny)
LIFT = 2.0**60
HIGH, LOW = LN2[numba.float64]
LEAST, MOST = EXTENT[numba.float64]
INVERSE = 1.4426950408889634
MAGIC = 1.5 * 2.0**52
THIRD, THIRD_REST = 1 / 3, 1.850371707708594e-17

_short = LOGARITHM[numba.float64]
_rest = EXPONENTIAL[numba.float64]
# (atanh(s) / s − 1 − s²/3) / s⁴, of s².
_tail = polynomial(
    [
        0.20000000000001128, 0.14285714285050025, 0.11111111259913667, 0.0909089218817877, 0.0769337843510886,
        0.06628414611290538, 0.06598108000366847,
    ]
)  # fmt: skip


def _inlined(function: Callable[..., Any]) -> Any:
    return numba.njit(forceinline=True, error_model="numpy")(function)


@_inlined
def _log_twice(x: Any) -> Any:
    """log x of a positive x in two parts."""
    small = x < TINY
    m, k = split(where(small, x * LIFT, x))
    k = where(small, k - 60.0, k)
    below = m + 1.0
    below_rest = m - (below - 1.0)
    s = (m - 1.0) / below
    s_rest = (fma(-s, below, m - 1.0) - s * below_rest) / below
    z = s * s
    z_rest = fma(s, s, -z) + 2.0 * s * s_rest
    u = z * THIRD
    u_rest = fma(z, THIRD, -u) + (z * THIRD_REST + z_rest * THIRD)
    q = z * z * _tail(z)
    w = u + q
    w_rest = ((u - w) + q) + u_rest
    t = s * w
    t_rest = fma(s, w, -t) + (s * w_rest + s_rest * w)
    half = s + t
    half_rest = ((s - half) + t) + (s_rest + t_rest)
    whole = k * HIGH
    result = whole + 2.0 * half
    return result, ((whole - result) + 2.0 * half) + (2.0 * half_rest + k * LOW)


@_inlined
def _log_once(x: Any) -> Any:
    """log x of a positive x; its error is some 10⁻¹⁶ of the larger of it and 1."""
    small = x < TINY
    m, k = split(where(small, x * LIFT, x))
    k = where(small, k - 60.0, k)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    return fma(k, HIGH, fma(s, fma(z, _short(z), 2.0), k * LOW))


@_inlined
def _exp_sum(x: Any, rest: Any) -> Any:
    """exp(x + rest) of a small rest."""
    outside = (x < LEAST) | (x > MOST)
    x = where(x < LEAST, LEAST, where(x > MOST, MOST, x))
    n = fma(x, INVERSE, MAGIC) - MAGIC
    r = fma(-n, HIGH, x) + where(outside, 0.0, fma(-n, LOW, rest))
    return scale(1.0 + fma(r * r, _rest(r), r), n)


@_inlined
def _signed(x: Any, p: Any, size: Any) -> Any:
    """The power of x whose absolute value, for a finite x that is not 0, is `size`."""
    whole = truncate(p) == p
    odd = whole & (truncate(0.5 * p) != 0.5 * p)
    at_zero, at_infinity = where(p > 0.0, 0.0, math.inf), where(p > 0.0, math.inf, 0.0)
    size = where(x == 0.0, at_zero, where(abs(x) == math.inf, at_infinity, size))
    size = where((x < 0.0) & (x > -math.inf) & (not whole), math.nan, size)
    size = where(x != x, math.nan, size)
    result = where(odd, math.copysign(size, x), size)
    return where((p == 0.0) | (x == 1.0), 1.0, result)


@_inlined
def precise_power(x: Any, p: Any) -> Any:
    """A power of float64, within 1 unit in the last place; special cases as in the C standard, `p` finite."""
    high, low = _log_twice(abs(x))
    y = p * high
    return _signed(x, p, _exp_sum(y, fma(p, high, -y) + p * low))


@_inlined
def quick_power(x: Any, p: Any) -> Any:
    """A power, right to some 12 digits: enough for values that become float32."""
    return _signed(x, p, _exp_sum(p * _log_once(abs(x)), 0.0))
