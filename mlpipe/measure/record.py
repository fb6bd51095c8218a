"""What a run leaves behind: one schema for reports, comparisons and machines.

None stands for what was not measured; a zero was measured. `mlpipe.measure.facts` says what every key is.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from mlpipe.measure.bottleneck import find_bottleneck
from mlpipe.measure.facts import ArrayFacts as ArrayFacts
from mlpipe.measure.facts import (
    FingerprintFacts,
    HostFacts,
    InputFacts,
    ProcessFacts,
    RecordFacts,
    StageFacts,
    Status,
    ThreadFacts,
)
from mlpipe.measure.host import host_facts, versions
from mlpipe.measure.measured import nothing_used, process_facts, stage_facts, thread_facts
from mlpipe.measure.memory import MemorySampler
from mlpipe.measure.meter import Meter
from mlpipe.measure.reasons import NOT_BEGUN, reasons


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Record:
    """One run: what was asked, where, what came of it, and what it cost.

    Parameters
    ----------
    command : list of str
        The command line, or what stands for it.
    started : str
        ISO 8601, UTC; now by default.
    startup_s, wall_s : float or None
        Seconds from the start of the process to that of the run, and from there to its end.
    versions : dict
        As of `mlpipe.measure.host.versions`; filled in by `to_dict` when empty.
    inputs : list of ArrayFacts
        The arrays read.
    fingerprints : list of FingerprintFacts or None
        Of each of them; None for what is not a file.
    output : ArrayFacts or None
        The array written, if any.
    plan : dict
        Blocks, tiles and the bytes they hold, as the planner describes them.
    seeds : sequence of int
        Of whatever draws random numbers.
    threads, memory_ceiling : int or None
        What the run was allowed, in processors and bytes.
    stages : list of StageFacts
        One entry per link and thread, in the order of the chain.
    thread_facts : list of ThreadFacts
        One entry per thread.
    process : ProcessFacts or None
        Memory and CPU time of the process.
    accounted : float or None
        Share of the wall clock explained by the link that explains least, 0 to 1.
    result : dict or None
        The summary a command prints.
    status : {"done", "failed", "interrupted"}
        How it ended.
    error : str or None
        What went wrong, in one line.
    exit_code : int or None
        What the process ends with.

    Examples
    --------
    >>> meter = Meter()
    >>> with MemorySampler() as memory, meter.lane("read") as lane:
    ...     lane.count(rows=2, nbytes=16)
    >>> record = Record(["distances", "X.npy"], threads=2)
    >>> record.finish(meter, memory, "done")
    >>> stage = record.to_dict()["stages"][0]
    >>> stage["name"], stage["rows"], stage["bytes_out"], stage["compile_s"]
    ('read', 2, 16, None)
    """

    command: list[str]
    started: str = field(default_factory=_now)
    startup_s: float | None = None
    wall_s: float | None = None
    versions: dict[str, str | None] = field(default_factory=dict)
    inputs: Sequence[ArrayFacts] = field(default_factory=list)
    fingerprints: Sequence[FingerprintFacts | None] = field(default_factory=list)
    output: ArrayFacts | None = None
    plan: dict[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    threads: int | None = None
    memory_ceiling: int | None = None
    stages: list[StageFacts] = field(default_factory=list)
    thread_facts: list[ThreadFacts] = field(default_factory=list)
    process: ProcessFacts | None = None
    accounted: float | None = None
    result: dict[str, Any] | None = None
    status: Status = "failed"
    error: str | None = None
    exit_code: int | None = None

    def finish(
        self,
        meter: Meter,
        memory: MemorySampler,
        status: Status,
        *,
        error: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Take over what was measured, and how the run ended."""
        meter.stop()
        self.wall_s = meter.wall_ns / 1e9
        self.stages = [stage_facts(lane, meter) for lane in meter.lanes]
        self.thread_facts = thread_facts(meter)
        self.process = process_facts(meter, memory)
        self.accounted = meter.accounted()
        self.status, self.error = status, error
        self.exit_code = 0 if status == "done" else exit_code

    def to_dict(self) -> RecordFacts:
        """Give the record as plain values, ready for `json.dumps`, ``schema_version`` first.

        JSON knows neither NaN nor infinity: they become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
        """
        self.versions = self.versions or versions()
        process = self.process or nothing_used(NOT_BEGUN)
        stages = self._stages()
        facts: RecordFacts = {
            "schema_version": 2,
            "command": self.command,
            "status": self.status,
            "complete": self.status == "done",
            "error": self.error,
            "exit_code": self.exit_code,
            "started": self.started,
            "startup_s": self.startup_s,
            "wall_s": self.wall_s,
            "cpu_s": process["cpu_s"],
            "versions": self.versions,
            "host": _host(),
            "inputs": self._inputs(),
            "output": self.output,
            "plan": self.plan,
            "seed": self.seeds[0] if len(set(self.seeds)) == 1 else None,
            "threads": self.threads,
            "memory_ceiling": self.memory_ceiling,
            "stages": stages,
            "thread_facts": self.thread_facts,
            "process": process,
            "accounted": self.accounted,
            "bottleneck": {"kind": "unknown", "stage": None, "share": None, "sentence": "", "help": ""},
            "not_measured": {},
            "result": self.result,
            "profile": None,
        }
        facts["bottleneck"] = find_bottleneck(facts)
        facts["not_measured"] = reasons(facts, seeds=bool(self.seeds), files=self._files)
        return cast("RecordFacts", _plain(facts))

    def to_json(self) -> str:
        """Give the record as JSON text, ending in a newline."""
        return json_text(self.to_dict())

    @property
    def _files(self) -> bool:
        """Whether what is read are files."""
        return any(self.fingerprints) or not self.inputs

    def _inputs(self) -> list[InputFacts]:
        prints = [*self.fingerprints, *([None] * len(self.inputs))]
        return [
            cast("InputFacts", {**one, "fingerprint": found}) for one, found in zip(self.inputs, prints, strict=False)
        ]

    def _stages(self) -> list[StageFacts]:
        """Whether the page cache was warm means something only where a file was read."""
        if self._files:
            return self.stages
        return [cast("StageFacts", {**stage, "bytes_read": None, "cache": None}) for stage in self.stages]


