"""The figures of a record that have names: what thresholds speak of and comparisons list.

Figures of a stage are those of all its entries: of every thread and phase that bears its name. Times, rows and
batches are added up; of batches' times and memory it is the largest.

Memory belongs to the process, not to one of the threads that share it. ``stage.NAME.anon_peak`` and ``rss_peak`` are
therefore the largest anonymous memory and resident size of the process while that stage was at work (by its timeline:
working or compiling), a sample counting for the time since the one before it. Of stages that work at the same time
they are the same. Marks that were reset after each sample make the resident size exact (``mlpipe profile --memory``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from mlpipe.declare import nearest
from mlpipe.errors import InputError
from mlpipe.measure.schema import ProfileSampleFacts, RecordFacts, StageFacts

Kind = Literal["seconds", "bytes", "count", "per second"]

PROCESS_METRICS: dict[str, tuple[str, Kind]] = {
    "wall": ("wall_s", "seconds"),
    "cpu": ("cpu_s", "seconds"),
    "anon_peak": ("anonymous_peak", "bytes"),
    "rss_peak": ("rss_peak", "bytes"),
    "file_peak": ("file_backed_peak", "bytes"),
    "bytes_read": ("bytes_read", "bytes"),
    "bytes_written": ("bytes_written", "bytes"),
    "major_faults": ("major_faults", "count"),
}
"""Figures of the whole process: their keys in a record, and their units."""

STAGE_METRICS: dict[str, tuple[str, Kind]] = {
    "self": ("self_s", "seconds"),
    "wait_in": ("wait_in_s", "seconds"),
    "wait_out": ("wait_out_s", "seconds"),
    "compile": ("compile_s", "seconds"),
    "cpu": ("cpu_s", "seconds"),
    "rows_per_s": ("rows_per_s", "per second"),
    "bytes_per_s": ("bytes_per_s", "per second"),
    "anon_peak": ("anon_peak", "bytes"),
    "rss_peak": ("rss_peak", "bytes"),
    "batch_p50": ("batch_p50_s", "seconds"),
    "batch_p95": ("batch_p95_s", "seconds"),
    "batch_max": ("batch_max_s", "seconds"),
    "rows": ("rows", "count"),
    "batches": ("batches", "count"),
}
"""Figures of a stage, which are called ``stage.NAME.FIELD``."""

_OF_RUNS = {"wall_s", "cpu_s", "anonymous_peak", "rss_peak", "file_backed_peak"}
_ADDED = ("self_s", "wait_in_s", "wait_out_s", "compile_s", "cpu_s", "rows", "batches")
_LARGEST = ("batch_p50_s", "batch_p95_s", "batch_max_s")


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that has a name.

    Parameters
    ----------
    stage : str or None
        Whose it is; None for the whole process.
    field : str
        Which one, as users write it.
    """

    stage: str | None
    field: str

    @property
    def name(self) -> str:
        """As users write it."""
        return self.field if self.stage is None else f"stage.{self.stage}.{self.field}"

    @property
    def key(self) -> str:
        """Its key in a record."""
        return (PROCESS_METRICS if self.stage is None else STAGE_METRICS)[self.field][0]

    @property
    def kind(self) -> Kind:
        """What is counted."""
        return (PROCESS_METRICS if self.stage is None else STAGE_METRICS)[self.field][1]


def parse_metric(name: str) -> Metric | None:
    """The figure of a name; None if there is none. A stage's own name may hold dots.

    Examples
    --------
    >>> parse_metric("wall"), parse_metric("stage.hand on.self").stage, parse_metric("wal")
    (Metric(stage=None, field='wall'), 'hand on', None)
    """
    if name in PROCESS_METRICS:
        return Metric(None, name)
    stage, _, field = name.removeprefix("stage.").rpartition(".")
    return Metric(stage, field) if name.startswith("stage.") and stage and field in STAGE_METRICS else None


def stage_figures(record: RecordFacts, outside: ProfileSampleFacts | None = None) -> dict[str, dict[str, float | None]]:
    """The figures of each stage by name, in the order of the chain, by their keys in `STAGE_METRICS`.

    None stands for what was not measured, and for a state that the stage never was in.

    Parameters
    ----------
    record : RecordFacts
        Of the run.
    outside : ProfileSampleFacts, optional
        Memory as seen from outside, counted from the start of the process; by default what the record has of it.
    """
    if outside is None and record["profile"] is not None:
        outside = record["profile"]["samples"]
    memory = list(_memory(record, outside))
    entries: dict[str, list[StageFacts]] = {}
    for stage in record["stages"]:
        entries.setdefault(stage["name"], []).append(stage)
    return {name: _figures(found, memory) for name, found in entries.items()}


_Points = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class _Memory:
    """Memory over time, counted from the start of the run."""

    at: Sequence[float]
    anonymous: _Points
    resident: _Points


