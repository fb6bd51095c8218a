"""Two records side by side: what changed, whether that can be compared at all, and which thresholds it crosses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from mlpipe.errors import InputError, RegressionError
from mlpipe.measure.metrics import PROCESS_METRICS, Kind, Metric, figures, stage_figures
from mlpipe.measure.profiles import spread
from mlpipe.measure.schema import RecordFacts, SpreadFacts
from mlpipe.measure.sizes import format_count, format_duration, format_size, visible
from mlpipe.measure.thresholds import Threshold

_SHOWN_OF_STAGES = ("self", "wait_in", "wait_out", "compile", "cpu", "rows_per_s", "anon_peak")
_NOT_WORK = {
    "--report": 1, "--progress": 1, "--lock": 1, "--memory": 1, "--save-config": 1, "--log-json": 0, "--force": 0,
    "-f": 0, "--json": 0, "--quiet": 0, "-q": 0, "--verbose": 0, "-v": 0, "--debug": 0,
}  # fmt: skip
"""Flags that change nothing about the work, and how many words follow them."""

_OUTPUT = re.compile(r"(?:--output(?:=(?P<long>.*))?|-f*o(?P<short>.*))", re.DOTALL)
_DATA = (".npy", ".npz", ".csv", ".parquet")
"""What names of files with data end in: words that do are places, whatever flag they belong to."""

_OF_HOST: tuple[Literal["architecture", "cpu", "simd", "processors", "usable_processors"], ...] = (
    "architecture",
    "cpu",
    "simd",
    "processors",
    "usable_processors",
)
_OF_INPUTS: tuple[Literal["shape", "dtype", "bytes"], ...] = ("shape", "dtype", "bytes")
_MEMORY_SLACK = 0.02  # of the machine's memory: a new kernel keeps some more or less for itself


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both records; medians, if there were several runs.

    Parameters
    ----------
    metric : Metric
        Which.
    old, new : SpreadFacts
        Of the runs of each.
    """

    metric: Metric
    old: SpreadFacts
    new: SpreadFacts

    @property
    def absolute(self) -> float:
        """The change, in the unit of the figure."""
        return self.new["median"] - self.old["median"]

    @property
    def percent(self) -> float | None:
        """The change in per cent of the old figure; None from 0 to something else."""
        if not self.old["median"]:
            return None if self.new["median"] else 0.0
        return 100 * self.absolute / self.old["median"]

    def facts(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "metric": self.metric.name, "unit": self.metric.kind, "old": self.old, "new": self.new,
            "change": self.absolute, "change_percent": self.percent,
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Two records side by side.

    Parameters
    ----------
    names : (str, str)
        What messages call the old and the new one.
    old, new : RecordFacts
        Checked.

    Raises
    ------
    InputError
        From `check`, `changes` and `crossed`.
    """

    names: tuple[str, str]
    old: RecordFacts
    new: RecordFacts

    @property
    def of_runs(self) -> bool:
        """Whether both were measured from outside: then their runs are compared, start of the interpreter included."""
        return all(record["profile"] is not None and record["profile"]["runs"] for record in (self.old, self.new))

    def check(self, *, anyway: bool = False) -> list[str]:
        """Raise InputError if the two cannot be compared; with `anyway` return why not instead."""
        found = list(_differences(self.names, self.old, self.new))
        if found and not anyway:
            raise InputError(f"{self.names[0]} and {self.names[1]}: {'; '.join(found)}; compare with --anyway")
        return found

    def notes(self) -> list[str]:
        """What else differs, and may be why."""
        pairs = [("memory ceiling", *(_size(one["memory_ceiling"]) for one in (self.old, self.new)))]
        pairs.append(("system", *(str(one["host"]["system"]) for one in (self.old, self.new))))
        pairs += [
            (name, str(self.old["versions"].get(name)), str(self.new["versions"].get(name)))
            for name in sorted({*self.old["versions"], *self.new["versions"]})
        ]
        return [f"{what}: {before}, now {now}" for what, before, now in pairs if before != now]

    def change(self, metric: Metric) -> Change:
        """One figure; InputError if a record lacks it."""
        old, new = (
            spread(figures(record, metric, name, of_runs=self.of_runs))
            for name, record in zip(self.names, (self.old, self.new), strict=True)
        )
        return Change(metric, old, new)

    def changes(self) -> list[Change]:
        """The figures that both have, those of the process first."""
        metrics = [Metric(None, field) for field in PROCESS_METRICS]
        stages = [name for name in stage_figures(self.new) if name in stage_figures(self.old)]
        metrics += [Metric(stage, field) for stage in stages for field in _SHOWN_OF_STAGES]
        found = []
        for metric in metrics:
            try:
                found.append(self.change(metric))
            except InputError:  # one of them was not measured: nothing to show
                continue
        return found

    def crossed(self, thresholds: Sequence[Threshold]) -> list[str]:
        """Which thresholds are crossed, and by how much; InputError if a record lacks a figure."""
        found = []
        for threshold in thresholds:
            change = self.change(threshold.metric)
            old, new = change.old["median"], change.new["median"]
            if threshold.crossed(old, new):
                write = FORMATS[threshold.metric.kind]
                found.append(
                    f"{threshold.metric.name} {write(old)} -> {write(new)} ({_signed(change)}): {threshold.text}"
                )
        return found


def check_thresholds(comparison: Comparison, thresholds: Sequence[Threshold]) -> None:
    """Raise RegressionError, naming the thresholds that are crossed."""
    crossed = comparison.crossed(thresholds)
    if crossed:
        count = "a threshold was" if len(crossed) == 1 else f"{len(crossed)} thresholds were"
        raise RegressionError(f"{count} crossed: {'; '.join(crossed)}")


def _signed(change: Change) -> str:
    """The change as people read it.

    Examples
    --------
    >>> metric = Metric(None, "wall")
    >>> [_signed(Change(metric, spread([old]), spread([new]))) for old, new in ((2, 2.5), (2, 1.5), (0, 0), (0, 1))]
    ['+25.0 %', '-25.0 %', '+0.0 %', '+1.00 s']
    """
    percent = change.percent
    if percent is not None:
        return f"{percent:+.1f} %" if abs(percent) < 1000 else f"{percent:+.0f} %"
    return f"+{FORMATS[change.metric.kind](change.absolute)}"


FORMATS: dict[Kind, Any] = {
    "seconds": format_duration,
    "bytes": format_size,
    "count": format_count,
    "per second": lambda value: f"{format_count(value)}/s",
}


def comparison_table(changes: Sequence[Change]) -> list[tuple[str, ...]]:
    """Rows of cells, the heading first: medians side by side, the change, and ranges if there were several runs."""
    several = any(one.old["min"] < one.old["max"] or one.new["min"] < one.new["max"] for one in changes)
    rows = [("figure", "old", "new", "change", *(("old range", "new range") if several else ()))]
    for one in changes:
        write = FORMATS[one.metric.kind]
        cells = (visible(one.metric.name), write(one.old["median"]), write(one.new["median"]), _signed(one))
        ranges = tuple(_range(side, write) for side in (one.old, one.new))
        rows.append((*cells, *(ranges if several else ())))
    return rows


def _range(found: SpreadFacts, write: Callable[[float], str]) -> str:
    return f"{write(found['min'])} to {write(found['max'])}" if found["min"] < found["max"] else "-"


def _differences(names: tuple[str, str], old: RecordFacts, new: RecordFacts) -> Iterator[str]:
    """Why two records cannot be compared."""
    for name, record in zip(names, (old, new), strict=True):
        if record["status"] != "done" or not record["complete"]:
            yield f"the run of {name} {'was interrupted' if record['status'] == 'interrupted' else 'failed'}"
    if _work(old) != _work(new):
        yield f"commands differ ({_shown(old)}, {_shown(new)})"
    yield from _inputs_differ(old, new)
    if old["threads"] != new["threads"]:
        yield f"threads differ ({old['threads']}, {new['threads']})"
    before, now = old["host"], new["host"]
    for key in _OF_HOST:
        if before[key] != now[key]:
            yield f"hosts differ in {key.replace('_', ' ')} ({before[key]}, {now[key]})"
    memory = (before["memory"] or 0, now["memory"] or 0)
    if abs(memory[0] - memory[1]) > _MEMORY_SLACK * max(memory):
        yield f"hosts differ in memory ({_size(memory[0])}, {_size(memory[1])})"


def _inputs_differ(old: RecordFacts, new: RecordFacts) -> Iterator[str]:
    if len(old["inputs"]) != len(new["inputs"]):
        yield f"inputs differ in number ({len(old['inputs'])}, {len(new['inputs'])})"
        return
    for before, now in zip(old["inputs"], new["inputs"], strict=True):
        for key in _OF_INPUTS:
            if before[key] != now[key]:
                yield f"inputs differ in {key} ({before['path']} {before[key]}, {now['path']} {now[key]})"
                break


def _work(record: RecordFacts) -> list[str]:
    """The command, without what says where things are and how it is told about them."""
    places = _places(record)
    files: dict[str, str] = {}

    def placed(word: str) -> str:
        found = places.get(word) or places.get(word.rstrip("/"))
        if found is None and word.lower().endswith(_DATA):
            found = files.setdefault(word, f"<file {len(files)}>")  # the same file twice is not two files
        return found or word

    words = iter(record["command"])
    found = []
    for word in words:
        flag, equals, value = word.partition("=")
        output = _OUTPUT.fullmatch(word)
        if flag in _NOT_WORK:
            for _ in range(0 if equals else _NOT_WORK[flag]):
                next(words, None)
        elif output is not None:
            path = output["long"] or output["short"] or next(words, "")
            found += ["-o", "<output>" if path in places else f"<output{_kind(path)}>"]
        elif equals and flag.startswith("--"):
            found += [flag, placed(value)]
        else:
            found.append(placed(word))
    return found


def _places(record: RecordFacts) -> dict[str, str]:
    """What stands for the paths that the record knows; an input may have been given as the directory it lies in."""
    found = {one["path"]: f"<input {place}>" for place, one in enumerate(record["inputs"])}
    if record["output"] is not None:
        found.setdefault(record["output"]["path"], "<output>")
    for place, one in enumerate(record["inputs"]):
        directory = str(PurePath(one["path"].partition(" … ")[0]).parent)
        found.setdefault(directory, f"<input {place}>")
    return found


def _kind(path: str) -> str:
    """What kind of output it is, as its name tells: to write another kind is other work."""
    return " -" if path == "-" else "" if path.endswith("/") else PurePath(path).suffix.lower()


def _shown(record: RecordFacts) -> str:
    text = " ".join(record["command"])
    return text if len(text) <= 80 else f"{text[:79]}…"


def _size(size: int | None) -> str:
    return "none" if size is None else format_size(size)
