"""Neighbours of every metric and dtype, against sorted distances: of scipy, of plain Python, and our own."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.readers.array import ArraySource
from mlpipe.stages.metrics import DEFINITIONS, Measure
from mlpipe.stages.nearest_rows import NearestRows
from tests import naive as oracle
from tests.neighbors import naive, smallest_room, sorted_rows, through
from tests.property import data as inputs

METRICS = tuple(one.name for one in DEFINITIONS)
PLAIN = ("cityblock", "chebyshev", "sqeuclidean", "hamming", "dot", "jaccard", "russellrao")


def searched(Q: Any, D: Any | None, k: int, metric: str, **how: Any) -> tuple[Any, Any]:
    """Distances and indices, through the engine, with as little room as will do and some more."""
    largest, room, threads = how.pop("largest", False), how.pop("room", 1 << 18), how.pop("threads", 2)
    source, data = ArraySource(Q, "Q"), ArraySource(Q if D is None else D, "D")
    stage = NearestRows(data, k, measure=Measure(metric, **how), largest=largest, own=D is None)
    indices, distances = through(source, stage, smallest_room(source, stage, threads) + room, threads)
    return distances, indices


# Each kernel takes seconds to compile: rare metrics have weights in one precision, and half of them when there is time.
WEIGHTED = [
    pytest.param(
        metric, dtype, id=f"{metric}-{dtype}",
        marks=[pytest.mark.slow] * (metric not in PLAIN and (dtype == "f4" or number % 2)),
    )
    for number, metric in enumerate(METRICS)
    for dtype in ("f4", "f8")
]  # fmt: skip


@pytest.mark.parametrize(("metric", "dtype"), WEIGHTED)
def test_every_metric_finds_what_sorting_all_distances_finds(metric: str, dtype: str) -> None:
    features = inputs.fits(metric, 7)
    Q, D = (inputs.rows(metric, count, features, count).astype(dtype) for count in (37, 90))
    how = inputs.parameters(metric, features, 1, weighted=True)
    for largest, alone in product((False, True), repeat=2):
        k = 11
        found = searched(Q, None if alone else D, k, metric, largest=largest, **how)
        expected = naive(Q, None if alone else D, k, metric, largest=largest, **how)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_those_of_scipy(metric: str) -> None:
    features = inputs.fits(metric, 6)
    Q, D = (inputs.rows(metric, count, features, count) for count in (21, 50))
    how = inputs.parameters(metric, features, 1, weighted=False)
    distances, indices = searched(Q, D, 9, metric, **how)
    table = inputs.scipy_matrix(Q, D, metric, **how)
    np.testing.assert_allclose(distances, np.sort(table, axis=1)[:, :9], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.take_along_axis(table, indices, 1), distances, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("metric", "dtype"), [*product(PLAIN, ("?", "i1", "u2", "i8", "f2", "f4"))], ids=str)
def test_ties_go_to_the_smaller_index(metric: str, dtype: str) -> None:
    random = np.random.default_rng(5)
    Q, D = (random.integers(0, 2 if dtype == "?" else 3, (count, 4)).astype(dtype) for count in (40, 70))
    table = np.array(oracle.matrix(Q.astype("f8").tolist(), D.astype("f8").tolist(), metric))
    for largest in (False, True):
        distances, indices = searched(Q, D, 25, metric, largest=largest)
        values, places = sorted_rows(table.astype(distances.dtype), 25, largest=largest)
        np.testing.assert_array_equal(indices, places)
        np.testing.assert_array_equal(distances, values)


@settings(derandomize=True, deadline=None, database=None, max_examples=40)
@given(st.data())
def test_any_shapes_room_and_threads(data: st.DataObject) -> None:
    m, n = (data.draw(st.sampled_from([1, 2, 3, 17, 64, 65, 130, 257])) for _ in range(2))
    features = data.draw(st.sampled_from([0, 1, 2, 31, 33, 130]))
    alone = data.draw(st.booleans()) and m > 1
    k = data.draw(st.integers(1, (m - 1) if alone else n))
    dtype = data.draw(st.sampled_from(inputs.DTYPES))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = data.draw(st.sampled_from([2, 5, 100]))
    Q, D = (random.integers(0, values, (count, features)).astype(dtype) for count in (m, n))
    if dtype[0] == "f" and features:
        for rows in (Q, D):
            rows[random.random(rows.shape) < data.draw(st.sampled_from([0, 0.02]))] = np.nan
            rows[random.random(rows.shape) < data.draw(st.sampled_from([0, 0.02]))] = np.inf
    metric = data.draw(st.sampled_from(["euclidean", "cityblock", "cosine", "hamming", "dot", "correlation"]))
    how = {"room": data.draw(st.sampled_from([0, 1 << 14, 1 << 22])), "threads": data.draw(st.sampled_from([1, 2, 3]))}
    largest = data.draw(st.booleans())
    how["room"] += 1 << 18
    found = searched(Q, None if alone else D, k, metric, largest=largest, **how)
    expected = naive(Q, None if alone else D, k, metric, largest=largest)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


def test_nan_comes_last_and_infinity_before_it() -> None:
    D = np.array([[np.nan], [np.inf], [3.0], [-np.inf], [1.0]], "f4")
    distances, indices = searched(np.array([[0.0], [np.nan]], "f4"), D, 5, "euclidean")
    assert indices.tolist() == [[4, 2, 1, 3, 0], [0, 1, 2, 3, 4]]
    np.testing.assert_array_equal(distances, [[1, 3, np.inf, np.inf, np.nan], [np.nan] * 5])
