"""The parts of a search for neighbours, against obvious oracles, and the memory it says it takes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.kernels import picking
from mlpipe.kernels.distances import pack
from mlpipe.kernels.nearest import bound_of, cut
from mlpipe.kernels.packing import pack_squares
from mlpipe.kernels.pair_order import HEADS, SHORT, order_pairs
from mlpipe.kernels.pairs import ABSOLUTE, ROOT, fold, folded_width, lanes_of, pair_distances
from mlpipe.kernels.simd import host_width
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import Pairing
from mlpipe.stages.search import Search
from mlpipe.stages.search_sizes import sizes_of
from mlpipe.workers import Workers

Array = Any
KINDS = ["i4", "i8"]


def keys_of(random: np.random.Generator, what: str, kind: str, count: int) -> Array:
    """Keys as distances make them, and as they would not."""
    floats = np.sqrt(random.chisquare(64, count)).astype(f"f{kind[1]}")
    if what == "ties":
        floats = np.rint(floats)
    elif what == "far":
        floats[: count // 9] = 0
        floats[count // 2 :: 50] = np.inf
    elif what == "same":
        floats[:] = 3
    elif what == "all":
        return random.integers(np.iinfo(kind).min, np.iinfo(kind).max, count, dtype=kind, endpoint=True)
    return floats.view(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["plain", "ties", "far", "same", "all"])
def test_pairs_come_in_order(kind: str, what: str) -> None:
    random = np.random.default_rng(3)
    for count in (0, 1, 2, SHORT, SHORT + 1, 400, 9000):
        keys, places = keys_of(random, what, kind, count), random.permutation(3 * count)[:count]
        order = np.lexsort((places, keys))
        wanted = keys[order], places[order]
        scratch = np.empty(HEADS + 1, np.int32), np.empty((count // SHORT + 2, 2), np.int64)
        order_pairs(keys, places, count, np.empty_like(keys), np.empty_like(places), *scratch)
        np.testing.assert_array_equal(keys, wanted[0])
        np.testing.assert_array_equal(places, wanted[1])


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_cutting_keeps_the_smallest_in_their_order(data: st.DataObject) -> None:
    kind, what = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(["plain", "ties", "far", "same", "all"]))
    count = data.draw(st.integers(2, 300))
    k = data.draw(st.integers(1, count - 1))
    most = data.draw(st.integers(k, count))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    keys = np.resize(keys_of(random, what, kind, count), count + picking.BEYOND)
    places = random.permutation(2 * len(keys))[: len(keys)]
    before = list(zip(keys[:count].tolist(), places[:count].tolist(), strict=True))
    bound, below = bound_of(keys, count, k, most)
    assert below == (keys[:count] <= bound).sum() >= k
    assert below <= most or bound == sorted(before)[k - 1][0]
    kept, bound = cut(keys, places, count, k, most, np.empty(len(keys), np.int64))
    after = list(zip(keys[:kept].tolist(), places[:kept].tolist(), strict=True))
    assert k <= kept <= most
    assert set(sorted(before)[:k]) <= set(after)
    assert after == [pair for pair in before if pair in set(after)]
    assert sum(key <= bound for key, _ in after) >= k


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_picking_appends_what_is_below(data: st.DataObject) -> None:
    kind, count = data.draw(st.sampled_from(KINDS)), data.draw(st.integers(0, 300))
    most = data.draw(st.integers(0, 90))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    row = random.integers(-9, 9, count + picking.GROUP, dtype=kind)
    bound = row.dtype.type(data.draw(st.integers(-10, 10)))
    wanted = [c for c in range(count) if row[c] < bound]
    for pick in {picking.pick, picking._pick_one_by_one}:
        keys, places = np.full(most + 80, 99, kind), np.full(most + 80, -1)
        counts, at, found = np.zeros(3, np.int64), 0, []
        while at < count:
            at = pick(row, at, count, 1000, bound, keys, places, counts, 1, most)
            assert counts[1] <= most + picking.GROUP
            assert (keys[: counts[1]] == row[places[: counts[1]] - 1000]).all()
            found += (places[: counts[1]] - 1000).tolist()
            counts[1] = 0
        assert found == wanted


@pytest.mark.parametrize(
    ("dtype", "features"), [("f4", 1), ("f4", 32), ("f4", 33), ("f4", 100), ("f4", 1100), ("f8", 31), ("f8", 129)]
)
def test_single_pairs_have_the_distances_of_tiles(dtype: str, features: int) -> None:
    from mlpipe.api import pairwise_distances

    random = np.random.default_rng(features)
    X, Y = (random.standard_normal((count, features)).astype(dtype) for count in (3, 20))
    lanes, width = lanes_of(features), folded_width(features)
    folded_x, folded_y = np.zeros((3, width), dtype), np.zeros((20, width), dtype)
    fold(X, 0, 3, lanes, folded_x)
    fold(Y, 0, 20, lanes, folded_y)
    index, sums, out = random.integers(0, 20, 8), np.empty((8, max(1, width // 32)), dtype), np.empty(8, dtype)
    for how, metric in ((ROOT, "euclidean"), (ABSOLUTE, "cityblock")):
        wanted = pairwise_distances(X, Y, metric)
        for i in range(3):
            pair_distances(folded_x[i], folded_y, index, (0,) * lanes, how, sums, out)
            np.testing.assert_array_equal(out, wanted[i, index])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("metric", "dtype", "queries", "rows", "features", "k"),
    [
        ("euclidean", "f4", 300, 4000, 40, 5),
        ("euclidean", "f8", 300, 4000, 40, 1500),
        ("euclidean", "f4", 5, 9000, 33, 3),
        ("euclidean", "f4", 70, 700, 1500, 2),
        ("cosine", "f8", 200, 3000, 16, 7),
        ("mahalanobis", "f4", 100, 900, 20, 9),
    ],
)
def test_a_search_takes_no_more_memory_than_it_says(
    metric: str, dtype: str, queries: int, rows: int, features: int, k: int, threads: int
) -> None:
    measure = Measure(metric)
    pairing = Pairing(measure, features, dtype)
    random = np.random.default_rng(0)
    Q, D = (random.random((count, features)).astype(pairing.compute_dtype) for count in (queries, rows))
    said = sizes_of(measure, features, rows, pairing.dtype.itemsize, k, threads).nbytes(queries, rows)
    with Workers(threads) as workers:
        for measured in (False, True):  # compile first
            if measured:
                tracemalloc.start()
            search = Search(pairing, Q.copy(), k, workers, rows)
            search.add(D.copy(), 0)
            search.finish()
    taken = tracemalloc.get_traced_memory()[1] - Q.nbytes - D.nbytes
    tracemalloc.stop()
    assert taken <= said + (64 << 10)
    assert said <= 4 * taken + (24 << 20)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("rows", "features"), [(1, 1), (50, 33), (140, 16), (300, 7)])
def test_packing_by_squares_is_packing(dtype: str, rows: int, features: int) -> None:
    lanes = host_width().lanes(np.dtype(dtype).itemsize)
    X = np.random.default_rng(rows).random((rows + 9, features)).astype(dtype)
    wanted, found = (np.zeros((-(-rows // (4 * lanes)) + 1, features, 4 * lanes), dtype) for _ in range(2))
    for first in (0, 3):
        pack(X[5 : 5 + rows], first, wanted)
        pack_squares(X, 5, 5 + rows, first, lanes, found)
        np.testing.assert_array_equal(found, wanted)
