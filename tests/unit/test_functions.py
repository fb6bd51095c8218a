"""Elementary functions of kernels, against decimals of 50 digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numba
import numpy as np
import pytest

from mlpipe.kernels import functions, powers, scalars

DTYPES = [np.float32, np.float64]
SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, -2.0, 0.5, -0.5]


def over(function: Callable[..., object], *more: object) -> Callable[[np.ndarray], np.ndarray]:
    """The function over an array, in a loop that LLVM vectorises."""

    @numba.njit(error_model="numpy")
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i], *more)

    def call(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        loop(x, out)
        return out

    return call


def units_off(got: np.ndarray, exact: list[Decimal]) -> float:
    """Largest error in units in the last place of the exact result."""
    worst = Decimal(0)
    for one, right in zip(got, exact, strict=True):
        with np.errstate(over="ignore"):
            rounded = got.dtype.type(right)
        if np.isfinite(rounded):
            worst = max(worst, abs(Decimal(float(one)) - right) / Decimal(float(np.spacing(abs(rounded)))))
        else:
            assert one == rounded
    return float(worst)


def values(dtype: type, seed: int) -> np.ndarray:
    """Positive values of every size, subnormal ones included, and many near 1."""
    random, facts = np.random.default_rng(seed), np.finfo(dtype)
    wide = np.ldexp(random.uniform(1, 2, 200), random.integers(facts.minexp - facts.nmant, facts.maxexp, 200))
    near = 1 + np.ldexp(random.choice([-1.0, 1.0], 200), random.integers(-facts.nmant, -1, 200))
    found = np.concatenate([wide, near, random.uniform(0.3, 3, 200)]).astype(dtype)
    return found[found > 0]


def exactly(x: np.ndarray, function: Callable[[Decimal], Decimal]) -> list[Decimal]:
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 50, 10**6, -(10**6)
        return [function(Decimal(float(one))) for one in x]


@pytest.mark.parametrize("dtype", DTYPES)
def test_log(dtype: type) -> None:
    x = values(dtype, 1)
    assert units_off(over(functions.log)(x), exactly(x, Decimal.ln)) < 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_log1p(dtype: type) -> None:
    x = values(dtype, 2)
    x = np.concatenate([x, -x[x < 1], x - dtype(1)])
    x = x[x > -1]

    def log1p(one: Decimal) -> Decimal:
        if abs(one) < Decimal("1e-30"):
            return one - one * one / 2
        return (1 + one).ln()

    with localcontext() as context:
        context.prec = 90
        exact = [log1p(Decimal(float(one))) for one in x]
    assert units_off(over(functions.log1p)(x), exact) < 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp(dtype: type) -> None:
    random, limit = np.random.default_rng(3), 0.7 * np.finfo(dtype).maxexp
    x = np.concatenate([random.uniform(-1.07 * limit, limit, 600), random.uniform(-1, 1, 300)]).astype(dtype)
    assert units_off(over(functions.exp)(x), exactly(x, Decimal.exp)) < 1.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["log", "log1p", "exp", "sqrt"])
def test_special_values_are_those_of_numpy(name: str, dtype: type) -> None:
    facts = np.finfo(dtype)
    x = np.array([*SPECIAL, facts.max, facts.min, facts.tiny, facts.smallest_subnormal], dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    got = over(getattr(functions, name))(x)
    np.testing.assert_allclose(got, expected, rtol=2 * facts.eps)
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[there]), np.signbit(expected[there]))


@pytest.mark.parametrize("p", [0.5, -0.5, 0.1, 1.7, -3.0, 5.0, 17.3, -300.7, 1 / 3, 1e-300])
def test_precise_power(p: float) -> None:
    random = np.random.default_rng(4)
    reach = min(1000.0, 1000 / abs(p))
    x = np.concatenate([np.exp2(random.uniform(-reach, reach, 300)), values(np.float64, 5)[::4]])
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 50, 10**6, -(10**6)
        exact = [(Decimal(p) * Decimal(float(one)).ln()).exp() for one in x]
    assert units_off(over(powers.precise_power, p)(x), exact) < 1.1
    quick = over(powers.quick_power, p)(x)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_allclose(quick, np.array([float(one) for one in exact]), rtol=1e-12)


@pytest.mark.parametrize("name", powers.NAMES)
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, -1.0, -2.0, -3.0, 0.3, -0.3, 1e300, -1e300, 2.0**53 - 1])
def test_special_values_of_powers_are_those_of_numpy(name: str, p: float) -> None:
    x = np.array([*SPECIAL, 5e-324, -5e-324])
    with np.errstate(all="ignore"):
        expected = np.power(x, p)
    got = over(getattr(powers, name), p)(x)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[there]), np.signbit(expected[there]))


def test_every_float16_is_read_and_written() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    halves = bits.view(np.float16)

    @numba.njit
    def read(bits, out):
        for i in range(bits.size):
            out[i] = scalars.from_half(bits[i])

    @numba.njit
    def write(values, out):
        for i in range(values.size):
            out[i] = scalars.to_half(values[i])

    singles, back = np.empty(2**16, np.float32), np.empty(2**16, np.uint16)
    read(bits, singles)
    np.testing.assert_array_equal(singles, halves.astype(np.float32))
    numbers = ~np.isnan(halves)
    write(singles, back)
    np.testing.assert_array_equal(back[numbers], bits[numbers])
    # Between two, halfway or as near to that as float64 gets: rounding twice would show.
    finite = np.unique(halves[np.isfinite(halves)].astype(np.float64))
    middle = (finite[1:] + finite[:-1]) / 2
    for doubles in (middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf), middle * 1e9, middle * 1e-9):
        out = np.empty(doubles.size, np.uint16)
        write(doubles, out)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(out.view(np.float16), doubles.astype(np.float16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_nans_become_one(dtype: type) -> None:
    x = np.array([math.nan, -math.nan, 1.0, -math.inf], dtype)
    x.view(np.int32 if dtype == np.float32 else np.int64)[0] |= 5
    got = over(scalars.one_nan)(x)
    assert got[:2].tobytes() == np.full(2, math.nan, dtype).tobytes()
    np.testing.assert_array_equal(got[2:], x[2:])
