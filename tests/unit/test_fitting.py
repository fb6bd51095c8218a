"""Stages that learn first: what comes out, what is kept, and how they fit into a chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

import mlpipe
from mlpipe.errors import InputError, OutputError, UsageError
from mlpipe.link import Array
from mlpipe.stages.minmax import MinMax
from mlpipe.stages.robust_scale import RobustScale
from mlpipe.stages.standardize import Standardize
from tests.cli.conftest import Run, run  # noqa: F401 - a fixture
from tests.passing import passed

X = np.random.default_rng(0).normal(5, 3, (501, 6))
X[:, 3] = 2.5
X[7, 0] = X[400, 5] = np.nan
SCALERS = {
    "standardize": (Standardize(), StandardScaler()),
    "minmax": (MinMax(range=(-1.0, 2.0)), MinMaxScaler((-1, 2))),
    "robust-scale": (RobustScale(), RobustScaler()),
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "u1", "f2", "?"])
def test_as_scikit_learn(name: str, dtype: str) -> None:
    verb, scaler = SCALERS[name]
    rows = X if dtype[0] == "f" else np.nan_to_num(abs(X) * 9)
    rows = rows.astype(dtype)
    made, _ = passed(verb, rows, sizes=(100, 1, 33))
    assert made.dtype == (dtype if dtype[0] == "f" else "f8")
    wanted = scaler.fit_transform(rows.astype("f8"))
    np.testing.assert_allclose(made, wanted, atol={"f2": 2e-3, "f4": 1e-6}.get(dtype, 1e-13), rtol=1e-3)


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (9,), (5, 2, 3), (700, 0)], ids=str)
def test_odd_shapes_blocks_and_threads(name: str, shape: tuple[int, ...]) -> None:
    rows = np.random.default_rng(1).normal(size=shape)
    labels = np.arange(len(rows))
    first, beside = passed(SCALERS[name][0], rows, labels, threads=1)
    second, _ = passed(SCALERS[name][0], rows, labels, threads=2, sizes=(2, 3), known=False)
    assert (first.shape, first.tobytes()) == (shape, second.tobytes())
    np.testing.assert_array_equal(beside, labels)


def test_ends_are_met_exactly() -> None:
    made, _ = passed(MinMax(range=(0.1, 0.7)), X)
    varying = [0, 1, 2, 4, 5]
    assert (np.nanmin(made, 0)[varying] == 0.1).all()
    assert (np.nanmax(made, 0)[varying] == 0.7).all()
    assert (made[:, 3] == 0.1).all()


@pytest.mark.parametrize("name", SCALERS)
def test_infinity_is_refused_unless_quartiles_are_finite(name: str) -> None:
    rows = X.copy()
    rows[5, 2] = -np.inf
    verb = SCALERS[name][0]
    if name == "robust-scale":
        assert passed(verb, rows)[0][5, 2] == -np.inf
        rows[:300, 2] = np.inf
    with pytest.raises(InputError, match=f"{name}: column 2 holds infinite values"):
        passed(verb, rows)


@pytest.mark.parametrize("name", SCALERS)
def test_statistics_are_kept_and_used(run: Run, name: str) -> None:  # noqa: F811
    source, rest = ["-q", "run", "read", "X.npy", "then"], "then write"
    assert run(*source, name, "--save-stats", "s.npz", *rest.split(), "a.npy") == (0, "", "")
    assert run(*source, name, "--from", "s.npz", *rest.split(), "b.npy") == (0, "", "")
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    ended = run(*source, name, "--save-stats", "s.npz", *rest.split(), "c.npy")
    assert (ended.code, "s.npz: exists; use --force" in ended.err) == (5, True)
    np.save("narrow.npy", X[:, :2])
    ended = run("-q", "run", "read", "narrow.npy", "then", name, "--from", "s.npz", "then", "nothing")
    assert ended.code == 4
    assert f"link 2 ({name}): has statistics of rows of shape (6,), but rows have shape (2,)" in ended.err
    other = next(other for other in SCALERS if other != name)
    ended = run("-q", "run", "read", "X.npy", "then", other, "--from", "s.npz", "then", "nothing")
    assert (ended.code, "statistics of this verb are" in ended.err) == (4, True)


def test_a_failed_run_keeps_no_statistics_of_bad_rows() -> None:
    np.save("bad.npy", np.array([[1.0], [np.inf]]))
    with pytest.raises(InputError):
        mlpipe.read("bad.npy").standardize(save_stats="s.npz").nothing()
    assert not Path("s.npz").exists()


def test_an_output_that_exists_is_refused_before_anything_is_learned() -> None:
    Path("there.npy").write_bytes(b"old")
    with pytest.raises(OutputError):
        mlpipe.read("X.npy").standardize(save_stats="s.npz").write("there.npy")
    assert not Path("s.npz").exists()


def test_several_in_one_chain() -> None:
    made = np.concatenate(list(mlpipe.read("X.npy").head(400).standardize().abs().minmax().robust_scale().batch(64)))
    rows: Array = X[:400]
    for name in ("standardize", "abs", "minmax", "robust-scale"):
        rows = abs(rows) if name == "abs" else passed({**SCALERS, "minmax": (MinMax(), None)}[name][0], rows)[0]
    np.testing.assert_array_equal(made, rows)


def test_learning_sees_what_the_stages_before_make() -> None:
    twice = mlpipe.read("X.npy").select("1").standardize().standardize()
    made = np.concatenate(list(twice))
    assert abs(made.mean()) < 1e-15
    assert abs(made.std() - 1) < 1e-15


def test_the_plan_tells_the_passes(run: Run) -> None:  # noqa: F811
    chain = "run --dry-run --json read X.npy then standardize then robust-scale --save-stats s.npz then nothing"
    ended = run(*chain.split())
    facts = json.loads(ended.out)
    assert facts["passes_over_source"] >= 3
    assert not Path("s.npz").exists()


def test_rows_that_come_once_need_statistics(spawn_stdin: Any) -> None:
    content = Path("X.npy").read_bytes()
    ended = spawn_stdin(content, "run read - then standardize then nothing")
    assert ended.returncode == 2
    assert "link 2 (standardize): reads all rows before the first one comes out" in ended.stderr.decode()
    mlpipe.read("X.npy").standardize(save_stats="s.npz").nothing()
    ended = spawn_stdin(content, "-q run read - then standardize --from s.npz then write a.npy")
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.fixture
def spawn_stdin() -> Any:
    import subprocess
    import sys

    def call(content: bytes, text: str) -> Any:
        command = [sys.executable, "-m", "mlpipe", *text.split()]
        return subprocess.run(command, input=content, capture_output=True, timeout=120, check=False)

    return call


def test_bad_options() -> None:
    with pytest.raises(UsageError, match="--from and --save-stats exclude each other"):
        Standardize(from_="a", save_stats="b")
    for wrong in ((1.0, 1.0), (2.0, 1.0), (1.0,), (0.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(UsageError, match="give two numbers, the lower first"):
            MinMax(range=wrong)


def test_endless_and_complex_rows_are_refused() -> None:
    from mlpipe.link import Spec

    with pytest.raises(UsageError, match="these never end"):
        Standardize().plan(Spec(None, (3,), np.dtype("f8"), endless=True))
    with pytest.raises(InputError, match="not complex128"):
        Standardize().plan(Spec(3, (3,), np.dtype("c16")))
