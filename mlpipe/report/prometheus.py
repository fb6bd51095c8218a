"""A record in the text format of Prometheus, for node-exporter's textfile collector.

Figures that were not measured are left out. Every sample bears the name of the file, so that several of them can
lie in one directory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from mlpipe.measure.schema import RecordFacts, StageFacts

LAST_SUCCESS = "mlpipe_last_success_timestamp_seconds"

_KEPT = re.compile(rf"^{LAST_SUCCESS}(?:\{{.*\}})? ([0-9.e+]{{1,40}})$", re.ASCII | re.MULTILINE)
_STATES = ("self", "wait_in", "wait_out", "compile")
_QUANTILES = (("0.5", "batch_p50_s"), ("0.95", "batch_p95_s"), ("1", "batch_max_s"))

Labels = Mapping[str, str]


class _Metric(NamedTuple):
    """A metric, and its samples."""

    name: str
    help: str
    samples: list[tuple[Labels, float | None]]


def prometheus_text(record: RecordFacts, report: str, before: str = "") -> str:
    """Render a record as a textfile.

    Parameters
    ----------
    record : RecordFacts
        A run, however it ended.
    report : str
        What the label ``report`` says, in every sample.
    before : str
        What the file held before: when the run failed, the time of the last success comes from there.

    Returns
    -------
    str
        Lines of ASCII or UTF-8, the samples of each metric together.

    Examples
    --------
    >>> from mlpipe.measure.record import Record
    >>> text = prometheus_text(Record(["stats"], exit_code=3).to_dict(), "nightly")
    >>> for line in text.splitlines()[:6]:
    ...     print(line)
    # HELP mlpipe_run_success Whether the last run succeeded.
    # TYPE mlpipe_run_success gauge
    mlpipe_run_success{report="nightly"} 0
    # HELP mlpipe_run_exit_code Exit code of the last run.
    # TYPE mlpipe_run_exit_code gauge
    mlpipe_run_exit_code{report="nightly"} 3
    """
    lines = []
    for metric in (*_of_the_run(record, before), *_of_stages(record["stages"])):
        samples = [(labels, value) for labels, value in metric.samples if value is not None]
        if samples:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} gauge"]
            lines += [
                f"{metric.name}{_labels({'report': report, **labels})} {_number(value)}" for labels, value in samples
            ]
    return "".join(f"{line}\n" for line in lines)


def last_success(text: str) -> float | None:
    """Time of the last success that a textfile tells of; None if it does not.

    Examples
    --------
    >>> last_success('mlpipe_last_success_timestamp_seconds{report="nightly"} 1760000000.5')
    1760000000.5
    """
    found = _KEPT.search(text)
    try:
        when = float(found[1]) if found else math.nan
    except ValueError:
        return None
    return when if math.isfinite(when) else None


def _of_the_run(record: RecordFacts, before: str) -> Iterator[_Metric]:
    process, wall = record["process"], record["wall_s"]
    began = datetime.fromisoformat(record["started"]).timestamp()
    ended = began + (wall or 0.0)
    success = ended if record["status"] == "done" else last_success(before)
    versions = {name: version or "" for name, version in record["versions"].items()}
    about = {"command": record["command"][0] if record["command"] else "", "status": record["status"], **versions}
    for name, help_, value in (
        ("run_success", "Whether the last run succeeded.", float(record["status"] == "done")),
        ("run_exit_code", "Exit code of the last run.", record["exit_code"]),
        ("run_start_timestamp_seconds", "When the last run began.", began),
        ("run_end_timestamp_seconds", "When the last run ended.", ended),
        ("last_success_timestamp_seconds", "When the last run that succeeded ended.", success),
        ("run_duration_seconds", "Wall time of the last run.", wall),
        ("run_cpu_seconds", "CPU time of the last run, all threads.", record["cpu_s"]),
        ("run_accounted_ratio", "Share of the wall time that the stages account for.", record["accounted"]),
        ("threads", "Threads that computed.", record["threads"]),
        ("memory_ceiling_bytes", "Ceiling on anonymous memory.", record["memory_ceiling"]),
        ("memory_anonymous_peak_bytes", "Largest anonymous memory.", process["anonymous_peak"]),
        ("memory_file_backed_peak_bytes", "Largest resident memory of mapped files.", process["file_backed_peak"]),
        ("memory_resident_peak_bytes", "Largest resident memory.", process["rss_peak"]),
        ("memory_in_flight_peak_bytes", "Largest sum of the buffers in use.", process["in_flight_peak"]),
        ("major_faults", "Pages that had to be read from storage.", process["major_faults"]),
        ("storage_read_bytes", "Bytes read from storage.", process["bytes_read"]),
        ("storage_written_bytes", "Bytes written to storage.", process["bytes_written"]),
    ):
        yield _Metric(f"mlpipe_{name}", help_, [({}, value)])
    yield _Metric("mlpipe_run_info", "What ran last.", [(about, 1.0)])


def _of_stages(stages: list[StageFacts]) -> Iterator[_Metric]:
    each: list[tuple[dict[str, str], StageFacts]] = [
        ({"place": str(place), "stage": stage["name"], "thread": stage["thread"]}, stage)
        for place, stage in enumerate(stages)
    ]
    spent = {state: f"{state}_s" for state in _STATES}
    yield _Metric(
        "mlpipe_stage_seconds",
        "Time of a stage by state.",
        [({**labels, "state": state}, _value(stage, key)) for labels, stage in each for state, key in spent.items()],
    )
    yield _Metric("mlpipe_stage_cpu_seconds", "CPU time of a stage.", [(name, stage["cpu_s"]) for name, stage in each])
    yield _Metric("mlpipe_stage_rows", "Rows that passed a stage.", [(name, stage["rows"]) for name, stage in each])
    yield _Metric(
        "mlpipe_stage_bytes",
        "Bytes that came into a stage and out of it.",
        [
            ({**labels, "direction": way}, _value(stage, f"bytes_{way}"))
            for labels, stage in each
            for way in ("in", "out")
        ],
    )
    yield _Metric(
        "mlpipe_stage_batch_seconds",
        "Time of a stage's own for each batch.",
        [({**labels, "quantile": mark}, _value(stage, key)) for labels, stage in each for mark, key in _QUANTILES],
    )


def _value(stage: StageFacts, key: str) -> float | None:
    found: float | None = stage[key]  # type: ignore[literal-required]
    return found


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{_name(name)}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", text)


def _escaped(text: str) -> str:
    r"""Escape a value; bytes of a file name that are no UTF-8 become question marks.

    Examples
    --------
    >>> print(_escaped('a "b"\n\\'))
    a \"b\"\n\\
    """
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
