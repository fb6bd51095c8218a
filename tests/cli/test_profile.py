"""``mlpipe profile``: commands measured from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.cli.main import main
from mlpipe.measure.schema import RecordFacts, load_record
from tests.cli.conftest import Ended, Run
from tests.cli.gate import start, wait_until

MIB = 1 << 20
DIGITS = Path(__file__).parents[2] / "examples/data/digits.npy"

HEAD: list[str | Path] = ["read", DIGITS, "then", "head", "--rows", "10"]
LIGHT: list[str | Path] = ["run", *HEAD, "then", "nothing"]
"""A chain that compiles nothing."""

Profile = Callable[..., Ended]


@pytest.fixture
def profile(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """Run `mlpipe profile ARGUMENTS…` here; what it runs is a process of its own, whose streams are caught, too."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path, before: tuple[str, ...] = ()) -> Ended:
        capfd.readouterr()
        code = main([*before, "profile", *map(str, arguments)])
        return Ended(code, *capfd.readouterr())

    return call


def record_of(path: str) -> RecordFacts:
    return load_record(path)


def test_a_command_does_what_it_does_and_is_measured(profile: Profile) -> None:
    code, out, err = profile("-o", "r.json", "distances", DIGITS, "--json")
    assert code == 0
    assert json.loads(out)["shape"] == [1797, 1797]
    record = record_of("r.json")
    assert record["command"] == ["distances", str(DIGITS), "--json"]
    assert (record["status"], record["complete"], record["exit_code"]) == ("done", True, 0)
    assert record["profile"] is not None
    [run] = record["profile"]["runs"]
    assert {"read", "pairwise", "write"} <= run["stages"].keys()
    assert record["wall_s"] is not None
    assert run["wall_s"] > record["wall_s"]  # it began before
    assert run["cpu_s"] is not None
    assert record["profile"]["samples"] is None
    assert "--memory" in record["not_measured"]["profile.samples"]
    assert "--lines" in record["not_measured"]["profile.lines"]
    lines = err.splitlines()
    assert sum(line.startswith("pairwise") for line in lines) == 1  # one table, not two
    assert any(line.startswith("process wall ") for line in lines)


def test_memory_that_is_taken_and_files_that_are_touched_are_told_apart(profile: Profile, tmp_path: Path) -> None:
    with Path("large").open("wb") as file:
        file.truncate(500 * MIB)
    Path("mine.py").write_text(f"""
import mmap, time
import numpy as np

KEPT = []

def take(row: np.ndarray) -> float:
    if not KEPT:
        KEPT.append(np.ones({200 * MIB}, np.uint8))
        with open("large", "rb") as file:
            KEPT.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        sum(KEPT[1][place] for place in range(0, {500 * MIB}, 4096))
        time.sleep(0.3)
    return 0.0
""")
    np.save("x.npy", np.ones((4, 3)))
    chain = ["run", "read", "x.npy", "then", "apply-python", "mine.py:take", "--object-mode", "then", "nothing"]
    code, _, err = profile("--memory", "--interval", "0.05", "-o", "r.json", *chain)
    assert code == 0
    record = record_of("r.json")
    assert record["profile"] is not None
    samples = record["profile"]["samples"]
    assert samples is not None
    anonymous, files, rss, marks = (
        max(value for value in samples[key] or [] if value is not None)  # type: ignore[literal-required]
        for key in ("anonymous", "file_backed", "rss", "rss_peak")
    )
    assert 200 * MIB < anonymous < 400 * MIB
    assert 500 * MIB < files < 700 * MIB
    assert 700 * MIB < rss <= marks
    process, [run] = record["process"], record["profile"]["runs"]
    assert process["anonymous_peak"] == run["anonymous_peak"] >= anonymous  # type: ignore[operator]
    assert process["rss_peak"] == run["rss_peak"] >= marks  # type: ignore[operator]
    assert (run["stages"]["apply-python"]["anon_peak"] or 0) > 200 * MIB
    assert record["profile"]["sampler"] == "memory-profiler 0.61.0"
    assert record["profile"]["interval_s"] == 0.05
    assert len(samples["t_s"]) == len(samples["rss"]) >= 5
    assert "sampled resident" in err


