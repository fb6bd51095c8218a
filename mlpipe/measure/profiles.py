"""One record of one or more runs of a command that were measured from outside."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlpipe.measure.child import Ended
from mlpipe.measure.metrics import stage_figures
from mlpipe.measure.record import Record
from mlpipe.measure.sampling import merged_peak
from mlpipe.measure.schema import (
    FunctionFacts,
    ProfileFacts,
    ProfileRunFacts,
    ProfileSampleFacts,
    RecordFacts,
    SpreadFacts,
    Status,
)

_SPREAD = ("wall_s", "cpu_s", "anonymous_peak", "file_backed_peak", "rss_peak")
_PEAKS: tuple[Literal["anonymous_peak", "file_backed_peak"], ...] = ("anonymous_peak", "file_backed_peak")


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Parameters
    ----------
    ended : Ended
        What was seen from outside.
    record : RecordFacts or None
        What it wrote of itself; None if it carried out no chain, or ended before that.
    lines : list of FunctionFacts or None
        Lines of the user's functions, if they were watched.
    reasons : list of str
        Why there are none.
    """

    ended: Ended
    record: RecordFacts | None = None
    lines: list[FunctionFacts] | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether it did not do what it should."""
        return self.ended.exit_code != 0


def spread(values: Sequence[float]) -> SpreadFacts:
    """How figures of several runs differ.

    Examples
    --------
    >>> spread([3.0, 1.0, 2.0, 10.0])
    {'median': 2.5, 'min': 1.0, 'max': 10.0, 'mad': 1.0}
    """
    middle = statistics.median(values)
    away = statistics.median(abs(value - middle) for value in values)
    return {"median": float(middle), "min": float(min(values)), "max": float(max(values)), "mad": float(away)}


def profiled(
    command: Sequence[str], runs: Sequence[Run], *, interval: float | None, sampler: str | None, lines: bool
) -> RecordFacts:
    """Make the record of a profile: that of its median run by wall time, or of the one that failed.

    Parameters
    ----------
    command : sequence of str
        What was run, as typed after ``mlpipe``.
    runs : sequence of Run
        At least one, in order; after one that failed there are no others.
    interval : float or None
        Seconds between samples of memory, if there are any.
    sampler : str or None
        What took them.
    lines : bool
        Whether lines were asked for.

    Returns
    -------
    RecordFacts
        With ``profile``; what was not measured is null, with the reason.
    """
    good = [run for run in runs if not run.failed]
    middle = runs[-1] if runs[-1].failed else sorted(good, key=lambda run: run.ended.wall_s)[(len(good) - 1) // 2]
    record = _bare_record(command, middle) if middle.record is None else middle.record
    record["exit_code"] = middle.ended.exit_code
    if middle.failed:
        record["complete"] = False
        if record["status"] == "done":  # it failed afterwards, as when its output could not be printed
            record["status"] = "failed"
    _see_from_outside(record, middle)
    told = record["not_measured"]
    facts = [_run_facts(run) for run in runs]
    spreads: dict[str, SpreadFacts] = {}
    for name in _SPREAD:
        values: list[Any] = [one[name] for one, run in zip(facts, runs, strict=True) if not run.failed]  # type: ignore[literal-required]
        if values and None not in values:
            spreads[name] = spread(values)
    taken = middle.ended.sampler
    if taken is None:
        told["profile.samples"] = "memory is sampled from outside with --memory"
    else:
        told.update({f"profile.{name}": reason for name, reason in taken.reasons.items()})
        if not taken.series.points:
            told["profile.samples"] = "the process had ended before the first sample"
    found = middle.lines or None
    if found is None:
        told["profile.lines"] = _why_no_lines(middle) if lines else "lines are watched with --lines"
    profile: ProfileFacts = {
        "runs": facts,
        "spread": spreads,
        "interval_s": interval,
        "samples": _samples(middle),
        "sampler": sampler,
        "children": None if taken is None else taken.children,
        "lines": found,
    }
    record["profile"] = profile
    return record


def _samples(run: Run) -> ProfileSampleFacts | None:
    sampler = run.ended.sampler
    return None if sampler is None or not sampler.series.points else sampler.series.facts()


def _why_no_lines(run: Run) -> str:
    if run.reasons:
        return "; ".join(run.reasons)
    return "no apply-python function was called" if not run.failed else "the run ended before"


def _see_from_outside(record: RecordFacts, run: Run) -> None:
    """Raise peaks of memory to what was seen from outside: resetting the kernel's mark hides some from the inside."""
    process, sampler = record["process"], run.ended.sampler
    process["rss_peak"] = _rss_peak(run)
    if process["rss_peak"] is None:
        record["not_measured"]["process.rss_peak"] = "less than that of profile itself; sampled with --memory"
    if sampler is not None:
        process["anonymous_peak"] = merged_peak([process["anonymous_peak"], sampler.peak("anonymous")])
        process["file_backed_peak"] = merged_peak([process["file_backed_peak"], sampler.peak("file_backed")])
    if process["anonymous_peak"] is not None:
        process["note"] = None
    for name in _PEAKS:
        if process[name] is not None:
            record["not_measured"].pop(f"process.{name}", None)


def _rss_peak(run: Run) -> int | None:
    sampler, record = run.ended.sampler, run.record
    inside = record["process"]["rss_peak"] if record is not None else None
    outside = [] if sampler is None else [sampler.peak("rss_peak"), sampler.peak("rss")]
    return merged_peak([inside, run.ended.rss_peak, *outside])


def _run_facts(run: Run) -> ProfileRunFacts:
    ended, record = run.ended, run.record
    seen: list[dict[str, int | None]] = []
    if ended.sampler is not None:
        seen.append({name: ended.sampler.peak(name.removesuffix("_peak")) for name in _PEAKS})
    if record is not None:
        seen.append({name: record["process"][name] for name in _PEAKS})
    peaks = {name: merged_peak([one[name] for one in seen]) for name in _PEAKS}
    return {
        "wall_s": ended.wall_s,
        "cpu_s": ended.cpu_s,
        "anonymous_peak": peaks["anonymous_peak"],
        "file_backed_peak": peaks["file_backed_peak"],
        "rss_peak": _rss_peak(run),
        "exit_code": ended.exit_code,
        "stages": {} if record is None else stage_figures(record, _samples(run)),
    }


def _bare_record(command: Sequence[str], run: Run) -> RecordFacts:
    """The record of a command that wrote none: it carried out no chain, or ended before."""
    ended = run.ended
    status: Status = "interrupted" if ended.signum is not None else "failed" if run.failed else "done"
    error = f"ended with exit code {ended.exit_code}" if run.failed else None
    why = "the command ended before it carried out a chain" if run.failed else f"{command[0]} carried out no chain"
    made = Record(list(command), started=ended.started, status=status, error=error, exit_code=ended.exit_code)
    record = made.to_dict()
    record["wall_s"], record["cpu_s"] = ended.wall_s, ended.cpu_s
    record["process"]["cpu_s"], record["process"]["major_faults"] = ended.cpu_s, ended.major_faults
    record["process"]["note"] = outside = "it is sampled from outside with --memory"
    record["bottleneck"]["sentence"] = why
    keys = (
        "stages", "thread_facts", "plan", "accounted", "startup_s", "host.simd", "threads", "memory_ceiling",
        "process.bytes_read", "process.bytes_written", "process.in_flight_peak", "process.samples",
    )  # fmt: skip
    record["not_measured"] = {
        **dict.fromkeys(keys, why),
        **dict.fromkeys((f"process.{name}" for name in _PEAKS), outside),
    }
    return record
