"""Parameters that come from the data: as scipy has them, by streaming, whatever the blocks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance as scipy_distance

from mlpipe.api import pairwise_distances
from mlpipe.errors import InputError
from mlpipe.link import Array
from mlpipe.readers.array import ArraySource
from mlpipe.stages import defaults
from mlpipe.stages.defaults import fill_in, parameter_bytes, passes
from mlpipe.stages.metrics import Measure
from mlpipe.workers import Workers
from tests import naive

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=30)


def filled(metric: str, *arrays: Array, threads: int = 2, **given) -> Measure:
    sources = [ArraySource(array, name) for array, name in zip(arrays, ("X", "Y"), strict=False)]
    features = arrays[0].shape[1] if arrays[0].ndim == 2 else 1
    with Workers(threads) as workers:
        return fill_in(Measure(metric, **given), sources, features, workers)


def rows(count: int, features: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, count, features]).normal(size=(count, features))


@pytest.mark.parametrize("dtype", ["f8", "f4", ">f4", "f2", "i2", "?"])
def test_variance_of_one_source(dtype):
    x = (3 * rows(50, 4)).astype(dtype)
    np.testing.assert_allclose(filled("seuclidean", x).V, np.var(x.astype("f8"), axis=0, ddof=1), rtol=1e-13)


def test_variance_of_two_sources_is_that_of_all_rows():
    x, y = rows(50, 4), rows(7, 4, 1) + 3
    expected = np.var(np.vstack([x, y]), axis=0, ddof=1)
    np.testing.assert_allclose(filled("seuclidean", x, y).V, expected, rtol=1e-13)


def test_covariance():
    x, y = rows(60, 5), rows(30, 5, 1) + 3
    for arrays in ((x,), (x, y)):
        expected = np.linalg.inv(np.cov(np.vstack(arrays).T))
        np.testing.assert_allclose(filled("mahalanobis", *arrays).VI, expected, rtol=1e-11)


@pytest.mark.parametrize("metric", ["seuclidean", "mahalanobis"])
def test_distances_are_those_of_scipy(metric):
    x, y = rows(40, 5), rows(20, 5, 1)
    np.testing.assert_allclose(pairwise_distances(x, y, metric), scipy_distance.cdist(x, y, metric), rtol=1e-11)
    square = scipy_distance.squareform(scipy_distance.pdist(x, metric))
    np.testing.assert_allclose(pairwise_distances(x, metric=metric), square, rtol=1e-11)


@pytest.mark.parametrize("offset", [1e4, 1e8, 1e10])
def test_offset_costs_no_digits(offset):
    """The sum of squares minus the square of the sum would have none left."""
    x = offset + np.round(rows(100, 3), 2) * 64
    variance = [float(value) for value in naive.variance(naive.rows_of(x))]
    np.testing.assert_allclose(filled("seuclidean", x).V, variance, rtol=1e-11)
    inverse = naive.inverse(naive.covariance(naive.rows_of(x)))
    np.testing.assert_allclose(filled("mahalanobis", x).VI, inverse, rtol=1e-11)


def test_small_values_among_large_ones():
    """The mean is the exact one, rounded: 1e16 + 1 − 1e16 is 1."""
    x = np.array([[1e16], [1.0], [-1e16], [1.0]])
    exact = float(naive.variance(naive.rows_of(x))[0])
    assert filled("seuclidean", x).V[0] == pytest.approx(exact, rel=1e-15)


@FIXED
@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 60), st.sampled_from(["seuclidean", "mahalanobis"]))
def test_block_size_changes_no_bit(block, features, more, metric):
    x, y = rows(features + 1 + more, features) + 5, rows(9, features, 1)
    name = "V" if metric == "seuclidean" else "VI"
    whole = getattr(filled(metric, x, y), name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "BLOCK_BYTES", 8 * block)
        assert getattr(filled(metric, x, y), name).tobytes() == whole.tobytes()
        assert getattr(filled(metric, x, y, threads=1), name).tobytes() == whole.tobytes()


def test_reading_is_in_blocks(monkeypatch):
    """Never more rows at a time than the block holds, each source twice from front to back."""
    asked = []

    class Noting(ArraySource):
        def read_rows(self, start, out):
            asked.append((self.name, start, len(out)))
            super().read_rows(start, out)

    monkeypatch.setattr(defaults, "BLOCK_BYTES", 8 * 4 * 10)
    sources = [Noting(rows(25, 4), "X"), Noting(rows(10, 4), "Y")]
    with Workers(1) as workers:
        fill_in(Measure("seuclidean"), sources, 4, workers)
    assert asked == 2 * [("X", 0, 10), ("X", 10, 10), ("X", 20, 5), ("Y", 0, 10)]


def test_one_dimensional_rows():
    assert filled("seuclidean", np.array([1.0, 2.0, 4.0])).V[0] == pytest.approx(np.var([1, 2, 4], ddof=1))


def test_what_is_given_is_kept_and_nothing_is_read():
    class Unread(ArraySource):
        def read_rows(self, start, out):
            raise AssertionError

    for metric, parameters in [
        ("seuclidean", {"V": np.ones(3)}),
        ("mahalanobis", {"VI": np.eye(3)}),
        ("euclidean", {}),
    ]:
        measure = Measure(metric, **parameters)
        with Workers(1) as workers:
            assert fill_in(measure, [Unread(rows(9, 3), "X")], 3, workers) is measure
        assert passes(measure) == 0
    assert passes(Measure("seuclidean")) == passes(Measure("mahalanobis")) == 2


@pytest.mark.parametrize("count", [0, 1])
def test_variance_of_too_few_rows_is_nan(count):
    assert np.isnan(filled("seuclidean", rows(count, 3)).V).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_variance_of_what_is_not_finite_is_nan(value):
    x = rows(9, 2)
    x[4, 1] = value
    variance = filled("seuclidean", x).V
    assert variance[0] == pytest.approx(np.var(x[:, 0], ddof=1))
    assert np.isnan(variance[1])


def test_constant_feature_has_no_variance():
    x = rows(9, 2)
    x[:, 0] = 0.1
    assert filled("seuclidean", x).V[0] == 0


def test_too_few_rows_for_a_covariance():
    with pytest.raises(InputError, match=r"3 rows of 3 features .* at least 4 rows, or --inverse-covariance") as caught:
        filled("mahalanobis", rows(3, 3))
    assert caught.value.exit_code == 4
    filled("mahalanobis", rows(4, 3))
    filled("mahalanobis", rows(2, 3), rows(2, 3, 1))


def test_singular_covariance():
    x = rows(20, 3)
    x[:, 1] = 0.5
    with pytest.raises(InputError, match="singular: drop constant or dependent features"):
        filled("mahalanobis", x)


def test_bytes_held_are_bounded():
    assert parameter_bytes(Measure("euclidean"), 100) < 100_000
    held = parameter_bytes(Measure("seuclidean"), 100)
    assert defaults.BLOCK_BYTES < held < defaults.BLOCK_BYTES + 100_000
    assert parameter_bytes(Measure("mahalanobis"), 1000) > 3 * 8 * 1000 * 1000
    assert parameter_bytes(Measure("seuclidean"), 10**7) > 8 * 10**7  # one row at least


def test_oracle_of_this_file():
    assert naive.variance([[1.0], [2.0], [4.0]]) == [Fraction(7, 3)]
