"""Rows near to earlier ones are dropped: against all distances, one by one."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpipe
from mlpipe.api import pairwise_distances
from mlpipe.errors import InputError, MemoryCeilingError, MlpipeError, OutputError, UsageError
from mlpipe.link import Room, Spec
from mlpipe.opening import Opening
from mlpipe.stages import near_limits
from mlpipe.stages.dedup_near import DedupNear
from mlpipe.stages.metrics import DEFINITIONS
from tests.flow import flow, spec_of
from tests.property import data

Array = Any


def first_of_each(
    rows: Array, radius: float, metric: str = "euclidean", largest: bool = False, **how: Any
) -> list[int]:
    """Indices of the rows that are kept, one after the other."""
    kept: list[int] = []
    table = pairwise_distances(rows, rows, metric, **how)
    limit = table.dtype.type(radius)
    for later in range(len(rows)):
        if not any(table[later, one] >= limit if largest else table[later, one] <= limit for one in kept):
            kept.append(later)
    return kept


def stage(verb: DedupNear) -> Any:
    return verb.open(Opening(ExitStack()))


def planned(fields: dict[str, Any]) -> None:
    made, spec = stage(DedupNear(**fields)), Spec(None, (3,), np.dtype("f4"))
    made.plan(spec)
    made.hold(spec, Room(1 << 30, 2, block_rows=10))


def check(
    rows: Array, radius: float, sizes: Any = (7,), nbytes: int = 1 << 30, labels: Array = None, **how: Any
) -> int:
    expected = first_of_each(rows, radius, **how)
    out, beside = flow(stage(DedupNear(radius, **how)), rows, labels, sizes=sizes, nbytes=nbytes, drops=True)
    np.testing.assert_array_equal(out, rows[expected])
    assert out.dtype == rows.dtype
    if labels is not None:
        np.testing.assert_array_equal(beside, labels[expected])
    return len(expected)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: one.name)
def test_every_metric(definition: Any, tmp_path: Path) -> None:
    metric = definition.name
    rows = data.rows(metric, 150, data.fits(metric, 7), 4)
    given = data.parameters(metric, rows.shape[1], 5, weighted=True)
    table = pairwise_distances(rows, rows, metric, **given)
    radius = float(np.nanquantile(np.abs(table), 0.03, method="higher"))
    names = {"w": "weights", "V": "variance", "VI": "inverse_covariance"}
    for name, value in given.items():
        if name != "p":
            np.save(tmp_path / f"{name}.npy", value)
    how = {
        names.get(name, name): value if name == "p" else str(tmp_path / f"{name}.npy") for name, value in given.items()
    }
    expected = first_of_each(rows, radius, metric, largest=metric == "dot", **given)
    assert 1 <= len(expected) < len(rows)
    verb = DedupNear(radius, metric, largest=metric == "dot", **how)
    for sizes in ((150,), (1, 40, 3)):
        np.testing.assert_array_equal(flow(stage(verb), rows, sizes=sizes, drops=True)[0], rows[expected])


@pytest.fixture
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and pieces so small that few rows need many."""
    monkeypatch.setattr(near_limits, "STEP_ROWS", 29)
    monkeypatch.setattr(near_limits, "BLOCK_ROWS", 8)
    monkeypatch.setattr(near_limits, "STRIP_ROWS", 5)
    monkeypatch.setattr(near_limits, "PIECE_BYTES", 1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([0, 1, 5, 64, 65, 200]), st.integers(0, 3),
    st.sampled_from(["f2", "f4", "f8", "i1", "u2", "?"]), st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.sampled_from(["euclidean", "cityblock", "hamming"]), st.sampled_from([(7,), (1,), (3, 64, 200), (300,)]),
    st.booleans(),
)  # fmt: skip
def test_grids_with_ties_at_the_radius(
    seed: int, count: int, features: int, kind: str, radius: float, metric: str, sizes: Any, largest: bool
) -> None:
    random = np.random.default_rng(seed)
    rows = random.integers(0, 2 if kind == "?" else 5, (count, features)).astype(kind)
    if kind[0] == "f":
        rows[random.random(rows.shape) < 0.02] = np.nan
    check(rows, radius, sizes, labels=np.arange(count), metric=metric, largest=largest)


