"""`mlpipe neighbors --graph`: symmetric graphs of neighbours."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import kneighbors_graph

from mlpipe.stages import graph
from tests.cli.conftest import Run

Array = Any


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Array:
    """Rows in the working directory, as x.npy and in shards."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(6).standard_normal((400, 4)).astype(np.float32)
    np.save("x.npy", x)
    Path("parts").mkdir()
    for i in range(4):
        np.save(f"parts/{i}.npy", x[100 * i : 100 * (i + 1)])
    return x


def expected(rows: Array, k: int, mutual: bool = False) -> Any:
    given = kneighbors_graph(rows.astype(np.float64), k, mode="distance", include_self=False)
    return (given.minimum(given.T) if mutual else given.maximum(given.T)).sorted_indices()


def in_directory(path: str) -> Any:
    data, indices, ends = (np.load(f"{path}/{name}.npy") for name in ("distances", "indices", "indptr"))
    return sparse.csr_matrix((data, indices, ends), (len(ends) - 1, len(ends) - 1))


@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("k", [1, 6])
def test_same_as_scikit_learn(rows: Array, run: Run, k: int, mutual: bool) -> None:
    more = ["--mutual"] if mutual else []
    assert run("neighbors", "x.npy", f"-k{k}", "--graph", "csr", *more, "-o", "g.npz").code == 0
    assert run("neighbors", "parts", f"-k{k}", "--graph", "csr", *more, "-o", "g/").code == 0
    found, oracle = sparse.load_npz("g.npz"), expected(rows, k, mutual)
    for one in (found, in_directory("g")):
        np.testing.assert_array_equal(one.indptr, oracle.indptr)
        np.testing.assert_array_equal(one.indices, oracle.indices)
        np.testing.assert_allclose(one.data, oracle.data, rtol=1e-6)
        assert (one.data.dtype, one.shape) == (np.float32, (400, 400))
        assert (one != one.T).nnz == 0
    code, out, _ = run("neighbors", "x.npy", f"-k{k}", "--graph", "edges", *more, "-o", "-")
    assert code == 0
    heading, *lines = out.splitlines()
    assert heading == "source,target,distance"
    upper = sparse.triu(found).tocsr().tocoo()
    assert [line.split(",")[:2] for line in lines] == [
        [str(i), str(j)] for i, j in zip(upper.row, upper.col, strict=True)
    ]
    np.testing.assert_array_equal(np.array([line.split(",")[2] for line in lines], np.float32), upper.data)
    assert run("neighbors", "x.npy", f"-k{k}", "--graph", "edges", *more, "-o", "e.csv").code == 0
    assert Path("e.csv").read_text() == out


def test_summary(rows: Array, run: Run) -> None:
    for mutual in (False, True):
        more = ["--mutual"] if mutual else []
        facts = json.loads(run("neighbors", "x.npy", "-k2", "--graph", "csr", *more, "--json").out)
        oracle = expected(rows, 2, mutual)
        degrees = np.diff(oracle.indptr)
        parts, labels = connected_components(oracle, directed=False)
        assert facts["edges"] == oracle.nnz // 2
        assert facts["degree"] == {
            "minimum": degrees.min(), "median": np.median(degrees), "mean": degrees.mean(), "maximum": degrees.max(),
        }  # fmt: skip
        assert (facts["parts"], facts["largest_part"]) == (parts, np.bincount(labels).max())
        assert facts["isolated"] == np.count_nonzero(degrees == 0)
        assert (facts["mutual"], facts["rows"], facts["k"]) == (mutual, 400, 2)
        assert facts["longest"] == pytest.approx(oracle.data.max(), rel=1e-6)
        out = run("neighbors", "x.npy", "-k2", "--graph", "edges", *more).out
        assert f"{parts}, the largest of {facts['largest_part']} rows" in out
        assert ("without edges" in out) == mutual


def test_the_same_for_any_memory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(1).standard_normal((12_000, 2)).astype(np.float32))
    monkeypatch.setattr(graph, "KERNEL_BYTES", 100 << 20)  # so that the share of the graph is what it needs
    options = ["neighbors", "x.npy", "-k40", "--graph", "csr"]
    least = re.findall(r"use --memory (\w+)", run(*options, "--memory", "20MiB").err)[0]
    for name, memory, kept in (("one", least, "in ."), ("other", "1GiB", "in memory")):
        plan = json.loads(run(*options, "--memory", memory, "-n", "--json").out)
        assert next(stage for stage in plan["stages"] if stage["stage"] == "graph")["lists_kept"] == kept
        assert run(*options, "--memory", memory, "-o", f"{name}.npz").code == 0
    assert Path("one.npz").read_bytes() == Path("other.npz").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["one.npz", "other.npz", "x.npy"]


