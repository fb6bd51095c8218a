"""`mlpipe bench`: comparisons as a user makes them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mlpipe.bench import distance_tasks, loading
from mlpipe.bench.facts import installed
from mlpipe.bench.ways import WAYS
from mlpipe.cli.bench import COMMANDS
from mlpipe.cli.main import load
from mlpipe.measure import comparison
from mlpipe.report.comparison import comparison_tables
from tests.cli.conftest import Run

LEAN = ["full-load", "generator-rows", "generator-batches", "memory-map", "memory-map-shuffled", "mlpipe"]
"""Ways that need nothing more, less one that is like another."""


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    np.save("X.npy", random.integers(0, 9, (40, 3)))
    np.save("F.npy", random.normal(size=(30, 3)).astype("f4"))
    np.save("N.npy", random.normal(size=(30, 2)))
    Path("shards").mkdir()
    for number, rows in enumerate((30, 0, 17)):
        np.save(f"shards/s-{number}.npy", random.normal(size=(rows, 3)).astype("f4"))


def facts(kind: Any, found: dict[str, Any]) -> Any:
    """What a command printed, checked against the schema."""
    assert found.keys() == set(kind.__annotations__)
    return found


def as_json(run: Run, *arguments: str) -> Any:
    code, out, err = run("-q", "bench", *arguments, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    kinds = {
        "kernels": comparison.KernelsComparison,
        "loading": comparison.LoadingComparison,
        "scaling": comparison.ScalingComparison,
    }
    facts(kinds[arguments[0]], found)
    assert found["schema_version"] == 1
    assert found["bench"] == arguments[0]
    assert found["versions"]["mlpipe"]
    assert found["host"]["usable_processors"] >= 1
    return found


# The commands


def test_every_comparison_is_listed_and_documents_its_flags(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("bench", "--help")
    assert (code, err) == (0, "")
    for name, summary in COMMANDS.items():
        assert any(line.split(None, 1) == [name, summary] for line in out.splitlines())
        assert run("bench", name, "-h").out.startswith(f"Usage: mlpipe bench {name} ")
        assert [one.name for one in load(name, "bench-").params if not one.help] == []


def test_without_a_comparison_there_is_the_list(run: Run) -> None:
    code, out, err = run("bench")
    assert (code, out) == (2, "")
    assert err.startswith("Usage: mlpipe bench ")
    assert "Did you mean 'kernels'" in run("bench", "kernel").err


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from mlpipe.cli.main import main; main(sys.argv[1:]);"
        "sys.exit(', '.join({'numpy', 'numba', 'rich'} & set(sys.modules)) or None)"
    )
    command = [sys.executable, "-c", code, "bench", *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["kernels", "--rows", "0"], 2, "--rows 0: give a whole number from 1 to 1,000,000,000"),
        (["kernels", "--budget", "nan"], 2, "--budget nan: give seconds, more than 0 and up to 86,400"),
        (["kernels", "--budget", "soon"], 2, "--budget soon: give seconds"),
        (["kernels", "--repeat", "²"], 2, "--repeat ²: give a whole number from 1 to 10,000"),
        (["kernels", "--task", "batsh"], 2, "--task batsh: no such task; did you mean batch?"),
        (["kernels", "--column", "1"], 2, "--column is of a file; give X.npy, or leave it out"),
        (["kernels", "X.npy", "--features", "3"], 2, "--features is for made-up data; leave it out with X.npy"),
        (["kernels", "X.npy", "--column", "3"], 2, "--column 3: X.npy has the columns 0 to 2"),
        (["kernels", "X.npy", "F.npy", "N.npy"], 2, "N.npy: give X.npy and at most Y.npy"),
        (["kernels", "F.npy", "N.npy"], 4, "N.npy"),
        (["kernels", "no.npy"], 3, "no.npy"),
        (["kernels", "--plot", "k.jpg"], 2, "--plot k.jpg: give a name that ends in .svg or .png"),
        (["kernels", "X.npy", "--plot", "there.svg"], 5, "there.svg: exists"),
        (["loading", "nowhere"], 3, "nowhere: no such file or directory; check the path"),
        (["loading", "empty"], 4, "empty: no rows in any of its 1 files, so there is nothing to load"),
        (["loading", "."], 4, "files that are read together must agree"),
        (
            ["loading", "shards", "--method", "mlpip"],
            2,
            "--method mlpip: no such method; did you mean mlpipe?",
        ),
        (["loading", "shards", "--seed", "-1"], 2, "--seed -1: give a whole number from 0 to"),
        (["scaling", "--rows", "1,x"], 2, "--rows x: give a whole number"),
        (["scaling", "X.npy", "--rows", "10,41"], 2, "--rows 41: X.npy has 40"),
        (["scaling", "X.npy", "--features", "2,4"], 2, "--features 4: X.npy has 3"),
        (["scaling", "--metric", "euclidian"], 2, "euclidian"),
        (["scaling", "--rows", "9", "--features", "9", "--values", "9", "--threads", "1"], 2, "nothing varies; give"),
    ],
)
def test_what_is_refused(run: Run, arguments: list[str], code: int, message: str) -> None:
    Path("there.svg").touch()
    Path("empty").mkdir()
    np.save("empty/a.npy", np.empty((0, 3)))
    ended = run("bench", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


# Kernels


def test_kernels(run: Run) -> None:
    sizes = ["--rows", "12", "--columns", "7", "--features", "5", "--values", "300", "--distinct", "20"]
    found = as_json(run, "kernels", *sizes, "--budget", "0.01", "--repeat", "2", "--threads", "2", "--plot", "k.svg")
    assert [task["task"] for task in found["tasks"]] == ["pair", "batch", "count"]
    assert (found["settings"]["rows"], found["settings"]["columns"], found["inputs"]) == (12, 7, [])
    for task in found["tasks"]:
        facts(comparison.Task, task)
        methods = {one["method"]: facts(comparison.Timing, one) for one in task["methods"]}
        assert {"python", "numpy", "numba", "numba-parallel", "mlpipe", "cuda"} <= methods.keys()
        for one in methods.values():
            if one["skipped"] is not None:
                assert one["best_s"] is one["median_s"] is one["compile_s"] is None
                continue
            assert 0 < one["best_s"] <= one["median_s"]
            assert 1 <= len(one["samples_s"]) <= 2
            assert (one["compile_s"] is None) == (one["method"] in ("python", "numpy", "numpy-bincount"))
            assert one["against_python"] == pytest.approx(methods["python"]["best_s"] / one["best_s"])
            assert one["largest_difference"] <= task["tolerance"]
    assert Path("k.svg").read_text().count("<!-- mlpipe -->") == 3
    shown = "\n".join(map(str, comparison_tables(found)))
    assert "euclidean distances of a batch, 12 x 7 rows, 5 features, float64\nmethod " in shown
    assert "count of each value of a column, 300 int64 in a range of 20" in shown


@pytest.fixture
def _no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds to compile."""
    monkeypatch.setattr(distance_tasks, "plain_ways", lambda threads: iter(()))
    monkeypatch.setattr(distance_tasks.plain, "start_compiler", lambda: None)


