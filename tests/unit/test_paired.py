"""`pairwise` in a chain: the values of `pairwise_distances`, whatever comes before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, UsageError
from mlpipe.stages.pairwise_verb import PairwiseVerb
from tests.passing import passed

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.random((301, 6)), RANDOM.random((413, 6))


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    np.save("Y.npy", Y)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "cityblock", "jensenshannon", "haversine"])
@pytest.mark.parametrize("how", [
    {}, {"sizes": (1, 50, 3), "threads": 2}, {"known": False}, {"nbytes": 150_000}, {"nbytes": 150_000, "known": False},
    {"sequential": False}, {"sequential": False, "nbytes": 150_000, "sizes": (7,)},
], ids=str)  # fmt: skip
def test_as_pairwise_distances(metric: str, how: dict[str, Any]) -> None:
    columns = 2 if metric == "haversine" else 6
    np.save("Z.npy", Y[:, :columns])
    made, _ = passed(PairwiseVerb("Z.npy", metric), X[:, :columns], **how)
    np.testing.assert_array_equal(made, mlpipe.pairwise_distances(X[:, :columns], Y[:, :columns], metric))


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("columns", [0, 1, 5])
def test_next_to_nothing(rows: int, columns: int) -> None:
    np.save("Z.npy", Y[:columns])
    made, _ = passed(PairwiseVerb("Z.npy"), X[:rows])
    np.testing.assert_array_equal(made, mlpipe.pairwise_distances(X[:rows], Y[:columns]))


@pytest.mark.parametrize("dtype", ["f4", "f2", "u1"])
def test_dtypes_and_labels(dtype: str) -> None:
    rows, labels = (X * 9).astype(dtype), np.arange(301)
    np.save("Z.npy", (Y * 9).astype(dtype))
    made, beside = passed(PairwiseVerb("Z.npy"), rows, labels, sequential=False, sizes=(10, 97), nbytes=2_000_000)
    np.testing.assert_array_equal(made, mlpipe.pairwise_distances(rows, (Y * 9).astype(dtype)))
    np.testing.assert_array_equal(beside, labels)
    made, _ = passed(PairwiseVerb("Z.npy", dtype="float32"), rows)
    assert made.dtype == np.float32


def test_single_values_are_rows_of_one_feature() -> None:
    np.save("Z.npy", Y[:, 0])
    np.testing.assert_array_equal(passed(PairwiseVerb("Z.npy"), X[:, 0])[0], abs(X[:, :1] - Y[:, 0]))


def test_parameters_come_from_files() -> None:
    np.save("V.npy", variance := Y.var(0))
    np.save("W.npy", weights := np.arange(6.0))
    made, _ = passed(PairwiseVerb("Y.npy", "seuclidean", variance="V.npy"), X)
    np.testing.assert_array_equal(made, mlpipe.pairwise_distances(X, Y, "seuclidean", V=variance))
    made, _ = passed(PairwiseVerb("Y.npy", "minkowski", p=3.0, weights="W.npy"), X)
    np.testing.assert_array_equal(made, mlpipe.pairwise_distances(X, Y, "minkowski", p=3, w=weights))


def test_in_the_middle_of_a_chain() -> None:
    chain = mlpipe.read("X.npy").batch(7).abs().pairwise("Y.npy", metric="cityblock").clip(max=1.5)
    mlpipe.read("X.npy").sample(fraction=0.5, seed=1).pairwise("Y.npy").write("half.npy")
    np.testing.assert_array_equal(
        np.concatenate(list(chain)), np.minimum(mlpipe.pairwise_distances(X, Y, "cityblock"), 1.5)
    )
    sampled = np.concatenate(list(mlpipe.read("X.npy").sample(fraction=0.5, seed=1)))
    np.testing.assert_array_equal(np.load("half.npy"), mlpipe.pairwise_distances(sampled, Y))


@pytest.mark.parametrize(
    ("verb", "error", "message"),
    [
        (lambda: PairwiseVerb("Y.npy", "euclidian"), UsageError, "did you mean euclidean"),
        (lambda: PairwiseVerb("Y.npy", "seuclidean"), UsageError, "--metric seuclidean: give --variance"),
        (lambda: PairwiseVerb("Y.npy", "mahalanobis"), UsageError, "give --inverse-covariance"),
        (lambda: PairwiseVerb("Y.npy", dtype="int8"), UsageError, "--dtype int8: give float32 or float64"),
        (lambda: PairwiseVerb("Y.npy", weights="X.npy"), InputError, "w of 6 features must have"),
        (lambda: PairwiseVerb("Z.npy"), InputError, "what comes in .* and Z.npy .* same number of features"),
    ],
)
def test_refusals(verb: Any, error: type[Exception], message: str) -> None:
    np.save("Z.npy", Y[:, :4])
    with pytest.raises(error, match=message):
        passed(verb(), X)
