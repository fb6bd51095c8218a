"""Expressions against NumPy: random ones, for every dtype; in any blocks and threads the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.buffers import Array
from mlpipe.kernels.steps import working
from mlpipe.stages.apply import Apply
from mlpipe.stages.expression import FUNCTIONS
from mlpipe.stages.rowwise import RowWise
from tests.flow import flow
from tests.rowwise import transformed

Oracle = Callable[[Array], Array]
Pair = tuple[str, Oracle]
"""An expression, and the same in NumPy, of an array (rows, columns)."""

COLUMNS = 3
ROUNDING = {"float32": 1e-6, "float64": 4e-15}


def rows(dtype: str, seed: int = 0, count: int = 41) -> Array:
    """Values of all sizes, with NaN, infinities, zeros of both signs and the limits of the dtype among them."""
    kind, random = np.dtype(dtype), np.random.default_rng(seed)
    if kind.kind == "b":
        return random.random((count, COLUMNS)) < 0.5
    if kind.kind != "f":
        limits = np.iinfo(kind)
        found = random.integers(0, 100, (count, COLUMNS)).astype(kind)
        found[::5, 1], found[::7, 0] = limits.min, limits.max
        return found
    found = (random.normal(size=(count, COLUMNS)) * np.exp(random.normal(size=(count, COLUMNS)) * 2)).astype(kind)
    places = random.random(found.shape) < 0.2
    odd = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 0.5, 2.5, -1.5, 88.0, 1e4], kind)
    found[places] = random.choice(odd, places.sum())
    return found


def evaluated(pair: Pair, x: Array) -> Array:
    """The oracle, in the dtype in which expressions are computed, one value a row made a column."""
    with np.errstate(all="ignore"):
        found = np.asarray(pair[1](x.astype(working(x.dtype))))
    found = np.broadcast_to(found, (len(x), found.shape[1] if found.ndim == 2 else 1))
    assert found.dtype in (bool, working(x.dtype))
    return found.astype(working(x.dtype))


def applied(text: str, x: Array, dtype: Any = None, **settings: Any) -> Array:
    """What the verb makes of rows."""
    stage = Apply(text, dtype).open(None)  # type: ignore[arg-type]
    return transformed([stage], x, **settings) if isinstance(stage, RowWise) else flow(stage, x)[0]


# Expressions whose every operation rounds once, so that the result is NumPy's to the bit.


def column(index: int) -> Pair:
    return f"x[{index}]", lambda x: x[:, index][:, None]


def number(value: float) -> Pair:
    return repr(value), lambda x: np.array([[value]], x.dtype)


def operator(sign: str, function: Callable[[Array, Array], Array]) -> Callable[[Pair, Pair], Pair]:
    return lambda a, b: (f"({a[0]}) {sign} ({b[0]})", lambda x: function(as_number(a[1](x), x), as_number(b[1](x), x)))


def as_number(value: Array, x: Array) -> Array:
    return value.astype(x.dtype)


def choice(condition: Pair, yes: Pair, no: Pair) -> Pair:
    return (
        f"({yes[0]}) if ({condition[0]}) else ({no[0]})",
        lambda x: np.where(condition[1](x) != 0, as_number(yes[1](x), x), as_number(no[1](x), x)),
    )


def call(name: str, function: Callable[..., Array]) -> Callable[..., Pair]:
    return lambda *a: (
        f"{name}({', '.join(text for text, _ in a)})",
        lambda x: function(*np.broadcast_arrays(*[as_number(one(x), x) for _, one in a])),
    )


def chain(a: Pair, b: Pair, c: Pair) -> Pair:
    return (
        f"({a[0]}) < ({b[0]}) >= ({c[0]})",
        lambda x: (as_number(a[1](x), x) < as_number(b[1](x), x)) & (as_number(b[1](x), x) >= as_number(c[1](x), x)),
    )


def total(parts: list[Pair]) -> Pair:
    return " - ".join(f"({text})" for text, _ in parts), lambda x: reduce(
        lambda a, b: a - b, [as_number(one(x), x) for _, one in parts]
    )


BINARY = [
    *(operator(sign, function) for sign, function in [("+", np.add), ("-", np.subtract), ("*", np.multiply)]),
    *(operator(sign, function) for sign, function in [("/", np.divide), ("//", np.floor_divide), ("%", np.remainder)]),
    *(operator(sign, function) for sign, function in [("<", np.less), ("<=", np.less_equal), (">", np.greater)]),
    *(operator(sign, function) for sign, function in [(">=", np.greater_equal), ("==", np.equal)]),
    *(operator(sign, function) for sign, function in [("!=", np.not_equal), ("and", np.logical_and)]),
    operator("or", np.logical_or),
    *(call(name, getattr(np, name)) for name in ("minimum", "maximum")),
]
UNARY = [
    *(call(name, getattr(np, name)) for name in ("abs", "sqrt", "floor", "ceil", "trunc", "sign")),
    *(call(name, getattr(np, name)) for name in ("isnan", "isinf", "isfinite")),
    call("round", np.rint),
    lambda a: (f"-({a[0]})", lambda x: -as_number(a[1](x), x)),
    lambda a: (f"not ({a[0]})", lambda x: np.logical_not(as_number(a[1](x), x))),
    lambda a: (f"({a[0]}) ** 2", lambda x: np.square(as_number(a[1](x), x))),
]
LEAVES = st.sampled_from(
    [("x", lambda x: x), *(column(index) for index in (0, 1, -1)), ("pi", number(np.pi)[1]), ("inf", number(np.inf)[1])]
) | st.sampled_from([0.0, 1.0, 2.0, 0.1, 1e-3, 1e6, 3.5]).map(number)


def grown(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.one_of(
        st.builds(lambda make, a, b: make(a, b), st.sampled_from(BINARY), inner, inner),
        st.builds(lambda make, a: make(a), st.sampled_from(UNARY), inner),
        st.builds(choice, inner, inner, inner),
        st.builds(chain, inner, inner, inner),
        st.builds(call("clip", lambda a, b, c: np.minimum(np.maximum(a, b), c)), inner, inner, inner),
        st.builds(total, st.lists(inner, min_size=3, max_size=4)),
    )


EXACT = st.recursive(LEAVES, grown, max_leaves=10)


@settings(max_examples=8)
@given(st.lists(EXACT, min_size=6, max_size=6), st.sampled_from(["f4", "f8", "f2", "u1", "i8", "?"]), st.integers(0, 9))
def test_random_expressions(pairs: list[Pair], dtype: str, seed: int) -> None:
    x = rows(dtype, seed)
    got = applied(", ".join(text for text, _ in pairs), x)
    expected = np.concatenate([evaluated(pair, x) for pair in pairs], axis=1)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@settings(max_examples=6)
@given(EXACT.filter(lambda pair: "x[" not in pair[0] and "x" in pair[0]), st.sampled_from(["f4", "f8", "f2", "u2"]))
def test_random_expressions_of_each_value(pair: Pair, dtype: str) -> None:
    x = rows(dtype)
    got = applied(pair[0], x, block_rows=7, threads=2)
    np.testing.assert_array_equal(got, np.broadcast_to(evaluated(pair, x), x.shape))


# Functions that round in their own way.


def test_every_function() -> None:
    named = {"round": np.rint, "clip": lambda a, b, c: np.minimum(np.maximum(a, b), c)}
    arguments = ["x[0]", "x[1]", "x[-1]"]
    calls = {name: f"{name}({', '.join(arguments[:count])})" for name, count in FUNCTIONS.items() if name != "where"}
    calls["power"] = "x[0] ** x[1]"
    for dtype in ("f4", "f8"):
        x = rows(dtype, count=400)
        got = applied(", ".join(calls.values()), x)
        for place, name in enumerate(calls):
            function = named.get(name) or getattr(np, name)
            with np.errstate(all="ignore"):
                expected = function(*[x[:, k] for k in range(FUNCTIONS.get(name, 2))]).astype(x.dtype)
            rounding = ROUNDING[x.dtype.name]
            np.testing.assert_allclose(got[:, place], expected, rtol=rounding, atol=rounding / 10, err_msg=name)
    assert len(calls) == len(FUNCTIONS)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_powers(dtype: str) -> None:
    x = rows(dtype, count=500)
    exponents = ["2", "3", "2.5", "0.5", "-1", "-2", "0", "1", "7", "1e9", "x[1]", "-x[1]", "inf", "-inf", "nan"]
    got = applied(", ".join(f"x[0] ** ({one})" for one in exponents) + ", 2.5 ** 2.5, (-2) ** 3, (-2) ** 0.5", x)
    oracles = [eval(one, {"x": x.T, "inf": np.inf, "nan": np.nan}) for one in exponents]
    with np.errstate(all="ignore"):
        expected = np.stack([np.float_power(x[:, 0], one) for one in oracles], 1).astype(x.dtype)
    expected[:, 3] = np.where(np.isneginf(x[:, 0]), np.inf, expected[:, 3])  # as in C; NumPy takes the root
    np.testing.assert_allclose(got[:, :-3], expected, rtol=ROUNDING[x.dtype.name], atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(got[:, -3:], [[2.5**2.5, -8, np.nan]] * len(x), rtol=1e-6)


def test_huge_numbers_are_floats() -> None:
    got = applied("9**9**9, -9**9**9, 2**1000, x * 0 + 1e300, 10**30 // 1", np.ones((2, 1), np.float32))
    np.testing.assert_array_equal(got, [[np.inf, -np.inf, np.inf, np.inf, np.float32(1e30)]] * 2)