@pytest.mark.usefixtures("_no_numba")
def test_kernels_on_files(run: Run) -> None:
    code, out, err = run("bench", "kernels", "X.npy", "F.npy", "--rows", "20", "--task", "pair", "--budget", "0.01")
    assert code == 0
    assert out.startswith("euclidean distance of a pair of vectors, 3 float64\nmethod ")
    assert "first 20 of 40 rows of X.npy; --rows takes more" in err
    assert "pair: mlpipe " in err
    found = as_json(run, "kernels", "F.npy", "--task", "count", "--plot", "empty.svg")
    assert found["tasks"][0]["skipped"] == "F.npy holds float32, and integers are what is counted here"
    assert found["inputs"] == [{"path": "F.npy", "shape": [30, 3], "dtype": "float32"}]
    assert str(comparison_tables(found)[0]).endswith("left out: F.npy holds float32, and integers are what is "
                                                     "counted here\n")  # fmt: skip


@pytest.mark.usefixtures("_no_numba")
def test_a_gpu_that_is_not_there_is_listed_with_the_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance_tasks.plain_cuda, "why_not", lambda: "no GPU of any kind")
    out = run("-q", "bench", "kernels", "--task", "pair", "--budget", "0.01").out
    assert "CUDA is left out: no GPU of any kind" in out
    [line] = [line for line in out.splitlines() if line.startswith("CUDA  ")]
    assert set(line.split()[1:]) == {"-"}


@pytest.mark.usefixtures("_no_numba")
def test_a_wrong_result_is_an_error_and_no_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance_tasks, "_python_batch", lambda x, y: [[1.0] * len(y) for _ in x])
    code, out, err = run("-q", "bench", "kernels", "--task", "batch", "--rows", "5", "--columns", "4", "--json")
    assert (code, out) == (1, "")
    assert err.startswith("mlpipe: error: batch, pure Python: distance of rows 0 and 0 is 1.0, but NumPy has ")


