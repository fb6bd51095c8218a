"""Counts for a terminal: a table with bars, the largest as wide as there is room.

What a terminal cannot hold is left out from the right: first the bars, then shares; then long values are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpipe.counting.columns import Column, concatenate, length, take
from mlpipe.counting.table import Table
from mlpipe.link import Array
from mlpipe.measure.sizes import format_size
from mlpipe.readers.files import shown_name
from mlpipe.writers.cells import float_strings

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

LIMIT = 20
"""Rows shown, unless somebody asks for more."""

WIDEST_BAR = 40
NARROWEST_BAR = 5
NARROWEST_VALUE = 8

_EIGHTHS = "▏▎▍▌▋▊▉█"
_ENDS = ("low", "high")
_FIGURES = ("count", "share", "cumulative")


@dataclass(frozen=True)
class Shown:
    """The first rows of a table of counts, as text.

    Parameters
    ----------
    headings : tuple of str
        Of the columns.
    cells : tuple of list of str
        The columns: keys first, then ``count``, ``share`` and what else there is.
    right : tuple of bool
        Which columns are figures, to be aligned at the right.
    lengths : tuple of float
        Of the bars, from 0 to 1.
    rows : int
        Of the whole table.
    """

    headings: tuple[str, ...]
    cells: tuple[list[str], ...]
    right: tuple[bool, ...]
    lengths: tuple[float, ...]
    rows: int

    @property
    def more(self) -> int:
        """Rows that are not shown."""
        return self.rows - len(self.lengths)


def first_rows(table: Table, total: int | float, limit: int = LIMIT) -> Shown:
    """Read what is to be shown of a table, and close it.

    Parameters
    ----------
    table : Table
        Its column ``count`` says how long bars are; columns ``low`` and ``high`` are the ends of intervals.
    total : int or float
        Of all counts, of which each is a share.
    limit : int
        Rows to show.

    Examples
    --------
    >>> from mlpipe.counting.table import table_of
    >>> table = table_of({"value": np.array([3, 5]), "count": np.array([1200, 300])})
    >>> shown = first_rows(table, 1500, limit=1)
    >>> shown.headings, shown.cells, shown.more
    (('value', 'count', 'share'), (['3'], ['1,200'], ['80.0 %']), 1)
    """
    held: list[tuple[Column, ...]] = []
    rows, last = 0, -np.inf
    binned = all(name in table.names for name in _ENDS)
    try:
        for piece in table.pieces:
            if binned:  # the last bin may be any row
                last = max(last, _array(piece[table.names.index("high")]).max(initial=-np.inf))
            if rows < limit:
                held.append(tuple(take(column, slice(0, limit - rows)) for column in piece))
                held[-1] = tuple(column.copy() for column in held[-1])
            elif table.rows is not None and not binned:
                break
            rows += length(piece[0])
    finally:
        table.close()
    empty = tuple(np.empty(0, dtype or np.int64) for dtype in table.dtypes)
    columns = [concatenate(parts) for parts in zip(*held, strict=True)] if held else list(empty)
    return _as_text(table.names, columns, rows if table.rows is None else table.rows, total, last)


def _as_text(names: Sequence[str], columns: Sequence[Column], rows: int, total: int | float, last: float) -> Shown:
    """Columns as text."""
    known = dict(zip(names, columns, strict=True))
    headings: list[str] = []
    cells: list[list[str]] = []
    right: list[bool] = []

    def show(heading: str, texts: list[str], figures: bool) -> None:
        headings.append(heading)
        cells.append(texts)
        right.append(figures)

    if all(name in known for name in _ENDS):
        show("bin", _intervals(_array(known["low"]), _array(known["high"]), last), True)
    for name, column in known.items():
        if name not in (*_ENDS, *_FIGURES):
            show(name, texts(column), isinstance(column, np.ndarray) and column.dtype.kind in "iuf")
    counts = _array(known["count"])
    show("count", [_number(count) for count in counts.tolist()], True)
    if "share" in known:
        show("share", [_share(share) for share in _array(known["share"]).tolist()], True)
    elif total:
        show("share", [_share(count / total) for count in counts.tolist()], True)
    if "cumulative" in known:
        write = _share if "share" in known else _number
        show("cumulative", [write(value) for value in _array(known["cumulative"]).tolist()], True)
    largest = float(counts.max(initial=0)) or 1.0
    lengths = tuple(max(0.0, count / largest) for count in counts.tolist())
    return Shown(tuple(headings), tuple(cells), tuple(right), lengths, rows)


def texts(column: Column) -> list[str]:
    r"""Values as a terminal shows them, each on one printable line.

    Examples
    --------
    >>> texts(np.array([0.1, np.nan], "f4")), texts(np.array([True]))
    (['0.1', 'nan'], ['True'])
    >>> print(*texts(np.array([b"two\nlines", b"caf\xc3\xa9", b"\xff"])))
    two\nlines café \xff
    """
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        return [text.decode() for text in float_strings(column).tolist()]
    values: list[Any] = column.tolist()
    if isinstance(column, np.ndarray) and column.dtype.kind in "biu":
        return [str(value) for value in values]
    return [_printable(value) for value in values]


def _printable(value: bytes | str) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return shown_name(text)


def _array(column: Column) -> Array:
    if not isinstance(column, np.ndarray):
        raise TypeError("text where numbers are needed")
    return column


def _intervals(low: Array, high: Array, last: float) -> list[str]:
    """Bins, which hold their lower end; the one that ends at `last` holds its upper end, too."""
    ends: list[list[str]] = [[], []]
    for digits in range(6, 18):  # as many as tell them apart
        ends = [[f"{end:.{digits}g}" for end in column.tolist()] for column in (low, high)]
        if all(first != second for first, second in zip(*ends, strict=True)):
            break
    closed = (high == last).tolist()
    return [f"[{first}, {second}{']' if at else ')'}" for first, second, at in zip(*ends, closed, strict=True)]


def _number(value: int | float) -> str:
    """A count in full, or a sum of weights to six digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _share(share: float) -> str:
    """A part in percent; what there is, is never shown as nothing."""
    if share != share:
        return "-"
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def summary_lines(facts: Mapping[str, Any], noun: str = "rows") -> list[tuple[str, str]]:
    """What stands below the table: headings, each with a sentence.

    Parameters
    ----------
    facts : mapping
        Any of ``rows``, ``distinct``, ``missing``, ``method``, ``why`` and ``spilled_bytes``.
    noun : str
        What rows are called.

    Examples
    --------
    >>> summary_lines({"rows": 20000, "distinct": 17, "missing": 0, "method": "dense", "why": "values span 0 to 16"})
    [('counted', '20,000 rows, 17 distinct, 0 missing'), ('method', 'dense: values span 0 to 16')]
    """
    words = (("rows", noun), ("distinct", "distinct"), ("missing", "missing"))
    amounts = [f"{facts[name]:,} {word}" for name, word in words if facts.get(name) is not None]
    lines = [("counted", ", ".join(amounts))] if amounts else []
    if facts.get("method"):
        why = f": {facts['why']}" if facts.get("why") else ""
        spilled = facts.get("spilled_bytes") or 0
        through = f", {format_size(spilled)} through temporary files" if spilled else ""
        lines.append(("method", f"{facts['method']}{why}{through}"))
    return lines


