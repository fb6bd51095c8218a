"""Symmetric graphs of neighbours, against loops that are slow and obvious, and scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import kneighbors_graph

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Labels, Room, Spec
from mlpipe.nearest import kneighbors
from mlpipe.stages.edges import EdgeTable, summary
from mlpipe.stages.graph import Graphing
from mlpipe.stages.links import Piece, ranges
from tests.flow import FakeRun, blocks_of

Array = Any
FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=50)


def naive(indices: Array, distances: Array, mutual: bool) -> list[dict[int, float]]:
    """Neighbours of each row, and at which distance."""
    named = {
        (i, int(j)): float(d)
        for i, (row, far) in enumerate(zip(indices, distances, strict=True))
        for j, d in zip(row, far, strict=True)
        if j >= 0 and not np.isnan(d)
    }
    joined: list[dict[int, float]] = [{} for _ in indices]
    for (i, j), d in named.items():
        if (j, i) in named or not mutual:
            joined[i][j] = joined[j][i] = max(d, named.get((j, i), d))
    return joined


def graph(
    indices: Array, distances: Array, mutual: bool = False, *, nbytes: int = 1 << 30, sizes: Sequence[int] = (7,),
    directory: Path | str = ".",
) -> tuple[list[Piece], Any]:  # fmt: skip
    """The pieces, and how they were made."""
    made: list[Piece] = []

    def deliver(found: Iterator[Piece], _run: Any) -> None:
        made.extend(found)

    stage = Graphing(mutual, str(directory), deliver)
    spec = Spec(len(indices), indices.shape[1:], indices.dtype, Labels(distances.shape[1:], distances.dtype))
    held = stage.hold(spec, Room(nbytes, 2, block_rows=max(sizes)))
    assert sum(held.nbytes.values()) <= nbytes
    given: list[int] = []
    run = FakeRun()
    shares = [block.share for block in stage.apply(blocks_of(indices, distances, sizes, given), held, run)]
    run.workers.close()
    assert given == [1] * len(given)
    assert sum(shares) == pytest.approx(1)
    return made, held


def rows_of(made: list[Piece]) -> list[dict[int, float]]:
    """The graph row by row; order is checked."""
    rows: list[dict[int, float]] = []
    for piece in made:
        assert piece.first == len(rows)
        assert piece.counts.sum() == len(piece.neighbours) == len(piece.distances)
        ends = np.cumsum(piece.counts)
        for start, stop in zip(ends - piece.counts, ends, strict=True):
            assert (np.diff(piece.neighbours[start:stop]) > 0).all()
            rows.append(
                dict(zip(piece.neighbours[start:stop].tolist(), piece.distances[start:stop].tolist(), strict=True))
            )
    return rows


def links(random: Any, rows: int, k: int, dtype: str) -> tuple[Array, Array]:
    """Lists of neighbours, as if at random, some named by all; some missing, some distances 0 and infinite."""
    indices = np.array([random.choice(np.delete(np.arange(rows), i), k, replace=False) for i in range(rows)])
    if k and random.random() < 0.5:
        hub = int(random.integers(rows))
        for i in range(rows):
            if i != hub and hub not in indices[i]:
                indices[i, random.integers(k)] = hub
    distances = random.choice([0, 0.5, 1, 1, 7, np.inf, np.nan], indices.shape).astype(dtype)
    indices[random.random(indices.shape) < 0.1] = -1
    return indices.astype(np.int64), distances


@FIXED
@given(st.data())
def test_same_as_loops(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    rows = data.draw(st.integers(2, 60))
    k = data.draw(st.one_of(st.integers(1, rows - 1), st.integers(1, min(3, rows - 1))))
    indices, distances = links(random, rows, k, data.draw(st.sampled_from(["f4", "f8"])))
    mutual = data.draw(st.booleans())
    made, _ = graph(indices, distances, mutual, sizes=data.draw(st.sampled_from([(1,), (7,), (5, 40)])))
    assert rows_of(made) == naive(indices, distances, mutual)


@pytest.mark.parametrize("mutual", [False, True])
def test_pieces_and_files_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutual: bool) -> None:
    monkeypatch.setattr("mlpipe.stages.links.CHUNK_BYTES", 1000)
    indices, distances = links(np.random.default_rng(2), 500, 9, "f4")
    whole, held = graph(indices, distances, mutual)
    assert (held.facts["lists_kept"], len(whole)) == ("in memory", 1)
    with pytest.raises(MemoryCeilingError) as raised:
        graph(indices, distances, mutual, nbytes=100)
    for nbytes in (raised.value.needs, raised.value.needs + 20_000):
        some, held = graph(indices, distances, mutual, nbytes=nbytes, directory=tmp_path)
        assert held.facts["lists_kept"] == f"in {tmp_path}"
        assert len(some) > 5
        for name in ("counts", "neighbours", "distances"):
            joined = np.concatenate([getattr(piece, name) for piece in some])
            np.testing.assert_array_equal(joined, getattr(whole[0], name))
            assert joined.dtype == getattr(whole[0], name).dtype
    assert list(tmp_path.iterdir()) == []
    assert rows_of(some) == naive(indices, distances, mutual)


@pytest.mark.parametrize("k", [1, 4, 20])
def test_same_as_scikit_learn(k: int) -> None:
    X = np.random.default_rng(k).standard_normal((150, 3))
    distances, indices = kneighbors(X, k=k)
    [piece], _ = graph(indices, distances)
    made = csr_matrix((piece.distances, piece.neighbours, np.concatenate([[0], np.cumsum(piece.counts)])), (150, 150))
    given = kneighbors_graph(X, k, mode="distance", include_self=False)
    expected = given.maximum(given.T)
    assert (made != made.T).nnz == 0
    np.testing.assert_array_equal(made.indices, expected.sorted_indices().indices)
    np.testing.assert_allclose(made.toarray(), expected.toarray(), rtol=1e-12)
    [piece], _ = graph(indices, distances, True)
    both = given.minimum(given.T).sorted_indices()
    np.testing.assert_array_equal(piece.neighbours, both.indices)


@FIXED
@given(st.data())
def test_edges_and_summary(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    rows = data.draw(st.integers(2, 80))
    indices, distances = links(random, rows, min(rows - 1, data.draw(st.integers(1, 3))), "f8")
    mutual = data.draw(st.booleans())
    made, _ = graph(indices, distances, mutual)
    joined = naive(indices, distances, mutual)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlpipe.stages.edges.CHUNK", data.draw(st.sampled_from([1, 7, 1000])))
        columns = [np.concatenate(column) for column in zip(*EdgeTable(made, distances.dtype).pieces, strict=True)]
        facts = summary(made, rows)
    expected = [(i, j, d) for i, row in enumerate(joined) for j, d in sorted(row.items()) if i < j]
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
    places = np.array([(i, j) for i, j, _ in expected], int).reshape(-1, 2)
    parts, labels = connected_components(csr_matrix((np.ones(len(places)), places.T), (rows, rows)), directed=False)
    assert (facts["parts"], facts["largest_part"]) == (parts, np.bincount(labels).max())
    degrees = [len(row) for row in joined]
    assert (facts["edges"], facts["isolated"]) == (len(expected), degrees.count(0))
    assert facts["degree"]["maximum"] == max(degrees)
    assert facts["degree"]["median"] == np.median(degrees)
    finite = [d for _, _, d in expected if np.isfinite(d)]
    assert facts["shortest"] == min(finite, default=None)


def test_ranges_hold_all_rows_once() -> None:
    random = np.random.default_rng(0)
    for nbytes in (1, 1000, 10**9):
        counts = random.integers(0, 50, 200)
        found = list(ranges(counts, 3, np.dtype("f8"), nbytes))
        assert found[0][0] == 0
        assert [stop for _, stop in found] == [start for start, _ in found[1:]] + [200]
        assert all(stop > start for start, stop in found)


def test_a_row_that_names_all_others() -> None:
    random = np.random.default_rng(1)
    indices, distances = np.full((800, 799), -1), np.full((800, 799), np.nan)
    indices[0], distances[0] = random.permutation(799) + 1, np.sort(random.random(799))
    made, _ = graph(indices, distances, sizes=(300,))
    named = dict(sorted(zip(indices[0].tolist(), distances[0].tolist(), strict=True)))
    assert rows_of(made) == [named, *({0: named[i]} for i in range(1, 800))]
