"""`mlpipe neighbors` for the k nearest: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

import mlpipe
from mlpipe.cli.main import main
from tests.cli.conftest import Run
from tests.malformed import CASES as MALFORMED
from tests.malformed import Malformed
from tests.neighbors import naive, sorted_rows

Bytes = Callable[..., tuple[int, bytes]]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries and data in the working directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(5)
    np.save("Q.npy", random.random((7, 5)).astype("f4"))
    np.save("D.npy", random.random((40, 5)).astype("f4"))


@pytest.fixture
def stream(capfdbinary: pytest.CaptureFixture[bytes]) -> Bytes:
    """Run `mlpipe ARGUMENTS…` within this process; its exit code, and the bytes on stdout."""

    def call(*arguments: str | Path) -> tuple[int, bytes]:
        capfdbinary.readouterr()
        return main([str(argument) for argument in arguments]), capfdbinary.readouterr().out

    return call


def found(name: str = "near") -> tuple[Any, Any]:
    return np.load(f"{name}/distances.npy"), np.load(f"{name}/indices.npy")


def check(distances: Any, indices: Any, k: int, alone: bool = False, metric: str = "euclidean", **how: Any) -> None:
    Q, D = np.load("D.npy" if alone else "Q.npy"), np.load("D.npy")
    expected, places = naive(Q, None if alone else D, k, metric, **how)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(distances, expected)
    assert (indices.dtype, distances.dtype) == (np.int64, expected.dtype)


@pytest.mark.parametrize("out", ["near", "near/"])
def test_a_directory(run: Run, out: str) -> None:
    code, shown, err = run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", out)
    assert (code, shown) == (0, "")
    assert err.endswith(f"mlpipe: wrote {out}: 7 x 3 float32 euclidean neighbours\n")
    assert sorted(os.listdir("near")) == ["distances.npy", "indices.npy"]
    check(*found(), 3)
    table = scipy_distance.cdist(np.load("Q.npy").astype("f8"), np.load("D.npy").astype("f8"))
    np.testing.assert_array_equal(found()[1], sorted_rows(table, 3)[1])
    assert sorted(os.listdir()) == ["D.npy", "Q.npy", "near"]


@pytest.mark.parametrize("arguments", [["D.npy"], ["D.npy", "--self"]])
def test_among_themselves_no_row_is_its_own_neighbour(run: Run, arguments: list[str]) -> None:
    rows = np.load("D.npy")
    rows[5] = rows[9]  # at distance zero, and a neighbour all the same
    np.save("D.npy", rows)
    assert run("neighbors", *arguments, "--k", "4", "-o", "near").code == 0
    check(*found(), 4, alone=True)
    assert found()[1][5, 0] == 9


def test_an_archive(run: Run) -> None:
    assert run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", "near.npz").code == 0
    with np.load("near.npz") as archive:
        assert sorted(archive) == ["distances", "indices"]
        check(archive["distances"], archive["indices"], 3)
    first = Path("near.npz").read_bytes()
    assert run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", "near.npz", "-f", "--threads", "1").code == 0
    assert Path("near.npz").read_bytes() == first


@pytest.mark.parametrize("queries", [7, 700])
def test_csv(stream: Bytes, queries: int) -> None:
    random = np.random.default_rng(3)
    np.save("Q.npy", random.random((queries, 5)).astype("f4"))
    code, out = stream("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", "-")
    assert code == 0
    assert stream("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", "near.csv")[0] == 0
    assert Path("near.csv").read_bytes() == out
    heading, *lines = csv.reader(io.StringIO(out.decode()))
    assert heading == ["query", "neighbour", "distance"]
    assert [int(line[0]) for line in lines] == np.repeat(np.arange(queries), 3).tolist()
    distances = np.array([line[2] for line in lines], "f4").reshape(-1, 3)
    check(distances, np.array([int(line[1]) for line in lines]).reshape(-1, 3), 3)
    assert out.endswith(b"\n")


def test_missing_distances_come_last_and_are_empty_in_csv(run: Run) -> None:
    np.save("D.npy", np.array([[np.nan], [2.0], [np.inf]]))
    np.save("Q.npy", np.array([[0.0]]))
    assert run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", "-").out == (
        "query,neighbour,distance\n0,1,2.0\n0,2,inf\n0,0,\n"
    )
    facts = json.loads(run("neighbors", "Q.npy", "D.npy", "-k", "3", "--json").out)
    assert (facts["missing"], facts["infinite"]) == (1, 1)
    assert facts["kth_distance"] == dict.fromkeys(["minimum", "q25", "median", "q75", "maximum"])
    assert facts["closest"] == [
        {"query": 0, "neighbour": 1, "distance": 2.0}, {"query": 0, "neighbour": 2, "distance": None},
    ]  # fmt: skip
    lines = run("neighbors", "Q.npy", "D.npy", "-k", "3").out.splitlines()
    assert [line.split() for line in lines[-2:]] == [["missing", "1"], ["infinite", "1"]]


def test_without_an_output_a_summary_is_shown(run: Run) -> None:
    code, out, err = run("-q", "neighbors", "Q.npy", "D.npy", "-k", "3")
    assert (code, err) == (0, "")
    lines = dict(line.strip().split("  ", 1) for line in out.splitlines() if "  " in line.strip())
    distances, indices = naive(np.load("Q.npy"), np.load("D.npy"), 3, "euclidean")
    assert (lines["metric"].strip(), lines["queries"].strip(), lines["data"].strip()) == ("euclidean", "7", "40")
    quartiles = np.quantile(distances[:, 2].astype("f8"), [0, 0.25, 0.5, 0.75, 1])
    shown = [float(lines[name]) for name in ("minimum", "q25", "median", "q75", "maximum")]
    np.testing.assert_allclose(shown, quartiles, rtol=1e-6)
    row, column = np.unravel_index(distances.argmin(), distances.shape)
    assert float(lines[f"{row} and {indices[row, column]}"]) == pytest.approx(distances.min())
    facts = json.loads(run("neighbors", "Q.npy", "D.npy", "-k", "3", "--json").out)
    assert list(facts) == [
        "queries", "data", "k", "metric", "dtype", "kth_distance", "missing", "infinite", "most_popular", "closest",
    ]  # fmt: skip
    counts = np.bincount(indices.ravel(), minlength=40)
    assert facts["most_popular"][0] == {"row": int(counts.argmax()), "neighbour_of": int(counts.max())}


def test_json_of_a_run_that_writes(run: Run) -> None:
    code, out, _ = run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", "near", "--json")
    assert code == 0
    assert json.loads(out) == {
        "queries": 7, "data": 40, "k": 3, "metric": "euclidean", "dtype": "float32", "output": "near",
    }  # fmt: skip


def test_the_largest_and_ten_by_default(run: Run) -> None:
    assert run("neighbors", "Q.npy", "D.npy", "-m", "dot", "--largest", "-o", "near").code == 0
    check(*found(), 10, metric="dot", largest=True)
    lines = run("neighbors", "D.npy", "-m", "dot", "--largest", "--json").out
    closest = json.loads(lines)["closest"]
    table = np.load("D.npy").astype("f8") @ np.load("D.npy").astype("f8").T
    assert [one["distance"] for one in closest] == pytest.approx(
        sorted(table[np.triu_indices(40, 1)], reverse=True)[:5], rel=1e-6
    )


@pytest.mark.parametrize(
    ("flags", "metric", "parameters"),
    [
        (["--metric", "c"], "cityblock", {}),
        (["--metric", "cityblock", "--weights", "w.npy"], "cityblock", {"w": "w"}),
        (["-m", "minkowski", "--p", "3"], "minkowski", {"p": 3}),
        (["-m", "seuclidean", "--variance", "V.npy"], "seuclidean", {"V": "V"}),
        (["-m", "seuclidean"], "seuclidean", {}),
        (["-m", "mahalanobis", "--inverse-covariance", "VI.npy"], "mahalanobis", {"VI": "VI"}),
        (["-m", "mahalanobis"], "mahalanobis", {}),
        (["-m", "cosine"], "cosine", {}),
    ],
)
def test_metrics_take_their_parameters_from_files(
    run: Run, flags: list[str], metric: str, parameters: dict[str, Any]
) -> None:
    random = np.random.default_rng(9)
    basis = random.normal(size=(5, 5))
    files = {"w": np.array([0, 1, 2, 3, 4], ">i2"), "V": random.uniform(1, 2, 5), "VI": basis @ basis.T + np.eye(5)}
    for name, values in files.items():
        np.save(f"{name}.npy", np.asfortranarray(values))
    given = {name: files.get(value, value) for name, value in parameters.items()}
    assert run("neighbors", "Q.npy", "D.npy", "-k", "6", "--dtype", "float64", *flags, "-o", "near").code == 0
    Q, D = np.load("Q.npy").astype("f8"), np.load("D.npy").astype("f8")
    table = scipy_distance.cdist(Q, D, metric, **given)
    np.testing.assert_allclose(found()[0], np.sort(table, axis=1)[:, :6], rtol=1e-11)
    np.testing.assert_allclose(np.take_along_axis(table, found()[1], 1), found()[0], rtol=1e-11)


@pytest.mark.parametrize("way", ["directory", "pattern", "several"])
def test_shards_are_one_set(run: Run, way: str) -> None:
    assert run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", "whole").code == 0
    for name in "QD":
        os.mkdir(name)
        for number, part in enumerate(np.split(np.load(f"{name}.npy"), [2, 3])):
            np.save(f"{name}/shard-{number}.npy", part)
    sides = {
        "directory": ["Q", "D"],
        "pattern": ["Q/shard-*.npy", "D/*.npy"],
        "several": ["Q/", *(f"D/shard-{number}.npy" for number in range(3))],
    }[way]
    assert run("neighbors", *sides, "-k", "3", "-o", "near").code == 0
    for name in ("indices", "distances"):
        assert Path(f"near/{name}.npy").read_bytes() == Path(f"whole/{name}.npy").read_bytes()


def test_queries_from_stdin(spawn: Run) -> None:
    with open("Q.npy", "rb") as file:
        command = [sys.executable, "-m", "mlpipe", "-q", "neighbors", "-", "D.npy", "-k", "3", "-o", "near"]
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    check(*found(), 3)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["Q.npy", "D.npy", "-k", "41"], 4, ["k = 41: D.npy has 40 rows", "give --k 40 or less"]),
        (["D.npy", "-k", "40"], 4, ["k = 40: D.npy has 39 rows besides the row itself"]),
        (["D.npy", "none.npy"], 4, ["k = 10: none.npy has 0 rows; there is nothing to look among"]),
        (["one.npy", "-k", "1"], 4, ["k = 1: one.npy has 0 rows besides the row itself; there is nothing"]),
        (["D.npy", "-o", "oo.txt"], 2, ["-o oo.txt: .txt cannot be written; give a directory (oo.txt/), a .npz, .csv"]),
        (["D.npy", "--radius", "1", "-o", "oo.parquet"], 2, ["-o oo.parquet: .parquet cannot be written"]),
        (["D.npy", "--graph", "csr", "-o", "oo.h5"], 2, ["-o oo.h5: .h5 cannot be written"]),
        (["D.npy", "-k", str(10**20)], 2, ["k = a number of 67 bits: too large; give a whole number of at most 64"]),
        (["Q.npy", "D.npy", "-k", "0"], 2, ["--k 0: give 1 or more"]),
        (["Q.npy", "D.npy", "-k", "two"], 2, ["--k two: give a whole number"]),
        (["Q.npy", "D.npy", "--self"], 2, ["--self", "leave D.npy out"]),
        (["Q.npy", "D.npy", "-m", "euclidaen"], 2, ["unknown metric 'euclidaen'", "did you mean euclidean?"]),
        (["Q.npy", "D.npy", "--p", "3"], 2, ["euclidean takes w, not p"]),
        (["Q.npy", "D.npy", "--dtype", "float16"], 2, ["--dtype float16: give float32 or float64"]),
        (["Q.npy", "D.npy", "-m", "haversine"], 4, ["haversine takes rows of 2 features, not 5"]),
        (["Q.npy", "D.npy", "--weights", "Q.npy"], 4, ["Q.npy has shape (7, 5)", "(5,)"]),
        (["Q.npy", "D.npy", "-m", "mahalanobis", "--inverse-covariance", "D.npy"], 4, ["D.npy has shape (40, 5)"]),
        (["Q.npy", "gone.npy"], 3, ["gone.npy: no such file"]),
        (["Q.npy", "gone/"], 3, ["gone/: no such directory; check the path"]),
        (["gone-*.npy", "D.npy"], 3, ["gone-*.npy: no file matches"]),
        (["Q.npy", "wide.npy"], 4, ["Q.npy (7, 5) and wide.npy (9, 6)", "same number of features"]),
        (["Q.npy", "flat.npy"], 4, ["same number of features"]),
        (["Q.npy", "deep.npy"], 4, ["deep.npy has shape (2, 3, 4)", "reshape"]),
        (["Q.npy", "complex.npy", "-k", "1"], 4, ["complex.npy holds complex128"]),
        (["Q.npy", "text.npy"], 4, ["text.npy"]),
        (["Q.npy", "-"], 2, ["stdin cannot"]),
        (["-"], 2, ["name a file"]),
        (["Q.npy", "D.npy", "--give", "distances"], 2, ["--give", "chains"]),
        (["Q.npy", "D.npy", "--truth", "Q.npy"], 2, ["--truth: goes with --labels"]),
        (["Q.npy", "D.npy", "--graph", "csr"], 2, ["--graph", "leave D.npy out"]),
        (["D.npy", "--mutual"], 2, ["--mutual: goes with --graph"]),
        (["D.npy", "--count-only"], 2, ["--count-only: goes with --radius"]),
        (["D.npy", "--radius", "1", "-k", "3"], 2, ["--radius and --k"]),
        (["D.npy", "--radius", "nan"], 2, ["--radius nan"]),
        (["D.npy", "-k", "3", "-o", "near.npy"], 2, ["two arrays do not fit into a .npy file"]),
        (["D.npy", "-k", "3", "-o", ""], 2, ["-o ''"]),
        (["D.npy", "-k", "3", "-o", "near", "--report", "near/indices.npy"], 2, ["both --report and -o name"]),
        (["D.npy", "-k", "3", "-o", "-", "--json"], 2, ["-o - and --json"]),
        (["D.npy", "-k", "3", "-o", "gone/near"], 5, ["there is no directory"]),
        (["D.npy", "-k", "3", "-o", "Q.npy/"], 5, ["Q.npy: exists and is no directory"]),
        (["D.npy", "-k", "3", "--memory", "20MiB"], 7, ["too small: neighbors and the interpreter need"]),
        (["D.npy", "-k", "3", "--memory", "much"], 2, ["much"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_line(run: Run, arguments: list[str], code: int, words: list[str]) -> None:
    np.save("one.npy", np.empty((1, 5), "f4"))
    np.save("none.npy", np.empty((0, 5), "f4"))
    np.save("wide.npy", np.ones((9, 6)))
    np.save("flat.npy", np.ones(9))
    np.save("deep.npy", np.ones((2, 3, 4)))
    np.save("complex.npy", np.ones((3, 5), complex))
    np.save("text.npy", np.array(["a", "b"]))
    before = sorted(os.listdir())
    for flags in ([], ["--dry-run"]):
        ended = run("neighbors", *arguments, *flags)
        assert (ended.code, ended.out) == (code, "")
        assert ended.err.startswith("mlpipe: error: ")
        assert ended.err.count("\n") == 1
        assert [word for word in words if word not in ended.err] == []
        assert sorted(os.listdir()) == before


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
@pytest.mark.parametrize("bad_first", [True, False], ids=["queries", "data"])
def test_malformed_files_are_one_line(run: Run, case: Malformed, bad_first: bool) -> None:
    Path().resolve().chmod(0o777)
    path = case.build(Path())
    before = sorted(os.listdir())
    with case.user():
        ended = run("neighbors", *([path, "D.npy"] if bad_first else ["Q.npy", path]), "-k", "1", "-o", "near")
    assert (ended.code, ended.out) == (case.exit_code, "")
    assert ended.err.startswith("mlpipe: error: ")
    assert ended.err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_a_covariance_that_the_data_cannot_give(run: Run) -> None:
    np.save("flat.npy", np.ones((9, 3)))
    code, _, err = run("neighbors", "flat.npy", "-k", "2", "-m", "mahalanobis", "-o", "near")
    assert code == 4
    assert "singular" in err
    assert not os.path.exists("near")


def test_an_existing_directory_is_written_into(run: Run) -> None:
    os.mkdir("near")
    Path("near/notes.txt").write_text("mine")
    assert run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", "near").code == 0
    check(*found(), 3)
    os.unlink("near/distances.npy")
    code, out, err = run("neighbors", "Q.npy", "D.npy", "-k", "4", "-o", "near")
    assert (code, out) == (5, "")
    assert err == "mlpipe: error: near/indices.npy: exists; use --force to replace it, or write to another file\n"
    assert sorted(os.listdir("near")) == ["indices.npy", "notes.txt"]
    assert np.load("near/indices.npy").shape == (7, 3)
    assert run("neighbors", "Q.npy", "D.npy", "-k", "4", "-o", "near", "--force").code == 0
    check(*found(), 4)
    assert Path("near/notes.txt").read_text() == "mine"
    for name in ("near.npz", "near.csv"):
        Path(name).write_text("old")
        assert run("neighbors", "Q.npy", "D.npy", "-o", name).code == 5
        assert Path(name).read_text() == "old"


@pytest.mark.parametrize("way", ["directory", "link", "archive", "table", "parameter", "report"])
def test_an_input_is_never_overwritten(run: Run, way: str) -> None:
    os.mkdir("near")
    np.save("near/distances.npy", np.ones(5))
    np.save("in.npz", np.ones((9, 5)))
    os.rename("in.npz.npy", "in.npz")
    os.link("D.npy", "near/indices.npy")
    if way != "link":
        os.unlink("near/indices.npy")
    arguments = {
        "directory": ["Q.npy", "D.npy", "--weights", "near/distances.npy", "-o", "near"],
        "link": ["Q.npy", "D.npy", "-o", "near/"],
        "archive": ["in.npz", "-k", "2", "-o", "in.npz"],
        "table": ["Q.npy", "D.npy", "-o", "same.csv"],
        "parameter": ["Q.npy", "D.npy", "--weights", "near/distances.npy", "-o", "near"],
        "report": ["Q.npy", "D.npy", "--report", "D.npy"],
    }[way]
    os.link("D.npy", "same.csv")
    before = {path: path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}
    code, _, err = run("neighbors", *arguments, "--force")
    assert code == 5
    assert "also an input" in err
    assert {path: path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()} == before


def test_what_fails_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpipe.errors import InputError
    from mlpipe.stages.search import Search

    def fail(*_: Any) -> None:
        raise InputError("no")

    monkeypatch.setattr(Search, "finish", fail)
    monkeypatch.setattr("mlpipe.stages.nearest_rows.compile_search", lambda *_: None)
    before = sorted(os.listdir())
    for out in ("near", "near.npz", "near.csv"):
        assert run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", out).code == 4
        assert sorted(os.listdir()) == before


def plan_of(run: Run, *arguments: str) -> dict[str, Any]:
    code, out, err = run("neighbors", *arguments, "--dry-run", "--json")
    assert (code, err) == (0, "")
    facts: dict[str, Any] = json.loads(out)
    return facts


def test_dry_run_prints_the_plan_and_touches_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("data was read")

    monkeypatch.setattr("mlpipe.readers.npy.read_exactly", refuse)
    facts = plan_of(run, "Q.npy", "D.npy", "-k", "3", "-m", "seuclidean", "-o", "near", "--memory", "2GiB")
    [stage] = facts["stages"]
    assert sum(stage["bytes_held"].values()) <= facts["bytes_held"]
    assert (stage["metric"], stage["k"], stage["query_rows"], stage["blocks"]) == ("seuclidean", 3, 7, 1)
    assert (stage["passes_over_data"], stage["passes_before"], facts["bytes_written"]) == (1, 2, 7 * 3 * 8)
    code, out, _ = run("neighbors", "D.npy", "-k", "3", "-n")
    assert code == 0
    assert "passes over data" in out
    assert sorted(os.listdir()) == ["D.npy", "Q.npy"]


def named(err: str) -> int:
    """Mebibytes that a message says are enough."""
    return int(err.split("use --memory ")[1].split("MiB")[0])


def test_data_are_held_where_they_fit_and_else_read_again(run: Run) -> None:
    for name, rows in (("Q.npy", 400_000), ("D.npy", 200_000)):
        header = np.lib.format.header_data_from_array_1_0(np.empty((0, 64), "f4")) | {"shape": (rows, 64)}
        with open(name, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + rows * 64 * 4)
    least = named(run("neighbors", "Q.npy", "D.npy", "--memory", "1MiB").err)
    [roomy, _] = plan_of(run, "Q.npy", "D.npy", "--memory", f"{least + 200}MiB")["stages"]
    [tight, _] = plan_of(run, "Q.npy", "D.npy", "--memory", f"{least + 10}MiB")["stages"]
    assert (roomy["data_rows_held"], roomy["passes_over_data"]) == (200_000, 1)
    assert tight["data_rows_held"] < 200_000
    assert 1 < tight["passes_over_data"] == tight["blocks"]


def test_report_lock_and_progress(run: Run) -> None:
    arguments = ["neighbors", "Q.npy", "D.npy", "-k", "3", "--threads", "2", "--memory", "2GiB"]
    code, _, err = run(
        *arguments, "-o", "near", "--report", "R.json", "--lock", "lock", "--progress", "log"
    )  # fmt: skip
    assert code == 0
    assert "neighbors: 100 %" in err
    record = json.loads(Path("R.json").read_text())
    assert (record["status"], record["threads"], record["memory_ceiling"]) == ("done", 2, 2 << 30)
    assert [one["path"] for one in record["inputs"]] == ["Q.npy", "D.npy"]
    by_name = {stage["name"]: stage["rows"] for stage in record["stages"]}
    assert by_name == {"read": 7, "read data": 40, "neighbors": 7, "write": 7}
    assert record["result"]["k"] == 3
    from mlpipe.writers.lock_file import locked

    with locked(Path("lock")):
        assert run(*arguments, "--lock", "lock").code == 75
    assert run(*arguments, "--report", "R.json").code == 5


def test_one_dimension_is_one_feature(run: Run) -> None:
    np.save("a.npy", np.arange(3.0))
    code, _, err = run("neighbors", "a.npy", "-k", "2", "-o", "near")
    assert code == 0
    assert "mlpipe: a.npy is one-dimensional: every element is taken as a row of one feature\n" in err
    assert found()[1].tolist() == [[1, 2], [0, 2], [1, 0]]


def test_no_queries(run: Run) -> None:
    np.save("Q.npy", np.empty((0, 5), "f4"))
    for out in ("near", "near.npz", "near.csv"):
        assert run("neighbors", "Q.npy", "D.npy", "-k", "3", "-o", out).code == 0
    assert (found()[1].shape, found()[1].dtype) == ((0, 3), np.int64)
    assert Path("near.csv").read_text() == "query,neighbour,distance\n"
    facts = json.loads(run("neighbors", "Q.npy", "D.npy", "-k", "3", "--json").out)
    assert (facts["kth_distance"]["median"], facts["most_popular"], facts["closest"]) == (None, [], [])


@pytest.mark.parametrize("case", ["two", "alone", "cosine", "ties"])
def test_memory_threads_and_shards_change_no_byte(run: Run, case: str) -> None:
    random = np.random.default_rng(2)
    Q, D = (
        random.integers(0, 3, (rows, 30)).astype("f4") if case == "ties" else random.random((rows, 30), np.float32)
        for rows in (1500, 2100)
    )
    for name, rows in (("Q", Q), ("D", D)):
        np.save(f"{name}.npy", rows)
        os.mkdir(name)
        for number, part in enumerate(np.split(rows, [13, 700])):
            np.save(f"{name}/{number}.npy", part)
    metric = ["-m", "cosine"] if case == "cosine" else []
    whole, shards = (["D.npy"], ["D"]) if case == "alone" else (["Q.npy", "D.npy"], ["Q", "D"])
    least = named(run("neighbors", *whole, "-k", "20", *metric, "--memory", "1MiB", "-o", "near").err)
    seen, text = set(), set()
    for files, above, threads in ((whole, 0, 2), (whole, 1, 1), (shards, 2, 3), (shards, 900, 2), (whole, 900, 1)):
        flags = ["-k", "20", *metric, "--memory", f"{least + above}MiB", "--threads", str(threads)]
        assert run("neighbors", *files, *flags, "-f", "-o", "near").code == 0
        seen.add((Path("near/indices.npy").read_bytes(), Path("near/distances.npy").read_bytes()))
        text.add(run("-q", "neighbors", *files, *flags, "--json").out)
    assert (len(seen), len(text)) == (1, 1)


def test_from_cron(tmp_path: Path) -> None:
    """An almost empty environment, no terminal, no standard input, another directory."""
    command = [sys.executable, "-m", "mlpipe", "neighbors", tmp_path / "D.npy", "-k", "3", "-o", tmp_path / "near"]
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert "\x1b" not in done.stderr
    assert done.stderr.endswith("7 x 3 float32 euclidean neighbours\n".replace("7 x", "40 x"))
    check(*found(), 3, alone=True)


# In chains.


def test_in_a_chain(run: Run) -> None:
    assert run("run", "read", "Q.npy", "then", "neighbors", "D.npy", "--k", "4", "then", "write", "out.npy").code == 0
    check(np.load("out-labels.npy"), np.load("out.npy"), 4)
    give = ["neighbors", "D.npy", "-k", "4", "--give", "distances"]
    assert run("run", "-f", "read", "Q.npy", "then", *give, "then", "write", "out.npy").code == 0
    check(np.load("out.npy"), np.load("out-labels.npy"), 4)
    assert (
        run("run", "-f", "read", "D.npy", "then", "neighbors", "D.npy", "--self", "then", "write", "out.npy").code == 0
    )
    check(np.load("out-labels.npy"), np.load("out.npy"), 10, alone=True)


def test_in_a_config_and_in_python(run: Run) -> None:
    chain = mlpipe.read("Q.npy").neighbors("D.npy", k=4, metric="cityblock")
    [(indices, distances)] = list(chain)
    check(distances, indices, 4, metric="cityblock")
    chain.save("chain.toml")
    assert "data = [" in Path("chain.toml").read_text()
    loaded = mlpipe.Pipeline.load("chain.toml")
    assert loaded == chain
    loaded.write("out.npy")
    check(np.load("out-labels.npy"), np.load("out.npy"), 4, metric="cityblock")


def test_after_what_does_not_say_how_many_rows_come(run: Run) -> None:
    np.save("Q.npy", np.repeat(np.load("Q.npy"), 300, axis=0))
    chain = ["read", "Q.npy", "then", "dedup", "then", "neighbors", "D.npy", "-k", "4", "then", "write", "out.npy"]
    assert run("run", *chain).code == 0
    np.save("Q.npy", np.load("Q.npy")[::300])
    check(np.load("out-labels.npy"), np.load("out.npy"), 4)
    endless = [
        "repeat",
        "--epochs",
        "forever",
        "then",
        "neighbors",
        "D.npy",
        "-k",
        "4",
        "then",
        "head",
        "--rows",
        "30",
        "then",
        "write",
        "out.npy",
    ]
    assert run("run", "-f", "--memory", "250MiB", "read", "Q.npy", "then", *endless).code == 0
    assert np.load("out.npy")[:7].tolist() == np.load("out.npy")[7:14].tolist()


@pytest.mark.parametrize(
    ("link", "code", "words"),
    [
        (["neighbors"], 2, "link 2 (neighbors): name the rows to look among"),
        (["neighbors", "-"], 2, "stdin cannot"),
        (["neighbors", "D.npy", "-m", "seuclidean"], 2, "give --variance"),
        (["neighbors", "D.npy", "-k", "41"], 4, "link 2 (neighbors): k = 41: D.npy has 40 rows"),
        (["neighbors", "Q.npy", "-k", "2", "--self"], 4, "--self: 40 rows or more come in, but Q.npy has 7"),
        (["neighbors", "D.npy", "--radius", "3"], 2, "add --max-neighbors N or --count-only"),
        (["neighbors", "D.npy", "--out", "x"], 2, "no option --out"),
    ],
)
def test_a_link_that_cannot_work(run: Run, link: list[str], code: int, words: str) -> None:
    ended = run("run", "read", "D.npy", "then", *link, "then", "nothing")
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert words in ended.err
