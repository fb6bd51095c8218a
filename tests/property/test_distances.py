"""Every metric, dtype, order and odd shape against scipy or the naive oracle, through the public function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

import mlpipe
from tests import naive
from tests.property.data import (
    FEATURES,
    NOT_ZERO,
    PER_FEATURE,
    PER_PAIR,
    ROWS,
    array_types,
    assert_close,
    fits,
    laid_out,
    parameters,
    raw,
    rows,
    scipy_matrix,
)

every_metric = pytest.mark.parametrize("metric", naive.METRICS)
both_precisions = pytest.mark.parametrize("precision", ["f4", "f8"])
precisions = st.sampled_from(["f4", "f8"])
seeds = st.integers(0, 2**32 - 1)
NAN, INF = math.nan, math.inf

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-3, NAN, INF, -INF)


@st.composite
def odd_shapes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Rows of X, rows of Y, features; one of the rows is kept small to keep scipy's part short."""
    counts = draw(st.sampled_from(ROWS)), draw(st.sampled_from(ROWS[:9]))
    first, second = draw(st.permutations(counts))
    return first, second, draw(st.sampled_from(FEATURES))


@every_metric
@settings(max_examples=10)
@given(shape=odd_shapes(), precision=precisions, weighted=st.booleans(), seed=seeds)
@example(shape=(258, 67, 33), precision="f4", weighted=True, seed=0)
@example(shape=(65, 130, 130), precision="f8", weighted=False, seed=1)
@example(shape=(3, 67, 1025), precision="f4", weighted=False, seed=2)
def test_odd_shapes(metric: str, shape: tuple[int, int, int], precision: str, weighted: bool, seed: int) -> None:
    n, m, features = shape
    features = fits(metric, features, n * m)
    given_ = parameters(metric, features, seed, weighted)
    X, Y = rows(metric, n, features, seed), rows(metric, m, features, seed + 1)
    ours = mlpipe.pairwise_distances(X.astype(precision), Y.astype(precision), metric, **given_)
    assert ours.dtype == precision
    # of a large result, the part that a slow oracle can follow; slices are tested on their own
    slow = metric in PER_FEATURE or metric not in naive.SCIPY or (metric in PER_PAIR and "w" in given_)
    i = np.linspace(0, n - 1, min(n, 7)).astype(int) if slow else np.arange(n)
    j = np.linspace(0, m - 1, min(m, 9)).astype(int) if slow else np.arange(m)
    scale = max(1, features) if metric == "dot" else 1
    assert_close(ours[np.ix_(i, j)], scipy_matrix(X[i], Y[j], metric, **given_), metric, scale)


@every_metric
@both_precisions
def test_every_number_of_features(metric: str, precision: str) -> None:
    for features in FEATURES:
        if fits(metric, features) != features or (metric == "jensenshannon" and features in (1000, 1023, 1030)):
            continue  # 40-digit logarithms take their time
        for weighted in (False, True) if metric in naive.WEIGHTED else (False,):
            given_ = parameters(metric, features, 3, weighted)
            X, Y = rows(metric, 1, features, 4), rows(metric, 2, features, 5)
            ours = mlpipe.pairwise_distances(X.astype(precision), Y.astype(precision), metric, **given_)
            scale = max(1, features) if metric == "dot" else 1
            assert_close(ours, naive.matrix(X, Y, metric, **given_), metric, scale)


def special_arrays(metric: str, count: int, features: int) -> st.SearchStrategy[np.ndarray]:
    # Whether infinity times the many terms of a quadratic form is infinite or NaN, no convention says.
    values = [value for value in SPECIAL if metric != "mahalanobis" or not math.isinf(value)]
    return hypothesis_numpy.arrays("f8", (count, features), elements=st.sampled_from(values))