@pytest.mark.usefixtures("_no_numba")
def test_what_takes_too_long_is_timed_on_some_rows_and_marked(run: Run) -> None:
    sizes = ["--rows", "4000", "--columns", "300", "--features", "20", "--budget", "0.02"]
    found = as_json(run, "kernels", "--task", "batch", *sizes)
    python = found["tasks"][0]["methods"][0]
    assert python["extrapolated"]
    assert 1 <= python["measured_rows"] < 4000
    assert python["best_s"] == pytest.approx(min(python["samples_s"]) * 4000 / python["measured_rows"])
    shown = str(comparison_tables(found)[0])
    assert f"≈ pure Python: timed on {python['measured_rows']:,} of 4,000 rows, and scaled" in shown
    assert "≈" in shown.splitlines()[2]


# Loading


def ways(*names: str) -> list[str]:
    return [part for name in names for part in ("--method", name)]


def test_loading(run: Run) -> None:
    found = as_json(run, "loading", "shards", *ways(*LEAN), "--batch-size", "8", "--epochs", "2", "--plot", "l.svg")
    assert (found["rows"], found["row_bytes"], found["bytes"], found["files"]) == (47, 12, 564, 2)
    assert [one["method"] for one in found["methods"]] == LEAN
    whole = np.concatenate([np.load(f"shards/s-{number}.npy") for number in (0, 2)])
    wanted = 2 * int(whole.view("u4").sum(dtype="u8")) % 2**32
    for one in found["methods"]:
        facts(comparison.Loading, one)
        assert (one["skipped"], one["failed"], one["complete"], one["rows"]) == (None, None, True, 94)
        assert one["checksum"] == wanted
        assert one["rows_per_s"] == pytest.approx(94 / one["seconds"])
        assert 0 < one["first_batch_s"] <= one["epochs_s"][0]
        assert one["later_rows_per_s"] >= (94 - 16) / one["seconds"]
        assert len(one["epochs_s"]) == 2
        assert one["anonymous_peak"] >= one["anonymous_start"] > 2**20
    picture = Path("l.svg").read_text()
    assert picture.count("<!-- memory map (as stored) -->") == 3


def test_modules_in_the_working_directory_are_not_taken_for_others(run: Run) -> None:
    Path("json.py").write_text("raise SystemExit('taken for a module')")
    assert as_json(run, "loading", "shards", *ways("memory-map"))["methods"][0]["failed"] is None


def test_loading_as_text_cold_and_stopped(run: Run) -> None:
    # A file system in memory has nothing to forget, and says so.
    arguments = ["loading", "shards", *ways("memory-map"), "--cold", "--budget", "1e-9", "--batch-size", "5"]
    code, out, err = run("bench", *arguments)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "47 x 3 float32 (564 B) in 2 files"
    assert lines[1].split()[-2:] == ["from", "disk"]
    assert lines[2].startswith("memory map  as stored  ≈")
    assert lines[3].startswith("≈ memory map: stopped after ")
    assert lines[3].endswith(", at 10 % of the rows")
    assert err == "" or err.startswith("mlpipe: --cold: nothing came from the disk")


def test_what_is_not_installed_is_listed_with_the_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "installed", lambda package: None)
    monkeypatch.setattr(loading, "available_bytes", lambda: 1000)
    code, out, err = run("-q", "bench", "loading", "shards", *ways("torch-0", "torch-2", "grain", "full-load"))
    assert (code, err) == (0, "")
    assert "PyTorch IterableDataset, 2 workers is left out: torch is not installed; run: pip install torch" in out
    assert "Grain MapDataset is left out: grain is not installed; run: pip install grain" in out
    assert "full load is left out: takes 1.10 KiB while files are put together, and 1000 B are free" in out


def test_a_way_that_fails_is_listed_with_the_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.sys, "executable", "/bin/false")
    out = run("-q", "bench", "loading", "shards", *ways("memory-map")).out
    assert "memory map failed: exit code 1" in out