def test_several_runs_have_medians_and_a_spread_and_print_once(profile: Profile) -> None:
    code, out, err = profile("--runs", 3, "--warmup", 1, "-o", "r.json", "run", "--json", *LIGHT[1:])
    assert code == 0
    assert json.loads(out)["rows"] == 10  # once
    record = record_of("r.json")
    assert record["profile"] is not None
    runs, spread = record["profile"]["runs"], record["profile"]["spread"]
    assert [run["exit_code"] for run in runs] == [0, 0, 0]
    walls = sorted(run["wall_s"] for run in runs)
    found = spread["wall_s"]
    assert (found["min"], found["median"], found["max"]) == (walls[0], walls[1], walls[2])
    assert found["mad"] == pytest.approx(min(walls[1] - walls[0], walls[2] - walls[1]))
    assert "runs    3" in err


def test_a_run_that_fails_ends_the_profile_with_its_code(profile: Profile) -> None:
    code, out, err = profile("--runs", 3, "-o", "r.json", "run", *HEAD, "then", "write", "d.npy")
    assert (code, out) == (5, "")
    assert "d.npy" in err
    assert "mlpipe: stopped after run 2 of 3" in err
    record = record_of("r.json")
    assert (record["status"], record["complete"], record["exit_code"]) == ("failed", False, 5)
    assert record["profile"] is not None
    assert [run["exit_code"] for run in record["profile"]["runs"]] == [0, 5]
    assert record["profile"]["spread"]["wall_s"]["median"] == record["profile"]["runs"][0]["wall_s"]


def test_a_command_that_fails_is_recorded(profile: Profile) -> None:
    code, out, err = profile("-o", "r.json", "--html", "r.html", "info", "missing.npy", before=("-q",))
    assert (code, err) == (3, "mlpipe: error: missing.npy: no such file; check the path\n")
    assert "missing.npy" in out
    record = record_of("r.json")
    assert (record["status"], record["complete"], record["exit_code"]) == ("failed", False, 3)
    assert Path("r.html").read_text().startswith("<!")


def test_a_command_without_a_chain_has_no_stages_and_says_why(profile: Profile) -> None:
    code, out, err = profile("--memory", "--interval", "0.01", "--json", "info", DIGITS)
    assert code == 0
    record = json.loads(out)
    assert "digits.npy" in err  # what it prints makes room for the record
    assert record["stages"] == []
    assert record["not_measured"]["stages"] == "info carried out no chain"
    assert record["process"]["anonymous_peak"] > MIB
    assert record["wall_s"] == record["profile"]["runs"][0]["wall_s"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_and_leaves_a_partial_record(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "mine.py").write_text("""
import os, pathlib, time
import numpy as np

def wait(row: np.ndarray) -> float:
    pathlib.Path("child").write_text(str(os.getpid()))
    pathlib.Path("there").touch()
    time.sleep(0.02)
    return 0.0
""")
    np.save(tmp_path / "x.npy", np.ones((10_000, 3)))
    chain = ["run", "read", "x.npy", "then", "apply-python", "mine.py:wait", "--object-mode", "then", "write", "y.npy"]
    profiler = start("-m", "mlpipe", "profile", "--memory", "--interval", "0.02", "-o", "r.json", *chain, cwd=tmp_path)
    wait_until(lambda: (tmp_path / "there").exists() or profiler.poll() is not None, "the command did not start")
    profiler.send_signal(number)
    _, err = profiler.communicate(timeout=60)
    assert profiler.returncode == 128 + number
    assert f"interrupted by {number.name}" in err
    record = record_of(str(tmp_path / "r.json"))
    assert (record["status"], record["complete"], record["exit_code"]) == ("interrupted", False, 128 + number)
    assert "apply-python" in {stage["name"] for stage in record["stages"]}
    assert record["profile"] is not None
    assert record["profile"]["samples"] is not None
    assert not (tmp_path / "y.npy").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), 0)


