"""A generated loop: its source text, what it is called with, and how it is compiled."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpipe.kernels import drawn, functions, memory, powers, scalars
from mlpipe.kernels._jit import kernel
from mlpipe.kernels.steps import Cast
from mlpipe.kernels.vocabulary import WORDS

Array = npt.NDArray[Any]

_KINDS = [np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
NAMES: dict[str, Any] = {
    **WORDS,
    **{name: getattr(functions, name) for name in functions.NAMES},
    **{name: getattr(powers, name) for name in powers.NAMES},
    **{name: getattr(scalars, name) for name in scalars.NAMES},
    **{kind.__name__: kind for kind in _KINDS},
    **{name: getattr(drawn, name) for name in drawn.NAMES},
    "abs": abs,
    "max": max,
    "min": min,
    "inf": np.inf,
    **{name: getattr(memory, name) for name in ("sum_rows", "max_rows", "spread")},
}
"""What the text of a step may use."""


@dataclass(frozen=True, slots=True)
class Check:
    """A cast that may fail.

    Parameters
    ----------
    stage, step : int
        Which step of which stage.
    cast : Cast
        The step.
    dtype : numpy.dtype
        From which it casts.
    """

    stage: int
    step: int
    cast: Cast
    dtype: np.dtype[Any]


@dataclass(slots=True)
class Program:
    """Source text for the steps of some stages, and what it is called with.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the values that come in.
    width : int
        How many there are in a row.
    in_place : bool
        Whether the input takes the output.
    made_dtype, made_width
        Of what comes out.

    Attributes
    ----------
    text : str
        The source.
    constants : list
        Arguments that the steps brought.
    scratch : list of (dtype, length)
        Arguments that are scratch, one set for each thread.
    checks : list of Check
        What may fail: the function returns the position in this list of one that did, else -1.
    joined : int
        How many rows may be joined to one, constants of columns repeated; 0 for any number.
    """

    dtype: np.dtype[Any]
    width: int
    in_place: bool
    made_dtype: np.dtype[Any]
    made_width: int
    text: str = ""
    constants: list[Any] = field(default_factory=list)
    scratch: list[tuple[np.dtype[Any], int]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    joined: int = 1

    def function(self) -> Any:
        """The compiled loop: ``(x, out, first, span, *scratch, *constants) -> check that failed or -1``.

        `x` and `out` are C-contiguous, of two dimensions, as `storage` shows them (`out` is `x` if `in_place`);
        `first` is the position of the first row, `span` the width of one before rows were joined. Each call at the
        same time needs scratch of its own.
        """
        return _compiled(self.text)


def storage(array: Array) -> Array:
    """The same memory in a dtype that kernels take: booleans and float16 by their bits.

    Examples
    --------
    >>> storage(np.array([1.0], np.float16)).dtype
    dtype('uint16')
    """
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    return array.view(np.uint16) if array.dtype == np.float16 else array


@functools.lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    names = dict(NAMES, __name__=__name__)
    for access in sorted(set(re.findall(r"\b(?:load|store)_\w+", text))):
        verb, _, place = access.partition("_")
        names[access] = memory.load(place) if verb == "load" else memory.store(place)
    exec(compile(text, "<fused steps>", "exec"), names)  # noqa: S102 - written from our own templates
    return kernel(names["fused"], text)
