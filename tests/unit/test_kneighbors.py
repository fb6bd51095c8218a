"""Nearest neighbours against all distances, sorted."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.api import pairwise_distances
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels import bytewise
from mlpipe.kernels.simd import host_width
from mlpipe.nearest import kneighbors
from mlpipe.stages import rounding
from mlpipe.stages.metrics import DEFINITIONS

Array = Any


def naive(Q: Array, D: Array | None, k: int, metric: str, largest: bool = False, **how: Any) -> tuple[Array, Array]:
    """All distances, those of a row to itself left out, sorted by distance and index, NaN last."""
    table = pairwise_distances(Q, Q if D is None else D, metric, **how)
    rows, indices = [], []
    for i, row in enumerate(table):
        others = [j for j in range(len(row)) if D is not None or j != i]
        others.sort(key=lambda j: (np.isnan(row[j]), -row[j] if largest else row[j], j))
        indices.append(others[:k])
        rows.append(row[others[:k]])
    return np.array(rows, table.dtype).reshape(len(table), k), np.array(indices, np.int64).reshape(len(table), k)


def check(Q: Array, D: Array | None, k: int, metric: str = "euclidean", threads: int = 2, **how: Any) -> None:
    distances, indices = kneighbors(Q, D, k, metric, threads=threads, **how)
    expected, places = naive(Q, D, k, metric, **how)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(distances, expected)
    assert distances.dtype == expected.dtype
    assert indices.dtype == np.int64


def rounded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let every search go by way of rounded rows that can; what it said of each block."""
    if not bytewise.available():
        pytest.skip("this processor has no products of bytes")
    said: list[bool] = []
    search = rounding.Rounding.search

    def noted(*arguments: Any) -> bool:
        said.append(search(*arguments))
        return said[-1]

    monkeypatch.setattr(rounding.Rounding, "search", noted)
    monkeypatch.setattr(rounding, "MOST_EVALUATED", 2.0)
    monkeypatch.setattr("mlpipe.stages.search.worth_rounding", lambda pairing, *_: pairing.metric.key in rounding.KINDS)
    return said


COMMON = ("euclidean", "sqeuclidean", "cosine", "cityblock", "dot", "chebyshev")
# Each kernel takes seconds to compile: rare metrics have one precision each here, and the other when there is time.
EVERY = [
    pytest.param(
        definition, dtype, id=f"{definition.name}-{dtype}",
        marks=[pytest.mark.slow] * (definition.name not in COMMON and (number + place) % 2),
    )
    for number, definition in enumerate(DEFINITIONS)
    for place, dtype in enumerate(("f4", "f8"))
]  # fmt: skip


