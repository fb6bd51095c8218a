"""`mlpipe dedup-near` as users run it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mlpipe.api import pairwise_distances
from tests.cli.conftest import Run

DIGITS = Path(__file__).parents[2] / "examples/data/digits.npy"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """In a directory with the first digits, and which of them are kept."""
    monkeypatch.chdir(tmp_path)
    rows = np.load(DIGITS)[:700]
    np.save("X.npy", rows)
    np.save("X-labels.npy", np.arange(700, dtype="i2"))
    found: list[int] = []
    table = pairwise_distances(rows)
    for row in range(700):
        if not (table[row, found] <= 20).any():
            found.append(row)
    return found


def test_rows_labels_and_indices(kept: list[int], run: Run) -> None:
    labelled = ("X.npy", "--labels", "X-labels.npy", "--radius", "20")
    code, out, err = run("-q", "dedup-near", *labelled, "-o", "Y.npy", "--indices", "I.npy")
    assert (code, out, err) == (0, "", "")
    rows = np.load("X.npy")
    np.testing.assert_array_equal(np.load("I.npy"), kept)
    np.testing.assert_array_equal(np.load("Y.npy"), rows[kept])
    np.testing.assert_array_equal(np.load("Y-labels.npy"), kept)
    assert np.load("Y.npy").dtype == rows.dtype
    names = sorted(os.listdir())
    assert run("dedup-near", "X.npy", "--radius", "20", "-o", "Y.npy").code == 5
    assert run("dedup-near", "X.npy", "--radius", "20", "--indices", "I.npy").code == 5
    assert run("-q", "dedup-near", "-f", *labelled, "-o", "Y.npy", "--indices", "I.npy").code == 0
    assert sorted(os.listdir()) == names


def test_the_summary(kept: list[int], run: Run) -> None:
    code, out, _ = run("-q", "dedup-near", "X.npy", "--radius", "20")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["metric", "euclidean"], ["radius", "20"], ["rows", "700"], ["kept", str(len(kept))],
        ["dropped", str(700 - len(kept))],
    ]  # fmt: skip
    facts = json.loads(run("dedup-near", "X.npy", "--radius", "20", "--json").out)
    assert facts["kept"] == len(kept)
    assert facts["dropped"] == 700 - len(kept)
    assert "wrote Y.npy" in run("dedup-near", "X.npy", "--radius", "20", "-o", "Y.npy").err
    plan = json.loads(run("dedup-near", "X.npy", "--radius", "20", "-n", "--json").out)
    assert plan["stages"][0]["stage"] == "dedup-near"


def test_same_bytes(kept: list[int], run: Run) -> None:
    base = ("-q", "dedup-near", "--radius", "20", "-f", "-o")
    assert run(*base, "Y.npy", "X.npy").code == 0
    first = Path("Y.npy").read_bytes()
    Path("shards").mkdir()
    rows = np.load("X.npy")
    for number, part in enumerate(np.split(rows, [1, 100, 463])):
        np.save(f"shards/{number}.npy", part)
    for more in (("--threads", "1"), ("--threads", "3", "--memory", "300MiB")):
        for source in ("X.npy", "shards"):
            assert run(*base, "Z.npy", *more, source).code == 0
            assert Path("Z.npy").read_bytes() == first
    line = ("-q", "run", "--save-config", "c.toml", "-f", "read", "X.npy", "then", "dedup-near", "--radius", "20")
    assert run(*line, "then", "write", "Z.npy").code == 0
    assert run("-q", "run", "-f", "--config", "c.toml").code == 0
    assert Path("Z.npy").read_bytes() == first


def test_the_ceiling_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spawn: Run) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).random((3000, 2500), np.float32)  # 30 MB, none near another
    rows[2500:] = rows[:500]
    np.save("X.npy", rows)
    refused = spawn("dedup-near", "X.npy", "--radius", "0.1", "--memory", "20MiB", "-o", "Y.npy")
    assert refused.code == 7
    assert "use --memory" in refused.err
    needs = refused.err.rsplit("use --memory ", 1)[1].split()[0]
    arguments = ("dedup-near", "X.npy", "--radius", "0.1", "--memory", needs, "--json", "--report", "r.json")
    code, out, err = spawn(*arguments, "-o", "Y.npy", "--threads", "2")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["kept"] == 2500
    assert facts["spilled_bytes"] > 5 << 20
    np.testing.assert_array_equal(np.load("Y.npy"), rows[:2500])
    record = json.loads(Path("r.json").read_text())
    assert record["process"]["anonymous_peak"] <= record["memory_ceiling"]
    assert sorted(os.listdir()) == ["X.npy", "Y.npy", "r.json"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("X.npy",), 2, "--radius"),
        (("X.npy", "--radius", "nan"), 2, "--radius nan"),
        (("X.npy", "--radius", "-2"), 2, "radius -2.0: euclidean is never below 0; give 0 or more"),
        (("X.npy", "--radius", "1", "-m", "euclid", "--p", "3"), 2, "metric euclidean takes w, not p"),
        (("X.npy", "--radius", "1", "-m", "mahalanobis"), 2, "give --inverse-covariance"),
        (("X.npy", "--radius", "1", "-o", "A.npy", "--indices", "A.npy"), 2, "both --output and --indices name"),
        (("missing.npy", "--radius", "1"), 3, "missing.npy"),
        (("X.npy", "--radius", "1", "-m", "haversine"), 4, "takes rows of 2 features, not 64"),
        (("X.npy", "--radius", "1", "--weights", "X-labels.npy"), 4, "w of 64 features must have (64,)"),
        (("X.npy", "--radius", "1", "-o", "nowhere/Y.npy"), 5, "there is no directory"),
        (("X.npy", "--radius", "1", "-f", "-o", "X.npy"), 5, "also an input"),
    ],
)
@pytest.mark.usefixtures("kept")
def test_what_is_refused(arguments: tuple[str, ...], code: int, words: str, run: Run) -> None:
    before = sorted(os.listdir())
    ended = run("dedup-near", *arguments)
    assert ended.code == code
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(os.listdir()) == before
