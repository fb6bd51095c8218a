"""The head of the page: the command, the sentence, the first figures."""

from __future__ import annotations

import shlex

from mlpipe.report.html.element import Markup, element
from mlpipe.report.html.figures import (
    Facts,
    Reasons,
    Write,
    count,
    duration,
    listed,
    mapped,
    mappings,
    missing,
    number,
    percent,
    size,
    text,
)

ENDS = {"done": "was done", "interrupted": "was interrupted", "failed": "failed"}


def header(record: Facts, compared: str | None) -> Markup:
    """Show what ran, what became of it in a sentence, and the figures that everybody asks for first.

    Parameters
    ----------
    record : mapping
        A record.
    compared : str or None
        The sentence of a comparison, which then comes first.
    """
    bottleneck = mapped(record.get("bottleneck"))
    sentence = text(bottleneck.get("sentence")) or _ending(record)
    helping = text(bottleneck.get("help"))
    command = " ".join(map(shlex.quote, ["mlpipe", *map(str, listed(record.get("command")))]))
    status = text(record.get("status"))
    return element(
        "header",
        element(
            "div",
            element("span", "mlpipe", class_="brand"),
            element("span", "report", class_="brand light"),
            element("span", status, class_=f"status {status}") if status else None,
            element("button", "Theme", id="theme", type="button", hidden=True),
            class_="top",
        ),
        element("p", element("code", command), class_="command"),
        element("h1", _capital(compared or sentence)),
        element("p", element("b", "Now: "), sentence, class_="lead") if compared else None,
        element("p", element("b", "What would help: "), helping, class_="lead") if helping else None,
        _partial(record),
        _tiles(record),
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _ending(record: Facts) -> str:
    """Say how a run ended, and when."""
    wall = number(record.get("wall_s"))
    after = f" after {duration(wall)}" if wall is not None else ""
    return f"This run {ENDS.get(text(record.get('status')), 'did not end')}{after}"


def _partial(record: Facts) -> Markup | None:
    """Say that a run did not come to its end."""
    if record.get("status") == "done" and record.get("complete") is not False:
        return None
    error = text(record.get("error"))
    return element(
        "div",
        element("b", f"{_ending(record)}."),
        " The figures are those of the part that was done.",
        element("pre", error) if error else None,
        class_="bad note",
        role="note",
    )


def _tiles(record: Facts) -> Markup:
    """Show the figures that everybody asks for first."""
    process, reasons = mapped(record.get("process")), Reasons(record.get("not_measured"))
    wall, cpu = number(record.get("wall_s")), number(record.get("cpu_s"))
    peak, ceiling = number(process.get("anonymous_peak")), number(record.get("memory_ceiling"))
    busy = f"{cpu / wall:.2f} of {_processors(record)} processors" if cpu is not None and wall else ""
    startup, known = number(record.get("startup_s")), number(record.get("accounted"))
    started = f"and {duration(startup)} to start" if startup is not None else ""
    of = f"of {size(ceiling)}, the ceiling" if ceiling is not None else ""
    tiles = [
        _tile("wall", wall, duration, started, reasons.of("wall_s")),
        _tile("CPU", cpu, duration, busy, reasons.of("cpu_s")),
        _tile("anonymous peak", peak, size, of, reasons.of("process", "anonymous_peak"), _gauge(peak, ceiling)),
        _amounts(record),
        _tile("accounted for", known, percent, "of the wall clock, by states of threads", reasons.of("accounted")),
    ]
    return element("dl", tiles, class_="tiles")


def _gauge(peak: float | None, ceiling: float | None) -> Markup | None:
    """Draw how much of the ceiling was used."""
    if peak is None or not ceiling:
        return None
    class_ = "anonymous over" if peak > ceiling else "anonymous"
    drawn = element("rect", width=f"{min(peak / ceiling, 1.0) * 100:.2f}%", height="100%", class_=class_)
    return element("svg", drawn, class_="gauge", aria_hidden="true")


def _tile(
    name: str, value: float | None, write: Write, more: str, reason: str, picture: Markup | None = None
) -> Markup:
    shown = missing(reason) if value is None else element("data", write(value), value=repr(value))
    return element(
        "div", element("dt", name), element("dd", shown, class_="big"), picture, element("dd", more) if more else None
    )


def _amounts(record: Facts) -> Markup | None:
    """Show how many rows the last link handed on or took that had any."""
    counted = [stage for stage in mappings(record.get("stages")) if number(stage.get("rows")) is not None]
    if not counted:
        return None
    last = next((stage for stage in reversed(counted) if number(stage.get("rows"))), counted[-1])
    done = record.get("status") == "done"  # else the old file is still there, or none
    nbytes = number(mapped(record.get("output")).get("bytes")) if done else None
    more = f"{size(nbytes)} written" if nbytes is not None else f"through {text(last.get('name'))}"
    return _tile("rows", number(last.get("rows")), count, more, "")


def _processors(record: Facts) -> str:
    usable = number(mapped(record.get("host")).get("usable_processors"))
    return "?" if usable is None else count(usable)
