"""Row-wise verbs on the command line and from Python: one result, in any blocks and threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mlpipe
from tests.cli.conftest import Run

CHAIN = "then clip --min 0 --max 3 then log1p then normalize --norm l1 then cast --to float16"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(5003, 37)).astype(">f4"))
    return tmp_path


def test_same_bytes_for_any_memory_and_threads(data: Path, run: Run, spawn: Run) -> None:
    X = np.load(data / "X.npy").astype("f4")
    wanted = np.log1p(np.clip(X, 0, 3))
    total = np.abs(wanted).sum(axis=1, keepdims=True)
    wanted = (wanted / np.where(total == 0, 1, total)).astype("f2")
    found = []
    for number, flags in enumerate(([], ["--threads", "1"], ["--threads", "3"], ["--memory", "110MiB"])):
        out = data / f"{number}.npy"
        start = spawn if "--memory" in flags else run  # this process has grown
        assert start("run", *flags, "read", data / "X.npy", *CHAIN.split(), "then", "write", out).code == 0
        found.append(out.read_bytes())
    assert len(set(found)) == 1
    np.testing.assert_allclose(np.load(out).astype("f4"), wanted.astype("f4"), rtol=1e-3, atol=1e-7)


def test_the_same_from_python(data: Path) -> None:
    chain = mlpipe.read(data / "X.npy").abs().sqrt().power(exponent=3).binarize(threshold=1).select(columns="0,-1")
    rows = np.concatenate(list(chain))
    X = np.load(data / "X.npy").astype("f4")
    np.testing.assert_array_equal(rows, (np.abs(X[:, [0, -1]]) ** 1.5 > 1).astype("f4"))


def test_refused_value(data: Path, run: Run) -> None:
    X = np.ones((300, 2))
    X[200, 1] = np.nan
    np.save(data / "N.npy", X)
    ended = run("run", "read", data / "N.npy", "then", "cast", "--to", "int8", "then", "write", data / "o.npy")
    assert ended.code == 4
    assert "link 2 (cast): row 200 holds nan; int8 cannot hold that" in ended.err
    assert not (data / "o.npy").exists()