def test_a_signal_ends_the_process_that_loads(tmp_path: Path) -> None:
    arguments = ["bench", "loading", "shards", *ways("generator-rows"), "--epochs", "10000", "--budget", "1000"]
    with subprocess.Popen([sys.executable, "-m", "mlpipe", *arguments], stderr=subprocess.PIPE, text=True) as process:
        found = psutil.Process(process.pid)
        while not (children := found.children()):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.read() == "mlpipe: error: interrupted by SIGTERM\n"
    assert process.returncode == 143
    assert [child for child in children if child.is_running()] == []


def test_files_of_labels_are_not_read(run: Run) -> None:
    for number, rows in enumerate((30, 0, 17)):
        np.save(f"shards/s-{number}-labels.npy", np.zeros(rows))
    found = as_json(run, "loading", "shards", *ways("memory-map"))
    assert found["rows"] == found["methods"][0]["rows"] == 47
    assert found["notes"] == ["3 files of labels beside the rows are not read"]


@pytest.mark.slow
def test_loading_by_every_way(run: Run) -> None:
    found = as_json(run, "loading", "shards", "--batch-size", "8")
    whole = [one for one in found["methods"] if one["skipped"] is None]
    assert [one["method"] for one in found["methods"]] == list(WAYS)
    assert {(one["rows"], one["complete"]) for one in whole} == {(47, True)}
    assert len({one["checksum"] for one in whole}) == 1
    for one in found["methods"]:
        assert (one["skipped"] is None) == (WAYS[one["method"]].package is None or bool(found["versions"]["torch"]))
        if one["skipped"] is None and one["method"].startswith("torch"):
            assert one["import_s"] > 0
    assert found["versions"]["grain"] == installed("grain")


# Scaling


def test_scaling(run: Run) -> None:
    arguments = ["--rows", "20,40", "--features", "3,6,12", "--values", "100,1000", "--threads", "1,2"]
    found = as_json(run, "scaling", *arguments, "--budget", "0.005", "--metric", "euclidean", "--plot", "s.svg")
    series = {(one["task"], one["varies"]): facts(comparison.Series, one) for one in found["series"]}
    assert list(series) == [
        ("distances", "rows"), ("distances", "features"), ("distances", "threads"), ("count", "values"),
        ("count", "threads"),
    ]  # fmt: skip
    assert series["distances", "features"]["fixed"] == {"rows": 40, "threads": 2}
    assert [point["value"] for point in series["distances", "features"]["points"]] == [3, 6, 12]
    assert series["distances", "features"]["exponent_error"] is not None
    assert series["distances", "rows"]["exponent_error"] is None
    one, two = series["count", "threads"]["points"]
    assert one["efficiency"] == 1
    assert two["efficiency"] == pytest.approx(one["best_s"] / two["best_s"] / 2)
    shown = [str(table) for table in comparison_tables(found)]
    assert shown[0].startswith("euclidean distances: rows vary, features 12, threads 2\nrows ")
    assert "2 is expected" in shown[0]
    assert shown[2].splitlines()[1].split() == ["threads", "best", "median", "speed-up", "efficiency"]
    picture = Path("s.svg").read_text()
    assert "<!-- euclidean distances (features 12, threads 2) -->" in picture
    assert "<!-- as rows^2 -->" in picture


def test_scaling_on_a_file(run: Run) -> None:
    code, out, err = run("bench", "scaling", "F.npy", "--budget", "0.001", "--threads", "1", "--rows", "10,20")
    assert (code, len(out.split("\n\n"))) == (0, 2)
    assert "counts are left out: F.npy holds float32" in err
    assert "features vary, rows 20, threads 1" in out


def test_tables_on_a_terminal() -> None:
    from rich.console import Console

    timing = {
        "method": "numpy", "label": "NumPy", "skipped": None, "best_s": 0.5, "median_s": 0.6, "samples_s": [0.5, 0.7],
        "loops": 1, "compile_s": None, "measured_rows": 4, "extrapolated": False, "against_python": None,
        "against_numpy": 1.0, "largest_difference": 0.0,
    }  # fmt: skip
    task = {"task": "batch", "title": "a [bold]title", "rows": 4, "dtype": "float64", "skipped": None, "tolerance": 0.0}
    [table] = comparison_tables({"bench": "kernels", "tasks": [{**task, "methods": [timing]}]})  # type: ignore[typeddict-item]
    for width, headings in ((100, 7), (50, 5)):
        console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
        console.print(table)
        lines = console.export_text().splitlines()
        assert lines[0] == "a [bold]title"
        assert len(lines[1].split("  ")) >= headings
        assert ("off by" in lines[1]) == (width == 100)
        assert "500 ms" in lines[2]
