"""Near-duplicates, offsets and very long rows against exact arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpipe
from tests import naive

BOUND = {"f4": 1e-6, "f8": 1e-12}
EXACT = {
    "euclidean": naive.exact_euclidean,
    "sqeuclidean": naive.exact_sqeuclidean,
    "cityblock": naive.exact_cityblock,
}
FEATURES = 100_000


def worst_error(X: np.ndarray, Y: np.ndarray, metric: str) -> float:
    """Largest relative error of any pair."""
    ours = mlpipe.pairwise_distances(X, Y, metric)
    assert ours.dtype == X.dtype
    first, second = naive.rows_of(X), naive.rows_of(Y)
    return max(
        naive.relative_error(float(ours[i, j]), EXACT[metric](x, y))
        for i, x in enumerate(first)
        for j, y in enumerate(second)
    )


@pytest.mark.parametrize("precision", ["f4", "f8"])
@pytest.mark.parametrize("metric", EXACT)
@settings(max_examples=25)
@given(
    features=st.sampled_from([1, 2, 3, 31, 33, 130]),
    offset=st.sampled_from([0.0, 1.0, 1e3, 1e4, 1e6]),
    spread=st.sampled_from([1e-3, 1e-2, 1.0, 100.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_near_duplicates(metric: str, precision: str, features: int, offset: float, spread: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    # values that float32 can hold, so that both precisions start from the same points
    X = (offset + random.normal(size=(3, features))).astype("f4")
    Y = (X[:2] + (spread * random.normal(size=(2, features))).astype("f4")).astype("f4")
    assert worst_error(X.astype(precision), Y.astype(precision), metric) <= BOUND[precision]


@pytest.mark.parametrize("precision", ["f4", "f8"])
@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_points_a_thousandth_apart(precision: str, offset: float) -> None:
    step = max(np.float32(1e-3), np.spacing(np.float32(offset)))
    for features in (1, 2, 3, 64, 129):
        X = np.full((4, features), offset, "f4")
        Y = (X + np.arange(4, dtype="f4")[:, None] * step).astype("f4")
        for metric in EXACT:
            assert worst_error(X.astype(precision), Y.astype(precision), metric) <= BOUND[precision]


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cityblock", "chebyshev", "cosine", "correlation"])
def test_the_offset_makes_no_difference(metric: str) -> None:
    """Translation by a power of two that all values can hold changes nothing, to the bit."""
    grid = np.random.default_rng(1).integers(-64, 64, (40, 33)) / 64
    X, Y = grid[:25].astype("f4"), grid[25:].astype("f4")
    near = mlpipe.pairwise_distances(X, Y, metric)
    far = mlpipe.pairwise_distances(X + np.float32(2**16), Y + np.float32(2**16), metric)
    if metric == "cosine":
        assert far.max() < 1e-9
        exact = [[_cosine(x + 2.0**16, y + 2.0**16) for y in Y.astype("f8")] for x in X.astype("f8")]
        np.testing.assert_allclose(far, exact, rtol=0, atol=2e-7)
    elif metric == "correlation":
        np.testing.assert_allclose(far, near, rtol=0, atol=1e-6)
    else:
        assert far.tobytes() == near.tobytes()


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    """Half the squared distance of unit rows, to about 30 digits' worth of fractions."""
    xy, xx, yy = (naive.exact_sqeuclidean(a, b) for a, b in ((x, y), (x, 0 * x), (y, 0 * y)))
    dot = (xx + yy - xy) / 2
    return float(1 - naive.Fraction(math.sqrt(dot * dot / xx / yy)))


def long_rows(kind: str, features: int) -> tuple[np.ndarray, np.ndarray]:
    """One row of X and two of Y with very many features, float32 and positive."""
    if kind == "constant":
        return np.full((1, features), 0.1, "f4"), np.full((2, features), [[0.3], [1.1]], "f4")
    random = np.random.default_rng(6)
    X, Y = random.random((1, features)).astype("f4"), random.random((2, features)).astype("f4")
    if kind == "sparse":
        X[random.random(X.shape) < 0.7] = Y[random.random(Y.shape) < 0.7] = 0
    return X, Y


LONG = sorted({*naive.METRICS} - {"haversine", "mahalanobis"})


@pytest.mark.parametrize("kind", ["constant", "random", "sparse"])
@pytest.mark.parametrize("metric", LONG)
def test_very_long_rows(metric: str, kind: str) -> None:
    features = 3_000 if metric == "jensenshannon" else FEATURES  # its oracle takes 40-digit logarithms
    X, Y = long_rows(kind, features)
    given_: dict[str, object] = {"V": np.linspace(0.5, 2, features)} if metric == "seuclidean" else {}
    if metric == "minkowski":
        given_["p"] = 3.0
    ours = mlpipe.pairwise_distances(X, Y, metric, **given_)
    expected = naive.matrix(X, Y, metric, **given_)
    assert ours.dtype == "f4"
    absolute = 1e-6 if metric in ("cosine", "correlation", "dice") else 0  # what is defined by terms that cancel
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=absolute)
    if metric in naive.WEIGHTED and kind != "constant":
        w = np.random.default_rng(7).uniform(0.5, 2, features).astype("f4")
        ours = mlpipe.pairwise_distances(X, Y[:1], metric, w=w, **given_)
        expected = naive.matrix(X, Y[:1], metric, w=w, **given_)
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=absolute)


@pytest.mark.parametrize("precision", ["f4", "f8"])
def test_mahalanobis_far_from_the_first_row(precision: str) -> None:
    """Near-duplicates are right wherever they are, whichever row comes first."""
    offset, step = (1e6, 0.125) if precision == "f4" else (1e9, 1e-3)
    random = np.random.default_rng(3)
    basis = random.normal(size=(4, 4))
    VI = basis @ basis.T + np.eye(4)
    X = (offset + step * random.integers(-9, 9, (6, 4))).astype(precision)
    X[0] = 0
    expected = naive.matrix(X, X, "mahalanobis", VI=VI)
    np.testing.assert_allclose(
        mlpipe.pairwise_distances(X, metric="mahalanobis", VI=VI), expected, rtol=BOUND[precision]
    )