def test_a_later_run_is_compared(profile: Profile) -> None:
    assert profile("-o", "old.json", *LIGHT).code == 0
    code, _, err = profile("--compare-to", "old.json", "--fail-on", "wall>+100000%", *LIGHT)
    assert code == 0
    assert any(line.startswith("wall ") for line in err.splitlines())
    code, _, err = profile("--compare-to", "old.json", "--fail-on", "wall>-99%", "-o", "new.json", *LIGHT)
    assert code == 8
    assert "a threshold was crossed: wall " in err
    assert record_of("new.json")["status"] == "done"  # written all the same
    code, _, err = profile("--compare-to", "old.json", "run", *HEAD[:-1], "9", "then", "nothing")
    assert code == 4
    assert "commands differ" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--fail-on", "wal>+1%", "--compare-to", "old.json"], 2, "no figure 'wal'; did you mean wall?"),
        (
            ["--fail-on", "stage.raed.self>+1%", "--compare-to", "old.json"],
            4,
            "has no stage 'raed'; did you mean read?",
        ),
        (["--fail-on", "wall>+1%"], 2, "--fail-on needs the record of an earlier run; add --compare-to OLD.json"),
        (["--compare-to", "none.json"], 3, "none.json: no such file; check the path"),
        (["--runs", "0"], 2, "--runs 0: give a number from 1 to 1000"),
        (["--warmup", "-1"], 2, "--warmup -1: give a number from 0 to 1000"),
        (["--interval", "0"], 2, "--interval 0: give seconds from 0.001 to 3600"),
        (["--interval", "nan"], 2, "--interval nan: give seconds from 0.001 to 3600"),
        (["-o", "old.json"], 5, "old.json"),
        (["-f", "-o", "x.npy"], 2, "'x.npy': give a name that ends in .json"),
        (["-f", "-o", ""], 2, "give a name that ends in .json"),
        (["-f", "--html", "x.npy"], 2, "'x.npy': give a name that ends in .html"),
        (["--html", "a", "-o", "a"], 2, "both --output and --html name a"),
        (["-o", "-"], 2, "a report needs a file; --json prints it to stdout"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_run(
    profile: Profile, arguments: list[str], code: int, message: str
) -> None:
    from tests.made_records import made

    Path("old.json").write_text(json.dumps(made()))
    np.save("x.npy", np.ones((4, 3)))
    ended = profile(*arguments, "distances", "x.npy", "-o", "d.npy")
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("d.npy").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distnaces", "x.npy"], "no command 'distnaces' to profile; did you mean distances?"),
        (["profile", "info"], "profile cannot profile itself; give it another command"),
        (["--", "-q", "info"], "-q: flags for all commands, such as -q, come before profile"),
        (["--runs", "2", "run", "read", "-", "then", "nothing"], "standard input can be read once; name a file"),
        ([], "no command, and no mlpipe.toml in the current directory; give a command, such as: mlpipe profile "),
    ],
)
def test_what_is_no_command_is_a_usage_error(profile: Profile, arguments: list[str], message: str) -> None:
    code, out, err = profile(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_without_a_command_the_config_of_the_directory_is_run(profile: Profile) -> None:
    np.save("x.npy", np.ones((4, 3)))
    Path("mlpipe.toml").write_text('[[link]]\nverb = "read"\npaths = ["x.npy"]\n\n[[link]]\nverb = "nothing"\n')
    code, out, _ = profile("--json")
    assert code == 0
    record = json.loads(out)
    assert record["stages"][0]["name"].startswith("read")
    assert record["inputs"][0]["shape"] == [4, 3]


MINE = """
import time

import numpy as np

KEPT = []


def helper(row):
    return row * 2


def work(row: np.ndarray) -> float:
    time.sleep(0.002)
    KEPT.append(np.ones(100_000))
    return helper(row).sum()
"""


@pytest.mark.parametrize("memory", [False, True])
def test_the_slow_line_of_a_function_is_found(profile: Profile, memory: bool) -> None:
    rows, size = 100, 800_000
    Path("mine.py").write_text(MINE)
    np.save("x.npy", np.ones((rows, 3)))
    chain = ["run", "read", "x.npy", "then", "apply-python", "mine.py:work", "--object-mode", "then", "nothing"]
    code, _, err = profile("--lines", *(["--memory"] * memory), "-o", "r.json", *chain)
    assert code == 0
    record = record_of("r.json")
    assert record["profile"] is not None
    functions = record["profile"]["lines"]
    assert functions is not None
    assert [(one["file"], one["function"]) for one in functions] == [("mine.py", "helper"), ("mine.py", "work")]
    lines: dict[str, Any] = {line["source"].strip(): line for one in functions for line in one["lines"]}
    slow, keep = lines["time.sleep(0.002)"], lines["KEPT.append(np.ones(100_000))"]
    assert slow["hits"] == keep["hits"] == lines["return row * 2"]["hits"] == rows
    assert slow["time_s"] >= 0.002 * rows
    if memory:
        assert keep["increment"] == pytest.approx(rows * size, rel=0.1)
        assert keep["memory"] > rows * size
        assert abs(slow["increment"]) < rows * size / 10
    else:
        assert keep["increment"] is None
    [marked] = [line for line in err.splitlines() if line.endswith(" *     time.sleep(0.002)")]
    assert str(rows) in marked


def test_lines_of_compiled_functions_cannot_be_seen(profile: Profile) -> None:
    Path("mine.py").write_text("def twice(x: float) -> float:\n    return 2 * x\n")
    np.save("x.npy", np.ones((4, 3)))
    code, _, err = profile("--lines", "-o", "r.json", "run", "read", "x.npy", "then", "apply-python", "mine.py:twice",
                           "then", "nothing")  # fmt: skip
    assert code == 0
    record = record_of("r.json")
    assert record["profile"] is not None
    assert record["profile"]["lines"] is None
    why = "mine.py:twice is compiled; give the verb --object-mode to see its lines"
    assert record["not_measured"]["profile.lines"] == why
    assert f"lines   not measured ({why})" in err


def test_it_works_for_cron(tmp_path: Path) -> None:
    """Without a home, a terminal, or anything in the environment; quiet as long as all is well."""
    environment = {"MLPIPE_CACHE_DIR": os.environ.get("MLPIPE_CACHE_DIR", str(tmp_path / "cache"))}
    command = ["-m", "mlpipe", "-q", "profile", "--memory", "-o", "r.json", "run", *HEAD, "then", "write", "d.npy"]
    process = start(*command, cwd=tmp_path, env=environment)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "", "")
    assert record_of(str(tmp_path / "r.json"))["status"] == "done"
    assert (tmp_path / "d.npy").exists()


