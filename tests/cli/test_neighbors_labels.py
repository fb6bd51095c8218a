"""`mlpipe neighbors --labels`: classes and means of the queries, and how good they are."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from tests.cli.conftest import Run

Array = Any
DIGITS = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Array]:
    """Arrays in the working directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(5)
    D, Q = random.standard_normal((300, 5)), random.standard_normal((70, 5))
    Q[:4] = D[:4]  # at distance 0
    y, v = random.integers(0, 4, 300) * 100, random.standard_normal((300, 2))
    arrays = {"D": D, "Q": Q, "y": y, "v": v, "t": random.integers(0, 4, 70) * 100, "tv": random.random((70, 2))}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    return arrays


@pytest.mark.parametrize("weighted", [False, True])
def test_classes_are_those_of_scikit_learn(files: dict[str, Array], run: Run, weighted: bool) -> None:
    weights = "distance" if weighted else "uniform"
    expected = (
        KNeighborsClassifier(7, weights=weights, algorithm="brute").fit(files["D"], files["y"]).predict(files["Q"])
    )
    more = ["--weighted"] if weighted else []
    command = ["neighbors", "Q.npy", "D.npy", "-k7", "--labels", "y.npy", *more]
    least = re.findall(r"use --memory (\w+)", run(*command, "--memory", "20MiB").err)[0]
    for how in (["--memory", "1GiB"], ["--memory", least, "--threads", "1"]):
        code, out, err = run(*command, "-o", "p.npy", "-f", *how)
        assert (code, out) == (0, ""), err
        found = np.load("p.npy")
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == files["y"].dtype
    found = run(*command, "-o", "-").out.splitlines()
    assert found == ["query,label", *(f"{i},{label}" for i, label in enumerate(expected))]
    run(*command, "-o", "p.csv")
    assert Path("p.csv").read_text().splitlines() == found
    chain = f"run read Q.npy then neighbors D.npy -k 7 --labels y.npy {' '.join(more)} then write c.npy"
    assert run(*shlex.split(chain)).code == 0
    np.testing.assert_array_equal(np.load("c.npy"), expected)


def test_means_are_those_of_scikit_learn(files: dict[str, Array], run: Run) -> None:
    expected = KNeighborsRegressor(6, algorithm="brute").fit(files["D"], files["v"]).predict(files["Q"])
    options = ["neighbors", "Q.npy", "D.npy", "-k6", "--labels", "v.npy", "--truth", "tv.npy"]
    code, out, _ = run(*options, "--json", "-o", "p.npy")
    assert code == 0
    np.testing.assert_allclose(np.load("p.npy"), expected, rtol=1e-12)
    facts = json.loads(out)
    assert (facts["task"], facts["shape"], facts["dtype"], facts["output"]) == ("regress", [70, 2], "float64", "p.npy")
    truth = facts["truth"]
    assert truth["r2"] == pytest.approx(metrics.r2_score(files["tv"], expected))
    assert truth["rmse"] == pytest.approx(metrics.root_mean_squared_error(files["tv"], expected))
    assert truth["mae"] == pytest.approx(metrics.mean_absolute_error(files["tv"], expected))
    assert len(truth["each"]["mae"]) == 2
    facts = json.loads(run(*options, "--json").out)
    np.testing.assert_allclose(facts["predicted"]["mean"], expected.mean(axis=0))
    np.testing.assert_allclose(facts["predicted"]["maximum"], expected.max(axis=0))
    lines = run(*options).out.splitlines()
    assert [line.split()[0] for line in lines][-3:] == ["R2", "RMSE", "MAE"]
    text = run("neighbors", "Q.npy", "D.npy", "-k6", "--labels", "v.npy", "-o", "-").out.splitlines()
    assert text[0] == "query,value_0,value_1"
    np.testing.assert_array_equal(
        [[*map(float, line.split(","))] for line in text[1:]], np.c_[np.arange(70), np.load("p.npy")]
    )


def test_classes_compared_with_the_truth(files: dict[str, Array], run: Run) -> None:
    expected = KNeighborsClassifier(3, algorithm="brute").fit(files["D"], files["y"]).predict(files["Q"])
    options = ["neighbors", "Q.npy", "D.npy", "-k3", "--labels", "y.npy", "--truth", "t.npy"]
    facts = json.loads(run(*options, "--json").out)
    assert facts["truth"]["confusion"] == metrics.confusion_matrix(files["t"], expected).tolist()
    assert facts["truth"]["accuracy"] == metrics.accuracy_score(files["t"], expected)
    classes, counts = np.unique(expected, return_counts=True)
    assert facts["predicted"] == {"classes": classes.tolist(), "counts": counts.tolist()}
    out = run(*options).out
    assert f"{facts['truth']['right']} of 70" in out
    assert re.search("^predicted +0 .* recall %$", out, re.MULTILINE)
    code, out, err = run(*options, "-o", "p.npy")
    assert (code, out) == (0, "")
    assert "wrote p.npy: 70 int64 classes of 3 neighbours" in err
    assert "accuracy" in err


