"""`mlpipe neighbors --radius` as users run it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.radius import radius_neighbors
from tests.cli.conftest import Run

DIGITS = Path(__file__).parents[2] / "examples/data/digits.npy"
NAMES = ("indptr", "indices", "distances")


@pytest.fixture(autouse=True)
def _digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory with digits: some queries, and the others in one file and in several."""
    monkeypatch.chdir(tmp_path)
    rows = np.load(DIGITS)
    np.save("Q.npy", rows[:203])
    np.save("D.npy", rows[203:1000])
    Path("shards").mkdir()
    for number, part in enumerate(np.split(rows[203:1000], [1, 250, 600])):
        np.save(f"shards/{number}.npy", part)


def arrays(path: str) -> list[Any]:
    return [np.load(f"{path}/{name}.npy") for name in NAMES]


def test_a_directory_an_archive_and_pairs(run: Run) -> None:
    expected = radius_neighbors(np.load("Q.npy"), np.load("D.npy"), 22)
    assert len(expected[1]) > 500
    code, out, err = run("-q", "neighbors", "Q.npy", "D.npy", "--radius", "22", "-o", "near")
    assert (code, out, err) == (0, "", "")
    for found, wanted in zip(arrays("near"), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    assert run("-q", "neighbors", "Q.npy", "D.npy", "--radius", "22", "-o", "near.npz").code == 0
    sparse = pytest.importorskip("scipy.sparse").load_npz("near.npz")
    assert sparse.shape == (203, 797)
    np.testing.assert_array_equal(sparse.data, expected[2])
    code, out, _ = run("-q", "neighbors", "Q.npy", "D.npy", "--radius", "22", "-o", "-")
    assert code == 0
    lines = [line.split(",") for line in out.splitlines()]
    assert lines[0] == ["query", "neighbour", "distance"]
    assert [int(line[1]) for line in lines[1:]] == expected[1].tolist()
    assert [float(line[2]) for line in lines[1:]] == expected[2].tolist()
    assert np.bincount([int(line[0]) for line in lines[1:]], minlength=203).tolist() == np.diff(expected[0]).tolist()


@pytest.mark.parametrize("flags", [(), ("--largest",), ("-m", "cosine"), ("--max-neighbors", "3")])
def test_same_bytes(flags: tuple[str, ...], run: Run) -> None:
    radius = "0.1" if "cosine" in flags else "22"
    base = ("-q", "neighbors", "Q.npy", "--radius", radius, *flags)
    assert run(*base, "D.npy", "-o", "first").code == 0
    for number, more in enumerate([("--threads", "1"), ("--threads", "3", "--memory", "300MiB")]):
        for data in ("D.npy", "shards"):
            assert run(*base, data, *more, "-o", f"again-{number}-{Path(data).stem}").code == 0
            for name in NAMES:
                again = Path(f"again-{number}-{Path(data).stem}", f"{name}.npy")
                assert again.read_bytes() == Path("first", f"{name}.npy").read_bytes()


def test_within_one_set(run: Run) -> None:
    rows = np.load("D.npy")
    for flags, how in (((), {}), (("--max-neighbors", "2"), {"max_neighbors": 2})):
        assert run("-q", "neighbors", "D.npy", "--radius", "20", *flags, "-f", "-o", "own").code == 0
        for found, wanted in zip(arrays("own"), radius_neighbors(rows, None, 20, **how), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_counts(run: Run) -> None:
    expected = radius_neighbors(np.load("Q.npy"), np.load("D.npy"), 22, count_only=True)
    base = ("-q", "neighbors", "Q.npy", "D.npy", "--radius", "22", "--count-only")
    assert run(*base, "-o", "C.npy").code == 0
    np.testing.assert_array_equal(np.load("C.npy"), expected)
    out = run(*base, "-o", "-").out.splitlines()
    assert out[0] == "query,count"
    assert [line.split(",") for line in out[1:]] == [[str(i), str(n)] for i, n in enumerate(expected)]
    assert run(*base, "-o", "C.csv").code == 0
    assert Path("C.csv").read_text().splitlines() == out


def test_the_summary(run: Run) -> None:
    counts = radius_neighbors(np.load("Q.npy"), np.load("D.npy"), 22, count_only=True)
    facts = json.loads(run("neighbors", "Q.npy", "D.npy", "--radius", "22", "--json").out)
    assert facts["pairs"] == counts.sum()
    assert facts["mean"] == counts.mean()
    first = np.lexsort((np.arange(203), -counts))[:5]
    assert [one["query"] for one in facts["most_crowded"]] == first.tolist()
    code, out, _ = run("-q", "neighbors", "Q.npy", "D.npy", "--radius", "22")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert f"neighbours in all {counts.sum():,}" in lines
    assert f"query {first[0]} {counts.max()}" in lines
    assert f"0 {(counts == 0).sum()}" in lines
    capped = json.loads(run("neighbors", "Q.npy", "D.npy", "--radius", "22", "--max-neighbors", "2", "--json").out)
    assert capped["pairs"] == np.minimum(counts, 2).sum()
    plan = json.loads(run("neighbors", "Q.npy", "D.npy", "--radius", "22", "-o", "x", "-n", "--json").out)
    assert plan["stages"][0]["radius"] == 22
    written = json.loads(run("neighbors", "Q.npy", "D.npy", "--radius", "22", "-o", "x", "--json").out)
    assert (written["pairs"], written["queries"], written["output"]) == (counts.sum(), 203, "x")
    assert "neighbours of 203 queries within 22" in run("neighbors", "Q.npy", "D.npy", "--radius", "22", "-o", "y").err


def test_in_chains(run: Run) -> None:
    rows, data = np.load("Q.npy"), np.load("D.npy")
    counts = radius_neighbors(rows, data, 22, count_only=True)
    line = ("-q", "run", "--save-config", "c.toml", "read", "Q.npy", "then", "neighbors", "D.npy", "--radius", "22")
    assert run(*line, "--count-only", "then", "write", "C.npy").code == 0
    np.testing.assert_array_equal(np.load("C.npy"), counts)
    assert run("-q", "run", "-f", "--config", "c.toml").code == 0
    np.testing.assert_array_equal(np.load("C.npy"), counts)
    mlpipe.read("Q.npy").neighbors("D.npy", radius=22, max_neighbors=3).write("N.npy")
    near, distances = np.load("N.npy"), np.load("N-labels.npy")
    indptr, indices, expected = radius_neighbors(rows, data, 22, max_neighbors=3)
    assert near.shape == (203, 3)
    assert (near >= 0).sum(axis=1).tolist() == np.diff(indptr).tolist()
    np.testing.assert_array_equal(near[near >= 0], indices)
    np.testing.assert_array_equal(distances[near >= 0], expected)
    assert np.isnan(distances[near < 0]).all()
    refused = run("run", "read", "Q.npy", "then", "neighbors", "D.npy", "--radius", "22", "then", "nothing")
    assert refused.code == 2
    assert "add --max-neighbors N or --count-only" in refused.err


def test_the_ceiling_is_kept(spawn: Run) -> None:
    rows = np.random.default_rng(0).random((4000, 512), np.float32)  # 8 MB
    np.save("X.npy", rows)
    base = ("neighbors", "X.npy", "--radius", "9.1", "--threads", "2", "--json")
    refused = spawn(*base, "--memory", "20MiB", "-o", "near")
    assert refused.code == 7
    needs = refused.err.rsplit("use --memory ", 1)[1].split()[0]
    for number, memory in enumerate([needs, "1GiB"]):
        code, out, err = spawn(*base, "--memory", memory, "-o", f"near-{number}", "--report", f"r{number}.json")
        assert code == 0, err
        record = json.loads(Path(f"r{number}.json").read_text())
        assert record["process"]["anonymous_peak"] <= record["memory_ceiling"]
        assert json.loads(out)["pairs"] > 1_000_000
    for name in NAMES:
        assert Path(f"near-0/{name}.npy").read_bytes() == Path(f"near-1/{name}.npy").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--radius", "nan"), 2, "--radius nan: give a number"),
        (("--radius", "-1"), 2, "radius -1.0: euclidean is never below 0; give 0 or more"),
        (("--radius", "1", "-k", "3"), 2, "--radius and --k"),
        (("--radius", "1", "-o", "x.npy"), 2, "three arrays do not fit into a .npy file"),
        (("--radius", "1", "--count-only", "-o", "x"), 2, "counts are one array; give a .npy, a .csv or -"),
        (("--radius", "1", "--json", "-o", "-"), 2, "-o - and --json"),
        (("--radius", "1", "--give", "distances"), 2, "--give: both are written"),
        (("--radius", "1", "-o", "D.npy/x"), 5, "there is no directory"),
        (("--radius", "1", "-o", "Q.npz"), 5, "exists"),
        (("--radius", "1", "-m", "haversine"), 4, "takes rows of 2 features"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], code: int, words: str, run: Run) -> None:
    Path("Q.npz").touch()
    before = sorted(os.listdir())
    ended = run("neighbors", "Q.npy", "D.npy", *arguments)
    assert ended.code == code
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(os.listdir()) == before