def json_text(facts: RecordFacts) -> str:
    """A record as JSON text: one key a line, a list of figures in one, ending in a newline.

    Examples
    --------
    >>> print(json_text({"result": {"shape": [2, 3]}}), end="")
    {
      "result": {
        "shape": [2, 3]
      }
    }
    """
    return _lines(facts, "") + "\n"


def _lines(value: Any, indent: str) -> str:
    """JSON with lists of plain values in one line each: a timeline of 256 steps is not 256 lines."""
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value, allow_nan=False)
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return json.dumps(value, allow_nan=False)
    inner = indent + "  "
    if isinstance(value, list):
        parts, ends = [_lines(item, inner) for item in value], "[]"
    else:
        parts, ends = [f"{json.dumps(key)}: {_lines(item, inner)}" for key, item in value.items()], "{}"
    body = ",\n".join(inner + part for part in parts)
    return f"{ends[0]}\n{body}\n{indent}{ends[1]}"


def _host() -> HostFacts:
    """Where it runs; which vectors are used is asked only where kernels were loaded."""
    found: dict[str, Any] = {**host_facts(), "simd": None, "threading_layer": "mlpipe's own threads"}
    simd = sys.modules.get("mlpipe.kernels.simd")
    if simd is not None:
        vectors = simd.describe()
        found["simd"] = f"{vectors['name']}, {vectors['bits']} bits"
    return cast("HostFacts", found)


def _plain(value: Any) -> Any:
    """Turn a value into what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a NumPy scalar, known by its method so that NumPy need not be imported
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