@every_metric
@settings(max_examples=25)
@given(data=st.data(), precision=precisions)
def test_special_values(metric: str, data: st.DataObject, precision: str) -> None:
    features = 2 if metric == "haversine" else data.draw(st.sampled_from([1, 2, 3, 5]))
    X, Y = (data.draw(special_arrays(metric, data.draw(st.sampled_from([1, 2, 4])), features)) for _ in "XY")
    X, Y = X.astype(precision), Y.astype(precision)
    given_ = parameters(metric, features, 0, False)
    if metric in naive.WEIGHTED and metric != "correlation" and data.draw(st.booleans()):
        given_["w"] = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 4.0]), min_size=features, max_size=features))
    ours = mlpipe.pairwise_distances(X, Y, metric, **given_)
    assert_close(ours, naive.matrix(X, Y, metric, **given_), metric, 10)
    if metric != "mahalanobis":
        assert raw(mlpipe.pairwise_distances(Y, X, metric, **given_)) == raw(ours.T)


@every_metric
@settings(max_examples=15)
@given(first=array_types(), second=array_types(), seed=seeds)
def test_dtypes_orders_and_layouts(
    metric: str, first: tuple[np.dtype[Any], str], second: tuple[np.dtype[Any], str], seed: int
) -> None:
    features = fits(metric, 37)
    values = [np.trunc(np.clip(rows(metric, count, features, seed) * 3, -9, 9)) for count in (5, 6)]
    pair = []
    for array, (dtype, layout) in zip(values, (first, second), strict=True):
        if dtype.kind in "ub":
            array = np.abs(array)
        if dtype.kind != "f":
            array = np.nan_to_num(array)
        pair.append(laid_out(array, dtype, layout))
    X, Y = pair
    given_ = parameters(metric, features, 1, False)
    ours = mlpipe.pairwise_distances(X, Y, metric, **given_)
    small = all(array.dtype.kind == "f" and array.dtype.itemsize <= 4 for array in pair)
    precision = "f4" if small else "f8"
    plain = mlpipe.pairwise_distances(X.astype(precision, order="C"), Y.astype(precision, order="C"), metric, **given_)
    assert ours.dtype == plain.dtype == precision
    assert raw(ours) == raw(plain)
    scale = 81 * features if metric == "dot" else 1
    assert_close(ours, scipy_matrix(X, Y, metric, **given_), metric, scale)


@every_metric
@settings(max_examples=8)
@given(count=st.sampled_from(ROWS), features=st.sampled_from((1, 3, 32, 130)), precision=precisions, seed=seeds)
@example(count=258, features=33, precision="f4", seed=7)
@example(count=129, features=1030, precision="f4", seed=8)
@example(count=67, features=1030, precision="f8", seed=9)
def test_against_itself(metric: str, count: int, features: int, precision: str, seed: int) -> None:
    features = fits(metric, features, 2 * count**2)
    X = rows(metric, count, features, seed).astype(precision)
    given_ = parameters(metric, features, seed, seed % 2 == 0)
    alone = mlpipe.pairwise_distances(X, metric=metric, **given_)
    assert alone.shape == (count, count)
    assert raw(alone) == raw(alone.T)
    if metric not in NOT_ZERO:
        expected = [scipy_matrix(row, row, metric, **given_)[0, 0] for row in X[:20, None]]
        defined = np.isfinite(expected)
        assert not alone.diagonal()[:20][defined].any()
        np.testing.assert_array_equal(alone.diagonal()[:20][~defined], np.array(expected)[~defined])
    assert raw(alone) == raw(mlpipe.pairwise_distances(X, X.copy(), metric, **given_))


