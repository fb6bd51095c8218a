"""Neighbours within a radius against all distances, compared and sorted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.api import pairwise_distances
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.within import keep_first, sort_hits
from mlpipe.radius import radius_neighbors
from mlpipe.stages.metrics import DEFINITIONS
from tests.property import data

Array = Any


def naive(
    Q: Array, D: Array | None, radius: float, metric: str = "euclidean", largest: bool = False,
    max_neighbors: int | None = None, **how: Any,
) -> tuple[list[int], list[int], list[float]]:  # fmt: skip
    """All distances, pair by pair."""
    table = pairwise_distances(Q, Q if D is None else D, metric, **how)
    with np.errstate(over="ignore"):
        limit = table.dtype.type(radius)
    indptr, indices, distances = [0], [], []
    for i, row in enumerate(table):
        inside = [j for j in range(len(row)) if (row[j] >= limit if largest else row[j] <= limit)]
        inside = [j for j in inside if D is not None or j != i]
        inside.sort(key=lambda j: (-row[j] if largest else row[j], j))
        indices += inside[:max_neighbors]
        distances += [row[j] for j in inside[:max_neighbors]]
        indptr.append(len(indices))
    return indptr, indices, distances


def check(Q: Array, D: Array | None, radius: float, metric: str = "euclidean", threads: int = 2, **how: Any) -> int:
    indptr, indices, distances = radius_neighbors(Q, D, radius, metric, threads=threads, **how)
    expected = naive(Q, D, radius, metric, **how)
    np.testing.assert_array_equal(indptr, expected[0])
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_array_equal(distances, np.array(expected[2], distances.dtype))
    assert indptr.dtype == indices.dtype == np.int64
    assert not np.signbit(distances[distances == 0]).any()
    counts = radius_neighbors(Q, D, radius, metric, threads=threads, count_only=True, **how)
    np.testing.assert_array_equal(counts, np.diff(expected[0]))
    assert counts.dtype == np.int64
    return len(indices)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: one.name)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_metric(definition: Any, dtype: str) -> None:
    metric = definition.name
    features = data.fits(metric, 9)
    Q, D = (data.rows(metric, count, features, 3).astype(dtype) for count in (67, 129))
    given = data.parameters(metric, features, 5, weighted=True)
    table = pairwise_distances(Q, D, metric, **given)
    radius = float(np.nanquantile(table, 0.2, method="lower"))  # itself the distance of a pair
    assert check(Q, D, radius, metric, **given)
    assert check(Q, D, radius, metric, largest=True, **given)
    assert check(Q, D, radius, metric, max_neighbors=4, **given)
    check(Q, None, radius, metric, threads=1, **given)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([0, 1, 3, 63, 65, 130]), st.sampled_from([0, 1, 65, 129, 257]),
    st.sampled_from(["f4", "f8", "i1", "u1", "?"]), st.sampled_from(["euclidean", "cityblock", "hamming", "dot"]),
    st.sampled_from([0.0, 1.0, 2.0, 0.5, 1e300]), st.booleans(), st.sampled_from([None, 1, 3, 1000]), st.integers(1, 3),
)  # fmt: skip
def test_grids_with_ties_at_the_radius(
    seed: int, queries: int, rows: int, kind: str, metric: str, radius: float, largest: bool, most: int | None,
    threads: int,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    Q, D = (random.integers(0, 2 if kind == "?" else 4, (count, 3)).astype(kind) for count in (queries, rows))
    if kind[0] == "f":
        Q[random.random(Q.shape) < 0.02] = np.nan
        D[random.random(D.shape) < 0.02] = np.nan
    how: dict[str, Any] = {"largest": largest, "threads": threads}
    check(Q, D, radius, metric, **how, **({} if most is None else {"max_neighbors": most}))
    check(Q, None, radius, metric, **how)


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_little_room_means_more_passes(monkeypatch: pytest.MonkeyPatch, largest: bool, threads: int) -> None:
    random = np.random.default_rng(1)
    X = random.integers(0, 3, (600, 4)).astype("f4")
    monkeypatch.setattr("mlpipe.radius.BUFFER_BYTES", 1)
    monkeypatch.setattr("mlpipe.radius.LEAST_HITS", 2048)
    monkeypatch.setattr("mlpipe.radius.QUERY_BYTES", 20_000)
    monkeypatch.setattr("mlpipe.radius.BLOCK_BYTES", 5000)
    assert check(X[:90], X, 2, "sqeuclidean", threads, largest=largest) > 4096
    assert check(X[:90], None, 2, "sqeuclidean", threads, largest=largest)


def test_one_query_with_more_neighbours_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    D = np.random.default_rng(2).integers(0, 1000, (9_000, 2))
    monkeypatch.setattr("mlpipe.radius.BUFFER_BYTES", 1)
    monkeypatch.setattr("mlpipe.radius.LEAST_HITS", 2048)
    assert check(D[:2], D, np.inf, "cityblock", 2) == 18_000


def test_the_radius_is_rounded_as_numpy_does() -> None:
    Q = np.zeros((1, 1), "f4")
    D = np.array([[0.1], [0.2], [np.nextafter(np.float32(0.1), np.float32(1))]], "f4")
    assert radius_neighbors(Q, D, 0.1)[1].tolist() == [0]
    assert radius_neighbors(Q, D.astype("f8"), 0.1)[1].tolist() == []
    assert radius_neighbors(Q, D, 1e300)[1].tolist() == [0, 2, 1]


def test_infinite_distances_are_within_infinity_and_nan_never_is() -> None:
    Q, D = np.zeros((1, 2)), np.array([[np.inf, 0], [np.nan, 0], [1, 0]])
    assert radius_neighbors(Q, D, np.inf)[1].tolist() == [2, 0]
    assert radius_neighbors(Q, D, 0, largest=True)[1].tolist() == [0, 2]


def test_as_a_sparse_matrix() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X = np.random.default_rng(3).random((50, 3))
    indptr, indices, distances = radius_neighbors(X, radius=0.4)
    table = np.where((square := pairwise_distances(X)) <= 0.4, square, 0)
    np.testing.assert_array_equal(sparse.csr_array((distances, indices, indptr), (50, 50)).toarray(), table)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"radius": np.nan}, UsageError, "radius nan: nothing can be compared"),
        ({"radius": -1.0}, UsageError, "radius -1.0: euclidean is never below 0"),
        ({"max_neighbors": 0}, InputError, "max_neighbors = 0: give 1 or more"),
        ({"metric": "nearness"}, UsageError, "unknown metric"),
    ],
)
def test_what_is_refused(how: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        radius_neighbors(np.zeros((2, 3)), np.zeros((5, 3)), **how)
    assert radius_neighbors(np.ones((1, 3)), np.ones((5, 3)), -1.0, "dot")[1].tolist() == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([1, 5, 10**9]), st.sampled_from(["i4", "i8"]))
def test_hits_in_order(seed: int, count: int, span: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    keys, places = random.integers(-span, span, count).astype(kind), random.permutation(count)
    queries = random.integers(0, 3, count).astype("i4")
    triples = sorted(zip(queries.tolist(), keys.tolist(), places.tolist(), strict=True))
    k, upper = int(random.integers(1, count + 1)), np.empty(3, np.int64)
    some = [array.copy() for array in (queries, places, keys)]
    keep_first(*some, count, k, upper)
    first = sorted(zip(*(some[i][:k].tolist() for i in (0, 2, 1)), strict=True))
    assert first == triples[:k]
    assert upper.tolist() == list(first[-1])
    bounds = np.array([0, count // 3, count])
    halves = [
        sorted(zip(keys[a:b].tolist(), places[a:b].tolist(), strict=True))
        for a, b in ((0, count // 3), (count // 3, count))
    ]
    sort_hits(bounds, 0, 2, keys, places)
    assert list(zip(keys.tolist(), places.tolist(), strict=True)) == halves[0] + halves[1]


@pytest.mark.parametrize("pattern", ["up", "down", "equal", "pipe"])
def test_long_runs_in_order(pattern: str) -> None:
    count = 20_000
    up = np.arange(count)
    keys = {"up": up, "down": up[::-1].copy(), "equal": up * 0, "pipe": np.minimum(up, up[::-1])}[pattern]
    places = up[::-1].copy()
    expected = sorted(zip(keys.tolist(), places.tolist(), strict=True))
    sort_hits(np.array([0, count]), 0, 1, keys, places)
    assert list(zip(keys.tolist(), places.tolist(), strict=True)) == expected
