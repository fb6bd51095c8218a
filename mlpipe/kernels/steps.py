"""What is done to each row, described so that neighbours can be compiled into one loop.

A step says what it does as a piece of text from our own stages, never from a user, and hands its numbers
over at run time; so what is compiled serves every run with the same steps and dtypes. In the text,
``v`` is the value, ``row`` its row's position (int64), ``column`` its position within the row, and a
constant or a number per row goes by its name. Functions are those of `mlpipe.kernels.functions`. A number in the
text itself is float64, and all that it meets becomes float64 too: give it as a constant instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

JOINED = 1024
"""Values in a loop, about, where rows may be joined: their scratch, some 32 KiB, stays in the first-level cache."""

Constant = float | npt.NDArray[Any]
"""One number, or an array of one for each column (rows of more dimensions are flat here)."""


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """Each value becomes that of an expression.

    Parameters
    ----------
    source : str
        For example ``"(v - mean) * scale"``.
    constants : mapping of str to float or ndarray, shape (columns,)
        What the names in it stand for, besides the ones above.
    whole : bool
        Compute integers and booleans as what they are. Else they become float64; float16 becomes float32 always.
    """

    source: str
    constants: Mapping[str, Constant] = field(default_factory=dict)
    whole: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RowReduce:
    """One number for each row, for the expressions of the same stage that follow.

    Sums are float64, in one fixed order; a maximum is NaN if a value is; an empty row gives 0.

    Parameters
    ----------
    name : str
        By which expressions use it.
    source : str
        Expression of each value.
    how : str
        Add up, or take the largest.
    constants : mapping of str to float or ndarray, shape (columns,)
        As for `Map`.
    """

    name: str
    source: str
    how: Literal["sum", "max"]
    constants: Mapping[str, Constant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowNumber:
    """One number for each row, float64, made from others.

    Parameters
    ----------
    name : str
        By which expressions use it.
    source : str
        Expression of the numbers of the row so far, without ``v``.
    """

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Cast:
    """Each value in another dtype.

    Parameters
    ----------
    dtype : numpy.dtype
        The new one.
    checked : bool
        Report values it cannot hold. Else integers are the nearest they can be, NaN becomes 0, and floats
        round to infinity.
    """

    dtype: np.dtype[Any]
    checked: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Select:
    """Only some columns, in the order given.

    Parameters
    ----------
    columns : ndarray, shape (kept,)
        Which, int64, from 0.
    """

    columns: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Random numbers, float64, for the expressions of the same stage that follow.

    They depend on the key, the row's position and the column alone, as `mlpipe.kernels.randoms` has it.

    Parameters
    ----------
    name : str
        By which expressions use them.
    how : str
        Even in [0, 1), or standard normal.
    key : ndarray of uint64, shape (2,)
        From `mlpipe.keys.key`.
    each : str
        One for every value, or for every row.
    """

    name: str
    how: Literal["uniform", "normal"]
    key: npt.NDArray[np.uint64]
    each: Literal["value", "row"] = "value"


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Where among edges each value lies, int64, as `numpy.searchsorted` says; NaN is larger than all.

    Parameters
    ----------
    edges : ndarray of float64
        In ascending order, at least one.
    side : str
        Whether a value that equals an edge lies to the left of it or to the right.
    """

    edges: npt.NDArray[np.float64]
    side: Literal["left", "right"] = "right"


Step = Map | RowReduce | RowNumber | Cast | Select | Draw | Search
Steps = Sequence[Step]


def working(dtype: np.dtype[Any], whole: bool = False) -> np.dtype[Any]:
    """In which dtype a `Map` computes.

    Examples
    --------
    >>> working(np.dtype("f2")), working(np.dtype("u1")), working(np.dtype("u1"), whole=True)
    (dtype('float32'), dtype('float64'), dtype('uint8'))
    """
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    if whole:
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
    return np.dtype(np.float64)


def real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of a result that is not whole: floats stay what they are, all else becomes float64.

    Examples
    --------
    >>> real(np.dtype(">f2")), real(np.dtype("u1"))
    (dtype('float16'), dtype('float64'))
    """
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)


def register(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """In which dtype a value of `dtype` is held between steps: half precision as float32, a boolean as uint8."""
    return working(dtype, whole=True)