@every_metric
@settings(max_examples=5)
@given(features=st.sampled_from((1, 3, 32, 130)), precision=precisions, weighted=st.booleans(), seed=seeds)
@example(features=1030, precision="f4", weighted=True, seed=7)
@example(features=1030, precision="f8", weighted=False, seed=8)
def test_order_of_rows_and_sides(metric: str, features: int, precision: str, weighted: bool, seed: int) -> None:
    features = fits(metric, features, 3 * 130 * 67)
    given_ = parameters(metric, features, seed, weighted)
    X = rows(metric, 130, features, seed).astype(precision)
    Y = rows(metric, 67, features, seed + 1).astype(precision)
    D = mlpipe.pairwise_distances(X, Y, metric, **given_)
    random = np.random.default_rng(seed)
    i, j = random.permutation(len(X)), random.permutation(len(Y))
    moved, turned = (mlpipe.pairwise_distances(*pair, metric, **given_) for pair in ((X[i], Y[j]), (Y, X)))
    if metric == "mahalanobis":  # rows are projected from the first one, so another first row rounds otherwise
        assert_close(moved, D[np.ix_(i, j)], metric)
        assert_close(turned, D.T, metric)
    else:
        assert raw(moved) == raw(D[np.ix_(i, j)])
        assert raw(turned) == raw(D.T)


@pytest.mark.parametrize(
    ("metric", "features"), sorted({(m, fits(m, f)) for m in naive.METRICS for f in (2, 129, 1030)})
)
@both_precisions
def test_a_part_is_the_part_of_the_whole(metric: str, precision: str, features: int) -> None:
    given_ = parameters(metric, features, 9, True)
    most = 20 if metric in PER_FEATURE and features == 1030 else 260
    X = rows(metric, most, features, 1).astype(precision)
    Y = rows(metric, min(most, 130), features, 2).astype(precision)
    whole = mlpipe.pairwise_distances(X, Y, metric, **given_)
    alone = mlpipe.pairwise_distances(X, metric=metric, **given_)
    for k, count in enumerate(ROWS):
        start, width = 0 if metric == "mahalanobis" else k % 3, ROWS[k % 15]
        here = slice(start, start + count), slice(k % 5, k % 5 + width)
        part = mlpipe.pairwise_distances(X[here[0]], Y[here[1]], metric, **given_)
        assert raw(part) == raw(whole[here])
        if k % 4 == 0:
            part = mlpipe.pairwise_distances(X[here[0]], metric=metric, **given_)
            assert raw(part) == raw(alone[here[0], here[0]])


@pytest.mark.parametrize("metric", ["mahalanobis", "seuclidean"])
@both_precisions
def test_parameters_taken_from_the_data(metric: str, precision: str) -> None:
    X, Y = rows(metric, 70, 9, 1), rows(metric, 40, 9, 2)
    both = mlpipe.pairwise_distances(X.astype(precision), Y.astype(precision), metric)
    assert_close(both, scipy_matrix(X, Y, metric), metric)
    alone = mlpipe.pairwise_distances(X.astype(precision), metric=metric)
    assert_close(alone, naive.matrix(X, None, metric), metric)
    # far from zero the mean must come off before squaring
    X, Y = (X + 4096).astype("f4"), (Y + 4096).astype("f4")
    both = mlpipe.pairwise_distances(X.astype(precision), Y.astype(precision), metric)
    np.testing.assert_allclose(both, naive.matrix(X, Y, metric), rtol=1e-6 if precision == "f4" else 1e-9)


@pytest.mark.parametrize("p", [0.25, 1, 1.5, 2, 3, 17.5, INF])
@both_precisions
def test_minkowski(p: float, precision: str) -> None:
    X, Y = rows("minkowski", 5, 33, 1), rows("minkowski", 7, 33, 2)
    for w in (None, np.linspace(0, 3, 33)):
        ours = mlpipe.pairwise_distances(X.astype(precision), Y.astype(precision), "minkowski", p=p, w=w)
        assert_close(ours, naive.matrix(X, Y, "minkowski", p=p, w=w), "minkowski")


@pytest.mark.parametrize("name", naive.SCIPY)
def test_aliases_and_case(name: str) -> None:
    X = rows(name, 5, 4, 3)
    expected = mlpipe.pairwise_distances(X, metric=name)
    for alias in (*naive.ALIASES.get(name, ()), name.upper(), name.title()):
        assert raw(mlpipe.pairwise_distances(X, metric=alias)) == raw(expected)


