"""The stage `neighbors` with a radius: any memory, any blocks, the same as in memory."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.link import Array, Room, Spec
from mlpipe.radius import radius_neighbors
from mlpipe.readers.array import ArraySource
from mlpipe.stages import radius_layout, search_layout
from mlpipe.stages.metrics import Measure
from mlpipe.stages.nearest_within import NearestWithin, Ragged
from mlpipe.stages.radius_rows import RadiusRows
from mlpipe.workers import Workers
from mlpipe.writers.crowding import CrowdingSink
from mlpipe.writers.sparse import SparseRows
from tests.flow import blocks_of, spec_of
from tests.passing import PassingRun


def planned(stage: Any, spec: Spec, nbytes: int, threads: int = 2, rows: int = 64) -> Any:
    held = stage.hold(spec, Room(nbytes, threads, block_rows=rows))
    assert sum(held.nbytes.values()) <= nbytes
    return held


def sparse(
    stages: list[Any], Q: Array, sizes: Any = (17,), nbytes: int = 1 << 28, threads: int = 2, known: bool = True
) -> tuple[Array, Array, Array, int]:
    """The three arrays, and in how many blocks they came."""
    given: list[int] = []
    blocks: Any = blocks_of(Q, None, sizes, given)
    spec, ends, indices, share, count = spec_of(Q, known=known), [0], list[int](), 0.0, 0
    values: list[float] = []
    with ExitStack() as files:
        run: Any = PassingRun(files.enter_context(Workers(threads)))
        for stage in stages:
            held = planned(stage, spec, nbytes, threads, max(sizes))
            blocks, spec = stage.apply(blocks, held, run), stage.plan(spec)
        for block in blocks:
            assert isinstance(block, SparseRows)
            assert block.start == len(values)
            assert block.data.dtype == spec.dtype
            ends += block.ends.tolist()
            indices += block.labels.tolist() if block.labels is not None else []
            values += block.data.tolist()
            share, count = share + block.share, count + 1
            block.data[:] = -5  # the memory may be used again
            block.release()
    assert given == [1] * len(given)
    assert share == pytest.approx(1) or not len(Q)
    return np.array(ends), np.array(indices, np.int64), np.array(values, spec.dtype), count


def check(stages: list[Any], Q: Array, expected: tuple[Array, ...], **how: Any) -> int:
    *found, count = sparse(stages, Q, **how)
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, wanted)
    return count


@pytest.fixture
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that little data take many blocks and passes."""
    monkeypatch.setattr(search_layout, "STEP_BYTES", 4000)
    monkeypatch.setattr(search_layout, "READ_BYTES", 2000)
    monkeypatch.setattr(search_layout, "LEAST_STEP", 1000)
    monkeypatch.setattr(search_layout, "LEAST_QUERIES", 30)
    monkeypatch.setattr(search_layout, "BLOCK_BYTES", 1)
    monkeypatch.setattr(radius_layout, "HITS_BYTES", 1)
    monkeypatch.setattr(radius_layout, "LEAST_HITS", 2048)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([0, 1, 64, 90]), st.sampled_from([1, 63, 300]),
    st.sampled_from(["euclidean", "cityblock", "cosine"]), st.booleans(), st.booleans(),
    st.sampled_from([(17,), (1, 50), (200,)]), st.sampled_from([None, 1, 3]), st.sampled_from(["f4", "u1", "f8"]),
)  # fmt: skip
def test_as_in_memory(
    seed: int, queries: int, rows: int, metric: str, largest: bool, alone: bool, sizes: Any, most: int | None, kind: str
) -> None:
    random = np.random.default_rng(seed)
    D = random.integers(0, 5, (rows, 2)).astype(kind)
    Q = D.copy() if alone else random.integers(0, 5, (queries, 2)).astype(kind)
    if alone and most is not None and rows < 2:
        return
    radius, measure = 0.2 if metric == "cosine" else 2.0, Measure(metric)
    expected = radius_neighbors(Q, None if alone else D, radius, metric, largest=largest, max_neighbors=most)
    how: dict[str, Any] = {"largest": largest, "own": alone}
    data = ArraySource(D, "D")
    stages: list[Any] = [RadiusRows(data, radius, measure=measure, **how)]
    if most is not None:
        k = min(most, rows - alone)
        stages = [NearestWithin(data, k, measure=measure, radius=radius, **how), Ragged()]
    check(stages, Q, expected, sizes=sizes)
    if most is None:
        check(stages, Q, expected, sizes=sizes, known=False)


