"""The stage `neighbors` through the engine: every layout gives the same, and what cannot work is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlpipe.errors import InputError, MemoryCeilingError
from mlpipe.link import Room, Spec
from mlpipe.readers.array import ArraySource
from mlpipe.stages.metrics import Measure
from mlpipe.stages.nearest_rows import NearestRows
from mlpipe.stages.neighbors_summary import Summing, quantiles
from mlpipe.stages.search_layout import Layout, choose_layout
from tests.flow import FakeRun
from tests.neighbors import naive, smallest_room, through

pytestmark = pytest.mark.timeout(120)


def source(rows: Any, name: str = "X") -> ArraySource:
    return ArraySource(np.asarray(rows), name)


def grid(rows: int, features: int = 3, seed: int = 0, dtype: str = "f4") -> Any:
    """Rows of small integers: many distances are equal."""
    return np.random.default_rng(seed).integers(0, 4, (rows, features)).astype(dtype)


def check(stage: NearestRows, Q: Any, room: int = 1 << 30, threads: int = 2) -> None:
    D = None if stage.own else np.asarray(stage.data.array)  # type: ignore[attr-defined]
    distances, indices = naive(Q, D, stage.k, stage.measure.metric, stage.largest)
    first, second = through(source(Q), stage, room, threads)
    found = (second, first) if stage.give == "indices" else (first, second)
    np.testing.assert_array_equal(found[1], indices)
    np.testing.assert_array_equal(found[0], distances)
    assert (found[0].dtype, found[1].dtype) == (distances.dtype, np.int64)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "jaccard", "cityblock"])
def test_every_layout_gives_the_same(monkeypatch: pytest.MonkeyPatch, metric: str) -> None:
    Q, D = grid(133, seed=1), grid(117, seed=2)
    stage = NearestRows(source(D), 7, measure=Measure(metric))
    for layout in (
        Layout(400, 400, 400, held=False),
        Layout(133, 50, 50, held=False),
        Layout(100, 117, 117, held=False),
        Layout(64, 3, 3, held=False),
        Layout(50, 40, 117, held=True),
        Layout(65, 117, 30, held=True),
        Layout(7, 117, 117, held=True),
    ):
        monkeypatch.setattr("mlpipe.stages.nearest_rows.choose_layout", lambda *_, layout=layout: layout)
        check(stage, Q)
        check(replace(stage, data=source(Q), own=True), Q)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("k", [1, 30])
def test_any_room_gives_the_same(k: int, threads: int) -> None:
    Q, D = grid(300, 40, 3), grid(400, 40, 4)
    stage = NearestRows(source(D), k)
    least = smallest_room(source(Q), stage, threads)
    for room in (least + (1 << 16), least + (1 << 18), 1 << 30):
        check(stage, Q, room, threads)
    with pytest.raises(MemoryCeilingError):
        through(source(Q), stage, least - (1 << 16), threads)


def test_distances_in_the_place_of_indices_and_the_largest() -> None:
    Q, D = grid(30), grid(40, seed=5)
    check(NearestRows(source(D), 4, give="distances"), Q)
    check(NearestRows(source(D), 4, measure=Measure("dot"), largest=True), Q)
    check(NearestRows(source(Q), 4, measure=Measure("dot"), largest=True, own=True), Q)


def test_plan_says_what_comes_out() -> None:
    stage = NearestRows(source(np.zeros((9, 2), "f4")), 3)
    spec = Spec(5, (2,), np.dtype("f4"))
    out = stage.plan(spec)
    assert (out.rows, out.row_shape, out.dtype) == (5, (3,), np.int64)
    assert out.labels is not None
    assert (out.labels.row_shape, out.labels.dtype) == ((3,), np.float32)
    assert replace(stage, dtype="float64").plan(spec).labels.dtype == np.float64
    assert stage.plan(replace(spec, dtype=np.dtype("u1"))).labels.dtype == np.float64
    other = replace(stage, give="distances").plan(spec)
    assert (other.dtype, other.labels.dtype) == (np.float32, np.int64)


def test_what_does_not_fit_is_refused() -> None:
    stage = NearestRows(source(np.zeros((9, 2)), "D.npy"), 10)
    spec = Spec(5, (2,), np.dtype("f8"))
    with pytest.raises(InputError, match=r"k = 10: D.npy has 9 rows; give --k 9 or less"):
        stage.plan(spec)
    with pytest.raises(InputError, match=r"k = 9: D.npy has 8 rows besides the row itself; give --k 8 or less"):
        replace(stage, k=9, own=True).plan(spec)
    with pytest.raises(InputError, match="same number of features"):
        replace(stage, k=2).plan(Spec(5, (3,), np.dtype("f8")))
    with pytest.raises(InputError, match="complex128"):
        replace(stage, k=2).plan(Spec(5, (2,), np.dtype("c16")))
    with pytest.raises(InputError, match=r"10 rows or more come in, but D\.npy has 9"):
        replace(stage, k=2, own=True).plan(Spec(10, (2,), np.dtype("f8")))


def test_no_features_one_dimension_and_no_queries() -> None:
    check(NearestRows(source(np.empty((5, 0))), 4), np.empty((3, 0)))
    check(NearestRows(source(np.arange(7.0)), 3), np.arange(5.0))
    check(NearestRows(source(grid(5)), 3), grid(0))


def test_labels_that_rows_carry_are_dropped() -> None:
    from mlpipe.readers.labels import PairedSource

    Q, D = grid(30), grid(40, seed=5)
    labelled = PairedSource(source(Q), source(np.arange(30)))
    indices, _ = through(labelled, NearestRows(source(D), 2))
    np.testing.assert_array_equal(indices, naive(Q, D, 2, "euclidean")[1])


@pytest.mark.parametrize("metric", ["seuclidean", "mahalanobis"])
def test_parameters_of_the_data(metric: str) -> None:
    random = np.random.default_rng(3)
    Q, D = random.random((40, 3)), random.random((50, 3))
    distances, indices = naive(Q, D, 3, metric)
    found, beside = through(source(Q), NearestRows(source(D), 3, measure=Measure(metric), queries=source(Q)))
    np.testing.assert_array_equal(found, indices)
    np.testing.assert_array_equal(beside, distances)
    check(NearestRows(source(Q), 3, measure=Measure(metric), own=True), Q)


def test_the_layout_fits_the_room_and_reads_the_data_as_seldom_as_it_may() -> None:
    for rows, data_rows, features, k, threads in (
        (10, 1_000_000, 128, 10, 2),
        (1_000_000, 1_000_000, 128, 10, 2),
        (1_000_000, 1_000_000, 128, 1000, 16),
        (1_000_000, 2_000, 768, 1, 2),
        (3_000, 100_000, 100, 10_000, 2),
        (5, 7, 100_000, 3, 64),
    ):
        stage = NearestRows(_Shaped(data_rows, features), k)
        spec = Spec(rows, (features,), np.dtype("f4"))
        sizes = stage.sizes(spec, Room(1 << 40, threads, block_rows=100))
        with pytest.raises(MemoryCeilingError) as refused:
            choose_layout(sizes, Room(1, threads))
        least, before = refused.value.needs, 1 << 60
        assert 1 <= choose_layout(sizes, Room(least, threads)).query_rows <= 64
        for room in (least, least * 5 // 4, least * 2, least * 8, least * 64, 1 << 34, 1 << 40):
            layout = choose_layout(sizes, Room(room, threads))
            assert sum(layout.nbytes(sizes).values()) <= room
            assert layout.passes(rows) <= before
            before = layout.passes(rows)
        assert before == 1


class _Shaped(ArraySource):
    """A shape without values."""

    def __init__(self, rows: int, features: int) -> None:
        super().__init__(np.empty((0, features), "f4"), "D")
        self.spec = replace(self.spec, rows=rows)


def test_more_queries_never_take_less() -> None:
    stage = NearestRows(_Shaped(1_000_000, 64), 50)
    sizes = stage.sizes(Spec(10**6, (64,), np.dtype("f4")), Room(1 << 40, 8, block_rows=100))
    taken = [sizes.search.nbytes(queries, 4096) for queries in range(1, 4000, 37)]
    assert taken == sorted(taken)


@pytest.mark.parametrize("k", [1, 2, 6])
def test_summary_of_neighbours(k: int) -> None:
    Q = np.concatenate([grid(200, 2, 8), [[np.nan, 0], [np.inf, 1]]])
    stage = NearestRows(source(Q), k, own=True)
    distances, indices = naive(Q, None, k, "euclidean")
    for sizes in ((202,), (7, 1)):
        summing = Summing(len(Q), own=True)
        blocks, start = [], 0
        from mlpipe.link import Block

        while start < len(Q):
            stop = start + sizes[len(blocks) % len(sizes)]
            blocks.append(Block(start, indices[start:stop], labels=distances[start:stop]))
            start = stop
        held = summing.hold(stage.plan(stage.data.spec), Room(1 << 20, 1))
        assert list(summing.apply(iter(blocks), held, FakeRun())) == blocks
        facts = summing.facts()
        there = ~np.isnan(distances)
        counts = np.bincount(indices[there], minlength=len(Q))
        popular = sorted(range(len(Q)), key=lambda i: (-counts[i], i))[:5]
        assert facts["most_popular"] == [{"row": i, "neighbour_of": counts[i]} for i in popular]
        listed = enumerate(zip(indices.tolist(), distances.tolist(), strict=True))
        table = {
            (d, min(i, j), max(i, j)) for i, (row, ds) in listed for j, d in zip(row, ds, strict=True) if d == d
        }  # fmt: skip
        expected = [{"query": i, "neighbour": j, "distance": d} for d, i, j in sorted(table)[:5]]
        assert len(expected) == 5
        assert facts["closest"] == expected
        assert (facts["missing"], facts["infinite"]) == ((~there).sum(), np.isinf(distances).sum())
        assert facts["kth_distance"]["minimum"] == np.nanmin(distances[:, -1])


def test_quantiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=37)
    found = quantiles(values)
    expected = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose([found[name] for name in found], expected, rtol=1e-14)
    assert quantiles(np.array([np.nan])) == dict.fromkeys(found)
    assert quantiles(np.array([1.0, np.inf, np.inf]))["q75"] is None
