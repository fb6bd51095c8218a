"""Tables of stages and threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mlpipe.report.html.element import Child, Markup, element
from mlpipe.report.html.figures import (
    Facts,
    Reasons,
    Write,
    cell,
    count,
    duration,
    listed,
    mapped,
    mappings,
    missing,
    named,
    number,
    per_second,
    percent,
    size,
    text,
)
from mlpipe.report.html.lanes import STATES, thread_of
from mlpipe.report.html.tables import Heading, table


class Column(NamedTuple):
    """A column of figures: the key in the record, its heading, what it means, how it is written."""

    key: str
    heading: str
    means: str
    write: Write


TIME = (
    Column("self_s", "self", "seconds at work", duration),
    Column("wait_in_s", "wait in", "seconds waiting for input", duration),
    Column("first_wait_s", "first wait", "seconds until the first input, part of wait in", duration),
    Column("wait_out_s", "wait out", "seconds waiting until what comes next takes what is ready", duration),
    Column("compile_s", "compile", "seconds compiling kernels, or loading them", duration),
    Column("cpu_s", "cpu", "seconds of CPU time of its own thread", duration),
    Column("batch_p50_s", "p50", "median of self over batches", duration),
    Column("batch_p95_s", "p95", "self of 19 in 20 batches is no more", duration),
    Column("batch_max_s", "max", "self of the slowest batch", duration),
    Column("accounted", "accounted", "share of the link's time that its states add up to", percent),
)
FLOW = (
    Column("batches", "batches", "how many came out", count),
    Column("rows", "rows", "how many came out", count),
    Column("bytes_in", "bytes in", "what came in", size),
    Column("bytes_out", "bytes out", "what came out", size),
    Column("bytes_asked", "asked", "bytes asked of files", size),
    Column("bytes_read", "from disk", "bytes that came from the disk, not from the page cache", size),
    Column("in_flight_peak", "in flight", "most bytes on their way at once", size),
    Column("gpu_transfer_s", "GPU transfer", "seconds of copies to and from the GPU", duration),
    Column("gpu_kernel_s", "GPU kernel", "seconds of kernels on the GPU", duration),
)
RARE = frozenset({"gpu_transfer_s", "gpu_kernel_s"})
"""Columns that are left out where no link has them; what was not measured has its own section."""

NEVER = {f"{state.key}_s": f"never: {state.means}" for state in STATES} | {"first_wait_s": "never: waiting for input"}


def time_table(record: Facts, reasons: Reasons) -> Markup:
    """Say where the time of each link went."""
    stages = mappings(record.get("stages"))
    widest = max((_spent(stage) for stage in stages), default=0.0)
    headings = [
        Heading("stage", figures=False),
        Heading("thread", "links of one thread take turns", figures=False),
        Heading("share", "self, compile, wait out, wait in; sorts by self", drawn=True),
        *(Heading(column.heading, column.means) for column in TIME),
    ]
    suspect = text(mapped(record.get("bottleneck")).get("stage"))
    rows = [
        _row(stage, suspect, [_thread(stage), _bar(stage, widest), *_cells(stage, TIME, reasons)]) for stage in stages
    ]
    return table(headings, rows, caption="Where the time of each stage went", class_="times")


def flow_table(record: Facts, reasons: Reasons) -> Markup:
    """Say what passed through each link."""
    stages = mappings(record.get("stages"))
    columns = _found(stages)
    headings = [
        Heading("stage", figures=False),
        *(Heading(column.heading, column.means) for column in columns),
        Heading("cache", "whether the file was in the page cache", figures=False),
        Heading("rows/s", "rows per second of self"),
        Heading("bytes/s", "bytes out per second of self"),
    ]
    rows = []
    for stage in stages:
        name = text(stage.get("name"))
        cache = text(stage.get("cache"))
        kept = cache or missing(reasons.of("stages", name, "cache", otherwise="reads no file"))
        rates = [_rate(stage, key, write) for key, write in (("rows", count), ("bytes_out", size))]
        cells = [*_cells(stage, columns, reasons), element("td", kept, data_value=cache or None), *rates]
        rows.append(_row(stage, "", cells))
    return table(headings, rows, caption="What passed through each stage", class_="flows")


def _found(stages: Sequence[Facts]) -> list[Column]:
    """Give the columns of the flow; the rare ones only where a link has them."""
    return [
        column
        for column in FLOW
        if column.key not in RARE or any(number(stage.get(column.key)) is not None for stage in stages)
    ]


def thread_table(record: Facts, reasons: Reasons) -> Markup | None:
    """Say what each thread used."""
    threads = mappings(record.get("thread_facts"))
    if not threads:
        return None
    columns = (
        Column("cpu_s", "cpu", "seconds of CPU time", duration),
        Column("delay_s", "delay", "seconds ready to run while others had the processors", duration),
        Column("major_faults", "major faults", "pages that had to come from the disk", count),
        Column("bytes_read", "from disk", "bytes that came from the disk", size),
        Column("accounted", "accounted", "share of the wall clock that its states add up to", percent),
    )
    headings = [
        Heading("thread", figures=False),
        Heading("pass"),
        Heading("links", figures=False),
        *(Heading(column.heading, column.means) for column in columns),
    ]
    rows = []
    for thread in threads:
        name = text(thread.get("name"))
        links = ", ".join(map(str, listed(thread.get("stages"))))
        own = element("bdi", links) if links else missing("runs kernels for other threads")
        figures = [
            cell(thread.get(column.key), column.write, reasons.of("thread_facts", name, column.key))
            for column in columns
        ]
        link_cell = element("td", own, data_value=links or None)
        rows.append(element("tr", named(name), _pass(thread), link_cell, figures))
    return table(headings, rows, caption="What each thread used")


def _row(stage: Facts, suspect: str, cells: Child) -> Markup:
    name = text(stage.get("name"))
    later = number(stage.get("phase"))
    mark = element("span", f"pass {later + 1:.0f}", class_="pass") if later else None
    chip = element("span", "bottleneck", class_="chip") if suspect and suspect == name else None
    return element("tr", named(name, mark, chip), cells)


def _pass(facts: Facts) -> Markup:
    phase = number(facts.get("phase"))
    return cell(None if phase is None else phase + 1, count)


def _thread(stage: Facts) -> Markup:
    name = thread_of(stage)
    return element("td", element("bdi", name), data_value=name)


def _cells(stage: Facts, columns: Sequence[Column], reasons: Reasons) -> list[Markup]:
    name = text(stage.get("name"))
    cells = []
    for column in columns:
        why = reasons.of("stages", name, column.key, otherwise=NEVER.get(column.key, "no such figure for this link"))
        cells.append(cell(stage.get(column.key), column.write, why))
    return cells


def _rate(stage: Facts, key: str, write: Write) -> Markup:
    amount, seconds = number(stage.get(key)), number(stage.get("self_s"))
    rate = amount / seconds if amount is not None and seconds else None
    return cell(rate, per_second(write), "no time or no amount")


def spent(stage: Facts) -> list[tuple[str, float]]:
    """Seconds of each state of a stage, in the order of the lanes."""
    return [(state.key, max(number(stage.get(f"{state.key}_s")) or 0.0, 0.0)) for state in STATES]


def _spent(stage: Facts) -> float:
    return sum(seconds for _, seconds in spent(stage))


def _bar(stage: Facts, widest: float) -> Markup:
    worked = number(stage.get("self_s"))
    return element("td", bar(spent(stage), widest), class_="bars", data_value=None if worked is None else repr(worked))


def bar(parts: Sequence[tuple[str, float]], widest: float) -> Markup:
    """Draw a bar of coloured parts; `widest` is what fills the room."""
    shapes = []
    left = 0.0
    for class_, amount in parts:
        share = amount / widest * 100 if widest > 0 else 0.0
        if share > 0:
            shapes.append(element("rect", x=f"{left:.2f}%", width=f"{share:.2f}%", y="0", height="100%", class_=class_))
            left += share
    return element("svg", shapes, class_="bar", aria_hidden="true")
