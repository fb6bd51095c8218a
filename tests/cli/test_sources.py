"""Reading and writing in chains, from the command line: what arrives, exit codes, and nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from tests.cli.conftest import Run
from tests.cli.gate import Gated, wait_until

X = np.random.default_rng(3).normal(size=(500, 6)).astype("f4")
Y = np.arange(500, dtype="i8") % 9
MLPIPE = [sys.executable, "-m", "mlpipe", "-q", "run"]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    for folder in ("in", "out", "gate"):
        os.mkdir(folder)
    for number, part in enumerate(np.split(X, [100, 103, 400])):
        np.save(f"in/part-{number * 7}.npy", part)
    np.save("X.npy", X)
    np.save("Y.npy", Y)
    os.mkdir("pairs")
    for name, rows in (("a", 10), ("b", 20)):
        np.save(f"pairs/{name}.npy", X[:rows])
        np.save(f"pairs/{name}-labels.npy", Y[: 30 - rows])


def chain(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    "source", ["in", "in/", "in/*.npy", "--files-from list", "in/part-0.npy --files-from tail", "X.npy"]
)
def test_every_way_to_name_files(source: str, run: Run) -> None:
    names = [f"in/part-{number}.npy\n" for number in (0, 7, 14, 21)]
    Path("list").write_text("".join(names))
    Path("tail").write_text("".join(names[1:]))
    assert run("-q", "run", "read", *chain(source), "then", "write", "out/a.npy").code == 0
    assert Path("out/a.npy").read_bytes() == Path("X.npy").read_bytes()


@pytest.mark.parametrize("flags", [[], ["--memory", "170MiB"], ["--threads", "1"]])
def test_the_same_bytes_whatever_the_shards(flags: list[str], run: Run) -> None:
    parts = "--rows 50:-20 --columns 4,0:2 --label-column 2"
    for source in ("in", "X.npy"):
        out = f"out/{'shards' if source == 'in' else 'one'}.npy"
        link = ["read", source, *chain(parts), "then", "batch", "--size", "37", "then", "write", out]
        assert run("-q", "run", *flags, *link).code == 0
    assert Path("out/shards.npy").read_bytes() == Path("out/one.npy").read_bytes()
    assert Path("out/shards-labels.npy").read_bytes() == Path("out/one-labels.npy").read_bytes()
    np.testing.assert_array_equal(np.load("out/one.npy"), X[50:-20, [4, 0, 1]])
    np.testing.assert_array_equal(np.load("out/one-labels.npy"), X[50:-20, 2])


def test_labels_go_through_shards_and_back(run: Run) -> None:
    steps = [
        "read in --labels Y.npy then write out/shards --rows-per-shard 70",
        "read out/shards then write out/both.npy --labels column",
        "read out/both.npy --label-column -1 then write out/again/ --rows-per-shard 1000",
        "read out/again then write out/x.npy",
    ]
    for step in steps:
        assert run("-q", "run", *chain(step)).code == 0
    assert json.loads(Path("out/shards/manifest.json").read_text())["rows"] == 500
    np.testing.assert_array_equal(np.load("out/both.npy"), np.column_stack([X, Y]).astype("f4"))
    np.testing.assert_array_equal(np.load("out/x.npy"), X)
    np.testing.assert_array_equal(np.load("out/x-labels.npy"), Y)


def test_pipes() -> None:
    code = f"{' '.join(MLPIPE)} read in then write - | {' '.join(MLPIPE)} read - --rows 10: then write out/a.npy"
    subprocess.run(["bash", "-c", f"set -o pipefail; {code}"], check=True)
    np.testing.assert_array_equal(np.load("out/a.npy"), X[10:])
    subprocess.run(
        [
            "bash",
            "-c",
            f"find in -name '*.npy' -print0 | sort -Vz | {' '.join(MLPIPE)} read --files-from - then write out/b.npy",
        ],
        check=True,
    )
    np.testing.assert_array_equal(np.load("out/b.npy"), X)


def test_made_up_and_raw_rows(run: Run) -> None:
    assert run("-q", "run", *chain("generate --rows 300 --columns 4 --classes 3 then write out/g.npy")).code == 0
    assert (
        run("-q", "run", *chain("read-raw out/g.npy --dtype f4 --shape auto,4 --offset 128 then write out/r.npy")).code
        == 0
    )
    assert Path("out/g.npy").read_bytes() == Path("out/r.npy").read_bytes()
    assert len(np.unique(np.load("out/g-labels.npy"))) == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("read", 2, "give at least one file"),
        ("read - X.npy", 2, "stdin is one array"),
        ("read X.npy --labels - ", 2, "labels cannot come from stdin"),
        ("read X.npy --labels Y.npy --label-column 1", 2, "either --labels or --label-column"),
        ("read X.npy --rows 5", 2, "give a range such as"),
        ("read X.npy --columns x", 2, "give indices and ranges"),
        ("read X.npy --columns 6", 4, "X.npy has 6 columns"),
        ("read Y.npy --columns 0", 4, "have no columns"),
        ("read X.npy --labels in/part-0.npy", 4, "100 labels, but X.npy has 500 rows"),
        ("read in X.npy Y.npy", 4, "Y.npy: rows of shape (), but (6,) in in/part-0.npy"),
        ("read pairs", 4, "pairs/a-labels.npy: 20 labels for the 10 rows of pairs/a.npy"),
        ("read pairs X.npy", 3, "X.npy: has no X-labels.npy beside it"),
        ("read pairs --labels Y.npy", 2, "--labels: pairs/a-labels.npy holds the labels already"),
        ("read pairs --label-column 0", 2, "--label-column: pairs/a-labels.npy holds the labels already"),
        ("read gate", 3, "gate: a directory without .npy files"),
        ("read no*.npy", 3, "no file matches this pattern"),
        ("read gone.npy", 3, "gone.npy: no such file"),
        ("read --files-from gone", 3, "gone: cannot be read"),
        ("read --files-from X.npy", 4, "not a list of files"),
        ("read-raw X.npy --dtype f4 --shape auto,7", 4, "check --dtype, --shape and --offset"),
        ("generate --rows 5 --columns 2 --dtype i4", 2, "normal numbers are"),
    ],
)
def test_bad_input(words: str, code: int, message: str, run: Run) -> None:
    ended = run("-q", "run", *chain(words), "then", "write", "out/a.npy")
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert os.listdir("out") == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("read X.npy then write in --rows-per-shard 9", 5, "in: exists, and a directory is never replaced"),
        ("read X.npy then write in/", 5, "in: exists"),
        ("read X.npy then write X.npy", 5, "X.npy: also an input"),
        ("read X.npy --labels Y.npy then write Y.npy", 5, "Y.npy: also an input"),
        ("read in then write in/part-7.npy", 5, "part-7.npy: also an input"),
        ("read X.npy then write no/shards/", 5, "there is no directory"),
        ("read X.npy then write out/a --rows-per-shard 0", 2, "give 1 or more"),
        ("read Y.npy --labels Y.npy then write out/a.npy --labels column", 4, "rows of one axis with one label"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_bad_output(words: str, code: int, message: str, force: bool, run: Run) -> None:
    ended = run("-q", "run", *(["-f"] * force), *chain(words))
    assert ended.code == code
    assert message in ended.err
    assert os.listdir("out") == []
    assert sorted(os.listdir("in")) == [f"part-{number}.npy" for number in (0, 14, 21, 7)]


def test_broken_streams() -> None:
    whole = Path("X.npy").read_bytes()
    cases: list[tuple[bytes, int, str]] = [
        (whole[:-5], 4, "ends early"),
        (whole + b"x", 4, "goes on after"),
        (b"", 4, "empty"),
        (whole[:100], 4, "truncated"),
    ]
    for content, code, message in cases:
        command = [*MLPIPE, *chain("read - then write out/a.npy")]
        done = subprocess.run(command, input=content, capture_output=True, check=False)
        assert (done.returncode, message in done.stderr.decode()) == (code, True), done.stderr
        assert os.listdir("out") == []


def test_a_stream_of_more_than_is_taken_is_left_alone() -> None:
    np.save("big.npy", np.arange(4_000_000))
    content = Path("big.npy").read_bytes() + b"junk"
    command = [*MLPIPE, *chain("read - then head --rows 3 then write out/a.npy")]
    subprocess.run(command, input=content, check=True)
    np.testing.assert_array_equal(np.load("out/a.npy"), [0, 1, 2])


def test_a_pipe_closed_downstream() -> None:
    np.save("big.npy", np.zeros((300_000, 4)))
    command = f"{' '.join(MLPIPE)} read big.npy then write - | head -c 1000 > /dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, "closed by its reader" in done.stderr) == (5, True)


def test_many_shards_and_few_descriptors() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    np.save("long.npy", np.arange(300).reshape(300, 1))
    for step in ("read long.npy then write out/s --rows-per-shard 1", "read out/s then write out/a.npy"):
        subprocess.run([*MLPIPE, *chain(step)], preexec_fn=limit, check=True)
    assert Path("out/a.npy").read_bytes() == Path("long.npy").read_bytes()
    assert sorted(os.listdir("out")) == ["a.npy", "s"]


GATES = {"reading": ("preadv", 2), "writing": ("pwrite", 3), "syncing": ("fsync", 2)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", GATES)
@pytest.mark.parametrize("out", ["out/s/", "out/a.npy"])
def test_a_signal_at_any_moment_leaves_nothing(out: str, moment: str, number: signal.Signals) -> None:
    words = ["read", "in", "--labels", "Y.npy", "then", "write", out]
    gated = Gated(Path("gate").absolute(), *GATES[moment], "-q", "run", *words)
    if number == signal.SIGKILL:
        gated.process.kill()
    else:
        gated.signal(number)
    code, _, _ = gated.let_through()
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    assert os.listdir("out") == []


def change_by_removing() -> None:
    os.remove("in/part-21.npy")


def change_by_cutting() -> None:
    os.truncate("in/part-21.npy", 200)


@pytest.mark.parametrize("change", [change_by_removing, change_by_cutting])
@pytest.mark.parametrize("out", ["out/s/", "out/a.npy"])
def test_a_shard_that_goes_away_midway(change: Any, out: str) -> None:
    gated = Gated(Path("gate").absolute(), "preadv", 2, "-q", "run", "read", "in", "then", "write", out)
    change()
    code, _, err = gated.let_through()
    assert (code, "part-21.npy: " in err, err.count("\n")) == (4, True, 1)
    assert os.listdir("out") == []


def test_a_consumer_that_stops_early_closes_all() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for source in (mlpipe.read("in", labels="Y.npy", columns="0"), mlpipe.read("X.npy")):
        batches = iter(source.batch(7))
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        wait_until(lambda: len(os.listdir("/proc/self/fd")) == before, "files stay open")


def test_the_plan_reads_headers_only(run: Run) -> None:
    ended = run("run", "--dry-run", "--json", *chain("read in --labels Y.npy then write out/s/"))
    assert ended.code == 0
    assert json.loads(ended.out)["bytes_written"] >= 500 * 24
    assert os.listdir("out") == []
