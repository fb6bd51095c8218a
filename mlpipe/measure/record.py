"""What a run leaves behind: one schema for reports, comparisons and machines.

None stands for what was not measured; a zero was measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypedDict

from mlpipe.measure.host import host_facts, versions
from mlpipe.measure.memory import MemorySampler, file_backed_bytes
from mlpipe.measure.meter import Lane, Meter, State

SCHEMA_VERSION = 1
Status = Literal["done", "failed", "interrupted"]


class ArrayFacts(TypedDict):
    """An array read or written."""

    path: str
    bytes: int
    shape: list[int]
    dtype: str


class StageFacts(TypedDict):
    """Where one link's time went, in seconds, and what passed through it."""

    name: str
    self_s: float | None
    wait_in_s: float | None
    wait_out_s: float | None
    compile_s: float | None
    cpu_s: float | None
    rows: int | None
    bytes: int | None
    batches: int | None


class ProcessFacts(TypedDict):
    """What the whole process used: bytes, and seconds of CPU time; `note` says why a figure is missing."""

    anonymous_peak: int | None
    rss_peak: int | None
    file_backed: int | None
    cpu_s: float | None
    note: str | None


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
    wall_s : float or None
        Seconds from start to end, once finished.
    versions, host : dict
        As of `mlpipe.measure.host`; filled in by `to_dict` when empty.
    inputs : list of ArrayFacts
        The arrays read.
    output : ArrayFacts or None
        The array written, if any.
    plan : dict
        Blocks, tiles and the bytes they hold, as the planner describes them.
    threads, memory_ceiling : int or None
        What the run was allowed, in processors and bytes.
    stages : list of StageFacts
        One entry per link, in the order of the chain.
    process : ProcessFacts or None
        Memory and CPU time of the process.
    accounted : float or None
        Share of the wall clock explained by the link that explains least, 0 to 1.
    result : dict or None
        The summary a command prints.
    status : {"done", "failed", "interrupted"}
        How it ended.

    Examples
    --------
    >>> meter = Meter()
    >>> with MemorySampler() as memory, meter.lane("read") as lane:
    ...     lane.count(rows=2, nbytes=16)
    >>> record = Record(["distances", "X.npy"], threads=2)
    >>> record.finish(meter, memory, "done")
    >>> stage = record.to_dict()["stages"][0]
    >>> stage["name"], stage["rows"], stage["bytes"], stage["compile_s"]
    ('read', 2, 16, None)
    """

    command: list[str]
    started: str = field(default_factory=_now)
    wall_s: float | None = None
    versions: dict[str, str | None] = field(default_factory=dict)
    host: dict[str, str | int | None] = field(default_factory=dict)
    inputs: list[ArrayFacts] = field(default_factory=list)
    output: ArrayFacts | None = None
    plan: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None
    memory_ceiling: int | None = None
    stages: list[StageFacts] = field(default_factory=list)
    process: ProcessFacts | None = None
    accounted: float | None = None
    result: dict[str, Any] | None = None
    status: Status = "failed"

    def finish(self, meter: Meter, memory: MemorySampler, status: Status) -> None:
        """Take over what was measured, and how the run ended."""
        meter.stop()
        self.wall_s = meter.wall_ns / 1e9
        self.stages = [stage_facts(lane) for lane in meter.lanes]
        self.process = {
            "anonymous_peak": memory.peak_anonymous,
            "rss_peak": memory.peak_rss,
            "file_backed": file_backed_bytes(),
            "cpu_s": meter.cpu_ns / 1e9,
            "note": memory.reason,
        }
        self.accounted = meter.accounted()
        self.status = status

    def to_dict(self) -> dict[str, Any]:
        """Give the record as plain values, ready for `json.dumps`, ``schema_version`` first.

        JSON knows neither NaN nor infinity: they become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
        """
        self.versions = self.versions or versions()
        self.host = self.host or host_facts()
        values = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        return {"schema_version": SCHEMA_VERSION, **values}

    def to_json(self) -> str:
        """Give the record as JSON text, one key a line, ending in a newline."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"


def stage_facts(lane: Lane) -> StageFacts:
    """Turn a lane into its entry in the record.

    Examples
    --------
    >>> stage_facts(Lane("write"))["rows"] is None
    True
    """

    def seconds(state: State) -> float | None:
        spent = lane.totals_ns.get(state)
        return None if spent is None else spent / 1e9

    counted = lane.batches > 0
    return {
        "name": lane.name,
        "self_s": seconds("self"),
        "wait_in_s": seconds("wait_in"),
        "wait_out_s": seconds("wait_out"),
        "compile_s": seconds("compile"),
        "cpu_s": None if lane.cpu_ns is None else lane.cpu_ns / 1e9,
        "rows": lane.rows if counted else None,
        "bytes": lane.nbytes if counted else None,
        "batches": lane.batches if counted else None,
    }


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