def counts_table(
    shown: Shown,
    facts: Mapping[str, Any] | None = None,
    hint: str = "-o counts.csv writes all",
    noun: str = "rows",
) -> RenderableType:
    """Render the first rows of a table of counts for a Rich console.

    Parameters
    ----------
    shown : Shown
        The rows.
    facts : mapping, optional
        For `summary_lines`.
    hint : str
        How to get the rows that are not shown.
    noun : str
        For `summary_lines`.
    """
    return _Terminal(shown, summary_lines(facts or {}, noun), hint)


class _Terminal:
    """The table, as wide as the console."""

    def __init__(self, shown: Shown, lines: Sequence[tuple[str, str]], hint: str) -> None:
        self.shown, self.lines, self.hint = shown, lines, hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table as Grid
        from rich.text import Text

        encoding, ascii_only = options.encoding, options.ascii_only
        columns = [
            [_encodable(text, encoding) for text in (heading, *cells)]
            for heading, cells in zip(self.shown.headings, self.shown.cells, strict=True)
        ]
        kept, widths, bar = _fitting(columns, self.shown.headings, options.max_width)
        grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for column, width in zip(kept, widths, strict=True):
            heading = Text(_clipped(columns[column][0], width, ascii_only))
            grid.add_column(heading, justify="right" if self.shown.right[column] else "left", no_wrap=True, width=width)
        if bar:
            grid.add_column(no_wrap=True, width=bar)
        for row, share in enumerate(self.shown.lengths, 1):
            cells = [
                Text(_clipped(columns[column][row], width, ascii_only))
                for column, width in zip(kept, widths, strict=True)
            ]
            bars = [Text(bar_of(share, bar, ascii_only), style="cyan")] if bar else []
            grid.add_row(*cells, *bars)
        yield grid
        dots = "..." if ascii_only else "…"
        lost = [
            heading
            for column, heading in enumerate(self.shown.headings)
            if column not in kept and heading not in _FIGURES
        ]
        if lost:
            yield Text(f"{dots} {_amount(len(lost), 'column')} more, to {lost[-1]}", style="dim")
        if self.shown.more > 0:
            noun = "more bin" if "bin" in self.shown.headings else "more value"
            yield Text(f"{dots} {_amount(self.shown.more, noun)}: {self.hint}", style="dim")
        for name, text in self.lines:
            yield Text.assemble((f"{name:<9}", "bold"), _encodable(text, encoding))