def test_missing_and_equal_rows(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([[0.0], [0.0], [np.nan], [5.0]]))
    out = run("neighbors", "x.npy", "-k1", "--graph", "edges", "-o", "-").out
    assert out.splitlines() == ["source,target,distance", "0,1,0.0", "0,3,5.0"], "edges of length 0 are edges"
    assert run("neighbors", "x.npy", "-k1", "--graph", "csr", "-o", "g.npz").code == 0
    assert sparse.load_npz("g.npz").nnz == 4
    facts = json.loads(run("neighbors", "x.npy", "-k3", "--graph", "csr", "--json").out)
    assert (facts["isolated"], facts["parts"]) == (1, 2)


def test_an_output_that_is_there_is_kept(rows: Array, run: Run) -> None:
    Path("g").mkdir()
    Path("g/indices.npy").write_bytes(b"mine")
    code, _, err = run("neighbors", "x.npy", "-k1", "--graph", "csr", "-o", "g")
    assert (code, Path("g/indices.npy").read_bytes()) == (5, b"mine")
    assert "exists" in err
    assert run("neighbors", "x.npy", "-k1", "--graph", "csr", "-o", "g", "-f").code == 0
    assert in_directory("g").shape == (400, 400)


WRONG = [
    ("x.npy x.npy --graph csr", 2, "--graph: a graph is of one set of rows; leave x.npy out"),
    ("x.npy --graph csr --labels x.npy", 2, "--graph and --labels"),
    ("x.npy --graph csr --radius 2", 2, "--graph and --radius"),
    ("x.npy --mutual", 2, "--mutual: goes with --graph"),
    ("x.npy --graph csr -o -", 2, "--graph csr makes arrays; give a directory or a .npz, or --graph edges"),
    ("x.npy --graph csr -o g.csv", 2, "--graph csr makes arrays"),
    ("x.npy --graph csr -o g.npy", 2, "g.npy"),
    ("x.npy --graph edges -o g.npy", 2, "edges are of several dtypes"),
    ("x.npy --graph edges -o g.txt", 2, "tables are written as .csv"),
    ("x.npy --graph edges -o - --json", 2, "-o - and --json"),
    ("x.npy --graph edges -o none/e.csv", 5, "there is no directory"),
    ("x.npy --graph csr -k 400", 4, "k = 400: x.npy has 399 rows besides the row itself"),
    ("x.npy --graph csr --give distances", 2, "--give"),
    ("none.npy --graph csr", 3, "none.npy"),
    ("x.npy --graph csr --memory 20MiB", 7, "use --memory"),
]


@pytest.mark.parametrize(("command", "code", "message"), WRONG, ids=[one[0] for one in WRONG])
def test_what_cannot_work(rows: Array, run: Run, command: str, code: int, message: str) -> None:
    before = sorted(Path().iterdir())
    ended = run("neighbors", *shlex.split(command))
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(("form", "name"), [("csr", "near.npz"), ("edges", "near.csv")])
@pytest.mark.usefixtures("rows")
def test_what_a_stage_writes_itself_is_not_measured_as_nothing(run: Run, form: str, name: str) -> None:
    assert run("neighbors", "x.npy", "-k", "2", "--graph", form, "-o", name, "--report", "R.json").code == 0
    record = json.loads(Path("R.json").read_text())
    stages = {stage["name"]: stage for stage in record["stages"]}
    stored = 2 * record["result"]["edges"]
    size = np.dtype(record["result"]["dtype"]).itemsize
    assert stages["graph"]["bytes_out"] == 8 * 400 + stored * (8 + size)
    assert [stages["write"][key] for key in ("rows", "batches", "bytes_in", "bytes_out")] == [None] * 4
    assert "stages.write.rows" in record["not_measured"]


@pytest.mark.usefixtures("rows")
def test_rows_of_several_lengths_are_counted_not_their_entries(run: Run) -> None:
    command = ["neighbors", "x.npy", "--radius", "0.5", "-o", "near", "--report", "R.json"]
    assert run(*command).code == 0
    stages = {stage["name"]: stage for stage in json.loads(Path("R.json").read_text())["stages"]}
    assert stages["write"]["rows"] == 400
    assert stages["write"]["bytes_out"] == 12 * len(np.load("near/indices.npy"))
