"""`mlpipe warmup`: what it compiled is there for the next process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_a_second_process_finds_what_the_first_compiled(spawn: Run, tmp_path: Path) -> None:
    environment = {**os.environ, "MLPIPE_CACHE_DIR": str(tmp_path)}
    code, out, err = spawn("warmup", "--metric", "dot", "--json", env=environment)
    first = json.loads(out)
    assert (code, err) == (0, "")
    assert Path(first["directory"]).is_relative_to(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in Path(first["directory"]).iterdir()}
    assert len(files) == first["entries"] > 0
    assert first["kernels"] > 0

    code, out, _ = spawn("warmup", "--metric", "dot", "--json", env=environment)
    second = json.loads(out)
    assert code == 0
    assert {path: path.stat().st_mtime_ns for path in Path(first["directory"]).iterdir()} == files
    assert {**second, "seconds": 0} == {**first, "seconds": 0}

    cache = json.loads(spawn("doctor", "--json", env=environment).out)["cache"]
    assert (cache["warm"], cache["entries"]) == (True, first["entries"])


def test_text_says_how_many_and_where(run: Run) -> None:
    code, out, err = run("warmup", "--metric", "euclidean", "--metric", "eu")
    assert (code, err) == (0, "")
    assert " kernels ready in " in out
    assert out.count("\n") == 1


def test_verbose_names_every_kernel(run: Run) -> None:
    code, out, err = run("-v", "warmup", "--metric", "dot")
    assert code == 0
    assert err.splitlines()[0] == "mlpipe: dot float32"
    assert out.startswith(f"{len(err.splitlines())} kernels ready")


def test_an_unknown_metric_is_a_usage_error(run: Run) -> None:
    code, out, err = run("warmup", "--metric", "euclidian")
    assert (code, out) == (2, "")
    assert err == "mlpipe: error: unknown metric 'euclidian': did you mean euclidean?\n"


def test_a_cache_that_cannot_be_kept_is_an_output_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"directory": None, "source": None, "warm": False, "entries": 0, "bytes": 0, "writable": False}
    monkeypatch.setattr("mlpipe.kernels._jit.cache_state", lambda: state)
    code, out, err = run("warmup", "--metric", "dot")
    assert (code, out) == (5, "")
    assert "set MLPIPE_CACHE_DIR to a writable directory" in err
