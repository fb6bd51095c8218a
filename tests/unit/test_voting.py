"""What neighbours say of a query, against loops that are slow and obvious, and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.link import Block, Blocks, Labels, Room, Source, Spec
from mlpipe.nearest import kneighbors
from mlpipe.predicting import kneighbors_predict
from mlpipe.readers.array import ArraySource
from mlpipe.stages import known
from mlpipe.stages.streaming import Streaming
from mlpipe.stages.truth import Judging, Scores
from mlpipe.stages.voting import Predicting, Voting
from mlpipe.statistics.scores import MOST_CLASSES
from tests.flow import FakeRun, flow

Array = Any
FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=50)


class Reads(FakeRun):
    """A run whose side sources are read in the thread that asks."""

    def read(self, source: Source, ranges: Any, dtype: Any, name: str) -> Blocks:
        for start, stop in ranges:
            rows = np.empty((stop - start, *source.spec.row_shape), dtype)
            source.read_rows(start, rows)
            yield Block(start, rows, release=partial(rows.reshape(-1).view(np.uint8).fill, 0xA5))


@pytest.fixture(autouse=True)
def reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.flow.FakeRun.read", Reads.read)


def weights_of(indices: Sequence[int], distances: Sequence[float], weighted: bool) -> list[float]:
    """What each neighbour counts."""
    there = [j >= 0 and not math.isnan(d) for j, d in zip(indices, distances, strict=True)]
    known = [d for d, one in zip(distances, there, strict=True) if one]
    if not weighted or all(math.isinf(d) for d in known):
        return [float(one) for one in there]
    if any(d == 0 for d in known):
        return [float(one and d == 0) for d, one in zip(distances, there, strict=True)]
    least = min(known)
    return [least / d if one else 0.0 for d, one in zip(distances, there, strict=True)]


def voted(indices: Array, distances: Array, labels: Array, weighted: bool) -> Iterator[Any]:
    """The class of each query; None without votes."""
    for row, far in zip(indices.tolist(), distances.tolist(), strict=True):
        votes: dict[Any, float] = {}
        for j, counts in zip(row, weights_of(row, far, weighted), strict=True):
            if counts:
                label = labels[j].item()
                votes[label] = votes.get(label, 0.0) + counts
        yield min(votes, key=lambda label: (-votes[label], label)) if votes else None


def averaged(indices: Array, distances: Array, labels: Array, weighted: bool) -> Array:
    made = []
    for row, far in zip(indices.tolist(), distances.tolist(), strict=True):
        each = weights_of(row, far, weighted)
        chosen = [(labels[j].astype(float), counts) for j, counts in zip(row, each, strict=True) if counts]
        total = sum(counts for _, counts in chosen)
        made.append(sum(value * counts for value, counts in chosen) / total if chosen else labels[0] * math.nan)
    return np.array(made)


def predicted(indices: Array, distances: Array, labels: Array, sizes: Sequence[int] = (7,), **how: Any) -> Array:
    stage = Voting(ArraySource(labels, "Y.npy"), ArraySource(labels, "D.npy"), **how)
    return flow(stage, indices, distances, sizes=sizes)[0]


def neighbours(random: Any, queries: int, k: int, rows: int, dtype: str = "f8") -> tuple[Array, Array]:
    """Any, with many ties, some at distance 0, some missing, some infinitely far."""
    indices = np.array([random.choice(rows, k, replace=False) for _ in range(queries)]).reshape(queries, k)
    distances = np.sort(random.choice([0, 0.1, 1, 2, 2, 3, np.inf, np.nan], (queries, k)), axis=1).astype(dtype)
    return indices.astype(np.int64), distances


@FIXED
@given(st.data())
def test_votes_of_any_classes(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    queries, rows = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 60))
    indices, distances = neighbours(random, queries, data.draw(st.integers(1, rows)), rows, data.draw(FLOATS))
    dtype = np.dtype(
        data.draw(
            st.sampled_from(["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">u8", "f2", "f4", "f8"])
        )
    )
    bits = 8 * dtype.itemsize - (dtype.kind == "i") if dtype.kind in "iu" else 7
    low, high = -(1 << bits) if dtype.kind == "i" else 0, (1 << bits) - 1
    some = [low, high, 0, 1, high // 2, 3][: data.draw(st.integers(1, 6))]
    labels = np.array([value % 2 if dtype.kind == "b" else value for value in some], dtype)
    labels = labels[random.integers(0, len(labels), rows)]
    weighted = data.draw(st.booleans())
    expected = list(voted(indices, distances, labels, weighted))
    found = predicted(
        indices, distances, labels, data.draw(SIZES), weighted=weighted, task="classify", outlier=1,
    )  # fmt: skip
    assert found.dtype == dtype.newbyteorder("=")
    assert found.tolist() == [1 if label is None else label for label in expected]


FLOATS = st.sampled_from(["f4", "f8"])
SIZES = st.sampled_from([(1,), (7,), (3, 50)])


@FIXED
@given(st.data())
def test_means_of_any_values(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    queries, rows = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 60))
    indices, distances = neighbours(random, queries, data.draw(st.integers(1, rows)), rows, data.draw(FLOATS))
    dtype = np.dtype(data.draw(st.sampled_from(["?", "i1", "u8", "f2", "f4", "f8", ">f4"])))
    shape = data.draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    labels = (random.integers(0, 2, (rows, *shape)) if dtype.kind == "b" else random.random((rows, *shape)) * 9).astype(
        dtype
    )
    weighted = data.draw(st.booleans())
    found = predicted(indices, distances, labels, data.draw(SIZES), weighted=weighted, task="regress")
    assert found.shape == (queries, *shape)
    assert found.dtype == np.float64
    if queries:
        np.testing.assert_allclose(found, averaged(indices, distances, labels, weighted), rtol=1e-12)


def test_wide_ranges_of_classes_and_many_neighbours() -> None:
    random = np.random.default_rng(3)
    rows = 5000
    indices, distances = neighbours(random, 20, 3000, rows)
    for high in (200, 60_000, 70_000, 2**40):
        labels = random.integers(0, high, 300)[random.integers(0, 300, rows)] - 7
        expected = list(voted(indices, distances, labels, False))
        assert predicted(indices, distances, labels).tolist() == expected
        codes = known.load([(0, labels)], Spec(rows, (), labels.dtype), "classify", "Y")
        assert isinstance(codes, known.ManyClasses if high > known.FEW else known.FewClasses)


def test_neighbours_that_fill_up_rows_have_no_vote() -> None:
    indices, distances = np.array([[2, -1, -1], [0, 1, -1]]), np.array([[1.0, np.nan, np.nan], [1.0, 2.0, np.nan]])
    assert predicted(indices, distances, np.array([5, 5, 9])).tolist() == [9, 5]
    assert predicted(indices, distances, np.array([5.0, 6.0, 9.0])).tolist() == [9.0, 5.5]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 5, 12])
def test_same_as_scikit_learn(k: int, weighted: bool) -> None:
    random = np.random.default_rng(k)
    data, queries = random.standard_normal((400, 6)), random.standard_normal((90, 6))
    queries[:5] = data[:5]  # at distance 0
    distances, indices = kneighbors(queries, data, k)
    how: Any = {"weights": "distance" if weighted else "uniform", "algorithm": "brute"}
    classes = random.integers(-3, 4, 400) * 1000
    expected = KNeighborsClassifier(k, **how).fit(data, classes).predict(queries)
    np.testing.assert_array_equal(predicted(indices, distances, classes, weighted=weighted), expected)
    values = random.standard_normal((400, 3))
    means = KNeighborsRegressor(k, **how).fit(data, values).predict(queries)
    np.testing.assert_allclose(predicted(indices, distances, values, weighted=weighted), means, rtol=1e-9)


def test_tiny_distances_do_not_overflow() -> None:
    distances, indices = np.array([[5e-324, 1e-323]]), np.array([[0, 1]])
    found = predicted(indices, distances, np.array([3.0, 6.0]), weighted=True)
    assert found.tolist() == [pytest.approx(4.0)]


def test_a_query_without_neighbours() -> None:
    indices, distances = np.array([[0, 1], [0, 1]]), np.array([[1.0, 2.0], [np.nan, np.nan]])
    with pytest.raises(InputError, match="query 1 has no neighbours: all its distances are NaN; give --outlier-label"):
        predicted(indices, distances, np.array([1, 2]), sizes=(1,))
    assert predicted(indices, distances, np.array([1, 2]), outlier=-1).tolist() == [1, -1]
    assert np.isnan(predicted(indices, distances, np.array([1.0, 2.0]))).tolist() == [False, True]


@pytest.mark.parametrize(
    ("labels", "how", "error", "message"),
    [
        (np.arange(4), {}, InputError, "--labels Y.npy: 4 labels, but D.npy has 3 rows; there must be one for each"),
        (np.zeros((3, 2), int), {}, InputError, "shape (3, 2); classes are one a row, and --task regress takes"),
        (np.array([0, np.nan, 1]), {}, InputError, "--labels Y.npy: row 1 is NaN; every row needs a label"),
        (np.array([0, 1.5, 1]), {"task": "classify"}, InputError, "row 1 is 1.5, and classes are whole numbers"),
        (np.array([0, np.inf, 1]), {"task": "classify"}, InputError, "row 1 is inf, and classes are whole numbers"),
        (np.array([0, np.nan, 1]), {"task": "classify"}, InputError, "row 1 is NaN"),
        (np.arange(3, dtype="u1"), {"outlier": -1}, UsageError, "--outlier-label -1: labels are uint8; give 0 to 255"),
        (np.ones(3, bool), {"outlier": 2}, UsageError, "--outlier-label 2: labels are bool; give 0 to 1"),
        (np.ones(3), {"outlier": 2}, UsageError, "--outlier-label 2: means have no classes"),
    ],
)
def test_labels_that_do_not_do(labels: Array, how: Any, error: type[Exception], message: str) -> None:
    stage = Voting(ArraySource(labels, "Y.npy"), ArraySource(np.zeros((3, 5)), "D.npy"), **how)
    with pytest.raises(error) as raised:  # whether planned or only read
        flow(stage, np.array([[0, 1]]), np.array([[1.0, 2.0]]))
    assert message in str(raised.value)


def test_labels_have_to_fit_into_memory() -> None:
    labels = np.zeros(1_000_000, np.int64)
    stage = Voting(ArraySource(labels, "Y.npy"), ArraySource(labels, "D.npy"))
    spec = Spec(10, (3,), np.dtype(np.int64), Labels((3,), np.dtype(np.float32)))
    with pytest.raises(MemoryCeilingError) as raised:
        stage.hold(spec, Room(1 << 20, 2))
    held = stage.hold(spec, Room(raised.value.needs, 2))
    assert sum(held.nbytes.values()) == raised.value.needs > labels.nbytes


def judged(truth: Array, found: Array, kind: Any, sizes: Sequence[int] = (7,)) -> dict[str, Any]:
    scores = Scores()
    passed, _ = flow(Judging(ArraySource(truth, "T.npy"), kind, scores), found, sizes=sizes)
    np.testing.assert_array_equal(passed, found)
    return scores.facts


@pytest.mark.parametrize("dtypes", [("i8", "i8"), ("u1", "i2"), ("f4", "u8"), ("?", "?"), ("u8", "u8")], ids=str)
def test_classes_compared_with_the_truth(dtypes: tuple[str, str]) -> None:
    random = np.random.default_rng(8)
    truth, found = random.integers(0, 4, 500), random.integers(0, 6, 500)
    truth, found = truth.astype(dtypes[0]), np.where(random.random(500) < 0.6, truth, found).astype(dtypes[1])
    facts = judged(truth, found, "classify", (7, 200))
    labels = np.unique(np.concatenate([truth, found])).tolist()
    assert facts["classes"] == labels
    assert facts["accuracy"] == pytest.approx(metrics.accuracy_score(truth, found))
    assert facts["confusion"] == metrics.confusion_matrix(truth, found).tolist()
    for name, score in (("recall", metrics.recall_score), ("precision", metrics.precision_score)):
        expected = score(truth, found, average=None, zero_division=np.nan)
        np.testing.assert_allclose(np.array(facts[name], float), expected)


def test_classes_of_uint64_keep_all_digits() -> None:
    big = np.array([2**63 + 1, 2**64 - 1, 5], np.uint64)
    facts = judged(big, big[[0, 0, 2]], "classify")
    assert facts["classes"] == sorted(big.tolist())
    assert facts["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    with pytest.raises(InputError, match=r"classes of 2\*\*63 and more; give labels and truth the same dtype"):
        judged(np.array([1, 2, 3]), big, "classify")


def test_many_classes_have_no_table() -> None:
    truth = np.arange(MOST_CLASSES + 50)
    found = np.where(truth % 5 == 0, 0, truth)
    facts = judged(truth, found, "classify")
    assert (facts["classes"], facts["confusion"], facts["recall"]) == (None, None, None)
    assert facts["why"] == "more than 256 classes make no table"
    assert facts["accuracy"] == pytest.approx(np.mean(truth == found))


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_values_compared_with_the_truth(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(9)
    truth = random.standard_normal((9000, *shape)) + 1e6
    found = truth + random.standard_normal((9000, *shape)) / 3
    facts = judged(truth, found, "regress", (7, 5000))
    assert facts == judged(truth, found, "regress", (1234,)), "the same to the bit, whatever the blocks"
    assert facts["r2"] == pytest.approx(metrics.r2_score(truth, found))
    assert facts["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, found))
    assert facts["mae"] == pytest.approx(metrics.mean_absolute_error(truth, found))
    if shape == (3,):
        expected = metrics.r2_score(truth, found, multioutput="raw_values")
        np.testing.assert_allclose(facts["each"]["r2"], expected)


def test_values_that_are_missing_or_always_the_same() -> None:
    truth = np.array([1.0, 1.0, 1.0, 2.0])
    facts = judged(truth, np.array([1.0, 1.0, 1.0, np.nan]), "regress")
    assert facts == {"rows": 3, "missing": 1, "r2": 1.0, "rmse": 0.0, "mae": 0.0}
    assert judged(truth[:3], np.array([1.0, 1.0, 4.0]), "regress")["r2"] == 0
    assert judged(truth[:1], np.array([np.nan]), "regress")["rmse"] is None
    assert judged(truth[:0], truth[:0], "regress")["r2"] is None
    assert judged(truth, np.array([1.0, 1.0, np.inf, 2.0]), "regress")["mae"] is None, "as JSON has it"
    assert judged(np.array([1.0, np.inf]), np.array([1.0, np.inf]), "regress")["r2"] is None


@pytest.mark.parametrize(
    ("truth", "kind", "message"),
    [
        (np.arange(4), "classify", "--truth T.npy: 4 values for 3 queries; there must be one for each"),
        (np.zeros((3, 2)), "regress", "--truth T.npy: shape (3, 2); predictions have (3,), and so must the truth"),
        (np.array([1.0, 2.0, np.nan]), "regress", "--truth T.npy: row 2 is NaN"),
        (np.array([1.0, 2.5, 3.0]), "classify", "--truth T.npy: row 1 is 2.5, and classes are whole numbers"),
    ],
)
def test_truth_that_does_not_do(truth: Array, kind: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        judged(truth, np.arange(3), kind)
    assert message in str(raised.value)


class Neighbours(Streaming):
    """Stands for a search: it hands rows of distances on with the order of their columns."""

    def plan(self, spec: Spec) -> Spec:
        return Spec(spec.rows, spec.row_shape, np.dtype(np.int64), Labels(spec.row_shape, spec.dtype))

    def each(self, block: Block) -> Iterator[Block]:
        order = np.argsort(block.data, axis=1, kind="stable")
        block.labels = np.take_along_axis(block.data, order, 1)
        block.data = order
        yield block


def test_search_and_vote_as_one_stage() -> None:
    table, labels = np.random.default_rng(1).random((50, 6)), np.array([3, 3, 4, 4, 5, 5])
    data, beside = ArraySource(np.zeros((6, 1)), "D.npy"), ArraySource(labels, "Y.npy")
    both = Predicting(Neighbours(), Voting(beside, data, weighted=True))
    found, nothing = flow(both, table, sizes=(7, 20))
    order = np.argsort(table, axis=1)
    assert found.tolist() == list(voted(order, np.sort(table, axis=1), labels, True))
    assert nothing is None
    assert both.side_sources == {"read labels": beside}
    with pytest.raises(MemoryCeilingError) as raised:
        both.hold(Spec(50, (6,), np.dtype("f8")), Room(1000, 2, block_rows=7))
    both.hold(Spec(50, (6,), np.dtype("f8")), Room(raised.value.needs, 2, block_rows=7))


def test_predictions_of_arrays() -> None:
    random = np.random.default_rng(2)
    data, queries = random.standard_normal((300, 4)), random.standard_normal((40, 4))
    for labels in (random.integers(0, 5, 300), random.integers(0, 5, 300).astype(">i4"), random.random(300)[::-1]):
        kind = KNeighborsRegressor if labels.dtype.kind == "f" else KNeighborsClassifier
        for weighted in (False, True):
            oracle = kind(7, algorithm="brute", weights="distance" if weighted else "uniform").fit(data, labels)
            found = kneighbors_predict(queries, data, labels, 7, weighted=weighted)
            np.testing.assert_allclose(found, oracle.predict(queries), rtol=1e-12)
    alone = kneighbors_predict(data, None, labels, 3, "cityblock", dtype="f4")
    distances, indices = kneighbors(data, k=3, metric="cityblock", dtype="f4")
    np.testing.assert_array_equal(alone, averaged(indices, distances, labels, False))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"labels": [1, 2]}, InputError, "labels: 2 labels, but D has 3 rows"),
        ({"weighted": True, "largest": True}, UsageError, "only distances weigh"),
        ({"weighted": True, "metric": "dot"}, UsageError, "a product is no distance"),
        ({"k": 4}, InputError, "k = 4"),
        ({"D": [[np.nan]] * 3}, InputError, "query 0 has no neighbours"),
    ],
)
def test_arrays_that_do_not_do(how: Any, error: type[Exception], message: str) -> None:
    given = {"Q": [[1.0]], "D": [[1.0], [2.0], [3.0]], "labels": [1, 2, 3], "k": 2, **how}
    with pytest.raises(error, match=message):
        kneighbors_predict(**given)
