"""What `mlpipe profile` adds: several runs, memory seen from outside, the user's functions line by line."""

from __future__ import annotations

from collections.abc import Sequence

from mlpipe.report.html.axis import Span, time_axis
from mlpipe.report.html.element import Child, Markup, element
from mlpipe.report.html.figures import (
    Facts,
    Reasons,
    Write,
    cell,
    count,
    duration,
    mapped,
    mappings,
    missing,
    number,
    numbers,
    percent,
    shown,
    size,
    text,
)
from mlpipe.report.html.memory import memory_row
from mlpipe.report.html.tables import Heading, pairs, scrolled, table

RUN: tuple[tuple[str, str, Write], ...] = (
    ("wall_s", "wall", duration),
    ("cpu_s", "cpu", duration),
    ("anonymous_peak", "anonymous", size),
    ("file_backed_peak", "file-backed", size),
    ("rss_peak", "resident", size),
)
HEAT = 10
"""Shades that tell how much of a function's time a line took."""


def profile_section(record: Facts, reasons: Reasons, prefix: str) -> list[Child]:
    """Show the profile of a record.

    Parameters
    ----------
    record : mapping
        A record with a profile.
    reasons : Reasons
        Why figures are missing.
    prefix : str
        What tells the record from another one on the page.
    """
    profile = mapped(record.get("profile"))
    runs = mappings(profile.get("runs"))
    facts: list[tuple[str, Child]] = [
        ("sampler", text(profile.get("sampler")) or missing(reasons.of("profile", "sampler"))),
        ("interval", shown(profile.get("interval_s"), duration, reasons.of("profile", "interval_s"))),
        ("children", shown(profile.get("children"), count, reasons.of("profile", "children"))),
        ("runs", count(len(runs))),
    ]
    return [
        pairs(facts),
        _spread(mapped(profile.get("spread"))),
        _runs(runs) if runs else None,
        _outside(record, profile, reasons, prefix),
        [_function(each) for each in mappings(profile.get("lines"))],
    ]


def writer(metric: str) -> Write:
    """Choose how a figure is written by the end of its name.

    Examples
    --------
    >>> writer("stage.read.self_s")(0.5), writer("anonymous_peak")(1024), writer("batches")(3)
    ('500 ms', '1.00 KiB', '3')
    """
    if metric.endswith("_s"):
        return duration
    return size if metric.endswith(("peak", "bytes", "memory", "bytes_in", "bytes_out", "bytes_read")) else count


def _spread(spread: Facts) -> list[Markup]:
    """Show how figures differ between runs: a table, with the reach of each drawn."""
    rows = []
    for key in spread:
        figures, write = mapped(spread[key]), writer(str(key))
        cells = [cell(figures.get(name), write) for name in ("median", "min", "max", "mad")]
        name = str(key).removesuffix("_s").replace("_", " ")
        rows.append(
            element(
                "tr",
                element("th", element("bdi", name), scope="row", data_value=name),
                cells,
                element("td", _reach(figures), class_="bars", data_value=_relative(figures)),
            )
        )
    if not rows:
        return []
    headings = [
        Heading("figure", figures=False),
        Heading("median"),
        Heading("least"),
        Heading("most"),
        Heading("mad", "median distance to the median"),
        Heading("reach", "from least to most, the median marked; the room is from 0 to the most", drawn=True),
    ]
    return [element("h3", "Over all runs"), table(headings, rows, caption="Spread over the runs", class_="spread")]


def _relative(figures: Facts) -> str | None:
    least, most, middle = (number(figures.get(name)) for name in ("min", "max", "median"))
    return repr((most - least) / middle) if least is not None and most is not None and middle else None


def _reach(figures: Facts) -> Markup:
    least, most, middle = (number(figures.get(name)) for name in ("min", "max", "median"))
    if least is None or most is None or middle is None or most <= 0:
        return missing()
    place = [f"{max(each, 0.0) / most * 99:.2f}%" for each in (least, middle, most)]
    width = f"{max((most - least) / most * 99, 0.6):.2f}%"
    return element(
        "svg",
        element("rect", x="0", width=place[0], y="45%", height="10%", class_="toward"),
        element("rect", x=place[0], width=width, y="15%", height="70%", class_="reach"),
        element("line", x1=place[1], x2=place[1], y1="0", y2="100%", class_="median"),
        class_="bar",
        aria_hidden="true",
    )


def _runs(runs: Sequence[Facts]) -> Markup:
    rows = [
        element(
            "tr",
            element("th", str(place), scope="row", data_value=place),
            [cell(run.get(key), write) for key, _, write in RUN],
            cell(run.get("exit_code"), count),
        )
        for place, run in enumerate(runs, 1)
    ]
    headings = [Heading("run"), *(Heading(name) for _, name, _ in RUN), Heading("exit code")]
    return table(headings, rows, caption="Each run", class_="runs")


def _outside(record: Facts, profile: Facts, reasons: Reasons, prefix: str) -> list[Markup]:
    samples = mapped(profile.get("samples"))
    at = numbers(samples.get("t_s"))
    if not at:
        return []
    span = Span(max(*at, 1e-9))
    ceiling = number(record.get("memory_ceiling"))
    row = memory_row(samples, at[-1], ceiling, span, f"{prefix} profile", reasons)
    axis = element("div", element("div", class_="label"), time_axis(span), class_="row")
    return [
        element("h3", "Memory as seen from outside"),
        element("div", row, axis, class_="chart", data_wall=repr(span.wall)),
    ]


def _function(facts: Facts) -> Markup:
    """Show one function with the time and memory of each of its lines."""
    lines = mappings(facts.get("lines"))
    whole = sum(number(line.get("time_s")) or 0.0 for line in lines)
    rows = [_line(line, whole) for line in lines]
    headings = [
        Heading("line"),
        Heading("hits"),
        Heading("time"),
        Heading("share", "of the function's time"),
        Heading("memory", "of the process, after the line"),
        Heading("increment", "memory that the line added"),
        Heading("source", figures=False),
    ]
    head = element("tr", [element("th", each.text, scope="col", title=each.means) for each in headings])
    name = f"{text(facts.get('function'))} in {text(facts.get('file'))}"
    content = element("table", element("thead", head), element("tbody", rows), class_="lines")
    heading = element(
        "h3", element("code", text(facts.get("function"))), " in ", element("bdi", text(facts.get("file")))
    )
    return element("div", heading, scrolled(content, f"Lines of {name}"), class_="function")


def _line(line: Facts, whole: float) -> Markup:
    spent = number(line.get("time_s"))
    share = spent / whole if spent is not None and whole > 0 else None
    shade = 0 if share is None else min(round(share * HEAT), HEAT)
    return element(
        "tr",
        element("th", shown(line.get("number"), _whole), scope="row"),
        cell(line.get("hits"), count, "never run"),
        cell(spent, duration, "never run"),
        cell(share, percent, "never run"),
        cell(line.get("memory"), size),
        cell(line.get("increment"), size),
        element("td", element("code", text(line.get("source"))), class_="source"),
        class_=f"heat-{shade}",
    )


def _whole(amount: float) -> str:
    return f"{amount:.0f}"
