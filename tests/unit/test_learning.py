"""Statistics of columns: exact, and the same for any blocks, threads and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Array
from mlpipe.stages.fitting import Learned, Learner
from mlpipe.stages.learning import Extremes, Moments, Quantiles
from mlpipe.workers import Workers

QUARTILES = ([0.25, 0.5, 0.75], ["lower", "median", "upper"])
DTYPES = ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8"]
SHAPES = [(0, 3), (1, 1), (5, 0), (1000, 1), (70_000, 3), (3000, 70), (700, 300)]


def learned(learner: Learner, rows: Array, cuts: Sequence[int] = (), threads: int = 1) -> Learned:
    with Workers(threads) as workers:
        while True:
            for part in np.split(rows, [cut for cut in cuts if cut < len(rows)]):
                learner.add(np.ascontiguousarray(part), workers)
            found = learner.finish()
            if found is not None:
                return found


def values(shape: tuple[int, int], dtype: str) -> Array:
    random = np.random.default_rng(7)
    rows = random.normal(3, 50, shape)
    if np.dtype(dtype).kind == "u":
        rows = abs(rows)
    rows = rows.astype(dtype)
    if np.dtype(dtype).kind == "f" and rows.size > 10:
        rows.reshape(-1)[random.integers(0, rows.size, rows.size // 5)] = np.nan
    return rows


def bits(found: Learned) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in found.items()}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_threads_and_memory_do_not_show(dtype: str, shape: tuple[int, int]) -> None:
    rows, cuts = values(shape, dtype), [1, 7, 8, 100, 1000, 5000]
    assert bits(learned(Moments(shape[1]), rows)) == bits(learned(Moments(shape[1]), rows, cuts, 2))
    assert bits(learned(Extremes(shape[1]), rows)) == bits(learned(Extremes(shape[1]), rows, cuts, 2))
    few = Quantiles.learning(shape[1], rows.dtype, *QUARTILES, 64 << 20)
    many = Quantiles.learning(shape[1], rows.dtype, *QUARTILES, 150_000 + 300 * shape[1])
    assert few.passes <= many.passes
    assert bits(learned(few.make(shape[1]), rows)) == bits(learned(many.make(shape[1]), rows, cuts, 2))


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_as_numpy(dtype: str) -> None:
    rows = values((3000, 7), dtype)
    wide = rows.astype("f8")
    moments, extremes = learned(Moments(7), rows), learned(Extremes(7), rows)
    np.testing.assert_allclose(moments["mean"], np.nanmean(wide, 0), rtol=1e-13)
    np.testing.assert_allclose(moments["variance"], np.nanvar(wide, 0), rtol=1e-13)
    np.testing.assert_array_equal(moments["count"], (~np.isnan(wide)).sum(0))
    np.testing.assert_array_equal(extremes["minimum"], np.nanmin(wide, 0))
    np.testing.assert_array_equal(extremes["maximum"], np.nanmax(wide, 0))
    quartiles = learned(Quantiles(7, rows.dtype, *QUARTILES, passes=rows.dtype.itemsize), rows)
    wanted = np.nanpercentile(wide, [25, 50, 75], axis=0)
    np.testing.assert_array_equal([quartiles[name] for name in QUARTILES[1]], wanted)


@pytest.mark.parametrize(
    "column",
    [
        1e9 + np.arange(1000) / 7,
        np.r_[1e15, np.random.default_rng(0).normal(0, 1, 999)],
        np.random.default_rng(1).normal(1e8, 1e-4, 5000),
        np.random.default_rng(2).lognormal(0, 8, 3000),
        np.full(100, 0.1),
        np.array([-1e150, 1e150, 3.0]),
        np.array([5e-320, 0.0]),
        np.array([2.0]),
    ],
    ids=["offset", "first is far", "narrow", "wide", "constant", "huge", "denormal", "one"],
)
def test_moments_are_right_to_rounding(column: Array) -> None:
    found = learned(Moments(1), column[:, None], [3, 700])
    exact = [Fraction(float(value)) for value in column]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / len(exact)
    assert found["mean"][0] == pytest.approx(float(mean), rel=3e-16, abs=1e-30 * abs(column).max())
    assert found["variance"][0] == pytest.approx(float(variance), rel=4e-16, abs=1e-300)
    if (column == column[0]).all():
        assert found["variance"][0] == 0


def test_infinity_is_counted_and_nan_passed_over() -> None:
    rows = np.array([[np.inf, np.nan, 1], [2, np.nan, np.nan], [-np.inf, np.nan, 3]])
    found = learned(Moments(3), rows)
    assert found["infinite"].tolist() == [2, 0, 0]
    assert found["count"].tolist() == [1, 0, 2]
    assert found["mean"][2] == 2
    assert math.isnan(found["mean"][1])
    extremes = learned(Extremes(3), rows)
    assert extremes["minimum"][[0, 2]].tolist() == [-np.inf, 1]
    assert math.isnan(extremes["minimum"][1])
    quartiles = learned(Quantiles(3, rows.dtype, [0.5], ["median"], passes=4), rows)
    np.testing.assert_array_equal(quartiles["median"], [2, np.nan, 2])


def test_order_of_odd_floats() -> None:
    column = np.array([-np.inf, -1e300, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1e300, np.inf, np.nan])
    for fraction in np.linspace(0, 1, 9):
        found = learned(Quantiles(1, column.dtype, [fraction], ["at"], passes=7), column[::-1, None].copy())
        np.testing.assert_array_equal(found["at"], [column[round(8 * fraction)]])


def test_fewer_bytes_take_more_passes_until_none_do() -> None:
    passes = [Quantiles.learning(10, np.dtype("f8"), *QUARTILES, 1 << room).passes for room in (30, 20, 17, 15)]
    assert passes == sorted(passes)
    assert passes[0] < passes[-1]
    with pytest.raises(MemoryCeilingError) as caught:
        Quantiles.learning(10, np.dtype("f8"), *QUARTILES, 1000)
    assert Quantiles.learning(10, np.dtype("f8"), *QUARTILES, caught.value.needs).passes == 32