@pytest.mark.usefixtures("_little")
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "mahalanobis"])
def test_any_memory_will_do(metric: str, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    D, Q = random.random((800, 3)).astype("f4"), random.random((200, 3)).astype("f4")
    radius = {"euclidean": 0.5, "cosine": 0.1, "mahalanobis": 0.5}[metric]
    measure = Measure(metric, VI=np.eye(3) if metric == "mahalanobis" else None)
    if not held:
        monkeypatch.setattr(search_layout, "BLOCK_COST", 0)
        monkeypatch.setattr(search_layout, "LEAST_QUERIES", 10**6)
    expected = radius_neighbors(Q, D, radius, metric, VI=measure.VI)
    stage = RadiusRows(ArraySource(D, "D"), radius, measure=measure)
    with pytest.raises(MemoryCeilingError) as error:
        stage.hold(spec_of(Q), Room(0, 2, block_rows=17))
    least, blocks = error.value.needs, []
    for nbytes in (least, least + 3000, 1 << 26):
        layout = planned(stage, spec_of(Q), nbytes, rows=17).layout[0]
        assert not layout.held or held
        blocks.append(check([stage], Q, expected, nbytes=nbytes))
    assert blocks[0] > 4


def test_more_neighbours_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radius_layout, "HITS_BYTES", 1)
    monkeypatch.setattr(radius_layout, "LEAST_HITS", 2048)
    D = np.random.default_rng(6).integers(0, 50, (5000, 1))
    Q = D[:7].copy()
    stage = RadiusRows(ArraySource(D, "D"), np.inf)
    assert check([stage], Q, radius_neighbors(Q, D, np.inf), threads=1) >= 7 * 5000 // 2048


@pytest.mark.parametrize("alone", [False, True])
def test_counts(alone: bool) -> None:
    random = np.random.default_rng(7)
    D = random.integers(0, 4, (300, 2))
    Q = D.copy() if alone else random.integers(0, 4, (100, 2))
    stage = RadiusRows(ArraySource(D, "D"), 1.0, own=alone, count_only=True)
    expected = radius_neighbors(Q, None if alone else D, 1.0, count_only=True)
    spec = spec_of(Q)
    assert stage.plan(spec) == Spec(len(Q), (), np.dtype(np.int64))
    given: list[int] = []
    with Workers(2) as workers:
        run: Any = PassingRun(workers)
        found = list[Array]()
        for block in stage.apply(blocks_of(Q, None, (23,), given), planned(stage, spec, 1 << 24), run):
            assert block.start == sum(len(one) for one in found)
            found.append(block.data.copy())
            block.release()
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_padded() -> None:
    D = np.array([[0.0], [1.0], [5.0], [np.nan]])
    stage = NearestWithin(ArraySource(D, "D"), 2, measure=Measure(), radius=1.0)
    with Workers(1) as workers:
        run: Any = PassingRun(workers)
        Q = np.array([[0.5], [6.0], [100.0]])
        [block] = stage.apply(blocks_of(Q, None, (3,), []), planned(stage, spec_of(Q), 1 << 28), run)
    assert block.data.tolist() == [[0, 1], [2, -1], [-1, -1]]
    np.testing.assert_array_equal(block.labels, [[0.5, 0.5], [1, np.nan], [np.nan, np.nan]])


def test_what_is_refused() -> None:
    data, spec = ArraySource(np.zeros((5, 3)), "D"), Spec(9, (3,), np.dtype("f4"))
    with pytest.raises(UsageError, match="euclidean is never below 0"):
        RadiusRows(data, -1.0).plan(spec)
    with pytest.raises(UsageError, match="euclidean is never below 0"):
        NearestWithin(data, 1, radius=-1.0).plan(spec)
    with pytest.raises(InputError, match="same number of features"):
        RadiusRows(data, 1.0).plan(Spec(9, (4,), np.dtype("f4")))
    with pytest.raises(InputError, match="they must be the same rows"):
        RadiusRows(data, 1.0, own=True).plan(spec)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 40) | st.sampled_from([0, 2**40]), max_size=40),
    st.integers(1, 7),
    st.sampled_from([None, 3]),
)
def test_crowding(counts: list[int], size: int, most: int | None) -> None:
    from mlpipe.link import Block

    sink = CrowdingSink(most)
    for start in range(0, len(counts), size):
        sink.write(Block(start, np.array(counts[start : start + size])))
    capped = [count if most is None else min(count, most) for count in counts]
    facts = sink.facts()
    assert facts["pairs"] == sum(capped)
    assert facts["minimum"] == (min(capped) if capped else None)
    assert facts["maximum"] == (max(capped) if capped else None)
    top = sorted(range(len(capped)), key=lambda i: (-capped[i], i))[:5]
    assert facts["most_crowded"] == [{"query": i, "neighbours": capped[i]} for i in top if capped[i]]
    spans = [(one["from"], one["to"], one["queries"]) for one in facts["distribution"]]
    assert [n for *_, n in spans] == [sum(low <= count <= high for count in capped) for low, high, _ in spans]
    assert sum(n for *_, n in spans) == len(counts)