def test_digits_are_told_from_their_nearest_ones(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["-k1", "--labels", DIGITS / "digits_labels.npy", "--truth", DIGITS / "digits_labels.npy"]
    facts = json.loads(run("neighbors", DIGITS / "digits.npy", *options, "--json").out)
    assert (facts["truth"]["right"], facts["truth"]["rows"]) == (1776, 1797)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for width, heading in ((80, "recall %"), (40, "rows")):
        monkeypatch.setenv("COLUMNS", str(width))
        code, out, _ = run("-q", "neighbors", DIGITS / "digits.npy", *options)
        assert code == 0
        assert "98.83 %  1,776 of 1,797" in out
        assert heading in out
        assert max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in out.splitlines()) <= width


def test_many_classes_show_what_is_confused_most(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.arange(100.0)[:, None])
    np.save("y.npy", np.repeat(np.arange(25), 4))
    out = run("neighbors", "x.npy", "-k2", "--labels", "y.npy", "--truth", "y.npy").out
    assert "truth  predicted  rows" in out
    assert "  …" in out
    np.save("y.npy", np.arange(100) * 1000)
    assert "predicted   99 classes" in run("neighbors", "x.npy", "-k1", "--labels", "y.npy").out
    np.save("x.npy", np.arange(600.0)[:, None])
    np.save("y.npy", np.arange(600) * 1000)
    out = run("neighbors", "x.npy", "-k1", "--labels", "y.npy", "--truth", "y.npy").out
    assert "more than 256 classes" in out
    assert "accuracy    0 %  0 of 600" in out


