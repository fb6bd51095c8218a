"""Covariances and correlations: as NumPy and pandas have them, to the same bits in any blocks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.statistics.covariance import Covariance, group_rows
from mlpipe.workers import Workers

Array = np.typing.NDArray[Any]


def of(rows: Array, cuts: list[int] | None = None, threads: int = 1) -> Covariance:
    found = Covariance(rows.shape[1], threads)
    with Workers(threads) as workers:
        for part in np.split(rows, cuts or []):
            found.add(part, workers)
        found.finish(workers)
    return found


def values(rows: int, columns: int, missing: float = 0.0, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    found = random.normal(size=(rows, columns)) @ random.normal(size=(columns, columns))
    found[random.random(found.shape) < missing] = np.nan
    return found


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i4", "u1", "?"])
@pytest.mark.parametrize("shape", [(3000, 7), (50, 300), (2, 1)])
def test_as_numpy(dtype: str, shape: tuple[int, int]) -> None:
    rows = (values(*shape) * 3).astype(dtype)
    found = of(rows, [shape[0] // 3])
    np.testing.assert_allclose(
        found.covariance(0),
        np.cov(rows.astype("f8").T, ddof=0).reshape(found.covariance().shape),
        rtol=1e-10,
        atol=1e-12,
    )
    np.testing.assert_array_equal(found.covariance(), found.covariance().T)


@pytest.mark.parametrize("missing", [0.01, 0.5, 0.97])
def test_pairwise_as_pandas(missing: float) -> None:
    rows = values(2500, 5, missing)
    found, frame = of(rows, [1, 1024, 2000], 2), pd.DataFrame(rows)
    np.testing.assert_allclose(found.covariance(), frame.cov(), rtol=1e-10)
    np.testing.assert_allclose(found.correlation(), frame.corr(), rtol=1e-10)


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_same_bits(missing: float) -> None:
    rows = values(7000, 9, missing).astype("f4")
    once = of(rows)
    for cuts, threads in (([1, 2, 1030, 5000], 1), ([4096], 2), (list(range(0, 7000, 500)), 3)):
        again = of(rows, cuts, threads)
        assert again.covariance().tobytes() == once.covariance().tobytes()
        assert again.correlation().tobytes() == once.correlation().tobytes()


def test_missing_late_changes_nothing_before() -> None:
    rows = values(5000, 3)
    rows[4500, 1] = np.nan
    np.testing.assert_allclose(of(rows).covariance(), pd.DataFrame(rows).cov(), rtol=1e-10)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 40), st.integers(1, 6), st.floats(-1e12, 1e12), st.integers(0, 2**32))
def test_far_from_zero(rows: int, columns: int, offset: float, seed: int) -> None:
    data = values(rows, columns, seed=seed).round(2) + offset
    found = of(data).covariance(0)
    for i in range(columns):
        for j in range(columns):
            x, y = ([Fraction(float(value)) for value in data[:, k]] for k in (i, j))
            if not rows:
                assert np.isnan(found[i, j])
                continue
            a, b = sum(x) / rows, sum(y) / rows
            exact = float(sum((u - a) * (v - b) for u, v in zip(x, y, strict=True)) / rows)
            scale = float(np.sqrt(data[:, i].var() * data[:, j].var()))
            assert found[i, j] == pytest.approx(exact, rel=1e-9, abs=1e-12 * scale + 1e-300)


def test_odd_columns() -> None:
    rows = np.array([[1, 5, np.inf, np.nan], [2, 5, 1, np.nan], [4, 5, 2, np.nan]])
    found = of(rows)
    assert found.covariance()[0, 2] == pytest.approx(1.0)  # infinite values count as missing
    assert np.isnan(found.correlation()[0, 1])  # constant
    assert found.correlation()[0, 0] == 1
    assert np.isnan(found.covariance()[3]).all()
    assert np.isnan(of(np.empty((0, 2))).covariance()).all()
    assert np.isnan(of(np.ones((1, 2))).covariance(1)).all()
    assert of(np.empty((5, 0))).covariance().shape == (0, 0)


def test_what_it_holds() -> None:
    assert group_rows(3) == 1024
    assert np.diagonal(of(values(2500, 5, 0.2)).correlation()).tolist() == [1.0] * 5
    assert Covariance.nbytes(1000, 2) > 8 * 1000**2
