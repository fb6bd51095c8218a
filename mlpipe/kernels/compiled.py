"""Functions of users, compiled, in loops over values and rows; and why one cannot be compiled, in a line.

They are compiled as kernels are, without the GIL and with NumPy's rules for division by zero; and with a check of
every index, for a wrong one would write into other rows. They are not kept on disk, because what they depend
on is not known. What the user compiled is taken as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

import numba
import numpy as np
from numba import literal_unroll, types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.np import numpy_support
from numba.np.ufunc.dufunc import DUFunc
from numba.np.ufunc.gufunc import GUFunc

Kind = Literal["scalar", "row", "batch"]
_PLAIN = "--object-mode calls it as plain Python"
_POLICY = {"nogil": True, "error_model": "numpy"}


class NotCompiledError(Exception):
    """A function that Numba cannot compile.

    Parameters
    ----------
    line : int or None
        Of its file, where that is known.
    reason : str
        One line.
    cure : str
        What to do about it.
    """

    def __init__(self, line: int | None, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.line, self.reason, self.cure = line, reason, cure


@dataclass(frozen=True, slots=True)
class Compiled:
    """A user's function, for rows of one dtype.

    Parameters
    ----------
    call : callable
        ``(rows, out) -> (row, length)`` fills `out`, both of one dimension for a scalar function and `out` of two for
        one of rows. For a row of which the result has another length than those of `out`: its position and
        that length, else -1 and 0. A batch function is itself: ``(rows) -> result``, or ``(rows, out)`` if it fills.
    dtype : numpy.dtype or None
        Of what it returns, but float32 where it gets float32 and returns float64; None if it fills.
    ndim : int
        Dimensions of what it returns.
    length : int or None
        Of a tuple that it returns.
    parallel : bool
        Whether it runs threads of its own, so that it must not be called from two.
    """

    call: Callable[..., Any]
    dtype: np.dtype[Any] | None = None
    ndim: int = 0
    length: int | None = None
    parallel: bool = False


def is_compiled(function: Any) -> bool:
    """Whether a function was compiled by the user's own decorator."""
    return isinstance(function, Dispatcher | DUFunc | GUFunc)


def declared_kind(declared: Any) -> Kind | None:
    """What a function compiled by the user, or a Numba type it is annotated with, says of its first argument."""
    if isinstance(declared, DUFunc):
        return "scalar"
    if isinstance(declared, Dispatcher):
        signatures = (
            [] if getattr(declared, "_can_compile", False) else declared.nopython_signatures
        )  # not those it was called with
        declared = signatures[0].args[0] if signatures and signatures[0].args else None
    if isinstance(declared, types.Array):
        return "row" if declared.ndim == 1 else "batch"
    return "scalar" if isinstance(declared, types.Number | types.Boolean) else None


@functools.lru_cache(maxsize=64)
def compile_function(
    function: Any, kind: Kind, rows: tuple[np.dtype[Any], int], out: tuple[np.dtype[Any], int] | None = None
) -> Compiled:
    """Compile a user's function for rows of a dtype.

    Parameters
    ----------
    function : callable
        Plain, or compiled by the user's own decorator.
    kind : {"scalar", "row", "batch"}
        What it is called for.
    rows : (dtype, int)
        Dtype of a block (bool, an integer, float32 or float64) and its dimensions.
    out : (dtype, int), optional
        The same of the array that it fills as its second argument.

    Raises
    ------
    NotCompiledError
        With Numba's reason, or with what is wrong about the result.
    """
    if isinstance(function, GUFunc):
        raise NotCompiledError(None, "it is made by guvectorize", "plain functions are taken, and njit and vectorize")
    if not isinstance(function, FunctionType) and not is_compiled(function):
        raise NotCompiledError(None, f"it is a {type(function).__name__}, not made by def", _PLAIN)
    compiled = function if is_compiled(function) else numba.njit(boundscheck=True, **_POLICY)(function)
    parallel = bool(getattr(compiled, "targetoptions", {}).get("parallel"))
    argument, block = _argument(kind, *rows), _block(kind, *rows)
    if out is not None:
        _compile(compiled, function, (argument, _argument(kind, *out)))
        loop = _LOOPS[kind, "fill"](compiled)
        loop.compile((block, _block(kind, *out)))
        return Compiled(loop, parallel=parallel)
    result = _compile(compiled, function, (argument,))
    dtype, ndim, how = _shape_of(result)
    if dtype is None or dtype.kind not in "biuf":
        raise NotCompiledError(_first_line(function), f"it returns {_shown(result)}", "numbers are needed")
    if (kind, how) not in _LOOPS or (kind == "row" and ndim > 1):
        wanted = {"scalar": "one number", "row": "one number or a row of them", "batch": "an array"}[kind]
        raise NotCompiledError(_first_line(function), f"it returns {_shown(result)}", f"{wanted} is needed")
    if dtype == np.float64 and rows[0] == np.float32:
        dtype = rows[0]  # Numba takes a float32 times 2 for a float64
    loop = _LOOPS[kind, how](compiled)
    loop.compile((block,) if kind == "batch" else (block, _block(kind, dtype, 2)))
    return Compiled(loop, dtype, ndim, len(result) if how == "tuple" else None, parallel)


def _argument(kind: Kind, dtype: np.dtype[Any], ndim: int) -> Any:
    """Numba's type of what a function is called with, of a block."""
    element = numba.from_dtype(dtype)
    return element if kind == "scalar" else types.Array(element, ndim - (kind == "row"), "C")