def test_queries_without_neighbours(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", np.array([[1.0], [np.nan]]))
    np.save("d.npy", np.array([[1.0], [2.0], [np.nan]]))
    np.save("y.npy", np.array([True, False, True]))
    np.save("v.npy", np.array([1.0, 2.0, 4.0]))
    code, _, err = run("neighbors", "q.npy", "d.npy", "-k3", "--labels", "y.npy")
    assert code == 4
    assert "query 1 has no neighbours: all its distances are NaN; give --outlier-label CLASS" in err
    out = run("neighbors", "q.npy", "d.npy", "-k3", "--labels", "y.npy", "--outlier-label", "1", "-o", "-").out
    assert out.splitlines()[1:] == ["0,False", "1,True"]
    assert run("neighbors", "q.npy", "d.npy", "-k3", "--labels", "v.npy", "-o", "-").out.splitlines()[1:] == [
        "0,1.5",
        "1,",
    ]
    assert "not predicted  1" in run("neighbors", "q.npy", "d.npy", "-k3", "--labels", "v.npy").out


def test_labels_in_shards(files: dict[str, Array], run: Run) -> None:
    for folder in ("parts", "labels"):
        Path(folder).mkdir()
    for i in range(3):
        np.save(f"parts/{i}.npy", files["D"][100 * i : 100 * (i + 1)])
        np.save(f"labels/{i}.npy", files["y"][100 * i : 100 * (i + 1)])
    whole = run("neighbors", "Q.npy", "D.npy", "--labels", "y.npy", "-o", "-").out
    assert run("neighbors", "Q.npy", "parts", "--labels", "labels", "-o", "-").out == whole
    assert len(whole.splitlines()) == 71


WRONG = [
    ("Q.npy D.npy --labels t.npy", 4, "--labels t.npy: 70 labels, but D.npy has 300 rows; there must be one for each"),
    ("Q.npy D.npy --labels v.npy --task classify", 4, "--task regress takes the mean of several"),
    ("Q.npy D.npy --labels f.npy --task classify", 4, "row 0 is 0.5, and classes are whole numbers"),
    ("Q.npy D.npy --labels n.npy", 4, "--labels n.npy: row 2 is NaN; every row needs a label"),
    ("Q.npy D.npy --labels y.npy --truth y.npy", 4, "--truth y.npy: 300 values for 70 queries"),
    ("Q.npy D.npy --labels y.npy --truth tv.npy", 4, "--truth tv.npy: shape (70, 2); predictions have (70,)"),
    ("Q.npy D.npy --labels c.npy", 4, "complex"),
    ("Q.npy D.npy --labels none.npy", 3, "none.npy"),
    ("Q.npy D.npy --labels y.npy --truth none.npy", 3, "none.npy"),
    ("Q.npy D.npy --labels -", 2, "only queries can come from stdin"),
    ("Q.npy D.npy --labels y.npy -o out", 2, "predictions are one array; give a name that ends in .npy or .csv"),
    ("Q.npy D.npy --labels y.npy -o D.npy -f", 5, "D.npy: also an input"),
    ("Q.npy D.npy --labels y.npy -o y.npy -f", 5, "y.npy: also an input"),
    ("Q.npy D.npy --labels y.npy --truth t.npy -o t.npy -f", 5, "t.npy: also an input"),
    ("Q.npy D.npy --labels y.npy -o tv.npy", 5, "exists"),
    ("Q.npy D.npy --labels y.npy -o - --json", 2, "-o - and --json"),
    ("Q.npy D.npy --weighted", 2, "--weighted: goes with --labels"),
    ("Q.npy D.npy --task regress", 2, "--task regress: goes with --labels"),
    ("Q.npy D.npy --truth t.npy", 2, "--truth: goes with --labels"),
    ("Q.npy D.npy --outlier-label 3", 2, "--outlier-label: goes with --labels"),
    ("Q.npy D.npy --labels y.npy --weighted --largest", 2, "--weighted and --largest"),
    ("Q.npy D.npy --labels y.npy --weighted --metric dot", 2, "a product is no distance"),
    ("Q.npy D.npy --labels y.npy --radius 2", 2, "--radius and --labels"),
    ("Q.npy D.npy --labels y.npy --give distances", 2, "--give distances and --labels"),
    ("Q.npy D.npy --labels v.npy --outlier-label 1", 2, "means have no classes"),
    ("Q.npy D.npy --labels u.npy --outlier-label -1", 2, "labels are uint8; give 0 to 255"),
    ("Q.npy D.npy --labels y.npy --memory 20MiB", 7, "use --memory"),
]


@pytest.mark.parametrize(("command", "code", "message"), WRONG, ids=[one[0] for one in WRONG])
def test_what_cannot_work(files: dict[str, Array], run: Run, command: str, code: int, message: str) -> None:
    np.save("f.npy", np.arange(300) + 0.5)
    np.save("n.npy", np.where(np.arange(300) == 2, np.nan, 1.0))
    np.save("c.npy", np.ones(300, complex))
    np.save("u.npy", np.ones(300, np.uint8))
    before = {path: path.read_bytes() for path in Path().iterdir()}
    ended = run("neighbors", *shlex.split(command))
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert ended.err.count("mlpipe: error:") == 1
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_dry_run_reads_nothing(files: dict[str, Array], run: Run) -> None:
    plan = json.loads(run("neighbors", "Q.npy", "D.npy", "--labels", "y.npy", "--truth", "t.npy", "-n", "--json").out)
    stages = {stage["stage"]: stage for stage in plan["stages"]}
    assert stages["vote"]["task"] == "classify"
    assert stages["vote"]["bytes_held"]["labels"] >= 300 * 8
    assert list(stages) == ["neighbors", "vote", "compare", "summary"]


def test_queries_from_stdin_and_of_unknown_number(files: dict[str, Array], run: Run) -> None:
    whole = run("neighbors", "Q.npy", "D.npy", "-k3", "--labels", "y.npy", "-o", "-").out
    command = [sys.executable, "-m", "mlpipe", "-q", "neighbors", "-", "D.npy", "-k3", "--labels", "y.npy", "-o", "-"]
    done = subprocess.run(command, input=Path("Q.npy").read_bytes(), capture_output=True, check=True)
    assert done.stdout.decode() == whole
    chain = "read Q.npy then dedup then neighbors D.npy -k 3 --labels y.npy then write some.npy"
    assert run("run", *shlex.split(chain)).code == 0
    labels = np.array([int(line.split(",")[1]) for line in whole.splitlines()[1:]])
    np.testing.assert_array_equal(np.load("some.npy"), labels)


def test_labels_beside_shards(files: dict[str, Array], run: Run) -> None:
    chain = "read D.npy --labels y.npy then write parts/ --rows-per-shard 120"
    assert run("run", *shlex.split(chain)).code == 0
    whole = run("neighbors", "Q.npy", "D.npy", "--labels", "y.npy", "-o", "-").out
    assert run("neighbors", "Q.npy", "parts", "--labels", "parts/*-labels.npy", "-o", "-").out == whole