def test_integers_wider_than_the_mantissa_round_as_in_scipy() -> None:
    X = np.array([[2**63 - 1, -(2**63)], [2**53 + 1, 2**53]], "i8")
    Y = np.array([[2**64 - 1, 0], [2**53 + 1, 1]], "u8")
    for metric in ("euclidean", "cityblock", "hamming", "canberra"):
        ours = mlpipe.pairwise_distances(X, Y, metric)
        assert_close(ours, scipy_matrix(X, Y, metric), metric)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "minkowski"])
def test_out_and_dtype(metric: str) -> None:
    X, Y = rows(metric, 5, 7, 1), rows(metric, 9, 7, 2)
    for dtype in ("f4", "f8"):
        expected = mlpipe.pairwise_distances(X.astype(dtype), Y.astype(dtype), metric)
        for given_type in ("f4", "f8"):
            ours = mlpipe.pairwise_distances(X.astype(given_type), Y, metric, dtype=dtype)
            assert ours.dtype == dtype
            if given_type == dtype or metric != "minkowski":
                assert_close(ours, expected.astype("f8"), metric)
        out = np.full((5, 9), -1, dtype)
        assert mlpipe.pairwise_distances(X, Y, metric, dtype=dtype, out=out) is out
        assert_close(out, expected.astype("f8"), metric)
    lists = mlpipe.pairwise_distances(X.tolist(), Y.tolist(), metric)
    assert raw(lists) == raw(mlpipe.pairwise_distances(X, Y, metric))
    for wrong in (np.empty((5, 8)), np.empty((5, 9), "i4"), np.empty((9, 5)).T[:, :4]):
        with pytest.raises(mlpipe.MlpipeError):
            mlpipe.pairwise_distances(X, Y, metric, out=wrong)


@pytest.mark.parametrize(
    ("X", "Y", "given_", "error"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), {}, mlpipe.InputError),
        (np.zeros((2, 3, 1)), None, {}, mlpipe.InputError),
        (np.zeros((2, 3)), np.zeros((2, 3), "c16"), {}, mlpipe.InputError),
        (np.array([["a"]]), None, {}, mlpipe.InputError),
        (np.array([[None]]), None, {}, mlpipe.InputError),
        (np.zeros((2, 3)), None, {"metric": "haversine"}, mlpipe.InputError),
        (np.zeros((2, 3)), None, {"metric": "nonsense"}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"metric": "minkowski", "p": 0}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"metric": "minkowski", "p": -1}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"metric": "minkowski", "p": NAN}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"p": 3}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"V": np.ones(3)}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"VI": np.eye(3)}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"dtype": "i4"}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"metric": "mahalanobis", "w": np.ones(3)}, mlpipe.UsageError),
        (np.zeros((2, 3)), None, {"w": np.ones(2)}, mlpipe.MlpipeError),
        (np.zeros((2, 3)), None, {"w": np.ones((1, 3))}, mlpipe.MlpipeError),
        (np.zeros((2, 3)), None, {"w": -np.ones(3)}, mlpipe.MlpipeError),
        (np.zeros((2, 3)), None, {"metric": "seuclidean", "V": np.ones(2)}, mlpipe.MlpipeError),
        (np.zeros((2, 3)), None, {"metric": "mahalanobis", "VI": np.eye(2)}, mlpipe.MlpipeError),
        (np.zeros((2, 3)), None, {"metric": "mahalanobis"}, mlpipe.MlpipeError),
        (np.zeros((9, 3)), None, {"metric": "mahalanobis"}, mlpipe.MlpipeError),
    ],
)
def test_what_cannot_work_says_so_in_one_line(
    X: np.ndarray, Y: np.ndarray | None, given_: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        mlpipe.pairwise_distances(X, Y, **given_)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
