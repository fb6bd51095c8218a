from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, OutputError, UsageError
from mlpipe.registry import make

ROWS = np.random.default_rng(1).random((5000, 3), np.float32)
LABELS = np.arange(5000)


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", ROWS)
    np.save("y.npy", LABELS)
    yield
    assert not list(tmp_path.glob(".mlpipe*"))


def test_what_passes_is_written_and_handed_on() -> None:
    mlpipe.read("X.npy", labels="y.npy").batch(7).tee("all.npy").write("out.npy")
    for name in ("all", "out"):
        np.testing.assert_array_equal(np.load(f"{name}.npy"), ROWS)
        np.testing.assert_array_equal(np.load(f"{name}-labels.npy"), LABELS)


@pytest.mark.parametrize("rows", [0, 10, 5000])
@pytest.mark.parametrize("size", [64, 5000])
def test_the_file_gets_what_nobody_asked_for(rows: int, size: int) -> None:
    before = mlpipe.read("X.npy").batch(size)
    before.tee("a.npy").head(rows).tee("b.npy").head(5).write("out.npy")
    np.testing.assert_array_equal(np.load("a.npy"), ROWS)
    np.testing.assert_array_equal(np.load("b.npy"), ROWS[:rows])
    np.testing.assert_array_equal(np.load("out.npy"), ROWS[: min(rows, 5)])


def test_iterating() -> None:
    assert sum(map(len, mlpipe.read("X.npy").tee("a.npy").batch(100).head(250))) == 250
    np.testing.assert_array_equal(np.load("a.npy"), ROWS)
    for _ in mlpipe.read("X.npy").tee("b.npy").batch(100):
        break
    assert not Path("b.npy").exists()


def test_no_file_when_the_run_fails() -> None:
    with pytest.raises(InputError):
        mlpipe.read("X.npy").tee("a.npy").check(max=0.999).write("out.npy")
    Path("a.npy").touch()
    with pytest.raises(OutputError, match=r"a.npy: exists"):
        mlpipe.read("X.npy").tee("a.npy").write("out.npy")
    assert Path("a.npy").stat().st_size == 0
    assert not Path("out.npy").exists()
    mlpipe.read("X.npy").tee("a.npy").write("out.npy", force=True)
    np.testing.assert_array_equal(np.load("a.npy"), ROWS)


def test_a_failure_after_all_rows_have_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpipe.engine.local import LocalRun

    def fail(self: LocalRun) -> None:
        raise InputError("late")

    monkeypatch.setattr(LocalRun, "end", fail)
    with pytest.raises(InputError, match="late"):
        mlpipe.read("X.npy").tee("a.npy").nothing()
    assert not Path("a.npy").exists()


def test_stages_that_learn_pass_twice_and_one_file_is_written() -> None:
    mlpipe.read("X.npy").tee("a.npy").standardize().head(10).tee("b.npy").nothing()
    np.testing.assert_array_equal(np.load("a.npy"), ROWS)
    assert np.load("b.npy").shape == (10, 3)


def test_what_cannot_be_written() -> None:
    with pytest.raises(UsageError, match="write -"):
        make("tee", "-")
    with pytest.raises(OutputError, match="also an input"):
        mlpipe.read("X.npy").tee("X.npy").nothing(force=True)
    with pytest.raises(UsageError, match=r"^link 2 \(tee\): both write and tee name a.npy; give them different files$"):
        mlpipe.read("X.npy").tee("a.npy").write("a.npy")
    assert sorted(path.name for path in Path().iterdir()) == ["X.npy", "y.npy"]
