"""The oracles themselves, against scipy, figures from scikit-learn, and by hand."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

from tests import naive

INF, NAN = math.inf, math.nan

# Rows that between them meet every special case; all against all.
PLAIN = [[0, 0, 0], [1, 2, 3], [-1, -2, -3], [2, 2, 2], [5, 0, 0], [0.5, 0, 1e-300], [0.0, -0.0, 3]]
SPECIAL = [*PLAIN, [NAN, 2, 1], [NAN, 2, 3], [NAN, 0, 0], [INF, 2, 1], [-INF, 2, 3], [1e70, 1, 0]]
WEIGHTS = (None, [1, 1, 1], [0.5, 2, 0], [0, 0, 0], [2, INF, 1], [1, NAN, 1])

# Conventions mlpipe leaves on purpose, see the docstring of the oracle.
CONSTANT = [i for i, row in enumerate(SPECIAL) if len(set(row)) == 1]


def scipy_matrix(X: object, Y: object, metric: str, **parameters: object) -> np.ndarray:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mean of an empty row
        return scipy_distance.cdist(X, Y, metric, **parameters)


@pytest.mark.parametrize("metric", naive.WEIGHTED)
def test_special_rows_agree_with_scipy(metric: str) -> None:
    X = np.array(SPECIAL)
    for w in WEIGHTS:
        expected = scipy_matrix(X, X, metric, **({} if w is None else {"w": w}))
        if metric == "correlation":
            expected[CONSTANT] = expected[:, CONSTANT] = NAN
        np.testing.assert_allclose(naive.matrix(X, X, metric, w=w), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("metric", naive.WEIGHTED)
@pytest.mark.parametrize("kind", ["normal", "counts", "bool"])
def test_random_rows_agree_with_scipy(metric: str, kind: str) -> None:
    random = np.random.default_rng(5)
    X, Y = random.normal(size=(9, 7)), random.normal(size=(6, 7))
    if kind != "normal":
        X, Y = np.floor(X) + 1, np.floor(Y) + 1
    if kind == "bool":
        X, Y = X != 0, Y != 0
    for w in (None, random.random(7)):
        expected = scipy_matrix(X, Y, metric, **({} if w is None else {"w": w}))
        np.testing.assert_allclose(naive.matrix(X, Y, metric, w=w), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, 17.25, INF])
def test_minkowski_agrees_with_scipy(p: float) -> None:
    X = np.array(SPECIAL)
    for w in WEIGHTS:
        expected = scipy_matrix(X, X, "minkowski", p=p, **({} if w is None else {"w": w}))
        np.testing.assert_allclose(naive.matrix(X, X, "minkowski", p=p, w=w), expected, rtol=1e-12)


@pytest.mark.parametrize("V", [[1, 2, 3], [0, 1, 1], [-1, 5, 1], [INF, 1, NAN], None])
def test_seuclidean_agrees_with_scipy(V: list[float] | None) -> None:
    X = np.array(SPECIAL if V else PLAIN)
    expected = scipy_matrix(X, X[:3], "seuclidean", V=V)
    np.testing.assert_allclose(naive.matrix(X, X[:3], "seuclidean", V=V), expected, rtol=1e-12)


def test_mahalanobis_agrees_with_scipy() -> None:
    X = np.array(SPECIAL[:-1])
    for VI in (np.eye(3), [[2, 1, 0], [0, 3, 1], [0.5, 0, 1]], -np.eye(3)):
        expected = scipy_matrix(X, X, "mahalanobis", VI=np.array(VI))
        ours = naive.matrix(X, X, "mahalanobis", VI=VI)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, equal_nan=True)


def test_parameters_from_the_data_agree_with_scipy() -> None:
    X, Y = np.random.default_rng(2).normal(size=(2, 8, 3))
    for metric in ("seuclidean", "mahalanobis"):
        both = naive.matrix(X, Y, metric)
        np.testing.assert_allclose(both, scipy_matrix(X, Y, metric), rtol=1e-10)
        alone = list(naive.condensed(naive.matrix(X, None, metric)))
        np.testing.assert_allclose(alone, scipy_distance.pdist(X, metric), rtol=1e-10)
    with pytest.raises(ZeroDivisionError):
        naive.matrix([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]], None, "mahalanobis")


def test_jensenshannon_agrees_with_scipy() -> None:
    X = np.array([row for row in SPECIAL if not any(map(math.isnan, row)) and INF not in row])
    expected = scipy_matrix(X, X, "jensenshannon")
    np.testing.assert_allclose(naive.matrix(X, X, "jensenshannon"), expected, rtol=1e-12, atol=3e-8)
    assert naive.jensenshannon([NAN, 1.0], [1.0, 1.0]) != naive.jensenshannon([1.0], [1.0])
    # ln 2 for rows with nothing in common; sqrt(1/8) of the relative distance for neighbours
    assert naive.jensenshannon([1.0, 0.0], [0.0, 3.0]) == pytest.approx(math.sqrt(math.log(2)))
    close = naive.jensenshannon([1.0, 1.0], [1.0, 1.0 + 2**-40])
    assert close == pytest.approx(2**-40 / 2 / math.sqrt(8), rel=1e-9)


@pytest.mark.parametrize("metric", naive.SCIPY)
def test_no_features_agrees_with_scipy(metric: str) -> None:
    X = np.zeros((2, 0))
    given = {"seuclidean": {"V": np.ones(0)}, "mahalanobis": {"VI": np.eye(0)}}.get(metric, {})
    expected = scipy_matrix(X, X, metric, **given)
    np.testing.assert_array_equal(naive.matrix(X, X, metric, **given), expected)


@pytest.mark.parametrize("metric", naive.SCIPY)
def test_condensed_is_pdist(metric: str) -> None:
    X = np.random.default_rng(8).random((7, 3))
    with np.errstate(all="ignore"):
        expected = scipy_distance.pdist(X, metric)
    ours = list(naive.condensed(naive.matrix(X, None, metric)))
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-14)


def test_names_are_those_of_scipy() -> None:
    infos = scipy_distance._METRIC_INFOS
    assert sorted(info.canonical_name for info in infos) == sorted(naive.SCIPY)
    for info in infos:
        name = info.canonical_name
        assert info.aka == {name, *naive.ALIASES.get(name, ())}


def test_dot_haversine_and_nan_euclidean() -> None:
    random = np.random.default_rng(3)
    X, Y = random.normal(size=(9, 2)), random.normal(size=(5, 2))
    np.testing.assert_allclose(naive.matrix(X, Y, "dot"), X @ Y.T, rtol=1e-12, atol=1e-15)
    # Buenos Aires to Paris as in scikit-learn's documentation, in kilometres
    x, y = (list(map(math.radians, at)) for at in ((-34.83333, -58.5166646), (49.0083899664, 2.53844117956)))
    assert naive.haversine(x, y) * 6371 == pytest.approx(11099.54035582)
    assert naive.haversine([0.0, 0.0], [0.0, math.pi]) == math.pi
    assert math.isnan(naive.haversine([0.0, INF], [0.0, 0.0]))
    # also an example of scikit-learn's: two of four present, so twice the sum
    assert naive.nan_euclidean([3, NAN, NAN, 6], [1, NAN, 4, 5]) == pytest.approx(math.sqrt(10))
    assert math.isnan(naive.nan_euclidean([NAN, 1], [1, NAN]))
    assert naive.nan_euclidean([NAN, 1], [NAN, 1]) == 0


def test_exact_arithmetic() -> None:
    assert naive.exact_sqeuclidean([0.1], [0.3]) == (Fraction(0.1) - Fraction(0.3)) ** 2
    assert naive.exact_cityblock([1.0, 1e300], [1e-300, 0.0]) == 1 - Fraction(1e-300) + Fraction(1e300)
    assert naive.exact_euclidean([3e-200, 0.0], [0.0, 4e-200]) == pytest.approx(Fraction(5e-200))
    assert naive.exact_euclidean([1.0], [1.0]) == 0
    square = naive.exact_euclidean([1.0, 1.0], [0.0, 0.0]) ** 2
    assert abs(square / 2 - 1) < Fraction(1, 2**120)
    square = naive.exact_euclidean([5e-324, 5e-324], [0.0, 0.0]) ** 2
    assert abs(square / Fraction(5e-324) ** 2 / 2 - 1) < Fraction(1, 2**120)
    assert naive.relative_error(1.5, Fraction(1)) == 0.5
    assert naive.relative_error(0.0, Fraction(0)) == 0
    assert naive.relative_error(1e-300, Fraction(0)) == INF
    assert naive.relative_error(NAN, Fraction(1)) == INF
