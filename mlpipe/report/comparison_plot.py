"""Comparisons as pictures: marks of methods, lines of what grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlpipe.measure.comparison import KernelsComparison, Loading, LoadingComparison, ScalingComparison, Series
from mlpipe.measure.sizes import format_count, format_duration, format_size
from mlpipe.report.plot import COLOUR, drawn

OURS = "#cc6677"
"""Of mlpipe's own marks."""

WIDTH = 7.0
LINE = 0.26
"""Inches of one mark."""

FRAME = 0.9
"""Inches above and below the marks of one set of axes."""


def comparison_picture(found: KernelsComparison | LoadingComparison | ScalingComparison, suffix: str) -> bytes:
    """Contents of a ``.svg`` or ``.png`` file.

    Parameters
    ----------
    found : dict
        As `mlpipe.measure.comparison` has it.
    suffix : str
        Which of the two.
    """
    makers: dict[str, Callable[[Any, str], bytes]] = {"kernels": _kernels, "loading": _loading, "scaling": _scaling}
    return makers[found["bench"]](found, suffix)


def _kernels(found: KernelsComparison, suffix: str) -> bytes:
    tasks = [task for task in found["tasks"] if task["skipped"] is None]
    bars = [[one for one in task["methods"] if one["best_s"]] for task in tasks]
    heights = [FRAME + LINE * len(methods) for methods in bars]

    def draw(figure: Any) -> None:
        for axis, task, methods in zip(_axes(figure, heights), tasks, bars, strict=True):
            labels = [("≈ " if one["extrapolated"] else "") + one["label"] for one in methods]
            ours = [one["method"].startswith("mlpipe") for one in methods]
            _marks(axis, labels, [one["best_s"] or 0.0 for one in methods], ours, format_duration)
            axis.set(title=task["title"], xlabel="best time (less is better)")

    return drawn((WIDTH, max(1.5, sum(heights))), suffix, draw)


def _loading(found: LoadingComparison, suffix: str) -> bytes:
    ways = [one for one in found["methods"] if one["rows_per_s"]]
    height = FRAME + LINE * max(1, len(ways))
    what: list[tuple[str, Callable[[Loading], float | None], Callable[[float], str]]] = [
        ("rows per second (more is better)", lambda one: one["rows_per_s"], format_count),
        ("peak anonymous memory (less is better)", lambda one: one["anonymous_peak"] or None, format_size),
        ("time to the first batch (less is better)", lambda one: one["first_batch_s"], format_duration),
    ]

    def draw(figure: Any) -> None:
        for axis, (label, figure_of, write) in zip(_axes(figure, [height] * len(what)), what, strict=True):
            shown = [(one, value) for one in ways if (value := figure_of(one)) is not None]
            labels = [("" if one["complete"] else "≈ ") + f"{one['label']} ({one['order']})" for one, _ in shown]
            ours = [one["method"].startswith("mlpipe") for one, _ in shown]
            _marks(axis, labels, [value for _, value in shown], ours, write)
            axis.set(xlabel=label)

    return drawn((WIDTH, len(what) * height), suffix, draw)


def _scaling(found: ScalingComparison, suffix: str) -> bytes:
    series = found["series"]

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(series), 1, squeeze=False).reshape(-1)
        for axis, one in zip(axes, series, strict=True):
            _line(axis, one)

    return drawn((WIDTH * 0.7, 2.6 * len(series)), suffix, draw)


def _line(axis: Any, series: Series) -> None:
    values = [point["value"] for point in series["points"]]
    seconds = [point["best_s"] for point in series["points"]]
    axis.plot(values, seconds, "o-", color=COLOUR, label="best")
    power = -1.0 if series["varies"] == "threads" else series["expected"]
    if power is not None:
        ideal = [seconds[0] * (value / values[0]) ** power for value in values]
        axis.plot(values, ideal, "--", color="#999999", label=f"as {series['varies']}^{power:g}")
    fixed = ", ".join(f"{name} {value:,}" for name, value in series["fixed"].items())
    axis.set(title=f"{series['title']} ({fixed})", xlabel=series["varies"], xscale="log", yscale="log")
    axis.set_xticks(values, [f"{value:,}" for value in values])
    axis.set_xticks([], minor=True)
    ends = [min(seconds), max(seconds)]
    axis.set_yticks(ends, [format_duration(value) for value in ends])
    axis.set_yticks([], minor=True)
    axis.grid(color="#dddddd")
    axis.legend(frameon=False)


def _axes(figure: Any, heights: list[float]) -> list[Any]:
    """One above the other, so high."""
    if not heights:
        return []
    axes = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    return list(axes.reshape(-1))


def _marks(axis: Any, labels: list[str], values: list[float], ours: list[bool], write: Callable[[float], str]) -> None:
    """A mark for each value, on a scale of powers, and the value beside it.

    Not bars: they would have to begin at nothing, which such a scale does not have.
    """
    places = range(len(values))
    axis.set_xscale("log", base=4 if write is format_size else 10)
    axis.scatter(values, places, color=[OURS if own else COLOUR for own in ours], zorder=2)
    for place, value in zip(places, values, strict=True):
        axis.annotate(write(value), (value, place), xytext=(7, 0), textcoords="offset points", va="center")
    axis.set_xlim(min(values, default=1.0) / 2, max(values, default=1.0) * 6)
    axis.set_yticks(places, labels)
    axis.set_ylim(len(values) - 0.5, -0.5)
    axis.grid(axis="both", color="#dddddd", zorder=0)
    axis.xaxis.set_major_formatter(lambda value, _: write(value))
    axis.xaxis.set_minor_formatter(lambda *_: "")
