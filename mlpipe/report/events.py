"""What happens in a run as JSON, one line each, for log collectors."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from mlpipe.measure.schema import RecordFacts
from mlpipe.report.progress import LOG_INTERVAL, Display, Gauge

_OF_A_STAGE = (
    "name", "thread", "phase", "batches", "rows", "bytes_in", "bytes_out", "self_s", "wait_in_s", "wait_out_s",
    "compile_s", "cpu_s", "batch_p50_s", "batch_p95_s", "batch_max_s", "cache",
)  # fmt: skip
_OF_THE_PROCESS = ("anonymous_peak", "file_backed_peak", "rss_peak", "in_flight_peak", "bytes_read", "bytes_written")
_OF_THE_PLAN = ("memory_ceiling", "memory_base", "bytes_held", "bytes_read", "bytes_written", "threads")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class EventLog:
    """Writes events, each with its time; goes on in silence when its stream fails.

    Parameters
    ----------
    stream : text file, optional
        Where to; standard error by default, as it is when an event comes.
    clock : callable
        Says what time it is.

    Examples
    --------
    >>> EventLog(sys.stdout, lambda: "now").emit("note", message="one line")
    {"time": "now", "event": "note", "message": "one line"}
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], str] = _now) -> None:
        self._stream, self._clock = stream, clock
        self._lock = threading.Lock()
        self._failed = False

    def emit(self, event: str, **facts: Any) -> None:
        """Write an event; any thread may."""
        if self._failed:
            return
        line = json.dumps({"time": self._clock(), "event": event, **facts}, default=str)
        stream = sys.stderr if self._stream is None else self._stream
        with self._lock:
            try:
                stream.write(f"{line}\n")
                stream.flush()
            except (OSError, ValueError):
                self._failed = True

    def started(self, command: list[str], versions: dict[str, str | None], plan: dict[str, Any]) -> None:
        """Say what runs, and how it was planned."""
        self.emit("start", command=command, versions=versions)
        self.emit("plan", **{key: plan.get(key) for key in _OF_THE_PLAN}, stages=plan.get("stages"))

    def finished(self, record: RecordFacts) -> None:
        """Say what each stage did, and how the run ended."""
        for stage in record["stages"]:
            facts: dict[str, Any] = dict(stage)
            self.emit("stage", **{key: facts[key] for key in _OF_A_STAGE})
        process: dict[str, Any] = dict(record["process"])
        self.emit(
            "finish",
            status=record["status"],
            exit_code=record["exit_code"],
            wall_s=record["wall_s"],
            cpu_s=record["cpu_s"],
            accounted=record["accounted"],
            **{key: process[key] for key in _OF_THE_PROCESS},
            bottleneck=record["bottleneck"]["sentence"],
            output=record["output"],
            result=record["result"],
        )


class EventProgress(Display):
    """How far it is, every few seconds and at the end.

    Parameters
    ----------
    gauge : Gauge
        What to tell.
    log : EventLog
        Whom.
    interval : float
        Seconds between events.
    """

    def __init__(self, gauge: Gauge, log: EventLog, interval: float = LOG_INTERVAL) -> None:
        self._log = log
        super().__init__(gauge, interval)

    def _show(self) -> None:
        self._log.emit("progress", **self.gauge.numbers())

    def _end(self) -> None:
        self._show()
