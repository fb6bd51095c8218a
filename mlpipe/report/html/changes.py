"""What differs between two records: figures by name, and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from mlpipe.errors import InputError
from mlpipe.measure.metrics import PROCESS_METRICS, STAGE_METRICS, Metric, figures, stage_figures
from mlpipe.measure.schema import RecordFacts
from mlpipe.report.html.figures import duration

MORE_IS_BETTER = frozenset({"rows_per_s", "bytes_per_s"})
NEITHER = frozenset({"rows", "batches", "bytes_written"})
SMALL = 0.02
"""A smaller change, as a share of the old figure, counts as none."""


@dataclass(frozen=True)
class Change:
    """A figure of both records: of one run each, or of several."""

    metric: Metric
    before: list[float]
    now: list[float]

    @property
    def old(self) -> float | None:
        """The median before."""
        return median(self.before) if self.before else None

    @property
    def new(self) -> float | None:
        """The median now."""
        return median(self.now) if self.now else None

    @property
    def relative(self) -> float | None:
        """By how much it grew, as a share of what it was."""
        return (self.new - self.old) / self.old if self.old and self.new is not None else None

    @property
    def verdict(self) -> str:
        """What to make of it: better, worse, same, noise (several runs of both overlap), or no word at all.

        Examples
        --------
        >>> wall = Metric(None, "wall")
        >>> [Change(wall, [2.0], now).verdict for now in ([3.0], [1.0], [2.01], [])]
        ['worse', 'better', 'same', '']
        >>> Change(wall, [1.0, 2.0, 3.0], [2.2, 2.5, 4.0]).verdict
        'noise'
        """
        if self.relative is None or self.metric.field in NEITHER:
            return ""
        if abs(self.relative) < SMALL:
            return "same"
        several = min(len(self.before), len(self.now)) > 1
        if several and min(self.now) <= max(self.before) and min(self.before) <= max(self.now):
            return "noise"
        return "better" if (self.relative > 0) == (self.metric.field in MORE_IS_BETTER) else "worse"


def changes(record: RecordFacts, other: RecordFacts) -> list[Change]:
    """Give every figure that at least one of two records has."""
    found = [_of_process(field, record, other) for field in PROCESS_METRICS]
    before, now = (_of_stages(each, _of_runs(record, other)) for each in (other, record))
    for name in dict.fromkeys(stage["name"] for each in (other, record) for stage in each["stages"]):
        for field in STAGE_METRICS:
            metric = Metric(name, field)
            found.append(Change(metric, _known(before, metric), _known(now, metric)))
    return [change for change in found if change.before or change.now]


def _of_runs(record: RecordFacts, other: RecordFacts) -> bool:
    """Whether both were run several times, or once, by `mlpipe profile`: then those runs are compared."""
    return all(each["profile"] is not None and each["profile"]["runs"] for each in (record, other))


def _of_process(field: str, record: RecordFacts, other: RecordFacts) -> Change:
    metric = Metric(None, field)
    of_runs = _of_runs(record, other)
    found = []
    for each in (other, record):
        try:
            found.append(figures(each, metric, "record", of_runs=of_runs))
        except InputError:  # not measured
            found.append([])
    return Change(metric, *found)


def _of_stages(record: RecordFacts, of_runs: bool) -> list[dict[str, dict[str, float | None]]]:
    """Give the figures of all stages, of each run."""
    profile = record["profile"]
    runs = [run["stages"] for run in profile["runs"]] if of_runs and profile is not None else []
    return runs if any(runs) else [stage_figures(record)]


def _known(runs: list[dict[str, dict[str, float | None]]], metric: Metric) -> list[float]:
    """Give a figure of a stage of each run; nothing if one lacks it."""
    values = [run.get(metric.stage or "", {}).get(metric.key) for run in runs]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def headline(record: RecordFacts, other: RecordFacts) -> str:
    """Say in one sentence what became of the wall clock.

    Examples
    --------
    >>> new, old = {"wall_s": 1.0, "profile": None}, {"wall_s": 1.5, "profile": None}
    >>> headline(new, old)
    '1.50 times as fast: 1.00 s instead of 1.50 s'
    >>> headline(old, new)
    '1.50 times as slow: 1.50 s instead of 1.00 s'
    """
    wall = _of_process("wall", record, other)
    if not wall.old or not wall.new:
        return "Two runs side by side"
    told = f"{duration(wall.new)} instead of {duration(wall.old)}"
    if wall.verdict == "same":
        return f"As fast as before: {told}"
    if wall.verdict == "noise":
        return f"No clear difference, the runs differ among themselves as much: {told}"
    ratio, way = (wall.old / wall.new, "fast") if wall.new < wall.old else (wall.new / wall.old, "slow")
    return f"{ratio:.3g} times as {way}: {told}" if ratio >= 10 else f"{ratio:.2f} times as {way}: {told}"
