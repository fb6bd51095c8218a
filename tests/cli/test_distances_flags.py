"""The flags that `mlpipe distances` shares with what comes after it: plan, report, progress, variables, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.measure.schema import check_record
from mlpipe.readers import npy
from tests.cli.conftest import Run

MIB = 2**20


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLPIPE_MEMORY", "MLPIPE_THREADS", "MLPIPE_PROGRESS", "MLPIPE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    random = np.random.default_rng(5)
    np.save("X.npy", random.normal(size=(700, 5)).astype("f4"))
    np.save("Y.npy", random.normal(size=(400, 5)).astype("f4"))


def plan_of(run: Run, *arguments: str) -> dict[str, Any]:
    code, out, err = run("distances", "X.npy", "Y.npy", "--dry-run", "--json", *arguments)
    assert (code, err) == (0, "")
    facts: dict[str, Any] = json.loads(out)
    return facts


def test_dry_run_prints_the_plan_and_touches_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("data was read")

    monkeypatch.setattr(npy, "read_exactly", refuse)
    arguments = ["distances", "X.npy", "Y.npy", "-n", "--memory", "2GiB", "--threads", "3", "-m", "seuclidean"]
    code, out, err = run(*arguments, "-o", "D.npy", "--report", "R.json")
    assert (code, err) == (0, "")
    assert sorted(os.listdir()) == ["X.npy", "Y.npy"]
    facts = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in out.splitlines())
    assert facts["memory ceiling"] == "2.00 GiB"
    assert (facts["threads"], facts["stage"], facts["metric"]) == ("3", "pairwise", "seuclidean")
    assert (facts["passes over y"], facts["passes before"], facts["written"]) == ("1", "2", "1.07 MiB")
    assert run(*arguments).out.splitlines()[-1].split() == ["written", "nothing"]


def test_dry_run_as_json(run: Run) -> None:
    facts = plan_of(run, "-o", "D.npy", "--memory", "2GiB", "--threads", "1")
    assert list(facts) == [
        "memory_ceiling",
        "memory_base",
        "bytes_held",
        "bytes_read",
        "bytes_written",
        "threads",
        "stages",
    ]
    assert (facts["memory_ceiling"], facts["threads"], facts["bytes_written"]) == (2048 * MIB, 1, 4 * 700 * 400)
    [stage] = facts["stages"]
    assert sum(stage["bytes_held"].values()) == facts["bytes_held"]
    assert facts["memory_base"] + facts["bytes_held"] <= facts["memory_ceiling"]
    assert stage["tile"][0] == stage["block_rows"]
    assert stage["blocks"] == -(-700 // stage["block_rows"])
    assert stage["tiles"] == stage["blocks"] * -(-400 // stage["tile"][1])


def test_dry_run_refuses_what_the_run_would_refuse(run: Run) -> None:
    Path("D.npy").touch()
    assert run("distances", "X.npy", "Y.npy", "-n", "-o", "D.npy").code == 5
    assert run("distances", "X.npy", "Y.npy", "-n", "--memory", "10MiB").code == 7
    assert run("distances", "X.npy", "Y.npy", "-n", "--metric", "haversine").code == 4
    assert run("distances", "X.npy", "Y.npy", "-n", "-o", "E.npy", "--report", "D.npy").code == 5


def test_report(run: Run) -> None:
    code, out, _ = run(
        "distances", "X.npy", "Y.npy", "-o", "D.npy", "--report", "R.json", "--memory", "2GiB", "--threads", "2"
    )
    assert (code, out) == (0, "")
    record = json.loads(Path("R.json").read_text())
    assert check_record(record) is record
    assert (record["status"], record["complete"], record["exit_code"], record["result"]) == ("done", True, 0, None)
    assert record["command"][:5] == ["distances", "X.npy", "Y.npy", "-o", "D.npy"]
    assert (record["threads"], record["memory_ceiling"], record["seed"]) == (2, 2048 * MIB, None)
    status = Path("Y.npy").stat()
    assert record["inputs"][1] == {
        "path": "Y.npy", "bytes": 8128, "shape": [400, 5], "dtype": "float32",
        "fingerprint": {"inode": status.st_ino, "size": 8128, "mtime_ns": status.st_mtime_ns},
    }  # fmt: skip
    assert record["output"] == {"path": "D.npy", "bytes": 1_120_000, "shape": [700, 400], "dtype": "float32"}
    assert record["plan"]["bytes_written"] == 1_120_000
    by_name = {stage["name"]: stage for stage in record["stages"]}
    assert list(by_name) == ["read", "read Y", "pairwise", "write"]
    assert {name: stage["rows"] for name, stage in by_name.items()} == {
        "read": 700, "read Y": 400, "pairwise": 700, "write": 700,
    }  # fmt: skip
    assert {name: (stage["bytes_in"], stage["bytes_out"]) for name, stage in by_name.items()} == {
        "read": (14_000, 14_000), "read Y": (8_000, 8_000), "pairwise": (22_000, 1_120_000),
        "write": (1_120_000, 1_120_000),
    }  # fmt: skip
    for stage in record["stages"]:
        spent = [stage[f"{state}_s"] or 0 for state in ("self", "wait_in", "wait_out", "compile")]
        assert 0 < sum(spent) <= record["wall_s"]
    assert 0 < record["accounted"] <= 1
    assert 0 < record["process"]["anonymous_peak"] <= record["process"]["rss_peak"]


def test_report_of_a_summary_and_of_a_failure(run: Run) -> None:
    code, out, _ = run("distances", "X.npy", "--report", "R.json", "--json")
    record = json.loads(Path("R.json").read_text())
    assert (code, record["output"], record["status"]) == (0, None, "done")
    assert record["result"]["closest"] == json.loads(out)["closest"]
    np.save("flat.npy", np.ones((9, 3)))
    assert run("distances", "flat.npy", "-m", "mahalanobis", "--report", "F.json").code == 4
    record = check_record(json.loads(Path("F.json").read_text()))
    assert (record["status"], record["complete"], record["exit_code"]) == ("failed", False, 4)
    assert record["error"].startswith("the covariance matrix is singular")


def test_a_report_replaces_nothing_it_should_not(run: Run) -> None:
    Path("R.json").write_text("old")
    np.save("w.npy", np.ones(5))
    arguments = ["distances", "X.npy", "Y.npy", "--weights", "w.npy", "-o", "D.npy"]
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    for flags, code, words in (
        (["--report", "R.json"], 5, "R.json: exists"),
        (["--force", "--report", "X.npy"], 5, "X.npy: also an input"),
        (["--force", "--report", "w.npy"], 5, "w.npy: also an input"),
        (["--force", "--report", "./D.npy"], 2, "both --report and --output name D.npy"),
        (["--report", "missing/R.json"], 5, "there is no directory"),
    ):
        ended = run(*arguments, *flags)
        assert (ended.code, ended.out) == (code, "")
        assert words in ended.err
        assert before == {name: Path(name).read_bytes() for name in os.listdir()}
    assert run(*arguments, "--force", "--report", "R.json").code == 0
    assert json.loads(Path("R.json").read_text())["status"] == "done"


def test_results_on_stdout_and_the_table_on_stderr(run: Run) -> None:
    code, out, err = run("distances", "X.npy", "Y.npy", "-m", "cosine")
    assert (code, out.split()[:2]) == (0, ["metric", "cosine"])
    lines = [line for line in err.splitlines() if not line.startswith(("limit   ", "try     "))]  # not of short runs
    heading, *links, _rates, _time, memory = lines
    assert heading.split()[:6] == ["stage", "self", "wait", "in", "wait", "out"]
    assert [re.split(r"  +", line)[0] for line in links] == ["read", "read Y", "pairwise", "write"]
    assert memory.startswith("memory  anonymous peak ")
    quiet = run("-q", "distances", "X.npy", "Y.npy", "-m", "cosine")
    assert quiet == (0, out, "")
    assert run("-q", "distances", "X.npy", "Y.npy", "-o", "D.npy", "--progress", "log") == (0, "", "")


def test_progress_in_a_log(run: Run) -> None:
    code, out, err = run("distances", "X.npy", "Y.npy", "-o", "D.npy", "--progress", "log")
    assert (code, out) == (0, "")
    lines = [line for line in err.splitlines() if line.startswith("distances: ")]
    assert re.fullmatch(r"distances: 100 %, 1.07 MiB of 1.07 MiB, \S+ \S+/s, took .+", lines[-1])
    for mode in ("auto", "none"):
        assert "MiB of 1.07" not in run("distances", "X.npy", "Y.npy", "-f", "-o", "D.npy", "--progress", mode).err


def test_every_byte_of_a_mirrored_or_condensed_output_counts_once(run: Run) -> None:
    np.save("wide.npy", np.random.default_rng(1).normal(size=(1100, 1024)).astype("f4"))
    for flags, size in (([], "4.62 MiB"), (["--condensed"], "2.31 MiB")):
        code, _, err = run("distances", "wide.npy", *flags, "--force", "-o", "D.npy", "--progress", "log")
        assert code == 0
        assert f"distances: 100 %, {size} of {size}, " in err


@pytest.mark.parametrize(
    ("variable", "value", "flag", "other", "fact", "from_variable", "from_flag"),
    [
        ("MLPIPE_MEMORY", "2GiB", "--memory", "3GiB", "memory_ceiling", 2048 * MIB, 3072 * MIB),
        ("MLPIPE_THREADS", "3", "--threads", "1", "threads", 3, 1),
    ],
)
def test_a_flag_wins_over_its_variable(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, flag: str, other: str, fact: str,
    from_variable: int, from_flag: int,
) -> None:  # fmt: skip
    default = plan_of(run)[fact]
    monkeypatch.setenv(variable, value)
    assert plan_of(run)[fact] == from_variable
    assert plan_of(run, flag, other)[fact] == from_flag
    monkeypatch.setenv(variable, "")
    assert plan_of(run)[fact] == pytest.approx(default, rel=0.2)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("MLPIPE_MEMORY", size) for size in ("plenty", "-1", "0", "nan")),
        *(("MLPIPE_THREADS", threads) for threads in ("0", "two", "1025", "9" * 30)),
        ("MLPIPE_PROGRESS", "loud"),
    ],
)  # fmt: skip
def test_nonsense_in_a_variable_or_flag_is_a_usage_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    flag = f"--{variable.removeprefix('MLPIPE_').lower()}"
    named = run("distances", "X.npy", "-o", "D.npy", f"{flag}={value}")
    monkeypatch.setenv(variable, value)
    unnamed = run("distances", "X.npy", "-o", "D.npy")
    for code, out, err in (named, unnamed):
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert value in err
    assert variable in unnamed.err or flag in unnamed.err
    assert not os.path.exists("D.npy")


def test_progress_from_a_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPIPE_PROGRESS", "log")
    assert "distances: 100 %" in run("distances", "X.npy", "-o", "D.npy").err
    assert "distances: 100 %" not in run("distances", "X.npy", "-f", "-o", "D.npy", "--progress", "none").err


def on_terminal(*arguments: str, stdout: int | None = None, **environment: str) -> tuple[int, str]:
    """Exit code, and what a terminal of 100 columns got, of a run there with stdout there too or elsewhere."""
    master, slave = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlpipe", *arguments], stdin=slave, stdout=slave if stdout is None else stdout,
        stderr=slave, env={**plain, "TERM": "xterm", "COLUMNS": "100", **environment}, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the last writer is gone
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    return process.wait(), shown.decode()


def test_a_terminal_gets_a_bar_and_a_table() -> None:
    code, shown = on_terminal("distances", "X.npy", "Y.npy", "-o", "D.npy")
    assert code == 0
    assert "━" in shown
    assert "1.07 MiB" in shown
    assert "\x1b[" in shown
    assert shown.index("━") < shown.index("pairwise")
    assert shown.endswith("mlpipe: wrote D.npy: 700 x 400 float32 euclidean distances\r\n")


def test_a_bar_does_not_disturb_what_stdout_carries() -> None:
    with open("D.npy", "wb") as file:
        code, shown = on_terminal("distances", "X.npy", "Y.npy", "-o", "-", stdout=file.fileno(), NO_COLOR="1")
    assert code == 0
    assert " of 1.07 MiB" in shown
    assert re.search(r"\x1b\[[0-9;]*3[0-7]", shown) is None
    assert np.load("D.npy").shape == (700, 400)


def test_a_dumb_terminal_gets_no_bar() -> None:
    code, shown = on_terminal("distances", "X.npy", "Y.npy", TERM="dumb")
    assert (code, "%" in shown.split("accounted")[0].split("memory")[0].split("stage")[0]) == (0, False)
    assert "\x1b[?25l" not in shown


def test_binary_is_not_written_to_a_terminal() -> None:
    code, shown = on_terminal("distances", "X.npy", "Y.npy", "-o", "-")
    assert code == 2
    assert shown == ("mlpipe: error: -o - would write binary data to the terminal; redirect it, or name a file\r\n")
