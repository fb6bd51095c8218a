"""Statistics as a table: a row for each column, the last one for all values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from mlpipe.statistics.results import COUNTS, Statistics

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

ABSENT = "-"

MOST_SHOWN = 60
"""Columns that a terminal shows; more scroll away."""

OVERALL = "overall"

HEADINGS = {
    "minimum": "min", "maximum": "max", "first_minimum": "first min", "last_minimum": "last min",
    "first_maximum": "first max", "last_maximum": "last max",
}  # fmt: skip

ORDER = (
    "count", "missing", "infinite", "zeros", "distinct", "mean", "std", "minimum", "quantiles", "maximum", "sum",
    "variance", "skewness", "kurtosis", "first_minimum", "last_minimum", "first_maximum", "last_maximum",
)  # fmt: skip

LEAVING = (
    "last_maximum", "last_minimum", "first_maximum", "first_minimum", "variance", "sum", "kurtosis", "skewness",
    "zeros", "distinct", "quantiles",
)  # fmt: skip
"""What a narrow terminal goes without, and in which order."""


@dataclass(frozen=True)
class _Column:
    """A column of the table: which number, its heading, and its cells."""

    name: str
    heading: str
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        return max(map(len, (self.heading, *self.cells)))


@overload
def stats_table(statistics: Statistics, terminal: Literal[False]) -> str: ...
@overload
def stats_table(statistics: Statistics, terminal: bool) -> RenderableType: ...
def stats_table(statistics: Statistics, terminal: bool) -> RenderableType:
    """Render statistics.

    Parameters
    ----------
    statistics : Statistics
        What to show.
    terminal : bool
        Whether the reader is a person at a terminal: then the table has as many figures as its width holds, and
        as many rows as are looked at.

    Returns
    -------
    str or rich renderable
        Aligned plain text with everything, ending in a newline; or something for a Rich console.
    """
    if terminal:
        return _Terminal(statistics)
    columns = list(_columns(statistics, range(len(statistics))))
    lines = [[column.heading.replace(" ", "_") for column in columns]]
    lines += [list(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "".join(
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        + "\n"
        for first, *rest in lines
    )


def title(statistics: Statistics) -> str:
    """What the rows were.

    Examples
    --------
    >>> import numpy as np
    >>> none = np.empty((0, 1))
    >>> title(Statistics(5, (1,), "uint8", ["0"], 1, none, 0.0, {}, {}, (), none, none))
    '5 rows of 1 uint8'
    """
    shape = " x ".join(map(str, statistics.row_shape)) or "1"
    return f"{statistics.rows:,} rows of {shape} {statistics.dtype}"


def notes(statistics: Statistics) -> Iterator[str]:
    """What has to be said of the numbers."""
    if statistics.rank_error is not None:
        yield f"quantiles are estimates: their ranks are off by at most {statistics.rank_error:.2%}, at 99 % confidence"
    if statistics.distinct_error is not None:
        yield f"distinct values are estimates: off by at most {statistics.distinct_error:.2%}, at 95 % confidence"


def _columns(statistics: Statistics, places: range) -> Iterator[_Column]:
    """The columns of the table, with the rows of some columns and that of all values."""
    several = len(statistics) != 1
    names = [statistics.names[place] for place in places] + ([OVERALL] if several else [])
    yield _Column("column", "column", tuple(names))
    for name in ORDER:
        if name == "quantiles":
            for place, fraction in enumerate(statistics.quantiles):
                values = [statistics.of_columns[place, column] for column in places]
                values += [statistics.of_all[place]] * several
                yield _Column(name, f"{100 * fraction:.12g}%", tuple(map(_number, values)))
        elif name in statistics.columns:
            values = [statistics.columns[name][column] for column in places] + [statistics.overall[name]] * several
            write: Callable[[Any], str] = _whole if name in COUNTS or name == "distinct" else _number
            yield _Column(name, HEADINGS.get(name, name), tuple(map(write, values)))


def _whole(value: Any) -> str:
    return ABSENT if value < 0 else f"{value:.0f}"


def _number(value: Any) -> str:
    """Six digits, or all of an integer."""
    found = value.item() if hasattr(value, "item") else value
    if isinstance(found, int):
        return str(int(found))
    return ABSENT if math.isnan(found) else f"{found:.6g}"


class _Terminal:
    """The table for a Rich console."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        found = self.statistics
        shown = range(min(len(found), MOST_SHOWN))
        columns = _fitting(list(_columns(found, shown)), options.max_width)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.heading, justify="left" if column.name == "column" else "right", no_wrap=True)
        for cells in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*map(Text, cells), style="bold" if cells[0] == OVERALL else "")
        yield Text(title(found), style="bold")
        yield table
        if len(shown) < len(found):
            yield Text(f"and {len(found) - len(shown):,} more columns; -o FILE.csv has them all", style="dim")


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """Columns that fit; those that say nothing go first, then by `LEAVING`."""
    kept = [column for column in columns if column.name not in ("missing", "infinite") or set(column.cells) - {"0"}]
    for leaving in LEAVING:
        if sum(column.width + 2 for column in kept) - 2 <= width:
            break
        kept = [column for column in kept if column.name != leaving]
    return kept