def _amount(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def bar_of(share: float, width: int, ascii_only: bool = False) -> str:
    """A bar for a share of the largest count; what there is, is never without a bar.

    Examples
    --------
    >>> bar_of(0.5, 5), bar_of(0.5, 4, ascii_only=True), bar_of(0.0, 4), bar_of(1e-9, 4)
    ('██▌', '##', '', '▏')
    """
    if ascii_only:
        return "#" * (max(1, round(share * width)) if share > 0 else 0)
    eighths = max(1, round(share * width * 8)) if share > 0 else 0
    return _EIGHTHS[-1] * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def _fitting(columns: Sequence[Sequence[str]], headings: Sequence[str], most: int) -> tuple[list[int], list[int], int]:
    """Which columns are shown, how wide, and how wide the bars are (0: none)."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in columns]
    kept = list(range(len(columns)))

    def free() -> int:
        return most - sum(widths[column] + 2 for column in kept)

    # Long values give way to bars, but not below a third of the line.
    for column, heading in enumerate(headings):
        if heading not in _FIGURES and free() < NARROWEST_BAR:
            over = NARROWEST_BAR - free()
            widths[column] = max(min(widths[column], max(NARROWEST_VALUE, most // 3)), widths[column] - over)
    if free() >= NARROWEST_BAR:
        return kept, [widths[column] for column in kept], min(WIDEST_BAR, free())
    for leaving in ("cumulative", "share"):
        if free() < -2 and leaving in headings:
            kept.remove(headings.index(leaving))
    for column in kept:
        if headings[column] not in _FIGURES and free() < -2:
            widths[column] = max(min(widths[column], NARROWEST_VALUE), widths[column] + free() + 2)
    while free() < -2 and len(kept) > 2:  # whole rows of many columns: the last ones before the count give way
        del kept[-2]
    return kept, [widths[column] for column in kept], 0


def _clipped(text: str, width: int, ascii_only: bool) -> str:
    """Text of this width at most, with dots where it was cut."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    dots = "..." if ascii_only else "…"
    return set_cell_size(text, max(0, width - len(dots))).rstrip() + dots[:width]


def _encodable(text: str, encoding: str) -> str:
    """Text as the console's encoding can show it."""
    return text.encode(encoding, "backslashreplace").decode(encoding)
