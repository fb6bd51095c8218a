from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mlpipe.measure import meter as meter_module
from mlpipe.measure.memory import MemorySampler
from mlpipe.measure.meter import Meter
from mlpipe.measure.record import Record
from mlpipe.measure.schema import check_record


def _finished(monkeypatch: pytest.MonkeyPatch) -> Record:
    now = {"ns": 0}
    monkeypatch.setattr(meter_module, "perf_counter_ns", lambda: now["ns"])
    monkeypatch.setattr(meter_module, "process_time_ns", lambda: 2 * now["ns"])
    meter = Meter()
    read, compute = meter.lane("read"), meter.lane("compute")
    read.start()
    compute.start("wait_in")
    now["ns"] = 3_000_000_000
    read.enter("wait_out")
    compute.enter("compile")
    now["ns"] = 4_000_000_000
    read.count(rows=10, nbytes=80)
    read.stop()
    compute.stop()
    with MemorySampler() as memory:
        pass
    record = Record(["distances", "X.npy"], threads=2, memory_ceiling=2**28)
    record.finish(meter, memory, "done")
    return record


def test_a_finished_record_holds_what_was_measured_and_none_for_the_rest(monkeypatch):
    found = check_record(json.loads(_finished(monkeypatch).to_json()))
    assert (found["schema_version"], found["status"], found["complete"], found["exit_code"]) == (2, "done", True, 0)
    assert (found["wall_s"], found["accounted"]) == (4.0, 1.0)
    read, compute = found["stages"]
    assert all(stage["cpu_s"] >= 0 for stage in (read, compute))
    known = {
        "name": "read", "thread": "read", "phase": 0, "began_s": 0.0, "ended_s": 4.0, "accounted": 1.0,
        "self_s": 3.0, "first_wait_s": None, "wait_in_s": None, "wait_out_s": 1.0, "compile_s": None,
        "rows": 10, "batches": 1, "bytes_in": None, "bytes_out": 80, "bytes_asked": None, "bytes_read": None,
        "cache": None, "in_flight_peak": None, "gpu_transfer_s": None, "gpu_kernel_s": None,
        "batch_p50_s": 3.0, "batch_p95_s": 3.0, "batch_max_s": 3.0,
    }  # fmt: skip
    assert {key: read[key] for key in known} == known
    known = {
        "self_s": None, "wait_in_s": 3.0, "first_wait_s": 3.0, "wait_out_s": None, "compile_s": 1.0, "rows": None,
        "bytes_out": None, "batches": None, "batch_p50_s": None,
    }  # fmt: skip
    assert {key: compute[key] for key in known} == known
    for stage in (read, compute):
        for state in ("self", "wait_in", "wait_out", "compile"):
            drawn = sum(stage["timeline"][state]) * stage["timeline"]["step_s"]
            assert drawn == pytest.approx(stage[f"{state}_s"] or 0.0)
    assert found["process"]["rss_peak"] > 2**20
    assert found["process"]["cpu_s"] == found["cpu_s"] == 8.0
    assert found["process"]["anonymous_peak"] is not None or found["process"]["note"]
    assert found["versions"]["numpy"] == np.__version__
    assert found["host"]["usable_processors"] >= 1
    assert found["not_measured"]["stages.gpu_kernel_s"].startswith("no GPU")


def test_a_record_without_proc_says_why_memory_is_missing(tmp_path):
    with MemorySampler(root=tmp_path) as memory:
        pass
    record = Record([])
    record.finish(Meter(), memory, "failed")
    assert record.process["anonymous_peak"] is None
    assert "RssAnon" in record.process["note"]
    assert record.accounted is None


def test_a_record_never_finished_has_failed_and_measured_nothing():
    found = check_record(json.loads(Record(["distances"], error="X.npy: no such file", exit_code=3).to_json()))
    assert (found["status"], found["complete"], found["error"]) == ("failed", False, "X.npy: no such file")
    assert found["wall_s"] is found["accounted"] is found["output"] is found["result"] is None
    assert found["stages"] == found["thread_facts"] == []
    assert found["not_measured"]["wall_s"] == found["process"]["note"] == "the run did not begin"


def test_it_started_now_in_utc():
    started = datetime.fromisoformat(Record([]).started)
    assert started.utcoffset() == timedelta(0)


def test_json_round_trip_of_awkward_values():
    record = Record(
        ["distances", "caf\udce9.npy"],
        inputs=[{"path": Path("a b.npy"), "bytes": np.int64(7), "shape": (np.intp(2), 3), "dtype": "float32"}],
        plan={"tile": (4, 5), 3: np.float32(0.5)},
        result={"min": float("-inf"), "mean": np.float64("nan"), "max": np.inf, "ok": np.True_, "name": "x"},
    )
    text = record.to_json()
    assert text.endswith("}\n")
    found = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert found["command"] == ["distances", "caf\udce9.npy"]
    assert found["inputs"] == [
        {"path": "a b.npy", "bytes": 7, "shape": [2, 3], "dtype": "float32", "fingerprint": None}
    ]
    assert found["plan"] == {"tile": [4, 5], "3": 0.5}
    assert found["result"] == {"min": "-Infinity", "mean": "NaN", "max": "Infinity", "ok": True, "name": "x"}


def test_the_record_imports_no_numpy():
    code = "import sys, mlpipe.measure.record as r; r.Record([]).to_json(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
