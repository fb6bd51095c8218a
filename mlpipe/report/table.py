"""The table after a run: where the time and the memory went.

A dash stands for what was not measured, or for a link that has no such state; a zero was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

from mlpipe.measure.schema import RecordFacts, StageFacts
from mlpipe.measure.sizes import format_count, format_duration, format_size, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

ABSENT = "-"
RATES = ("rates", "per second of self")


@dataclass(frozen=True)
class _Column:
    """A column: its heading, what a cell says, and when a narrow terminal goes without it (0: never)."""

    heading: str
    cell: Callable[[StageFacts], str]
    leaves: int


def _seconds(value: float | None) -> str:
    return ABSENT if value is None else format_duration(value)


def _count(value: int | None) -> str:
    return ABSENT if value is None else format_count(value)


def _size(value: int | None) -> str:
    return ABSENT if value is None else format_size(value)


def _rate(amount: int | None, seconds: float | None, write: Callable[[float], str]) -> str:
    return ABSENT if amount is None or not seconds else write(amount / seconds)


def _bytes(stage: StageFacts) -> int | None:
    """What a link handed on; of one that hands on nothing, what it took."""
    return stage["bytes_out"] or stage["bytes_in"]


COLUMNS = (
    _Column("stage", lambda stage: visible(stage["name"]), 0),
    _Column("self", lambda stage: _seconds(stage["self_s"]), 0),
    _Column("wait in", lambda stage: _seconds(stage["wait_in_s"]), 8),
    _Column("wait out", lambda stage: _seconds(stage["wait_out_s"]), 7),
    _Column("compile", lambda stage: _seconds(stage["compile_s"]), 6),
    _Column("cpu", lambda stage: _seconds(stage["cpu_s"]), 1),
    _Column("rows", lambda stage: _count(stage["rows"]), 3),
    _Column("bytes", lambda stage: _size(_bytes(stage)), 5),
    _Column("rows/s", lambda stage: _rate(stage["rows"], stage["self_s"], format_count), 2),
    _Column("bytes/s", lambda stage: _rate(_bytes(stage), stage["self_s"], format_size), 4),
)


@overload
def stage_table(record: RecordFacts, terminal: Literal[False]) -> str: ...
@overload
def stage_table(record: RecordFacts, terminal: bool) -> RenderableType: ...
def stage_table(record: RecordFacts, terminal: bool) -> RenderableType:
    """Render what a finished record measured.

    Parameters
    ----------
    record : RecordFacts
        A run, as `mlpipe.measure.record.Record.to_dict` or `mlpipe.measure.schema.load_record` gives it.
    terminal : bool
        Whether the reader is a person at a terminal: then the table has colours and gives up columns
        (CPU time first) where it would not fit.

    Returns
    -------
    str or rich renderable
        Aligned plain text with every column, ending in a newline; or something for a Rich console.

    Examples
    --------
    >>> from mlpipe.measure.record import Record
    >>> print(stage_table(Record(["distances"], wall_s=1.5, accounted=0.9996).to_dict(), terminal=False), end="")
    time    1.50 s, 99.9 % accounted for
    memory  anonymous not measured (the run did not begin)
    """
    if terminal:
        return _Terminal(record)
    lines = [*_text_rows(record), *(f"{name:<8}{text}" for name, text in process_lines(record))]
    return "".join(f"{line}\n" for line in lines)


def process_lines(record: RecordFacts) -> list[tuple[str, str]]:
    """What stands below the table: headings, each with a sentence on the whole process.

    Memory is, in this order: the peak of anonymous memory of the process and its children, and its ceiling; the peak
    of resident memory; that of mapped files. The last two say what kept the run from being faster, and what would help.

    Examples
    --------
    >>> from mlpipe.measure.record import Record
    >>> process_lines(Record([], wall_s=2.0).to_dict())[0]
    ('time', '2.00 s')
    """
    bottleneck = record["bottleneck"]
    known = bool(record["stages"])
    lines = [
        ("time", _time(record)),
        ("memory", _memory(record)),
        ("limit", bottleneck["sentence"] if known else ""),
        ("try", bottleneck["help"] if known else ""),
    ]
    return ([RATES] if known else []) + [(name, visible(text)) for name, text in lines if text]


def _time(record: RecordFacts) -> str:
    """Say how long it took, on how many processors, and how much of that the table explains."""
    wall, cpu = record["wall_s"], record["cpu_s"]
    if wall is None:
        return ""
    parts = [format_duration(wall)]
    if cpu is not None and wall > 0:
        parts.append(f"cpu {format_duration(cpu)} ({cpu / wall:.2f} processors)")
    if record["accounted"] is not None:
        share = int(record["accounted"] * 1000) / 10  # never rounded up to 100
        parts.append(f"{share} % accounted for")
    return ", ".join(parts)


def _memory(record: RecordFacts) -> str:
    """Say what the process held at most, against its ceiling, and why a figure is missing."""
    process = record["process"]
    if record["wall_s"] is None:
        return ""
    parts = []
    peak, ceiling = process["anonymous_peak"], record["memory_ceiling"]
    if peak is None:
        parts.append(f"anonymous not measured ({process['note'] or 'no reason known'})")
    elif ceiling:
        parts.append(f"anonymous peak {format_size(peak)} of {format_size(ceiling)}")
    else:
        parts.append(f"anonymous peak {format_size(peak)}")
    if process["rss_peak"] is not None:
        parts.append(f"resident peak {format_size(process['rss_peak'])}")
    if process["file_backed_peak"] is not None:
        parts.append(f"files peak {format_size(process['file_backed_peak'])}")
    return ", ".join(parts)


def _text_rows(record: RecordFacts) -> list[str]:
    """Align the table as plain text: names to the left, figures to the right."""
    stages = record["stages"]
    if not stages:
        return []
    columns = [[column.heading, *map(column.cell, stages)] for column in COLUMNS]
    widths = [max(map(len, cells)) for cells in columns]
    lines = []
    for name, *figures in zip(*columns, strict=True):
        aligned = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *aligned]))
    return lines


class _Terminal:
    """The table for a Rich console, with as many columns as its width holds."""

    def __init__(self, record: RecordFacts) -> None:
        self.record = record

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        stages = self.record["stages"]
        if stages:
            columns, gap = _fitting(stages, options.max_width)
            table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
            for column in columns:
                table.add_column(column.heading, justify="left" if column is COLUMNS[0] else "right", no_wrap=True)
            busiest = max(stages, key=lambda stage: stage["self_s"] or 0.0)
            for stage in stages:
                cells = (Text(column.cell(stage)) for column in columns)
                table.add_row(*cells, style="yellow" if stage is busiest else "")
            yield table
        for name, text in process_lines(self.record):
            yield Text.assemble((f"{name:<8}", "bold"), text)


def _fitting(stages: Sequence[StageFacts], width: int) -> tuple[list[_Column], int]:
    """Choose the columns and the gap between them: a narrow gap is tried before a column is left out."""
    widths = {column: max(map(len, [column.heading, *map(column.cell, stages)])) for column in COLUMNS}
    kept = list(COLUMNS)
    for leaving in sorted(COLUMNS, key=lambda column: column.leaves):
        gap = next((gap for gap in (2, 1) if sum(widths[column] + gap for column in kept) - gap <= width), None)
        if gap is not None:
            return kept, gap
        if leaving.leaves:
            kept.remove(leaving)
    return kept, 1
