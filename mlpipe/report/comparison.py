"""Comparisons as tables: for a terminal, or as aligned plain text.

A dash stands for what was not measured; ``≈`` for a time scaled up from some of the rows, or a rate of some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mlpipe.measure.comparison import KernelsComparison, Loading, LoadingComparison, ScalingComparison, Series, Timing
from mlpipe.measure.sizes import format_count, format_duration, format_size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

ABSENT = "-"
ROUGH = "≈"

Row = TypeVar("Row")


@dataclass(frozen=True)
class Table:
    """What is shown of one thing that was compared.

    Parameters
    ----------
    title : str
        One line above it.
    headings : list of str
        Of the columns; the first ones hold text, the others figures.
    rows : list of list of str
        The cells.
    notes : list of str
        Lines below it.
    texts : int
        How many columns hold text.
    best : int or None
        The row that won, if any.
    leaving : list of int
        Columns that a narrow terminal goes without, in this order.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    texts: int = 1
    best: int | None = None
    leaving: Sequence[int] = ()

    def __str__(self) -> str:
        """Aligned plain text, ending in a newline."""
        lines = [self.headings, *self.rows]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        body = ("  ".join(self._aligned(cells, widths)).rstrip() for cells in lines)
        return "\n".join([self.title, *body, *self.notes]) + "\n"

    def _aligned(self, cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            yield cell.ljust(width) if place < self.texts else cell.rjust(width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table as RichTable
        from rich.text import Text

        shown = self._shown(options.max_width)
        table = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for place in shown:
            table.add_column(self.headings[place], justify="left" if place < self.texts else "right", no_wrap=True)
        for number, cells in enumerate(self.rows):
            style = "bold green" if number == self.best else "dim" if set(cells[self.texts :]) == {ABSENT} else ""
            table.add_row(*(Text(cells[place]) for place in shown), style=style)
        yield Text(self.title, style="bold")
        yield table
        for note in self.notes:
            yield Text(note, style="dim")

    def _shown(self, width: int) -> list[int]:
        """Columns that fit."""
        widths = [max(map(len, cells)) for cells in zip(self.headings, *self.rows, strict=True)]
        shown = list(range(len(self.headings)))
        for place in self.leaving:
            if sum(widths[one] + 2 for one in shown) - 2 <= width:
                break
            shown.remove(place)
        return shown


def comparison_tables(found: KernelsComparison | LoadingComparison | ScalingComparison) -> list[Table]:
    """The tables of a comparison, in order.

    Parameters
    ----------
    found : dict
        As `mlpipe.measure.comparison` has it.

    Returns
    -------
    list of Table
        Each is text by ``str`` and something to print for a Rich console.

    Examples
    --------
    >>> point = dict(best_s=0.5, median_s=0.5, samples_s=[0.5], efficiency=None)
    >>> series = dict(task="count", title="counts of values", varies="values", fixed={"threads": 2},
    ...               points=[dict(value=100, **point)], exponent=1.0, exponent_error=None, expected=1.0)
    >>> print(comparison_tables({"bench": "scaling", "series": [series], "notes": []})[0], end="")
    counts of values: values vary, threads 2
    values    best  median  per value
       100  500 ms  500 ms    5.00 ms
    time grows as values^1.00; 1 is expected
    """
    makers: dict[str, Callable[[Any], list[Table]]] = {
        "kernels": _kernels, "loading": _loading, "scaling": _scaling,
    }  # fmt: skip
    return makers[found["bench"]](found)


def _kernels(found: KernelsComparison) -> list[Table]:
    tables = []
    for task in found["tasks"]:
        if task["skipped"] is not None:
            tables.append(Table(task["title"], ["method"], [], [f"left out: {task['skipped']}"]))
            continue
        methods = task["methods"]
        notes = [f"{one['label']} is left out: {one['skipped']}" for one in methods if one["skipped"]]
        notes += [
            f"{ROUGH} {one['label']}: timed on {one['measured_rows']:,} of {task['rows']:,} rows, and scaled"
            for one in methods
            if one["extrapolated"]
        ]
        tables.append(
            Table(
                task["title"],
                ["method", "best", "median", "compile", "vs Python", "vs NumPy", "off by"],
                [_timing(one) for one in methods],
                notes,
                best=_place(methods, lambda one: one["best_s"]),
                leaving=(6, 2),
            )
        )
    return tables


def _timing(one: Timing) -> list[str]:
    rough = ROUGH if one["extrapolated"] else ""
    off = one["largest_difference"]
    return [
        one["label"], _seconds(one["best_s"], rough), _seconds(one["median_s"], rough), _seconds(one["compile_s"]),
        _times(one["against_python"]), _times(one["against_numpy"]), ABSENT if off is None else f"{off:.0e}" if off else
        "0",
    ]  # fmt: skip


def _loading(found: LoadingComparison) -> list[Table]:
    methods, epochs = found["methods"], found["settings"].get("epochs", 1)
    notes = [f"{one['label']} is left out: {one['skipped']}" for one in methods if one["skipped"]]
    notes += [f"{one['label']} failed: {one['failed']}" for one in methods if one["failed"]]
    notes += [
        f"{ROUGH} {one['label']}: stopped after {format_duration(one['seconds'] or 0)}, at "
        f"{100 * (one['rows'] or 0) // (found['rows'] * epochs)} % of the rows"
        for one in methods
        if one["rows"] is not None and not one["complete"]
    ]
    cold = bool(found["settings"].get("cold"))
    headings = ["method", "order", "rows/s", "bytes/s", "first batch", "rows/s later", "peak memory", "at start"]
    shape = " x ".join(map(str, found["inputs"][0]["shape"]))
    title = f"{shape} {found['inputs'][0]['dtype']} ({format_size(found['bytes'])}) in {found['files']} files"
    rows = [_way(one, found["row_bytes"], cold) for one in methods]
    best = _place(methods, lambda one: None if one["rows_per_s"] is None else 1 / one["rows_per_s"])
    return [
        Table(title, headings + ["from disk"] * cold, rows, notes, texts=2, best=best, leaving=(7, 3, 5, 1)),
    ]  # fmt: skip


def _way(one: Loading, row_bytes: int, cold: bool) -> list[str]:
    rate = one["rows_per_s"]
    rough = ROUGH if rate is not None and not one["complete"] else ""
    cells = [
        one["label"], one["order"],
        ABSENT if rate is None else rough + format_count(rate),
        ABSENT if rate is None else rough + format_size(rate * row_bytes),
        _seconds(one["first_batch_s"]),
        ABSENT if one["later_rows_per_s"] is None else format_count(one["later_rows_per_s"]),
        _size(one["anonymous_peak"]), _size(one["anonymous_start"]),
    ]  # fmt: skip
    return [*cells, _size(one["read_bytes"])] if cold else cells


def _scaling(found: ScalingComparison) -> list[Table]:
    return [_threads(one) if one["varies"] == "threads" else _sizes(one) for one in found["series"]]


def _heading(series: Series) -> str:
    fixed = ", ".join(f"{name} {value:,}" for name, value in series["fixed"].items())
    return f"{series['title']}: {series['varies']} vary, {fixed}"


def _sizes(series: Series) -> Table:
    rows = [
        [f"{point['value']:,}", _seconds(point["best_s"]), _seconds(point["median_s"]),
         _seconds(point["best_s"] / point["value"])]
        for point in series["points"]
    ]  # fmt: skip
    notes = []
    if series["exponent"] is not None:
        error = series["exponent_error"]
        spread = "" if error is None else f" ± {error:.2f}"
        expected = "" if series["expected"] is None else f"; {series['expected']:g} is expected"
        notes.append(f"time grows as {series['varies']}^{series['exponent']:.2f}{spread}{expected}")
    headings = [series["varies"], "best", "median", f"per {series['varies'].removesuffix('s')}"]
    return Table(_heading(series), headings, rows, notes, texts=0)


def _threads(series: Series) -> Table:
    first = series["points"][0]["best_s"]
    rows = [
        [f"{point['value']:,}", _seconds(point["best_s"]), _seconds(point["median_s"]), _times(first / point["best_s"]),
         ABSENT if point["efficiency"] is None else f"{100 * point['efficiency']:.0f} %"]
        for point in series["points"]
    ]  # fmt: skip
    return Table(_heading(series), ["threads", "best", "median", "speed-up", "efficiency"], rows, texts=0)


def _place(rows: Sequence[Row], seconds: Callable[[Row], float | None]) -> int | None:
    """Which row took the shortest; None if none took any."""
    known = [(time, place) for place, row in enumerate(rows) if (time := seconds(row)) is not None]
    return min(known)[1] if known else None


def _seconds(value: float | None, rough: str = "") -> str:
    return ABSENT if value is None else rough + format_duration(value)


def _size(value: int | None) -> str:
    return ABSENT if value is None else format_size(value)


def _times(ratio: float | None) -> str:
    """A ratio, to three digits."""
    if ratio is None:
        return ABSENT
    return f"{ratio:,.0f}×" if ratio >= 99.95 else f"{ratio:.1f}×" if ratio >= 9.995 else f"{ratio:.3g}×"