def _memory(record: RecordFacts, outside: ProfileSampleFacts | None) -> Iterator[_Memory]:
    samples = record["process"]["samples"]
    yield _Memory(samples["t_s"], samples["anonymous"], samples["rss_peak"] or samples["rss"])
    if outside is not None and record["startup_s"] is not None:
        at = [moment - record["startup_s"] for moment in outside["t_s"]]
        yield _Memory(at, outside["anonymous"], outside["rss_peak"] or outside["rss"])


def _figures(entries: Sequence[Mapping[str, Any]], memory: Sequence[_Memory]) -> dict[str, float | None]:
    found: dict[str, float | None] = {key: _known(sum, entries, key) for key in _ADDED}
    found |= {key: _known(max, entries, key) for key in _LARGEST}
    seconds, rows, size = found["self_s"], found["rows"], _known(sum, entries, "bytes_out")
    found["rows_per_s"] = rows / seconds if rows is not None and seconds else None
    found["bytes_per_s"] = size / seconds if size is not None and seconds else None
    spans = [span for entry in entries for span in _spans_at_work(entry)]
    found["anon_peak"] = _largest(_peak_at_work(one.at, one.anonymous, spans) for one in memory)
    found["rss_peak"] = _largest(_peak_at_work(one.at, one.resident, spans) for one in memory)
    return found


def _known(fold: Callable[[Any], float], entries: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [entry[key] for entry in entries if entry[key] is not None]
    return fold(values) if values else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _peak_at_work(at: Sequence[float], values: _Points, spans: Sequence[tuple[float, float]]) -> float | None:
    """The largest sample that overlaps some spans; each stands for the time since the one before."""
    peak: float | None = None
    for (before, until), value in zip(pairwise([min([0.0, *at[:1]]), *at]), values, strict=True):
        if value is None or (peak is not None and value <= peak):
            continue
        if any(start < until and before < stop for start, stop in spans):
            peak = value
    return peak


def _spans_at_work(entry: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """When a stage was at work, from the start of the run: its timeline's steps, joined; else all of its life."""
    line = entry["timeline"]
    if not line["self"]:
        yield entry["began_s"], entry["ended_s"]
        return
    began: int | None = None
    for number, shares in enumerate([*zip(line["self"], line["compile"], strict=True), (0.0, 0.0)]):
        busy = sum(shares) > 0
        if busy and began is None:
            began = number
        elif not busy and began is not None:
            yield began * line["step_s"], number * line["step_s"]
            began = None


def figures(record: RecordFacts, metric: Metric, name: str, *, of_runs: bool) -> list[float]:
    """A figure of each run of a record, or of the one that the record is of.

    Parameters
    ----------
    record : RecordFacts
        Checked.
    metric : Metric
        Which figure.
    name : str
        What messages call the record.
    of_runs : bool
        Whether to take the runs that ``mlpipe profile`` measured from outside: their wall time is that of the process.

    Returns
    -------
    list of float
        At least one.

    Raises
    ------
    InputError
        If it was not measured, or there is no such stage.
    """
    profile = record["profile"]
    if metric.stage is None:
        if of_runs and profile is not None and metric.key in _OF_RUNS:
            values = [run[metric.key] for run in profile["runs"]]  # type: ignore[literal-required]
        else:
            facts: Mapping[str, Any] = record if metric.key in ("wall_s", "cpu_s") else record["process"]
            values = [facts[metric.key]]
    else:
        stages = [run["stages"] for run in profile["runs"]] if of_runs and profile is not None else []
        stages = stages or [stage_figures(record)]
        missing = next((known for known in stages if metric.stage not in known), None)
        if missing is not None:
            raise InputError(f"{name}: has no stage {metric.stage!r}{nearest(metric.stage, missing)}")
        values = [known[metric.stage].get(metric.key) for known in stages]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        raise InputError(f"{name}: {metric.name} was not measured{_reason(record, metric)}")
    return known


def _reason(record: RecordFacts, metric: Metric) -> str:
    """Why a figure is missing, if the record says it."""
    keys = {
        "rows_per_s": ["rows_per_s", "self_s", "rows"],
        "bytes_per_s": ["bytes_per_s", "self_s", "bytes_out"],
    }.get(metric.key, [metric.key])
    places = [f"stages.{metric.stage}.{key}" for key in keys] + [f"stages.{key}" for key in keys]
    if metric.stage is None:
        places = [metric.key, f"process.{metric.key}", f"profile.{metric.key}"]
    elif metric.key in ("anon_peak", "rss_peak"):
        places += ["process.samples.anonymous", "process.samples", "process.anonymous_peak"]
    told = record["not_measured"]
    reason = next((told[place] for place in places if place in told), None)
    if reason is None and metric.stage is not None and metric.key.endswith("_s"):
        reason = "the stage never was in that state, or it was not measured"
    return f": {reason}" if reason else ""
