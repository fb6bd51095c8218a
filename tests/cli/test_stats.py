"""`mlpipe stats`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from mlpipe.readers.stats import DESCRIPTION
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples/data/digits.npy"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    rows = random.normal(5, 2, (3001, 4)).astype("f4")
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[::7, 2] = 0
    np.save("X.npy", rows)
    return tmp_path


def facts_of(run: Run, *arguments: str | Path) -> dict[str, Any]:
    code, out, err = run("-q", "stats", *arguments, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_as_pandas(data: Path, run: Run) -> None:
    found = facts_of(run, "X.npy", "--quantiles", "0.25,0.5,0.75", "--unique")
    rows = np.load("X.npy").astype("f8")
    frame = pd.DataFrame(rows)
    assert (found["rows"], found["shape"], found["dtype"], found["ddof"]) == (3001, [3001, 4], "float32", 1)
    assert [one["column"] for one in found["columns"]] == ["0", "1", "2", "3"]
    whole = pd.Series(rows.reshape(-1))
    for one, series in (*zip(found["columns"], (frame[k] for k in frame), strict=True), (found["overall"], whole)):
        wanted = series.describe()
        assert one["count"] == wanted["count"]
        assert one["missing"] == series.isna().sum()
        assert one["zeros"] == (series == 0).sum()
        assert one["distinct"] == series.nunique()
        for name, theirs in (("mean", "mean"), ("std", "std")):
            assert one[name] == pytest.approx(wanted[theirs], rel=1e-12)
        assert one["variance"] == pytest.approx(series.var(), rel=1e-12)
        assert one["skewness"] == pytest.approx(scipy.stats.skew(series, nan_policy="omit"), rel=1e-9)
        assert one["kurtosis"] == pytest.approx(scipy.stats.kurtosis(series, nan_policy="omit"), rel=1e-9)
        assert (one["minimum"], one["maximum"]) == (wanted["min"], wanted["max"])
        for fraction in (0.25, 0.5, 0.75):
            assert one["quantiles"][str(fraction)] == wanted[f"{fraction:.0%}"]
    for k, one in enumerate(found["columns"]):
        assert one["first_minimum"] == np.nanargmin(rows[:, k])
        assert one["last_maximum"] == 3000 - np.nanargmax(rows[::-1, k])
    assert run("-q", "stats", "X.npy", "--ddof", "0", "--json").code == 0


def test_the_table(data: Path, run: Run) -> None:
    code, out, err = run("-q", "stats", DIGITS, "--columns", "2,20:22", "--quantiles", "0.5,0.999")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:7] == ["column", "count", "missing", "infinite", "zeros", "mean", "std"]
    assert lines[0][8:10] == ["50%", "99.9%"]
    assert [line[0] for line in lines[1:]] == ["2", "20", "21", "overall"]
    assert {len(line) for line in lines} == {len(lines[0])}


def test_one_column_has_no_other_line(data: Path, run: Run) -> None:
    np.save("one.npy", np.arange(5))
    lines = run("-q", "stats", "one.npy").out.splitlines()
    assert [line.split()[0] for line in lines] == ["column", "0"]


def test_csv(data: Path, run: Run) -> None:
    assert run("-q", "stats", "X.npy", "-o", "s.csv", "--quantiles", "0.1").code == 0
    lines = list(csv.DictReader(io.StringIO(Path("s.csv").read_text())))
    found = facts_of(run, "X.npy", "--quantiles", "0.1")
    assert [line["column"] for line in lines] == ["0", "1", "2", "3", "overall"]
    for line, one in zip(lines, [*found["columns"], found["overall"]], strict=True):
        assert float(line["mean"]) == one["mean"]
        assert int(line["count"]) == one["count"]
        assert float(line["q0.1"]) == one["quantiles"]["0.1"]


def test_json_file(data: Path, run: Run) -> None:
    assert run("-q", "stats", "X.npy", "-o", "s.json").code == 0
    assert json.loads(Path("s.json").read_text()) == facts_of(run, "X.npy")


@pytest.mark.parametrize("verb", ["standardize", "minmax", "robust-scale"])
def test_npz_is_what_from_takes(data: Path, run: Run, verb: str) -> None:
    assert run("-q", "stats", "X.npy", "-o", "s.npz", "--quantiles", "0.1,0.25,0.5,0.75").code == 0
    assert run("-q", "run", "read", "X.npy", "then", verb, "--from", "s.npz", "then", "write", "a.npy").code == 0
    assert run("-q", "run", "read", "X.npy", "then", verb, "then", "write", "b.npy").code == 0
    np.testing.assert_allclose(np.load("a.npy"), np.load("b.npy"), rtol=2e-6, atol=1e-7)


def test_npz(data: Path, run: Run) -> None:
    np.save("X.npy", np.load("X.npy").reshape(3001, 2, 2))
    assert run("-q", "stats", "X.npy", "-o", "s.npz", "--quantiles", "0.1,0.9", "--unique").code == 0
    assert run("-q", "stats", "X.npy", "-o", "t.npz", "--quantiles", "0.1,0.9", "--unique", "--ddof", "0").code == 0
    assert Path("s.npz").read_bytes() == Path("t.npz").read_bytes()  # the population variance
    with np.load("s.npz", allow_pickle=False) as found:
        assert found[DESCRIPTION] == 1
        assert found["mean"].shape == found["count"].shape == found["distinct"].shape == (2, 2)
        assert found["quantiles"].shape == (2, 2, 2)
        assert found["overall_quantiles"].tolist() == pytest.approx(
            np.nanquantile(np.load("X.npy").astype("f8"), [0.1, 0.9]).tolist()
        )
        np.testing.assert_allclose(found["variance"], np.nanvar(np.load("X.npy").astype("f8"), axis=0), rtol=1e-12)


def test_statistics_that_do_not_do(data: Path, run: Run) -> None:
    assert run("-q", "stats", "X.npy", "-o", "s.npz").code == 0
    ended = run("run", "read", "X.npy", "then", "robust-scale", "--from", "s.npz", "then", "nothing")
    assert ended.code == 4
    assert "s.npz: holds no lower and no median and no upper; save it again by mlpipe stats with --quant" in ended.err
    rows = np.load("X.npy")
    rows[5, 1] = np.inf
    np.save("I.npy", rows)
    assert run("-q", "stats", "I.npy", "-o", "i.npz").code == 0
    for verb in ("minmax", "standardize"):
        ended = run("run", "read", "X.npy", "then", verb, "--from", "i.npz", "then", "nothing")
        assert ended.code == 4
        assert "i.npz: column 1 held infinite values, or too large ones to learn from" in ended.err


def test_matrices(data: Path, run: Run) -> None:
    flags = ["--covariance", "c.npy", "--correlation", "r.npy"]
    found = facts_of(run, "X.npy", *flags)
    frame = pd.DataFrame(np.load("X.npy").astype("f8"))
    np.testing.assert_allclose(np.load("c.npy"), frame.cov(), rtol=1e-10)
    np.testing.assert_allclose(np.load("r.npy"), frame.corr(), rtol=1e-10)
    np.testing.assert_array_equal(found["correlation"], np.load("r.npy"))
    assert run("stats", "X.npy", *flags).code == 5
    assert run("stats", "X.npy", "-f", "--ddof", "0", *flags).code == 0
    both = frame.notna().astype(float)
    pairs = both.T @ both
    np.testing.assert_allclose(np.load("c.npy"), frame.cov() * (pairs - 1) / pairs, rtol=1e-10)


def outputs(run: Run, *arguments: str | Path) -> list[bytes]:
    """Every file there is, for one way of running it."""
    flags = ["-o", "s.npz", "--quantiles", "0,0.3,1", "--unique", "--covariance", "c.npy", "--plot", "p.svg", "-f"]
    assert run("-q", "stats", *arguments, *flags).code == 0
    return [Path(name).read_bytes() for name in ("s.npz", "c.npy")]


def test_same_bytes(data: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpipe.engine import budget

    rows = np.load("X.npy")
    first = outputs(run, "X.npy")
    picture = Path("p.svg").read_bytes()
    assert outputs(run, "X.npy", "--threads", "1") == first
    assert Path("p.svg").read_bytes() == picture
    Path("shards").mkdir()
    for number, part in enumerate(np.split(rows, [1, 700, 701, 2048])):
        np.save(f"shards/{number}.npy", part)
    monkeypatch.setattr(budget, "BLOCK_BYTES", 3000)
    assert outputs(run, "shards", "--threads", "3") == first
    np.save("F.npy", np.asfortranarray(rows))
    np.save("B.npy", rows.astype(">f4"))
    assert outputs(run, "F.npy") == first
    assert outputs(run, "B.npy") == first


def test_standard_input(data: Path) -> None:
    def call(*flags: str) -> subprocess.CompletedProcess[str]:
        with Path("X.npy").open("rb") as file:
            command = [sys.executable, "-m", "mlpipe", "-q", "stats", *flags]
            return subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)

    piped = call("--json")
    assert (piped.returncode, piped.stderr) == (0, "")
    assert json.loads(piped.stdout)["rows"] == 3001
    refused = call("-", "--quantiles", "0.5")
    assert refused.returncode == 2
    assert "standard input can be read only once; add --approx, or read a file" in refused.stderr
    assert "--plot reads all rows twice" in call("-", "--plot", "p.svg").stderr


def test_several_dtypes(data: Path, run: Run) -> None:
    np.save("a.npy", np.array([1, 2], "u1"))
    np.save("b.npy", np.array([-300], "i2"))
    np.save("c.npy", np.array([2.5]))
    np.save("d.npy", np.array([2**60 + 1]))
    assert facts_of(run, "a.npy", "b.npy")["overall"]["minimum"] == -300
    assert facts_of(run, "a.npy", "c.npy")["overall"]["sum"] == 5.5
    assert run("stats", "c.npy", "d.npy").code == 4


def test_estimates(data: Path, run: Run) -> None:
    random = np.random.default_rng(1)
    np.save("L.npy", np.c_[random.normal(size=200_000), random.integers(0, 50_000, 200_000)].astype("f4"))
    flags = ["L.npy", "--quantiles", "0.1,0.5", "--unique"]
    exact, found = facts_of(run, *flags), facts_of(run, *flags, "--approx")
    assert 0 < found["rank_error"] < 0.01
    assert 0 < found["distinct_error"] < 0.05
    assert "rank_error" not in exact
    for one, estimate in zip(exact["columns"], found["columns"], strict=True):
        assert estimate["distinct"] == pytest.approx(one["distinct"], rel=0.05)
        assert one["mean"] == estimate["mean"]
    ranks = (np.load("L.npy")[:, 0] <= found["columns"][0]["quantiles"]["0.1"]).mean()
    assert ranks == pytest.approx(0.1, abs=0.01)
    note = run("stats", *flags, "--approx").err
    assert "quantiles are estimates: their ranks are off by at most" in note
    assert "distinct values are estimates: off by at most" in note
    exact, found = (facts_of(run, "X.npy", "--quantiles", "0", "--unique", *more) for more in ([], ["--approx"]))
    for one, estimate in zip(exact["columns"], found["columns"], strict=True):
        assert estimate["distinct"] == pytest.approx(one["distinct"], rel=0.05)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (0, 2, 2), (5, 0)])
def test_nothing_to_describe(data: Path, run: Run, shape: tuple[int, ...]) -> None:
    np.save("E.npy", np.empty(shape))
    flags = ["--quantiles", "0.5", "--covariance", "c.npy", "--unique", "--plot", "p.svg", "-o", "s.npz"]
    found = facts_of(run, "E.npy", *flags)
    assert found["rows"] == shape[0]
    assert found["overall"]["count"] == 0
    assert found["overall"]["mean"] is None
    assert found["overall"]["first_minimum"] in (None, -1)
    for one in found["columns"]:
        assert (one["count"], one["distinct"], one["minimum"], one["quantiles"]["0.5"]) == (0, 0, None, None)
    assert run("-q", "stats", "E.npy").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gone.npy"], 3, "gone.npy: no such file"),
        (["X.npy", "--columns", "4"], 4, "--columns 4: X.npy has 4 columns, from 0 to 3, or -4 to -1"),
        (["X.npy", "--columns", "a"], 2, "--columns a: give indices and ranges"),
        (["X.npy", "--quantiles", "1.5"], 2, "stats --quantiles 1.5: give numbers from 0 to 1"),
        (["X.npy", "--quantiles", "x"], 2, "--quantiles x: give numbers from 0 to 1"),
        (["X.npy", "--quantiles", "nan"], 2, "stats --quantiles nan: give numbers from 0 to 1"),
        (["X.npy", "--ddof", "-1"], 2, "stats --ddof -1: give 0 or more"),
        (["X.npy", "-o", "s.txt"], 2, "stats --output s.txt: give a name that ends in .json, .npz, .csv"),
        (["X.npy", "-o", "X.npy"], 2, "stats --output X.npy: give a name that ends in .json, .npz, .csv"),
        (["X.npy", "--covariance", "X.npy", "-f"], 5, "X.npy: also an input"),
        (["X.npy", "--covariance", "a.npy", "--correlation", "a.npy"], 2, "name a.npy; give them different files"),
        (["X.npy", "--plot", "p.pdf"], 2, "--plot p.pdf: give a name that ends in .svg or .png"),
        (["X.npy", "--approx"], 2, "stats --approx: nothing to estimate; give --quantiles or --unique"),
        (["X.npy", "-o", "gone/s.npz"], 5, "gone"),
        (["complex.npy"], 4, "complex128"),
    ],
)
def test_refused(data: Path, run: Run, arguments: list[str], code: int, message: str) -> None:
    np.save("complex.npy", np.ones(3, complex))
    ended = run("stats", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


def test_too_little_memory(data: Path, spawn: Run) -> None:
    ended = spawn("stats", "X.npy", "--memory", "60MiB")
    assert ended.code == 7
    assert "--memory" in ended.err


def test_dry_run(data: Path, run: Run) -> None:
    code, out, err = run("stats", "X.npy", "--quantiles", "0.5", "-n", "-o", "s.npz")
    assert (code, err) == (0, "")
    assert "passes over the source     2" in out
    assert "passes for quantiles     2" in out
    assert "s.npz" in out
    assert not Path("s.npz").exists()
    assert json.loads(run("stats", "X.npy", "-n", "--json").out)["passes_over_source"] == 1


def test_in_a_chain(data: Path, run: Run) -> None:
    chain = ["read", "X.npy", "then", "stats", "-o", "s.json", "--quantiles", "0.5", "then", "head", "--rows", "3"]
    assert run("-q", "run", *chain, "then", "standardize", "then", "write", "Y.npy").code == 0
    assert json.loads(Path("s.json").read_text())["columns"] == facts_of(run, "X.npy", "--quantiles", "0.5")["columns"]
    assert np.load("Y.npy").shape == (3, 4)
    assert "the statistics go nowhere" in run("run", "read", "X.npy", "then", "stats", "then", "nothing").err
    forever = ["generate", "--rows", "5", "--columns", "2", "then", "repeat", "--epochs", "forever"]
    assert "the rows never end" in run("run", *forever, "then", "stats", "-o", "e.csv", "then", "nothing").err
