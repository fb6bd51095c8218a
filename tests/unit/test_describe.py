"""Descriptions of columns: right against exact arithmetic, and the same bytes for any blocks and threads."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from mlpipe.errors import InputError
from mlpipe.link import Array
from mlpipe.statistics.describe import Describe, Description
from mlpipe.workers import Workers

ROOT = Path(__file__).parents[2]
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
WIDTHS = [1, 2, 3, 7, 15, 16, 17, 31, 63, 64, 65, 100, 128, 200, 511, 515, 800]
MOMENTS = ("mean", "variance", "std", "skewness", "kurtosis")


def described(rows: Array, cuts: Iterable[int] = (), threads: int = 1) -> Description:
    describe = Describe(rows.shape[1], rows.dtype, threads)
    with Workers(threads) as workers:
        for part in np.split(rows, [cut for cut in cuts if cut <= len(rows)]):
            describe.add(np.ascontiguousarray(part), workers)
    return describe.finish()


def bits(found: Description) -> list[Any]:
    """All of a description, to compare."""
    out: list[Any] = []
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, Description):
            out += bits(value)
        elif isinstance(value, np.ndarray):
            out.append((field.name, value.dtype, value.tolist() if value.dtype == object else value.tobytes()))
        else:
            out.append((field.name, value))
    return out


def whole_numbers(column: Array) -> tuple[list[int], Fraction]:
    """Values as integers, and what to multiply those with: far faster than fractions."""
    if column.dtype.kind != "f":
        return [int(value) for value in column.tolist()], Fraction(1)
    parts = [math.frexp(value) for value in column.tolist()]
    least = min((exponent for part, exponent in parts if part), default=0)
    return [int(part * 2**53) << max(0, exponent - least) for part, exponent in parts], Fraction(2) ** (least - 53)


def exact(column: Array) -> tuple[Fraction, Fraction, float, float]:
    """Mean, variance, skewness and kurtosis of finite values."""
    values, unit = whole_numbers(column)
    n, total = len(values), sum(values)
    deviations = [value * n - total for value in values]
    second, third, fourth = (sum(value**power for value in deviations) for power in (2, 3, 4))
    mean, variance = Fraction(total, n) * unit, Fraction(second, n**3) * unit**2
    if second == 0:
        return mean, variance, math.nan, math.nan
    skewness = math.sqrt(Fraction(n * third * third, second**3)) * (1 if third > 0 else -1)
    return mean, variance, skewness, float(Fraction(n * fourth, second**2)) - 3


def relative(found: float, wanted: Fraction) -> float:
    return float(abs(Fraction(float(found)) - wanted) / abs(wanted)) if wanted else float(abs(found))


def places(column: Array, value: Any) -> tuple[int, int]:
    at = np.flatnonzero(column == value)
    return (int(at[0]), int(at[-1])) if len(at) else (-1, -1)


def values(shape: tuple[int, int], dtype: str, seed: int = 7) -> Array:
    random = np.random.default_rng(seed)
    rows = random.normal(3, 20, shape)
    if np.dtype(dtype).kind in "ub":
        rows = abs(rows)
    rows = np.round(rows) if np.dtype(dtype).kind != "f" else rows
    rows = (rows > 5).astype(dtype) if dtype == "?" else rows.astype(dtype)
    if np.dtype(dtype).kind == "f" and rows.size > 50:
        flat = rows.reshape(-1)
        flat[random.integers(0, rows.size, rows.size // 20)] = np.nan
        flat[random.integers(0, rows.size, rows.size // 20)] = 0
        flat[random.integers(0, rows.size, 3)] = np.inf
        flat[random.integers(0, rows.size, 3)] = -np.inf
    return rows


def check(rows: Array, found: Description, tight: float = 1e-12, loose: float = 1e-9) -> None:
    """Compare with exact arithmetic."""
    names = [field.name for field in dataclasses.fields(found) if field.name not in ("rows", "overall")]
    columns = [(rows[:, k], {name: getattr(found, name)[k] for name in names}) for k in range(rows.shape[1])]
    if rows.size:
        assert found.overall is not None
        columns.append((rows.reshape(-1), {name: getattr(found.overall, name)[0] for name in names}))
    for number, (column, got) in enumerate(columns):
        is_float = column.dtype.kind == "f"
        present = column[~np.isnan(column)] if is_float else column
        finite = present[np.isfinite(present)] if is_float else column
        assert got["count"] == len(present)
        assert got["missing"] == len(column) - len(present)
        assert got["infinite"] == len(present) - len(finite)
        assert got["zeros"] == (column == 0).sum()
        for name, extreme in (("minimum", np.min), ("maximum", np.max)):
            where = (-1, -1)
            if len(present):
                assert got[name] == extreme(present)
                where = places(column, got[name])
            else:
                assert math.isnan(got[name])
            ours = (got[f"first_{name}"], got[f"last_{name}"])
            if number == rows.shape[1]:
                ours = tuple(place[0] * rows.shape[1] + place[1] if place[0] >= 0 else -1 for place in ours)
            assert ours == where
        if is_float:
            numbers, unit = whole_numbers(finite)
            assert (
                abs(Fraction(float(got["sum"])) - sum(numbers) * unit)
                <= Fraction(1e-15) * sum(map(abs, numbers)) * unit
            )
        else:
            assert int(got["sum"]) == sum(column.tolist())
        if not len(finite):
            assert all(math.isnan(got[name]) for name in MOMENTS)
            continue
        mean, variance, skewness, kurtosis = exact(finite)
        assert relative(got["mean"], mean) <= tight
        assert relative(got["variance"], variance) <= tight
        assert got["std"] == pytest.approx(math.sqrt(variance), rel=tight)
        np.testing.assert_allclose(got["skewness"], skewness, rtol=loose, atol=loose)
        np.testing.assert_allclose(got["kurtosis"], kurtosis, rtol=loose, atol=loose)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (40, 5), (700, 1), (333, 3), (67, 17), (70, 70), (66, 515)], ids=str)
def test_against_exact_arithmetic(shape: tuple[int, int], dtype: str) -> None:
    rows = values(shape, dtype)
    check(rows, described(rows, [5, 50]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(600_000, 1), (200_001, 3), (30_000, 17), (5001, 65), (2500, 128), (999, 515), (300, 1001)], ids=str
)
def test_blocks_and_threads_do_not_show(shape: tuple[int, int], dtype: str) -> None:
    rows = values(shape, dtype)
    whole = bits(described(rows))
    assert bits(described(rows, [1, 2, 17, 100, 260, 5000, 5001, 40_000, 190_000], 2)) == whole
    assert bits(described(rows, range(97, len(rows), len(rows) // 7), 3)) == whole


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(150_000, 1), (50_001, 3), (7000, 31), (4000, 100), (700, 600)], ids=str)
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_as_numpy_and_scipy(shape: tuple[int, int], dtype: str) -> None:
    rows = values(shape, dtype)
    found = described(rows, [999], 2)
    wide = np.where(np.isfinite(rows), rows, np.nan).astype("f8")
    np.testing.assert_allclose(found.mean, np.nanmean(wide, 0), rtol=1e-11)
    np.testing.assert_allclose(found.variance, np.nanvar(wide, 0), rtol=1e-11)
    np.testing.assert_allclose(found.skewness, stats.skew(wide, nan_policy="omit"), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(found.kurtosis, stats.kurtosis(wide, nan_policy="omit"), rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(found.minimum, np.nanmin(rows.astype("f8"), 0))
    np.testing.assert_array_equal(found.maximum, np.nanmax(rows.astype("f8"), 0))
    np.testing.assert_array_equal(found.zeros, (rows == 0).sum(0))
    for name in ("minimum", "maximum"):
        same = rows == getattr(found, name)
        np.testing.assert_array_equal(getattr(found, f"first_{name}"), same.argmax(0))
        np.testing.assert_array_equal(getattr(found, f"last_{name}"), len(rows) - 1 - same[::-1].argmax(0))


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width(width: int) -> None:
    random = np.random.default_rng(width)
    for height in (1, 15, 64, 65, 1000):
        rows = random.integers(-100, 100, (height, width)).astype("i4")
        found = described(rows, [33])
        np.testing.assert_array_equal(found.sum, rows.sum(0))
        np.testing.assert_array_equal(found.minimum, rows.min(0))
        np.testing.assert_array_equal(found.first_maximum, rows.argmax(0))
        np.testing.assert_allclose(found.variance, rows.var(0), rtol=1e-12, atol=0)


def noise(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 1, count)


HARD = {
    "float32 near 1e8": (1e8 + 50 * noise(40_000)).astype("f4"),
    "1e9 and small noise": 1e9 + 1e-6 * noise(40_000),
    "1e9 and noise": 1e9 + noise(40_000),
    "outlier first": np.r_[1e30, np.ones(40_000)],
    "float32 outlier first": np.r_[1e30, np.ones(40_000)].astype("f4"),
    "outliers that cancel": np.r_[1e30, np.ones(40_000), -1e30],
    "float32 outliers that cancel": np.r_[1e30, np.ones(40_000), -1e30].astype("f4"),
    "alternating": np.where(np.arange(40_001) % 2, 1e8, -1e8) + noise(40_001),
    "sorted": np.sort(1e6 + 1e5 * noise(70_000)),
    "two levels": np.r_[np.full(33_000, 1e5), np.full(35_000, 1e5 + 1e-3)],
    "int64 near the limits": np.r_[
        np.arange(2**63 - 30_000, 2**63 - 1, dtype="i8"), np.arange(-(2**63), -(2**63) + 20_000, dtype="i8")
    ],
    "int64 near the upper limit": np.iinfo("i8").max - np.arange(40_000) % 7,
    "int64 near the lower limit": np.iinfo("i8").min + np.arange(40_000) % 3,
    "uint64": np.iinfo("u8").max - (np.arange(40_000) % 5).astype("u8"),
    "uint64 anywhere": np.random.default_rng(3).integers(0, 2**64, 40_000, dtype="u8"),
    "int8": np.random.default_rng(4).integers(-128, 128, 40_000).astype("i1"),
    "huge": 1e300 * (5 + noise(40_000)),
    "largest": np.where(np.arange(40_000) % 3, 1.7e308, -1.7e308),
    "tiny": 1e-300 * (5 + noise(40_000)),
    "huge after ordinary": np.r_[noise(40_000), 1e200 * noise(40_000, 1)],
    "ordinary after huge": np.r_[1e200 * noise(40_000, 1), noise(40_000)],
    "ordinary after tiny": np.r_[1e-200 * noise(40_000, 1), noise(40_000)],
    "zeros, then tiny": np.r_[np.zeros(40_000), 1e-200 * noise(40_000)],
    "lognormal": np.exp(4 * noise(40_000)),
    "float16": (1000 + noise(40_000)).astype("f2"),
}


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("name", HARD)
def test_hard_columns(name: str) -> None:
    column = HARD[name]
    found = described(column[:, None], [7, 34_000])
    mean, variance, skewness, kurtosis = exact(column)
    assert relative(found.mean[0], mean) <= 1e-12
    limit = Fraction(2) ** 1023
    if variance > limit:
        assert found.variance[0] == np.inf
    elif variance < 1 / limit:
        assert found.variance[0] == float(variance)
    else:
        assert relative(found.variance[0], variance) <= 1e-12
    root = Fraction(math.isqrt(int(variance * 4**1200)), 2**1200)
    assert relative(found.std[0], root) <= 1e-12
    np.testing.assert_allclose(found.skewness[0], skewness, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.kurtosis[0], kurtosis, rtol=1e-9, atol=1e-9)
    numbers, unit = whole_numbers(column)
    if column.dtype.kind in "iu":
        assert found.sum.tolist() == [sum(numbers)]
    elif abs(sum(numbers)) * unit < limit:
        assert (
            abs(Fraction(float(found.sum[0])) - sum(numbers) * unit) <= Fraction(1e-15) * sum(map(abs, numbers)) * unit
        )


def test_a_sum_of_floats_is_as_fsum_has_it() -> None:
    rows = np.random.default_rng(5).normal(0, 1, (50_000, 3)) * 10.0 ** np.arange(0, 18, 6)
    assert described(rows, [77]).sum.tolist() == [math.fsum(rows[:, k]) for k in range(3)]


@pytest.mark.parametrize("value", [0.1, 1e-310, 1.7e308, -3.3, 0.0, 7.0])
def test_constant_columns_have_no_variance(value: float) -> None:
    rows = np.full((100_001, 2), value)
    rows[5, 1] = np.inf
    found = described(rows, [7], 2)
    assert found.mean.tolist() == [value, value]
    assert found.variance.tolist() == [0, 0]
    assert np.isnan([found.skewness, found.kurtosis]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (0, 0)], ids=str)
def test_nothing(shape: tuple[int, int], dtype: str) -> None:
    found = described(np.zeros(shape, dtype), [2])
    assert found.rows == shape[0]
    assert found.count.tolist() == [0] * shape[1]
    assert found.overall is not None
    for one in (found, found.overall):
        assert np.isnan([one.minimum, one.maximum, *(getattr(one, name) for name in MOMENTS)]).all()
        assert not one.sum.any()
    assert found.overall.first_minimum.tolist() == [[-1, -1]]
    assert found.first_minimum.tolist() == [-1] * shape[1]


def test_not_finite() -> None:
    nan, inf = np.nan, np.inf
    rows = np.array([[nan, inf, 1, -0.0], [nan, 2, nan, 0], [nan, -inf, 3, nan], [nan, inf, nan, -inf]])
    found = described(rows)
    assert found.count.tolist() == [0, 4, 2, 3]
    assert found.missing.tolist() == [4, 0, 2, 1]
    assert found.infinite.tolist() == [0, 3, 0, 1]
    assert found.zeros.tolist() == [0, 0, 0, 2]
    assert found.first_maximum.tolist() == [-1, 0, 2, 0]
    assert found.last_maximum.tolist() == [-1, 3, 2, 1]
    assert found.mean[1:].tolist() == [2, 2, 0]
    assert math.copysign(1, found.maximum[3]) == 1
    assert found.overall is not None
    assert found.overall.first_minimum.tolist() == [[2, 1]]
    assert found.overall.last_minimum.tolist() == [[3, 3]]


def test_integers_beyond_int64_are_python_integers() -> None:
    rows = np.full((100_000, 2), np.iinfo("i8").min)
    rows[:, 1] = 1
    found = described(rows)
    assert found.sum.tolist() == [-(2**63) * 100_000, 100_000]
    assert found.overall is not None
    assert found.overall.sum.tolist() == [-(2**63) * 100_000 + 100_000]
    assert described(rows[:, 1:].copy()).sum.dtype == np.int64


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sampled_from(["f2", "f4", "f8"]).flatmap(
        lambda dtype: hnp.arrays(
            dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements={"allow_subnormal": False}
        )
    ),
    cuts=st.lists(st.integers(0, 40)).map(sorted),
)
def test_any_floats(rows: Array, cuts: Sequence[int]) -> None:
    found = described(rows, cuts)
    assert bits(found) == bits(described(rows))
    finite = rows.astype("f8")[np.isfinite(rows)]
    if not len(finite) or (abs(finite).max() < 1e150 and abs(finite[finite != 0]).min(initial=1) > 1e-130):
        check(rows, found, loose=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sampled_from(["i1", "u2", "i4", "u4", "i8", "u8"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))
    ),
    cuts=st.lists(st.integers(0, 40)).map(sorted),
)
def test_any_integers(rows: Array, cuts: Sequence[int]) -> None:
    found = described(rows, cuts)
    assert bits(found) == bits(described(rows))
    check(rows, found)


@pytest.mark.parametrize(
    ("columns", "dtype", "rows"),
    [
        (1, "f4", 1 << 20),
        (3, "f2", 1 << 18),
        (128, "f8", 1 << 12),
        (3000, "f4", 300),
        (3000, "f2", 200),
        (9000, "u1", 99),
    ],
    ids=str,
)
def test_what_is_held_is_told(columns: int, dtype: str, rows: int) -> None:
    block = np.ones((rows, columns), dtype)
    described(block, [99], 2)  # what is compiled or loaded is another matter
    tracemalloc.start()
    describe = Describe(columns, block.dtype, 2)
    with Workers(2) as workers:
        for part in (block, block, block[:1], block):
            describe.add(part, workers)
        describe.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= Describe.nbytes(columns, block.dtype, 2, rows)


def test_other_values_are_refused() -> None:
    with pytest.raises(InputError, match="not complex128"):
        Describe(1, np.dtype("c16"), 1)
    with pytest.raises(ValueError, match="not float32"):
        Describe(1, np.dtype("f4"), 1).add(np.zeros((2, 1)), Workers(1))


def test_narrow_vectors_give_the_same_bytes() -> None:
    shapes = [(3000, 3), (900, 17), (500, 70)]
    code = (
        "from tests.unit.test_describe import bits, described, values\n"
        f"print([bits(described(values(shape, 'f4'))) for shape in {shapes}])"
    )
    environment = {**os.environ, "MLPIPE_SIMD_BITS": "128"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    assert done.stdout.strip() == str([bits(described(values(shape, "f4"))) for shape in shapes])