def test_a_process_killed_from_outside_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("""
import os, signal
import numpy as np

def die(row: np.ndarray) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
""")
    np.save(tmp_path / "x.npy", np.ones((4, 3)))
    chain = ["run", "read", "x.npy", "then", "apply-python", "mine.py:die", "--object-mode", "then", "nothing"]
    process = start("-m", "mlpipe", "profile", "-o", "r.json", *chain, cwd=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 137
    assert "run was ended by a signal, with exit code 137; did the system run out of memory?" in err
    record = record_of(str(tmp_path / "r.json"))
    assert (record["status"], record["complete"]) == ("failed", False)


def test_help_says_where_flags_go(run: Run) -> None:
    code, out, _ = run("profile", "--help")
    assert code == 0
    assert "Flags of profile come before the command." in " ".join(out.split())


def test_a_profile_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    Path(tmp_path / "f.py").write_text(
        "import time\n\ndef wait(row):\n    open('begun', 'w').close()\n    time.sleep(60)\n    return row\n"
    )
    (tmp_path / "tmp").mkdir()
    chain = "run generate --rows 9 --columns 2 then apply-python f.py:wait --object-mode --kind batch then nothing"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlpipe", "-q", "profile", *chain.split()],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, start_new_session=True,
    )  # fmt: skip
    try:
        while not (tmp_path / "begun").exists() and process.poll() is None:
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (tmp_path / "begun").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_without_files_in_memory_there_is_a_temporary_directory(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert profile("--runs", "2", "-o", "r.json", *LIGHT).code == 0
    assert record_of("r.json")["stages"]
    assert list((tmp_path / "tmp").iterdir()) == []
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        ended = profile("info", DIGITS)
    assert ended[::2] == (
        5, "mlpipe: error: no temporary directory: No such file or directory; set TMPDIR to one that can be written\n",
    )  # fmt: skip
