"""Expressions of columns as one compiled loop over rows.

The text of an expression comes from `mlpipe.stages.formula`, which writes it from a tree; no user's text is in it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlpipe.kernels import scalars
from mlpipe.kernels._jit import kernel
from mlpipe.kernels.conversion import convert
from mlpipe.kernels.steps import working
from mlpipe.kernels.vocabulary import WORDS

_KINDS = ("float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_NAMES = {
    **WORDS,
    **{name: getattr(scalars, name) for name in ("one_nan", "saturate", "truncate", "to_half", "from_half")},
    **{name: getattr(np, name) for name in _KINDS},
}


def formulas_kernel(
    parts: Sequence[tuple[str, bool]], columns: Sequence[int], numbers: int, old: np.dtype[Any], new: np.dtype[Any]
) -> Any:
    """Compile expressions whose results stand side by side.

    Parameters
    ----------
    parts : sequence of (str, bool)
        Text of each, and whether it gives a value for each of the row, not one for the row.
    columns : sequence of int
        What ``c0``… stand for; from the end if negative.
    numbers : int
        How many ``k0``… there are.
    old, new : numpy.dtype
        Of the rows that come in, and of the results.

    Returns
    -------
    callable
        ``(x, out, numbers)``: two arrays of two dimensions as `mlpipe.kernels.fused.storage` shows them, and
        the numbers in the dtype that `mlpipe.kernels.steps.working` says.
    """
    kind = working(old).name
    lines = [f"k{n} = numbers[{n}]" for n in range(numbers)]
    body = [f"c{n} = {_load(f'x[i, {_column(column)}]', old)}" for n, column in enumerate(columns)]
    widths = singles = 0
    for text, elementwise in parts:
        place = f"{widths} * width + {singles}"
        result = _result(text, f"out[i, {place}{' + j' if elementwise else ''}]", kind, new)
        if elementwise:
            body += ["for j in range(width):", f"    v = {_load('x[i, j]', old)}", *(f"    {line}" for line in result)]
            widths += 1
        else:
            body += result
            singles += 1
    loop = ["for i in range(x.shape[0]):", *(f"    {line}" for line in body)]
    lines = ["def formulas(x, out, numbers):", *(f"    {line}" for line in ("width = x.shape[1]", *lines, *loop))]
    return _compiled("\n".join(lines) + "\n")


@functools.lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    names = dict(_NAMES, __name__=__name__)
    exec(compile(text, "<formulas>", "exec"), names)  # noqa: S102 - written above, from our own words
    return kernel(names["formulas"], text)


def _column(index: int) -> str:
    return str(index) if index >= 0 else f"width - {-index}"


def _load(element: str, old: np.dtype[Any]) -> str:
    return f"from_half({element})" if old == np.float16 else f"{working(old).name}({element})"


def _result(text: str, place: str, kind: str, new: np.dtype[Any]) -> list[str]:
    """Lines that store the value of an expression, rounded to `new`."""
    lines, value, _, _ = convert("v1", 1, np.dtype(kind), new, None)
    stored = f"to_half({value})" if new == np.float16 else value
    return [f"v1 = one_nan({kind}({text}))", *lines, f"{place} = {stored}"]
