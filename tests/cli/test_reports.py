"""Reports as a user gets them: files of three kinds, JSON lines, and partial ones after errors and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.cli.recording import ReportFile
from mlpipe.errors import OutputError
from mlpipe.measure.memory import why_unmeasured
from mlpipe.measure.schema import load_record
from tests.cli.conftest import Run

MIB = 1 << 20
FUNCTIONS = """
import time, mmap
import numpy as np

def sleeps(rows):
    time.sleep(0.3)
    return rows

def allocates(rows):
    block = np.ones(25_000_000)
    time.sleep(0.5)
    return rows + block[0]

def maps(rows):
    with open("holes", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        sum(mapped[place] for place in range(0, len(mapped), 4096))
        time.sleep(0.5)
    return rows
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", np.random.default_rng(5).random((1000, 4)))
    Path("f.py").write_text(FUNCTIONS)


def words(text: str) -> list[str]:
    return text.split()


def chain(function: str, flags: str, rows: int) -> list[str]:
    apply = f"apply-python f.py:{function} --object-mode --kind batch --rows {rows}"
    return words(f"run --threads 1 {flags} read X.npy then {apply} then write Y.npy")


def test_a_stage_that_sleeps_300_ms_a_batch_shows_300_ms(run: Run) -> None:
    assert run(*chain("sleeps", "--report R.json", 200)).code == 0
    record = load_record("R.json")
    (stage,) = (stage for stage in record["stages"] if stage["name"] == "apply-python")
    assert stage["self_s"] == pytest.approx(5 * 0.3, rel=0.2)
    assert stage["cpu_s"] < 0.5
    assert record["accounted"] > 0.98
    assert stage["batch_p50_s"] == pytest.approx(0.3, rel=0.05)
    assert re.match(r"apply-python took (9\d|100) %", record["bottleneck"]["sentence"])


@pytest.mark.skipif(why_unmeasured() is not None, reason="needs /proc")
def test_an_allocation_is_anonymous_and_a_touched_map_is_not(spawn: Run) -> None:
    with open("holes", "wb") as file:
        os.truncate(file.fileno(), 500 * MIB)
    peaks = {}
    for name in ("sleeps", "allocates", "maps"):
        assert spawn(*chain(name, f"-f --report {name}.json", 1000)).code == 0
        process = load_record(f"{name}.json")["process"]
        peaks[name] = (process["anonymous_peak"], process["file_backed_peak"])
        assert max(process["samples"]["anonymous"]) == process["anonymous_peak"]
    (plain, plain_files), (allocated, files_then), (mapped, mapped_files) = peaks.values()
    assert allocated - plain == pytest.approx(200e6, rel=0.05)
    assert abs(files_then - plain_files) < 30 * MIB
    assert abs(mapped - plain) < 10 * MIB
    if mapped_files - plain_files < 400 * MIB:
        pytest.skip("the temporary directory is in shared memory, whose pages are of neither kind")
    assert mapped_files - plain_files == pytest.approx(500 * MIB, rel=0.05)


def interrupted(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """What a run says that SIGTERM ends once it is under way."""
    command = [sys.executable, "-m", "mlpipe", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as process:
        for line in process.stderr:
            if '"plan"' in line:
                break
        time.sleep(1.3)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_sigterm_leaves_a_partial_report() -> None:
    flags = chain("sleeps", "--log-json --report R.json", 20)
    code, err = interrupted(*flags, environment={"MLPIPE_RECORD_TO": "child"})
    assert code == 143
    record = load_record("R.json")
    assert load_record("child") == record
    assert (record["status"], record["complete"], record["exit_code"]) == ("interrupted", False, 143)
    assert record["error"] == "interrupted by SIGTERM"
    assert record["wall_s"] > 1
    assert record["accounted"] > 0.98
    assert record["startup_s"] > 0
    assert not Path("Y.npy").exists()
    events = [json.loads(line) for line in err.splitlines()]
    assert [event["event"] for event in events][-2:] == ["finish", "error"]
    assert events[-1]["message"] == "interrupted by SIGTERM"


def test_a_report_of_a_chain_says_what_was_typed_and_drawn(run: Run) -> None:
    text = "run --report R.json read X.npy then shuffle --seed 7 then standardize then write Y.npy"
    assert run(*words(text)).code == 0
    record = load_record("R.json")
    assert record["command"] == words(text)
    assert record["seed"] == 7
    assert [stage["phase"] for stage in record["stages"] if stage["name"] == "write"] == [1]
    assert record["host"]["threading_layer"]
    assert record["not_measured"]["stages.gpu_kernel_s"]
    assert run(
        *words("run -f --report R.json read X.npy then sample --rows 9 --seed 1 then noise --seed 2 then nothing")
    )
    record = load_record("R.json")
    assert record["seed"] is None
    assert record["not_measured"]["seed"] == "stages have different seeds"


def test_what_is_read_from_a_pipe_or_made_up_has_no_fingerprint(run: Run) -> None:
    assert run(*words("run --report R.json generate --rows 500 --columns 2 then nothing")).code == 0
    record = load_record("R.json")
    assert record["inputs"][0]["fingerprint"] is None
    assert all(stage["cache"] is None for stage in record["stages"])
    assert record["not_measured"]["stages.generate.cache"] == "what is read is no file"


def read_by(run: Run, path: str) -> dict[str, Any]:
    """The entry of reading a file."""
    assert run(*words(f"run -f --report R.json read {path} then nothing")).code == 0
    return dict(load_record("R.json")["stages"][0])


def test_a_file_is_cold_once_and_warm_then(run: Run) -> None:
    np.save("big.npy", np.random.default_rng(3).random((30_000, 100), dtype=np.float32))
    with open("big.npy", "rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    first, second = read_by(run, "big.npy"), read_by(run, "big.npy")
    if first["bytes_read"] in (None, 0):
        pytest.skip("the system does not say what came from storage, or the temporary directory has none")
    assert first["bytes_asked"] == second["bytes_asked"] == 12_000_000
    assert 0.9 * 12e6 < first["bytes_read"] < 1.2 * 12e6
    assert (first["cache"], second["cache"], second["bytes_read"]) == ("cold", "warm", 0)


def test_html(run: Run) -> None:
    assert run("distances", "X.npy", "--report", "R.html").code == 0
    assert Path("R.html").read_text().lower().startswith("<!doctype html>")
    assert run("distances", "X.npy", "--report", "R.html").code == 5


def samples(path: str) -> dict[str, float]:
    """A textfile, checked line by line as its format has it."""
    label = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
    found: dict[str, float] = {}
    name, seen = "", set()
    for line in Path(path).read_text().splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in seen, "samples of a metric lie together"
            seen.add(name)
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {name} gauge"
        else:
            matched = re.fullmatch(rf"({name}\{{{label}(?:,{label})*\}}) (\S+)", line)
            assert matched, line
            assert matched[1] not in found
            found[matched[1]] = float(matched[2])
    return found


def test_prometheus(run: Run) -> None:
    before = time.time()
    assert run("distances", "X.npy", "--report", "night.prom").code == 0
    first = samples("night.prom")
    at = 'mlpipe_last_success_timestamp_seconds{report="night"}'
    assert first['mlpipe_run_success{report="night"}'] == 1
    assert before - 1 < first[at] <= time.time() + 1
    rows = [key for key in first if key.startswith("mlpipe_stage_rows{")]
    assert [first[key] for key in rows] == [1000, 1000, 1000, 1000]
    assert run("distances", "none.npy", "--report", "night.prom").code == 3
    then = samples("night.prom")
    assert (then['mlpipe_run_success{report="night"}'], then['mlpipe_run_exit_code{report="night"}']) == (0, 3)
    assert then[at] == first[at]
    assert not [key for key in then if key.startswith("mlpipe_stage")]
    assert run("distances", "X.npy", "--report", "night.prom").code == 0
    assert samples("night.prom")[at] >= first[at]


def test_prometheus_replaces_nothing_of_others(run: Run) -> None:
    Path("other.prom").write_text("# HELP other_metric Mine.\n")
    assert run("distances", "X.npy", "--report", "other.prom").code == 5
    assert run("distances", "none.npy", "--report", "other.prom").code == 3
    assert Path("other.prom").read_text() == "# HELP other_metric Mine.\n"


def test_a_run_that_never_began_replaces_no_input(run: Run) -> None:
    Path("in.json").write_bytes(Path("X.npy").read_bytes())
    assert run("distances", "none.npy", "in.json", "-f", "--report", "in.json").code == 3
    assert Path("in.json").read_bytes() == Path("X.npy").read_bytes()
    assert run("distances", "none.npy", "--report", "new.json").code == 3
    record = load_record("new.json")
    assert (record["exit_code"], record["stages"]) == (3, [])
    assert record["error"] == "none.npy: no such file; check the path"
    assert run("distances", "X.npy", "--report", "new.json").code == 5
    assert run("distances", "X.npy", "-n", "--metric", "none", "--report", "dry.json").code
    assert not Path("dry.json").exists()


def test_other_kinds_of_reports_are_refused(run: Run) -> None:
    code, _, err = run("distances", "X.npy", "--report", "R.txt")
    assert (code, err) == (2, "mlpipe: error: --report R.txt: give a name that ends in .json, .html or .prom\n")
    assert not Path("R.txt").exists()


def events_of(err: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in err.splitlines()]


def test_json_lines(run: Run) -> None:
    code, out, err = run("distances", "X.npy", "--log-json", "--json")
    events = events_of(err)
    assert (code, json.loads(out)["pairs"]) == (0, 1000 * 999 / 2)
    kinds = ["start", "plan", "progress", *["stage"] * 4, "finish"]
    assert [event["event"] for event in events] == kinds
    assert events[0]["command"] == ["distances", "X.npy", "--log-json", "--json"]
    assert events[2]["share"] == 1
    assert [event["name"] for event in events[3:7]] == ["read", "read Y", "pairwise", "write"]
    assert (events[-1]["status"], events[-1]["exit_code"]) == ("done", 0)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", event["time"]) for event in events)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("distances none.npy --log-json", 3, "none.npy: no such file"),
        ("distances --log-json", 2, "Missing argument"),
        ("distances X.npy --log-json --metric nonsense", 2, "nonsense"),
        ("run --log-json read X.npy then nonsense then nothing", 2, "nonsense"),
    ],
)
def test_json_lines_of_errors(run: Run, arguments: str, code: int, said: str) -> None:
    ended = run(*words(arguments))
    (event,) = events_of(ended.err)
    assert (ended.code, event["event"], event["exit_code"]) == (code, "error", code)
    assert said in event["message"]


def test_notes_are_events_and_the_variable_asks_for_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPIPE_LOG_JSON", "1")
    np.save("flat.npy", np.arange(9.0))
    events = events_of(run("distances", "flat.npy", "-o", "D.npy").err)
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert "one-dimensional" in notes[0]
    assert notes[1].startswith("wrote D.npy")
    (event,) = events_of(run("distances", "X.npy", "--nonsense").err)
    assert (event["event"], event["exit_code"]) == ("error", 2)


def test_the_record_goes_where_a_parent_wants_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPIPE_RECORD_TO", "given by the parent")
    for arguments, code in (("distances X.npy", 0), ("distances none.npy", 3), ("distances X.npy --p x", 2)):
        assert run(*words(arguments)).code == code
        if code != 2:
            assert load_record("given by the parent")["exit_code"] == code


@pytest.mark.parametrize(
    "command",
    ["neighbors X.npy -k 2 --json", "stats X.npy --json", "distances X.npy --json", "count-features X.npy --json"],
)
def test_a_report_that_fails_after_the_run_does_not_take_its_result(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def full(_file: ReportFile, _record: object) -> None:
        raise OutputError("R.json: no space left")

    expected = run("-q", *words(command)).out
    monkeypatch.setattr(ReportFile, "write", full)
    code, out, err = run("-q", *words(command), "--report", "R.json")
    assert (code, out, err) == (5, expected, "mlpipe: error: R.json: no space left\n")
