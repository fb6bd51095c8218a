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

KEYS = [
    "schema_version", "command", "started", "wall_s", "versions", "host", "inputs", "output", "plan", "threads",
    "memory_ceiling", "stages", "process", "accounted", "result", "status",
]  # fmt: skip


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
    found = _finished(monkeypatch).to_dict()
    assert list(found) == KEYS
    assert (found["schema_version"], found["status"], found["wall_s"], found["accounted"]) == (1, "done", 4.0, 1.0)
    read, compute = found["stages"]
    cpu = read.pop("cpu_s"), compute.pop("cpu_s")
    assert all(seconds >= 0 for seconds in cpu)
    assert read == {
        "name": "read", "self_s": 3.0, "wait_in_s": None, "wait_out_s": 1.0, "compile_s": None,
        "rows": 10, "bytes": 80, "batches": 1,
    }  # fmt: skip
    assert compute == {
        "name": "compute", "self_s": None, "wait_in_s": 3.0, "wait_out_s": None, "compile_s": 1.0,
        "rows": None, "bytes": None, "batches": None,
    }  # fmt: skip
    assert found["process"]["rss_peak"] > 2**20
    assert found["process"]["cpu_s"] == 8.0
    assert found["process"]["anonymous_peak"] is not None or found["process"]["note"]
    assert found["versions"]["numpy"] == np.__version__
    assert found["host"]["usable_processors"] >= 1


def test_a_record_without_proc_says_why_memory_is_missing(tmp_path):
    with MemorySampler(root=tmp_path) as memory:
        pass
    record = Record([])
    record.finish(Meter(), memory, "failed")
    assert record.process["anonymous_peak"] is None
    assert "RssAnon" in record.process["note"]
    assert record.accounted is None


def test_a_record_never_finished_has_failed_and_measured_nothing():
    found = Record(["distances"]).to_dict()
    assert found["status"] == "failed"
    assert found["wall_s"] is found["process"] is found["accounted"] is found["output"] is found["result"] is None
    assert found["stages"] == []


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
    assert found["inputs"] == [{"path": "a b.npy", "bytes": 7, "shape": [2, 3], "dtype": "float32"}]
    assert found["plan"] == {"tile": [4, 5], "3": 0.5}
    assert found["result"] == {"min": "-Infinity", "mean": "NaN", "max": "Infinity", "ok": True, "name": "x"}


def test_the_record_imports_no_numpy():
    code = "import sys, mlpipe.measure.record as r; r.Record([]).to_json(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
