"""The stage `stats` of a chain: files of all rows that pass, which go on as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, MemoryCeilingError, OutputError, UsageError
from mlpipe.link import Room, Spec
from mlpipe.opening import Opening
from mlpipe.stages.describing import Wanted, arrange
from mlpipe.stages.stats import Stats
from mlpipe.statistics.histograms import MOST_BINS, Histograms
from mlpipe.workers import Workers

ROWS = np.random.default_rng(1).normal(size=(5000, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", ROWS)
    yield
    assert not list(tmp_path.glob(".mlpipe*"))


def facts(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


@pytest.mark.parametrize("quantiles", [(), (0.5,)])
@pytest.mark.parametrize("rows", [0, 10, 5000])
def test_all_rows_count_and_go_on(rows: int, quantiles: tuple[float, ...]) -> None:
    chain = mlpipe.read("X.npy").stats(output="s.json", quantiles=quantiles).batch(64).head(rows)
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 3), "f4"), *chain]), ROWS[:rows])
    found = facts("s.json")
    assert found["rows"] == 5000
    assert found["overall"]["count"] == 15000
    assert ("quantiles" in found["overall"]) == bool(quantiles)


def test_labels_are_left_alone() -> None:
    mlpipe.read("X.npy", label_column=-1).stats(output="s.json").write("Y.npy")
    np.testing.assert_array_equal(np.load("Y-labels.npy"), ROWS[:, 2])
    assert len(facts("s.json")["columns"]) == 2


def test_after_what_changes_rows() -> None:
    mlpipe.read("X.npy").clip(min=-1, max=1).stats(output="s.json", quantiles=(0.5,), unique=True).nothing()
    found = facts("s.json")["columns"]
    assert [one["minimum"] for one in found] == [-1, -1, -1]
    assert [one["distinct"] for one in found] == [len(np.unique(np.clip(column, -1, 1))) for column in ROWS.T]


def test_beside_stages_that_learn() -> None:
    chain = mlpipe.read("X.npy").stats(output="a.json", quantiles=(0.5,)).standardize()
    chain.stats(output="b.npz", quantiles=(0.25, 0.5)).robust_scale().write("Y.npy")
    assert facts("a.json")["rows"] == 5000
    with np.load("b.npz") as found:
        np.testing.assert_allclose(found["mean"], 0, atol=1e-6)
        np.testing.assert_allclose(found["variance"], 1, rtol=1e-5)
    mlpipe.read("X.npy").standardize().robust_scale().write("Z.npy")
    assert Path("Y.npy").read_bytes() == Path("Z.npy").read_bytes()


def test_no_file_when_the_run_does_not_end_well() -> None:
    with pytest.raises(InputError):
        mlpipe.read("X.npy").stats(output="s.csv").check(max=0.5).nothing()
    for _ in mlpipe.read("X.npy").stats(output="s.csv").batch(100):
        break
    assert not Path("s.csv").exists()
    Path("s.csv").touch()
    with pytest.raises(OutputError, match=r"s.csv: exists"):
        mlpipe.read("X.npy").stats(output="s.csv").nothing()


def test_config() -> None:
    chain = mlpipe.read("X.npy").stats(output="s.csv", quantiles="0.1,0.9", ddof=0).nothing
    del chain
    built = mlpipe.Pipeline((*mlpipe.read("X.npy").stats(output="s.csv", quantiles="0.1,0.9", ddof=0).verbs,))
    built.save("c.toml")
    assert mlpipe.Pipeline.load("c.toml") == built
    assert 'output = "s.csv"' in Path("c.toml").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the statistics go nowhere; give --output FILE, or use mlpipe stats"),
        ({"output": "s.npy"}, "--output s.npy: give a name that ends in .json, .npz, .csv"),
        ({"covariance": "s.csv"}, "--covariance s.csv: give a name that ends in .npy"),
        ({"output": "s.csv", "ddof": -2}, "--ddof -2: give 0 or more"),
        ({"output": "s.csv", "quantiles": [0.5, -1]}, "--quantiles -1.0: give numbers from 0 to 1"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        mlpipe.read("X.npy").stats(**options).nothing()
    assert message in str(caught.value)


def planned(wanted: Wanted, room: int, columns: int = 40) -> tuple[int, int]:
    """Passes, and the bytes held."""
    spec = Spec(10**6, (columns,), np.dtype("f8"))
    how = arrange(wanted, spec, Room(room, 2, block_rows=1000), ".")
    return how.passes, sum(how.nbytes.values())


def test_more_passes_in_less_memory() -> None:
    wanted, passes = Wanted((0.1, 0.5, 0.9)), []
    for room in (1 << 30, 64 << 20, 24 << 20, 16 << 20):
        found, held = planned(wanted, room)
        assert held <= room
        passes.append(found)
    assert passes == sorted(passes)
    assert passes[0] < passes[-1]
    with pytest.raises(MemoryCeilingError) as caught:
        planned(wanted, 1000)
    assert planned(wanted, caught.value.needs)[1] <= caught.value.needs


def test_distinct_values_of_some_columns_at_a_time() -> None:
    assert planned(Wanted(unique=True), 4 << 30)[0] == 1
    with pytest.raises(MemoryCeilingError) as caught:
        planned(Wanted(unique=True), 1000)
    passes, held = planned(Wanted(unique=True), caught.value.needs)
    assert (passes, held <= caught.value.needs) == (41, True)


def test_columns_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpipe.counting.tally import Tally
    from mlpipe.stages import describing

    least = Tally.least(np.dtype("f4"), 2)
    real = describing.arrange

    def tight(wanted: Wanted, spec: Spec, room: Room, directory: str) -> Any:
        for extra in range(0, 1 << 30, 1 << 20):
            try:
                return real(wanted, spec, Room(least + extra, 2, block_rows=room.block_rows), directory)
            except MemoryCeilingError:
                continue
        raise AssertionError

    mlpipe.read("X.npy").stats(output="a.npz", unique=True).run(threads=2)
    monkeypatch.setattr(describing, "arrange", tight)
    mlpipe.read("X.npy").stats(output="b.npz", unique=True).run(threads=2)
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()


def test_dtypes_and_rows_that_have_no_statistics() -> None:
    stage = Stats(output="s.csv").open(Opening(ExitStack()))
    with pytest.raises(InputError, match="not complex64"):
        stage.plan(Spec(3, (2,), np.dtype("c8")))
    with pytest.raises(UsageError, match="never end"):
        stage.plan(Spec(None, (2,), np.dtype("f8"), endless=True))


def histogram_of(column: np.typing.NDArray[Any]) -> Any:
    finite = column[np.isfinite(column)].astype("f8")
    ends = np.array([[finite.min()], [finite.max()]]) if len(finite) else np.full((2, 1), np.nan)
    found = Histograms(*ends, whole=column.dtype.kind in "iub")
    with Workers(1) as workers:
        for part in np.split(column[:, None], [len(column) // 3]):
            found.add(part, workers)
    return found.finish()[0]


@pytest.mark.parametrize(
    "column",
    [
        np.random.default_rng(0).normal(size=5000),
        np.random.default_rng(0).lognormal(0, 3, 5000).astype("f4"),
        np.random.default_rng(0).integers(-3, 4, 500),
        np.random.default_rng(0).integers(0, 3000, 500).astype("u2"),
        np.random.default_rng(0).integers(-(2**62), 2**62, 500),
        np.array([-1.7e308, 0, 1.7e308]),
        np.array([np.nan, np.inf, 1.0, 2.0]),
        np.array([True, False, True]),
        np.full(7, 3.5),
        np.array([5e-324, 0.0]),
    ],
    ids=str,
)
def test_histograms(column: np.typing.NDArray[Any]) -> None:
    found = histogram_of(column)
    finite = column[np.isfinite(column)].astype("f8")
    assert found.counts.sum() == len(finite)
    assert 1 <= len(found.counts) <= MOST_BINS
    assert (np.diff(found.edges) >= 0).all()
    assert found.edges[0] <= finite.min()
    assert found.edges[-1] >= finite.max()
    with np.errstate(over="ignore"):
        if np.isfinite(finite.max() - finite.min()) and column.dtype.kind == "f" and len(column) > 10:
            wanted = np.histogram(finite, found.edges)[0]
            assert abs(found.counts - wanted).sum() <= 2  # but for rounding at edges


def test_no_finite_value() -> None:
    assert len(histogram_of(np.array([np.nan, np.inf])).counts) == 0
