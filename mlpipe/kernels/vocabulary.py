"""The functions that expressions may call, by the names they have there; each of floats of one type, to the same.

They are NumPy's, but for branches: both sides of `where` are computed, so that loops over them can be vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

from mlpipe.kernels import functions, powers, scalars


def _inlined(function: Callable[..., Any]) -> Any:
    return numba.njit(forceinline=True, error_model="numpy")(function)


@_inlined
def power(a: Any, b: Any) -> Any:
    """A power, as `np.power`."""
    return a**b


def raised(a: Any, p: Any) -> Any:
    """A power with a finite exponent that is a number of the expression: as `power`, but vectorised."""
    raise NotImplementedError


@overload(raised, jit_options={"forceinline": True, "error_model": "numpy"}, strict=False)  # type: ignore[untyped-decorator]
def _raised(a: Any, p: Any) -> Any:
    if a == types.float32:
        return lambda a, p: np.float32(powers.quick_power(np.float64(a), np.float64(p)))
    return lambda a, p: powers.precise_power(a, p)


@_inlined
def square(a: Any) -> Any:
    """Second power."""
    return a * a


@_inlined
def cube(a: Any) -> Any:
    """Third power."""
    return a * a * a


@_inlined
def floor_divide(a: Any, b: Any) -> Any:
    """The quotient rounded down, as `np.floor_divide`."""
    return a // b


@_inlined
def remainder(a: Any, b: Any) -> Any:
    """What rounding down leaves, with the sign of b, as `np.remainder`."""
    return a % b


@_inlined
def minimum(a: Any, b: Any) -> Any:
    """The smaller; NaN if either is."""
    return scalars.where((a < b) | (a != a), a, b)


@_inlined
def maximum(a: Any, b: Any) -> Any:
    """The larger; NaN if either is."""
    return scalars.where((a > b) | (a != a), a, b)


@_inlined
def clip(a: Any, least: Any, most: Any) -> Any:
    """The nearest value between two; the upper one if they are in the wrong order, as `np.clip`."""
    return minimum(maximum(a, least), most)


@_inlined
def isnan(a: Any) -> Any:
    """Whether it is no number."""
    return a != a


@_inlined
def isfinite(a: Any) -> Any:
    """Whether it is a number, and not infinite."""
    return abs(a) < np.inf


@_inlined
def isinf(a: Any) -> Any:
    """Whether it is infinite, of either sign."""
    return abs(a) == np.inf


WORDS: dict[str, Any] = {
    "abs": abs,
    "where": scalars.where,
    "round": np.rint,
    **{one: getattr(functions, one) for one in ("exp", "log", "log1p", "sqrt")},
    **{one.__name__: one for one in (power, raised, square, cube, floor_divide, remainder)},
    **{one.__name__: one for one in (minimum, maximum, clip, isnan, isinf, isfinite)},
    **{one: getattr(np, one) for one in ("sign", "floor", "ceil", "trunc", "expm1", "log2", "log10")},
    **{one: getattr(np, one) for one in ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "hypot")},
    **{one: getattr(np, one) for one in ("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh")},
}
