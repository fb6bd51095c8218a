"""The dtype that holds the values of several files exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_CANDIDATES = tuple(np.dtype(kind) for kind in ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])


def common_dtype(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any] | None:
    """Smallest dtype that holds every value of all of these exactly; None if there is none.

    Unlike `numpy.result_type` it never rounds, and does not depend on the order.

    Parameters
    ----------
    dtypes : sequence of numpy.dtype
        In either byte order.

    Examples
    --------
    >>> kinds = [("i1", "i4"), ("u1", "f4"), ("i4", "f4"), ("u1", "i1"), ("i8", "f8"), ("u8", "i8")]
    >>> [str(common_dtype([np.dtype(kind) for kind in pair])) for pair in kinds]
    ['int32', 'float32', 'float64', 'int16', 'None', 'None']
    >>> common_dtype([np.dtype("U3"), np.dtype("U7")]) == np.dtype("U7")
    True
    """
    own = {dtype.newbyteorder("=") for dtype in dtypes}
    if len(own) == 1:
        return own.pop()
    if {dtype.kind for dtype in own} in ({"S"}, {"U"}):
        return max(own, key=lambda dtype: dtype.itemsize)
    return next((one for one in _CANDIDATES if all(_exact(dtype, one) for dtype in own)), None)


def _exact(dtype: np.dtype[Any], wide: np.dtype[Any]) -> bool:
    """Whether every value of a dtype is one of another: NumPy takes int64 to float64 for safe, which rounds."""
    if dtype.kind in "iu" and wide.kind == "f":
        return 8 * dtype.itemsize - (dtype.kind == "i") <= np.finfo(wide).nmant + 1
    return dtype.kind in "biuf" and np.can_cast(dtype, wide, "safe")


def odd_one(dtypes: Sequence[np.dtype[Any]]) -> tuple[int, int]:
    """Places of the first two that have no common dtype.

    Examples
    --------
    >>> odd_one([np.dtype(kind) for kind in ("u1", "i8", "u1", "f4")])
    (1, 3)
    """
    for place, dtype in enumerate(dtypes):
        for before in range(place):
            if common_dtype([dtypes[before], dtype]) is None:
                return before, place
    raise ValueError("every two of them have a common dtype")
