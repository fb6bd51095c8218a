"""`mlpipe doctor`: every fact agrees with its source, and no probe can break it."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import mlpipe
from mlpipe.cli import doctor
from mlpipe.kernels import simd
from mlpipe.measure import host, memory
from tests.cli.conftest import Run


def test_text_has_one_line_a_probe(run: Run) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(doctor.PROBES)


def test_json_agrees_with_the_sources(run: Run) -> None:
    code, out, err = run("doctor", "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert list(facts) == list(doctor.PROBES)
    assert facts["versions"]["mlpipe"] == mlpipe.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"]["numba"] == numba.__version__
    assert facts["processors"]["usable_processors"] == facts["threads"]["default"] == host.processors()
    assert facts["threads"]["numba_threading_layer"] in ("tbb", "omp", "workqueue")
    assert facts["vectors"] == simd.describe()
    assert 0 < facts["memory"]["default_ceiling"] <= 1 << 30
    assert isinstance(facts["cuda"]["available"], bool)


def test_it_says_where_the_cache_is_and_that_a_new_one_is_cold(spawn: Run, tmp_path: Path) -> None:
    environment = {**os.environ, "MLPIPE_CACHE_DIR": str(tmp_path / "cache")}
    code, out, err = spawn("doctor", "--json", env=environment)
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert facts["cache"]["directory"].startswith(str(tmp_path / "cache"))
    assert facts["cache"]["source"] == "MLPIPE_CACHE_DIR"
    assert (facts["cache"]["warm"], facts["cache"]["entries"]) == (False, 0)
    assert facts["variables"]["MLPIPE_CACHE_DIR"] == str(tmp_path / "cache")


@pytest.mark.parametrize("broken", list(doctor.PROBES))
def test_a_probe_that_fails_says_why_and_the_others_still_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail() -> doctor.Finding:
        raise OSError("no such thing\nhere")

    monkeypatch.setitem(doctor.PROBES, broken, fail)
    code, out, _ = run("doctor")
    assert code == 0
    assert out.count("not known: OSError: no such thing here\n") == 1
    code, out, _ = run("doctor", "--json")
    facts = json.loads(out)
    assert code == 0
    assert {name for name in facts if "error" in facts[name]} == {broken}


def test_numba_without_any_threading_layer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tbbpool", "omppool", "workqueue"):
        monkeypatch.setitem(sys.modules, f"numba.np.ufunc.{module}", None)
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "default")
    code, out, _ = run("doctor", "--json")
    assert code == 0
    assert json.loads(out)["threads"]["numba_threading_layer"] == "none"


def test_numba_told_which_layer_to_use(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "workqueue")
    assert json.loads(run("doctor", "--json").out)["threads"]["numba_threading_layer"] == "workqueue"


class Driver:
    """A CUDA driver that answers as told."""

    def __init__(self, status: int, names: tuple[bytes, ...] = ()) -> None:
        self.status, self.names = status, names

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDriverGetVersion(self, version: object) -> int:
        version._obj.value = 12080  # type: ignore[attr-defined]
        return 0

    def cuDeviceGetCount(self, count: object) -> int:
        count._obj.value = len(self.names)  # type: ignore[attr-defined]
        return 0

    def cuDeviceGetName(self, name: ctypes.Array[ctypes.c_char], size: int, number: int) -> int:
        name.value = self.names[number]
        return 0

    def cuGetErrorString(self, status: int, words: object) -> int:
        words._obj.value = b"no CUDA-capable device is detected"  # type: ignore[attr-defined]
        return 0


def test_cuda_names_its_devices(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(0, (b"Alpha", b"Beta")))
    facts = json.loads(run("doctor", "--json").out)["cuda"]
    assert facts == {"available": True, "devices": ["Alpha", "Beta"], "cuda": "12.8", "used": False}
    assert "Alpha, Beta (CUDA 12.8), not used" in run("doctor").out


def test_cuda_says_why_not(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(100))
    reason = "the NVIDIA driver answers: no CUDA-capable device is detected (100)"
    assert json.loads(run("doctor", "--json").out)["cuda"] == {"available": False, "reason": reason}

    def missing(name: str) -> object:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert "not available: no NVIDIA driver (libcuda.so.1 not found)" in run("doctor").out


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"directory": None}, "nowhere to write: every run compiles; set MLPIPE_CACHE_DIR"),
        ({"warm": True, "entries": 3, "bytes": 2048}, "/c (from home), warm: 3 kernels, 2.00 KiB"),
        ({"warm": False, "writable": True}, "/c (from home), cold: mlpipe warmup fills it"),
        ({"warm": False, "writable": False}, "/c (from home), cold, and cannot be written"),
    ],
)
def test_the_cache_line(run: Run, monkeypatch: pytest.MonkeyPatch, state: dict[str, object], text: str) -> None:
    known = {"directory": "/c", "source": "home", "warm": False, "entries": 0, "bytes": 0, "writable": True}
    monkeypatch.setattr("mlpipe.kernels._jit.cache_state", lambda: {**known, **state})
    assert f" {text}\n" in run("doctor").out


def test_memory_that_cannot_be_read_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda *root: None)
    assert "an unknown amount free for this process" in run("doctor").out