@pytest.mark.parametrize(("definition", "dtype"), EVERY)
@pytest.mark.parametrize("shape", [(5, 40), (300, 70)], ids=str)
def test_every_metric(definition: Any, dtype: str, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(4)
    features = definition.features or 7
    Q, D = (random.random((count, features)).astype(dtype) for count in shape)
    how = {"V": random.random(features) + 0.5} if definition.name == "seuclidean" else {}
    how |= {"VI": np.diag(random.random(features) + 0.5)} if definition.name == "mahalanobis" else {}
    check(Q, D, 9, definition.name, **how)
    check(Q, D, 9, definition.name, largest=True, **how)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_ties_shapes_dtypes_and_threads(data: st.DataObject) -> None:
    m, n, features = data.draw(st.integers(1, 140)), data.draw(st.integers(1, 90)), data.draw(st.integers(0, 20))
    k = data.draw(st.integers(1, n))
    dtype = data.draw(st.sampled_from(["?", "i1", "i8", "u2", "f2", "f4", "f8"]))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    Q, D = (random.integers(0, data.draw(st.sampled_from([2, 5])), (count, features)).astype(dtype) for count in (m, n))
    metric = data.draw(st.sampled_from(["euclidean", "cityblock", "cosine", "hamming", "dot"]))
    check(Q, D, k, metric, threads=data.draw(st.sampled_from([1, 2, 3])))


@pytest.mark.parametrize("count", [2, 10, 300])
@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_no_row_is_its_own_neighbour(count: int, metric: str) -> None:
    X = np.random.default_rng(1).integers(0, 3, (count, 4)).astype("f4")
    check(X, None, min(count - 1, 12), metric)
    check(X, None, 1, metric, largest=True)


def test_nan_comes_last_and_infinity_before_it() -> None:
    D = np.array([[np.nan], [np.inf], [3.0], [-np.inf], [1.0]], "f4")
    for k in range(1, 6):
        check(np.array([[0.0], [np.nan], [np.inf]], "f4"), D, k)
        check(np.array([[2.0]], "f4"), D, k, "dot", largest=True)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine", "cityblock"])
@pytest.mark.parametrize("features", [1, 3, 4, 65, 1100])
@pytest.mark.parametrize("k", [1, 6, 100])
def test_rounded_rows_give_the_same(
    monkeypatch: pytest.MonkeyPatch, dtype: str, metric: str, features: int, k: int
) -> None:
    said = rounded(monkeypatch)
    random = np.random.default_rng(features)
    for offset in (0, 1e4):
        Q, D = ((random.standard_normal((count, features)) + offset).astype(dtype) for count in (301, 517))
        check(Q, D, k, metric)
        check(Q, None, k, metric)
    assert any(said)
    assert all(said) or (metric == "cosine" and features == 1)  # all at one place, of which no grid can be made


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_rounded_rows_give_the_same_of_any_data(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        rounded(monkeypatch)
        monkeypatch.setattr("mlpipe.nearest.BLOCK_BYTES", data.draw(st.sampled_from([1 << 10, 1 << 25])))
        monkeypatch.setattr(rounding, "CHUNK_ROWS", data.draw(st.sampled_from([64, 128, 8192])))
        monkeypatch.setattr(rounding, "PIECE_BYTES", data.draw(st.sampled_from([1 << 12, 1 << 24])))
        m, n, features = data.draw(st.integers(257, 300)), data.draw(st.integers(1, 300)), data.draw(st.integers(1, 9))
        dtype = data.draw(st.sampled_from(["f4", "f8"]))
        random = np.random.default_rng(data.draw(st.integers(0, 99)))
        # From where squares are lost to where they overflow.
        scale = 10.0 ** data.draw(st.integers(*((-42, 20) if dtype == "f4" else (-310, 155))))
        Q, D = (random.standard_normal((count, features)) * scale for count in (m, n))
        kind = data.draw(st.sampled_from(["plain", "grid", "outlier", "far queries", "same", "nan"]))
        if kind == "grid":
            Q, D = np.rint(Q / scale * 2) * scale, np.rint(D / scale * 2) * scale
        elif kind == "outlier":
            D[0] *= 1000
        elif kind == "far queries":
            Q *= 100
        elif kind == "same":
            D[:] = D[0]
        elif kind == "nan":
            D[n // 2, 0] = np.nan
        metric = data.draw(st.sampled_from(["euclidean", "cityblock"]))
        check(Q.astype(dtype), D.astype(dtype), data.draw(st.integers(1, n)), metric)


def test_near_duplicates_far_from_the_origin_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    base = (random.standard_normal((1, 24)) + 1e4).astype("f4")
    D = (base + random.integers(-40, 40, (400, 24)) * np.float32(2.0**-10)).astype("f4")
    Q = (base + random.integers(-40, 40, (70, 24)) * np.float32(2.0**-10)).astype("f4")
    exact = [
        [sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(q, row, strict=True)) for row in D]
        for q in Q[:9]
    ]
    for force in (False, True):
        if force:
            rounded(monkeypatch)
        _, indices = kneighbors(Q, D, 5)
        for found, row in zip(indices[:9], exact, strict=True):
            assert [row[j] for j in found] == sorted(row)[:5]


def test_rows_that_8_bits_cannot_tell_apart_are_searched_by_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    said = rounded(monkeypatch)
    monkeypatch.setattr(rounding, "MOST_EVALUATED", 0.1)
    monkeypatch.setattr("mlpipe.nearest.BLOCK_BYTES", 1 << 14)
    random = np.random.default_rng(2)
    Q, D = (random.standard_normal((count, 20)).astype("f4") for count in (90, 900))
    check(Q, D, 3)
    assert all(said)
    D[800] = 1e6
    said.clear()
    check(Q, D, 3)
    check(Q, D[::-1].copy(), 3)
    assert not all(said)
    assert any(said)


def test_zero_features_and_one_dimension() -> None:
    check(np.empty((3, 0)), np.empty((5, 0)), 4)
    check(np.arange(5.0), np.arange(7.0), 3)


def test_many_queries_are_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(8).random((400, 3), np.float32)
    expected = kneighbors(X, None, 4)
    monkeypatch.setattr("mlpipe.nearest.BUFFER_BYTES", 1 << 16)
    for found, wanted in zip(kneighbors(X, None, 4), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("k", [0, -1, 6])
def test_k_out_of_range_names_the_limit(k: int) -> None:
    with pytest.raises(InputError, match=f"k = {k}: there are 5 rows .* from 1 to that"):
        kneighbors(np.zeros((2, 3)), np.zeros((5, 3)), k)
    with pytest.raises(InputError, match="there are 0 rows"):
        kneighbors(np.zeros((1, 3)), None, 1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="same number of features"):
        kneighbors(np.zeros((2, 3)), np.zeros((5, 4)), 1)
    with pytest.raises(UsageError, match="unknown metric"):
        kneighbors(np.zeros((2, 3)), np.zeros((5, 3)), 1, "nearness")


def found_digest() -> str:
    """Of neighbours by rounded rows, where there are such, and by all distances, of many and of few queries."""
    random, digest = np.random.default_rng(5), hashlib.sha256()
    Q, D = (np.round(random.standard_normal((count, 35)), 1).astype("f4") for count in (150, 3000))
    D[7, 3] = np.nan
    for queries, data in ((Q, D), (Q[:5], D), (Q, D[8:])):
        for k in (1, 20, 900):
            for part in kneighbors(queries, data, k, threads=2):
                digest.update(part.tobytes())
    return digest.hexdigest()


@pytest.mark.skipif(host_width().bits == 256, reason="these are its vectors")
def test_processors_without_wide_vectors_find_the_same() -> None:
    environment = {**os.environ, "MLPIPE_SIMD_BITS": "256", "PYTHONPATH": str(Path(__file__).parents[2])}
    script = "from tests.unit.test_kneighbors import found_digest; print(found_digest())"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == found_digest()


@pytest.mark.parametrize("largest", [False, True])
def test_a_distance_of_zero_has_no_sign(largest: bool) -> None:
    distances, _ = kneighbors(np.zeros((1, 2)), np.array([[1.0, 2.0], [-1.0, 0.0]]), 2, "dot", largest=largest)
    assert not np.signbit(distances).any()