@pytest.mark.usefixtures("_little")
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "haversine"])
def test_rows_kept_go_through_a_file(metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    rows = random.random((900, 2)).astype("f4")
    verb = DedupNear(0.05, metric) if metric == "euclidean" else DedupNear(1e-5 if metric == "cosine" else 0.05, metric)
    expected = first_of_each(rows, verb.radius, metric)
    assert len(expected) > 150
    with pytest.raises(MemoryCeilingError) as error:
        stage(verb).hold(spec_of(rows), Room(0, 2, block_rows=64))
    least = error.value.needs
    kept = []
    for nbytes in (least, least + 1500, least + 4000, 1 << 28):
        held = stage(verb).hold(spec_of(rows), Room(nbytes, 2, block_rows=64))
        kept.append(held.layout[0].capacity)
        assert ("temporary_files" in held.facts) == (nbytes < 1 << 28)
        for sizes in ((64,), (13, 1)):
            out, _ = flow(stage(verb), rows, nbytes=nbytes, sizes=sizes, drops=True)
            np.testing.assert_array_equal(out, rows[expected])
    assert kept[0] == 0
    assert kept[-1] >= 900
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_little")
def test_what_is_dropped_drops_nothing() -> None:
    rows = np.arange(100.0)[:, None]
    assert flow(stage(DedupNear(1)), rows, drops=True)[0].ravel().tolist() == list(range(0, 100, 2))
    assert flow(stage(DedupNear(1)), rows[:, 0], drops=True)[0].tolist() == list(range(0, 100, 2))
    assert len(flow(stage(DedupNear(0)), np.full((9, 2), np.nan), drops=True)[0]) == 9


def test_the_number_of_rows_need_not_be_known() -> None:
    rows = np.random.default_rng(0).integers(0, 50, (300, 2))
    out, _ = flow(stage(DedupNear(3)), rows, known=False, drops=True)
    np.testing.assert_array_equal(out, rows[first_of_each(rows, 3)])


def test_rows_farther_apart_are_kept_for_good() -> None:
    rows = np.random.default_rng(1).normal(size=(400, 3)).astype("f4") + np.float32(1e4)
    out, _ = flow(stage(DedupNear(0.5)), rows, sizes=(31,), drops=True)
    table = pairwise_distances(out)
    assert (table[np.triu_indices(len(out), 1)] > 0.5).all()
    assert (pairwise_distances(rows, out).min(axis=1) <= 0.5).all()


def test_in_python_and_the_positions_of_rows_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(5).integers(0, 9, (3000, 2)).astype("u1")
    np.save("X.npy", rows)
    expected = first_of_each(rows[:500], 1)
    chain = mlpipe.read("X.npy").dedup_near(radius=1, indices="I.npy")
    chain.write("Y.npy")
    positions = np.load("I.npy")
    assert positions.dtype == np.int64
    assert positions[positions < 500].tolist() == expected
    np.testing.assert_array_equal(np.load("Y.npy"), rows[positions])
    with pytest.raises(OutputError, match=r"I\.npy: exists"):
        chain.write("Z.npy")
    chain.head(rows=2).write("Z.npy", force=True)
    np.testing.assert_array_equal(np.load("I.npy"), positions)
    assert sorted(os.listdir()) == ["I.npy", "X.npy", "Y.npy", "Z.npy"]


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"radius": float("nan")}, UsageError, "--radius nan: give a number"),
        ({"radius": -1.0}, UsageError, "radius -1.0: euclidean is never below 0"),
        ({"radius": 1.0, "metric": "nearness"}, UsageError, "unknown metric"),
        ({"radius": 1.0, "metric": "seuclidean"}, UsageError, "--metric seuclidean: give --variance"),
        ({"radius": 1.0, "metric": "mahalanobis"}, UsageError, "give --inverse-covariance"),
        ({"radius": 1.0, "dtype": "int8"}, UsageError, "--dtype int8: give float32 or float64"),
        ({"radius": 1.0, "indices": "-"}, UsageError, "--indices -: stdout is for the end"),
        ({"radius": 1.0, "metric": "haversine"}, InputError, "takes rows of 2 features, not 3"),
        ({"radius": 1.0, "temp_dir": "nowhere"}, OutputError, "there is no such directory"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], error: type[MlpipeError], words: str) -> None:
    with pytest.raises(error, match=words):
        planned(fields)


def test_rows_without_an_end_and_parameters_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never stop coming"):
        stage(DedupNear(1)).plan(Spec(None, (3,), np.dtype("f4"), endless=True))
    np.save(tmp_path / "w.npy", np.ones(4))
    with pytest.raises(InputError, match=r"has shape \(4,\); w of 3 features must have \(3,\)"):
        planned({"radius": 1.0, "weights": str(tmp_path / "w.npy")})