def _block(kind: Kind, dtype: np.dtype[Any], ndim: int) -> Any:
    """Numba's type of a block as the loops get it."""
    return types.Array(numba.from_dtype(dtype), 1 if kind == "scalar" else ndim, "C")


def _compile(compiled: Any, function: Any, arguments: tuple[Any, ...]) -> Any:
    """Compile a function; return Numba's type of what it returns."""
    try:
        if not getattr(compiled, "_can_compile", False):  # made by vectorize, or for types that were given
            compiled = numba.njit(**_POLICY)(_CALLERS[len(arguments)](compiled))
        compiled.compile(arguments)
    except Exception as error:  # noqa: BLE001 - Numba raises all kinds, and all mean the same
        raise _explained(error, function) from None
    found = next(
        (one for one in compiled.nopython_signatures if one.args == arguments), compiled.nopython_signatures[0]
    )
    return found.return_type


_CALLERS: dict[int, Callable[[Any], Callable[..., Any]]] = {
    1: lambda function: lambda rows: function(rows),
    2: lambda function: lambda rows, out: function(rows, out),
}


def _shape_of(result: Any) -> tuple[np.dtype[Any] | None, int, str]:
    """Dtype and dimensions of a result, and the loop that takes it; a tuple is a row."""
    if isinstance(result, types.BaseTuple) and len(result):
        parts = [_shape_of(part) for part in result]
        if all(dtype is not None and not ndim for dtype, ndim, _ in parts):
            return np.result_type(*[dtype for dtype, _, _ in parts if dtype]), 1, "tuple"
        return None, 0, ""
    if isinstance(result, types.Array):
        return _dtype(result.dtype), result.ndim, "array"
    return _dtype(result), 0, "value"


def _dtype(kind: Any) -> np.dtype[Any] | None:
    try:
        return np.dtype(numpy_support.as_dtype(types.unliteral(kind)))
    except (NotImplementedError, NumbaError):
        return None


def _shown(result: Any) -> str:
    return "nothing" if isinstance(result, types.NoneType) else str(result).partition("(func=")[0]


def _explained(error: Exception, function: Any) -> NotCompiledError:
    """Numba's reason for not compiling a function, in one line, and the line of the file that it is about."""
    text, name = str(error), Path(getattr(_code(function), "co_filename", "")).name
    place = re.search(rf'File "[^"\n]*{re.escape(name)}", line (\d+)', text)
    line = getattr(getattr(error, "loc", None), "line", None) or _first_line(function)
    reason, cure = _reason(text)
    return NotCompiledError(int(place[1]) if place else line, reason, cure)


def _code(function: Any) -> Any:
    plain = getattr(function, "py_func", None) or getattr(getattr(function, "_dispatcher", None), "py_func", function)
    return getattr(plain, "__code__", None)


def _first_line(function: Any) -> int | None:
    return getattr(_code(function), "co_firstlineno", None)


def _reason(text: str) -> tuple[str, str]:
    """The one line of a message that says what is wrong, and what to do about it."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("Failed in nopython mode")] or ["no reason given"]
    reason = lines[0].removesuffix(" Raised from None").rstrip(".")
    called = next((line for line in lines if line.startswith(">>>")), None)
    if reason.startswith("No implementation of function") and called:
        reason = f"no implementation of {called.removeprefix('>>>').strip()}"
    helper = re.match(r"Untyped global name '(\w+)': Cannot determine Numba type of <class 'function'>", reason)
    if helper:
        return f"it calls {helper[1]}, which is not compiled", f"decorate {helper[1]} with @numba.njit"
    return reason if len(reason) <= 200 else reason[:199] + "…", _PLAIN


# One loop for each kind of function and of result.


def _njit(function: Callable[..., Any]) -> Any:
    return numba.njit(**_POLICY)(function)


def _each_value(function: Any) -> Any:
    def loop(rows: Any, out: Any) -> tuple[int, int]:
        for i in range(rows.size):
            out[i] = function(rows[i])
        return -1, 0

    return _njit(loop)


def _each_row(function: Any) -> Any:
    def loop(rows: Any, out: Any) -> tuple[int, int]:
        for i in range(len(rows)):
            out[i, 0] = function(rows[i])
        return -1, 0

    return _njit(loop)


def _row_to_array(function: Any) -> Any:
    def loop(rows: Any, out: Any) -> tuple[int, int]:
        for i in range(len(rows)):
            result = function(rows[i])
            if result.size != out.shape[1]:
                return i, result.size
            for k in range(result.size):
                out[i, k] = result[k]
        return -1, 0

    return _njit(loop)


def _row_to_tuple(function: Any) -> Any:
    def loop(rows: Any, out: Any) -> tuple[int, int]:
        for i in range(len(rows)):
            result, k = function(rows[i]), 0
            for part in literal_unroll(result):
                out[i, k] = part
                k += 1  # noqa: SIM113 - what is unrolled cannot be enumerated
        return -1, 0

    return _njit(loop)


def _row_fills(function: Any) -> Any:
    def loop(rows: Any, out: Any) -> tuple[int, int]:
        for i in range(len(rows)):
            function(rows[i], out[i])
        return -1, 0

    return _njit(loop)


_LOOPS: dict[tuple[Kind, str], Callable[[Any], Any]] = {
    ("scalar", "value"): _each_value,
    ("row", "value"): _each_row,
    ("row", "array"): _row_to_array,
    ("row", "tuple"): _row_to_tuple,
    ("row", "fill"): _row_fills,
    ("batch", "array"): lambda function: _njit(_CALLERS[1](function)),
    ("batch", "fill"): lambda function: _njit(_CALLERS[2](function)),
}
