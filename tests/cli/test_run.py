"""`mlpipe run`: the grammar of chains, their plan, and what is left behind."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlpipe.npy_format import MAGIC
from mlpipe.readers import npy
from tests.cli.conftest import Run

X = np.arange(70, dtype="f4").reshape(10, 7)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MEMORY", "THREADS", "PROGRESS", "PREFETCH", "DEBUG"):
        monkeypatch.delenv(f"MLPIPE_{name}", raising=False)
    np.save("X.npy", X)


def chain(text: str) -> list[str]:
    return ["-q", "run", *text.split()]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("read X.npy then write Y.npy", 10),
        ("read X.npy + write Y.npy", 10),
        ("read X.npy then head --rows 3 + batch --size 2 then write Y.npy", 3),
        ("read X.npy then head --rows=3 then write -- Y.npy", 3),
        ("read ./X.npy then head --rows 0 then write Y.npy", 0),
        ("--threads 1 --memory 1GiB --prefetch 4 read X.npy then write Y.npy", 10),
        ("-- read X.npy then write Y.npy", 10),
    ],
)
def test_chains(run: Run, text: str, rows: int) -> None:
    assert run(*chain(text)) == (0, "", "")
    np.testing.assert_array_equal(np.load("Y.npy"), X[:rows])


def test_a_file_may_be_called_then(run: Run) -> None:
    os.rename("X.npy", "then")
    assert run(*chain("read ./then then write ./+")) == (0, "", "")
    np.testing.assert_array_equal(np.load("+"), X)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a chain needs a source, such as: mlpipe run read X.npy then head then write Y.npy"),
        ("then", "link 1 is empty: 'then' stands between two links; a file of that name is written ./then"),
        ("then read X.npy", "link 1 is empty: "),
        ("read X.npy then", "link 2 is empty: "),
        ("read X.npy + + nothing", "link 2 is empty: "),
        ("reed X.npy", "link 1: no verb 'reed'; did you mean read"),
        ("X.npy then head", "link 1: 'X.npy' is a file; begin with: read X.npy"),
        ("read X.npy then haed", "link 2: no verb 'haed'; did you mean head?"),
        ("read X.npy then qqqqqq", "link 2: no verb 'qqqqqq'; see 'mlpipe verbs'"),
        ("head", "link 1 (head): a stage cannot come first; begin with a source, such as read"),
        ("nothing", "link 1 (nothing): a sink cannot come first; begin with a source, such as read"),
        ("read X.npy then read X.npy", "link 2 (read): a source can only come first; read takes several files"),
        ("read X.npy then nothing then head", "link 2 (nothing): a sink ends a chain, but head follows"),
        ("read X.npy then head --rwos 3", "link 2 (head): no option --rwos; did you mean --rows?"),
        ("read X.npy then head -x", "link 2 (head): no option -x; known are --rows"),
        ("read X.npy then head --rows", "link 2 (head): Option '--rows' requires an argument."),
        ("read X.npy then head --rows many", "link 2 (head): --rows many: give a whole number"),
        ("read X.npy then head --rows 1.5", "link 2 (head): --rows 1.5: give a whole number"),
        ("read X.npy then head --rows -1", "link 2 (head): --rows -1: give 0 or more"),
        (f"read X.npy then head --rows {10**30}", "link 2 (head): rows = a number of 100 bits: too large; give a"),
        (f"read X.npy then head --rows {'9' * 5000}", "link 2 (head): --rows 99999"),
        ("read X.npy then head 3", "link 2 (head): Got unexpected extra argument(s) (3) (see"),
        ("read X.npy then batch", "link 2 (batch): Missing option '--size'"),
        ("read X.npy then head --dry-run", "link 2 (head): --dry-run belongs to the run; give it before the first"),
        ("read X.npy then head -n", "link 2 (head): -n belongs to the run; give it before the first link"),
        ("read X.npy then write", "link 2 (write): Missing argument"),
        ("--rows 3 read X.npy", "No such option: --rows"),
        ("--prefetch 0 read X.npy", "--prefetch 0: give a whole number from 1 to 1024"),
        ("--prefetch x read X.npy", "--prefetch x: give a whole number from 1 to 1024"),
        ("--threads 0 read X.npy", "--threads 0: give a whole number from 1 to 1024"),
    ],
)
def test_usage(run: Run, text: str, message: str) -> None:
    code, out, err = run(*chain(text))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"mlpipe: error: {message}")
    assert os.listdir() == ["X.npy"]


@pytest.mark.parametrize(
    "text", ["head --help", "head -h", "read then head --help", "read X then head --rows x -h + qq"]
)
def test_help_of_a_link(run: Run, text: str) -> None:
    code, out, err = run("run", *text.split())
    assert (code, err) == (0, "")
    assert out.startswith("Usage: mlpipe run … head [OPTIONS]")
    assert "--rows N    How many.  [default: 10]" in out


def test_help_of_run(run: Run) -> None:
    code, out, _ = run("run", "--help")
    assert code == 0
    for flag in ("--config", "--save-config", "--prefetch", "--dry-run", "--memory"):
        assert flag in out


def test_without_a_sink_rows_go_to_stdout(spawn: Run) -> None:
    command = [sys.executable, "-m", "mlpipe", *chain("read X.npy then head --rows 2")]
    done = subprocess.run(command, capture_output=True, check=True)
    np.testing.assert_array_equal(np.load(io.BytesIO(done.stdout)), X[:2])
    assert done.stderr == b""


def in_terminal(*arguments: str) -> tuple[int, str]:
    """Run mlpipe with stdout and stderr on a terminal; exit code and all that was shown."""
    main, side = pty.openpty()
    command = [sys.executable, "-m", "mlpipe", *arguments]
    process = subprocess.Popen(command, stdout=side, stderr=side, stdin=subprocess.DEVNULL)
    os.close(side)
    shown = b""
    while True:
        try:
            more = os.read(main, 65536)
        except OSError:
            break
        if not more:
            break
        shown += more
    os.close(main)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def test_without_a_sink_on_a_terminal() -> None:
    code, shown = in_terminal("run", "read", "X.npy", "then", "head")
    assert code == 2
    assert shown == (
        "mlpipe: error: the chain has no sink; end it with 'then write FILE', or 'then nothing' to only measure it\n"
    )


def test_on_a_terminal_a_table_follows() -> None:
    code, shown = in_terminal("run", "read", "X.npy", "then", "batch", "--size", "3", "then", "write", "Y.npy")
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert {"read", "batch", "write", "memory"} <= {line.split()[0] for line in plain.splitlines() if line.split()}
    assert plain.splitlines()[-1] == "mlpipe: wrote Y.npy: 10 x 7 float32"


def test_notes(run: Run) -> None:
    assert run("run", "read", "X.npy", "then", "nothing").err.splitlines()[-1] == "mlpipe: 10 rows went through"
    code, out, _ = run("run", "--json", "read", "X.npy", "then", "write", "Y.npy")
    assert code == 0
    assert json.loads(out) == {"rows": 10, "path": "Y.npy", "bytes": 280, "shape": [10, 7], "dtype": "float32"}
    assert json.loads(run("-q", "run", "--json", "read", "X.npy", "then", "nothing").out) == {"rows": 10}


def test_dry_run_reads_headers_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("data was read")

    monkeypatch.setattr(npy, "read_exactly", refuse)
    code, out, err = run(*chain("-n read X.npy then head --rows 8 then batch --size 3 then write Y.npy"))
    assert (code, err) == (0, "")
    assert os.listdir() == ["X.npy"]
    links, facts = out.split("\n\n")
    table = [re.split(r"  +", line.strip()) for line in links.splitlines()]
    assert table[0] == ["link", "rows", "shape of a row", "dtype", "labels", "held"]
    assert [row[:4] for row in table[1:]] == [
        ["read", "10", "7", "float32"],
        ["head", "8", "7", "float32"],
        ["batch", "8", "7", "float32"],
        ["write", "8", "7", "float32"],
    ]
    values = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in facts.splitlines())
    assert (values["passes over the source"], values["written"]) == ("1", "224 B")
    facts = json.loads(run(*chain("-n --json read X.npy then batch --size 3 then nothing")).out)
    assert [link["link"] for link in facts["links"]] == ["read", "batch", "nothing"]
    assert facts["links"][1] == {
        "link": "batch", "rows": 10, "shape": [7], "dtype": "float32", "labels": None, "bytes_held": 3 * 3 * 28,
    }  # fmt: skip
    assert sum(link["bytes_held"] for link in facts["links"]) == facts["bytes_held"]
    assert (facts["passes_over_source"], facts["bytes_read"]) == (1, 280)


def test_dry_run_refuses_what_the_run_would(run: Run) -> None:
    Path("Y.npy").touch()
    for text, code in (
        ("-n read X.npy then write Y.npy", 5),
        ("-n -f read X.npy then write X.npy", 5),
        ("-n --memory 1MiB read X.npy then nothing", 7),
        ("-n read no.npy then nothing", 3),
        ("-n read Y.npy then nothing", 4),
    ):
        assert run(*chain(text)).code == code


def held_by_reader(run: Run, *flags: str) -> int:
    plan = json.loads(run("run", "-n", "--json", *flags, "read", "big.npy", "then", "nothing").out)
    return int(plan["bytes_held"])


def test_prefetch_is_planned(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("big.npy", np.zeros((1 << 16, 32)))
    block = held_by_reader(run) // 2
    assert held_by_reader(run, "--prefetch", "7") == 8 * block
    monkeypatch.setenv("MLPIPE_PREFETCH", "3")
    assert held_by_reader(run) == 4 * block
    assert held_by_reader(run, "--prefetch", "2") == 3 * block
    assert held_by_reader(run, "--prefetch", "1024", "--memory", "1GiB") <= 1 << 29
    assert run(*chain("--prefetch 9 read big.npy then write Y.npy")).code == 0
    assert Path("Y.npy").read_bytes() == Path("big.npy").read_bytes()


def test_report(run: Run) -> None:
    assert run(*chain("--report R.json read X.npy then batch --size 4 --drop-last then write Y.npy")).code == 0
    record = json.loads(Path("R.json").read_text())
    assert record["command"][0] == "run"
    fingerprint = record["inputs"][0].pop("fingerprint")
    assert fingerprint["size"] == Path("X.npy").stat().st_size
    assert record["inputs"] == [{"path": "X.npy", "bytes": 280, "shape": [10, 7], "dtype": "float32"}]
    assert record["output"] == {"path": "Y.npy", "bytes": 224, "shape": [8, 7], "dtype": "float32"}
    assert (record["result"], record["status"]) == ({"rows": 8}, "done")
    assert [link["link"] for link in record["plan"]["links"]] == ["read", "batch", "write"]
    assert [stage["name"] for stage in record["stages"]] == ["read", "batch", "write"]


def test_every_stage_has_its_own_clock(run: Run) -> None:
    np.save("big.npy", np.zeros((100_000, 8)))
    text = "--report R.json read big.npy then batch --size 7000 then head --rows 50000 then standardize then nothing"
    assert run(*chain(text)).code == 0
    record = json.loads(Path("R.json").read_text())
    stages = {stage["name"]: stage for stage in record["stages"]}
    assert [stage["name"] for stage in record["stages"]] == [
        "read", "batch", "head", "standardize (learning)", "read", "batch", "head", "standardize", "nothing",
    ]  # fmt: skip
    assert [stages[name]["rows"] for name in ("batch", "head", "standardize", "nothing")] == [56_000, *[50_000] * 3]
    assert record["accounted"] > 0.1
    busy = sum(stage["self_s"] + (stage["compile_s"] or 0) for stage in record["stages"][1:4])
    assert busy < record["wall_s"]


def test_report_of_an_unknown_number_of_rows(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mlpipe",
        "run",
        "--report",
        "R.json",
        "--json",
        "read",
        "-",
        "then",
        "write",
        "Y.npy",
    ]
    done = subprocess.run(command, input=Path("X.npy").read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["shape"] == [10, 7]
    assert json.loads(Path("R.json").read_text())["output"] == {
        "path": "Y.npy", "bytes": 280, "shape": [10, 7], "dtype": "float32",
    }  # fmt: skip
    assert Path("Y.npy").read_bytes().startswith(MAGIC)
    np.testing.assert_array_equal(np.load("Y.npy"), X)


def test_a_dry_run_refuses_to_learn_from_a_pipe() -> None:
    command = [sys.executable, "-m", "mlpipe", *chain("-n read - then standardize then nothing")]
    done = subprocess.run(command, input=Path("X.npy").read_bytes(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"link 2 (standardize): reads all rows before the first one comes out" in done.stderr


def test_a_report_replaces_nothing_it_should_not(run: Run) -> None:
    before = Path("X.npy").read_bytes()
    assert run(*chain("-f --report X.npy read X.npy then nothing")).code == 5
    assert run(*chain("-f --report Y.npy read X.npy then write Y.npy")).code == 2
    assert Path("X.npy").read_bytes() == before
    assert os.listdir() == ["X.npy"]
