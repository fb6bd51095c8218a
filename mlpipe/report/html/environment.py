"""Where and how a run happened, what it used in all, and what was not measured."""

from __future__ import annotations

from datetime import UTC, datetime

from mlpipe.report.html.element import Child, Markup, element
from mlpipe.report.html.figures import Facts, Reasons, Write, count, duration, mapped, missing, shown, size, text
from mlpipe.report.html.plan import value
from mlpipe.report.html.tables import Heading, pairs, table

MOST_RESULTS = 60
"""Entries of a result that are shown."""

_PROCESS: tuple[tuple[str, str, Write], ...] = (
    ("anonymous_peak", "anonymous, at most", size),
    ("file_backed_peak", "file-backed, at most", size),
    ("rss_peak", "resident, at most", size),
    ("in_flight_peak", "in flight, at most", size),
    ("cpu_s", "CPU time", duration),
    ("major_faults", "major faults", count),
    ("bytes_read", "read from disk", size),
    ("bytes_written", "written", size),
)


def instant(seconds: float) -> str:
    """Write a moment since 1970 in UTC.

    Examples
    --------
    >>> instant(0), instant(1e30)
    ('1970-01-01 00:00:00 UTC', 'at no date')
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "at no date"


def process_facts(record: Facts, reasons: Reasons) -> Markup:
    """Say what the whole process used."""
    process = mapped(record.get("process"))
    note = text(process.get("note"))
    facts: list[tuple[str, Child]] = [
        (name, shown(process.get(key), write, reasons.of("process", key, otherwise=note or "not measured")))
        for key, name, write in _PROCESS
    ]
    return pairs(facts)


def environment(record: Facts, reasons: Reasons) -> Markup:
    """Say on which machine, with what software, and how."""
    host, versions = mapped(record.get("host")), mapped(record.get("versions"))
    facts: list[tuple[str, Child]] = [("started", text(record.get("started")).replace("T", " "))]
    facts += [
        ("seed", value(record.get("seed")) if record.get("seed") is not None else missing("nothing was random")),
        ("threads", shown(record.get("threads"), count, reasons.of("threads"))),
        ("memory ceiling", shown(record.get("memory_ceiling"), size, reasons.of("memory_ceiling"))),
        ("exit code", shown(record.get("exit_code"), count, reasons.of("exit_code"))),
    ]
    for key in host:
        given = host[key]
        facts.append((key.replace("_", " "), missing(reasons.of("host", key)) if given is None else value(given, key)))
    for package, version in versions.items():
        facts.append((str(package), missing("not installed") if version is None else str(version)))
    return pairs(facts)


def not_measured(reasons: Reasons) -> Markup:
    """List what was not measured, and why."""
    if not reasons:
        return element("p", "Everything that a record has was measured.", class_="none")
    rows = [
        element("tr", element("th", element("code", key), scope="row", data_value=key), element("td", reason))
        for key, reason in reasons
    ]
    headings = [Heading("figure", figures=False), Heading("why", figures=False)]
    return table(headings, rows, caption="What was not measured, and why", class_="reasons")


def result_facts(record: Facts) -> Markup | None:
    """Show the summary that the command gave."""
    result = mapped(record.get("result"))
    if not result:
        return None
    facts: list[tuple[str, Child]] = [
        (str(key).replace("_", " "), value(given, str(key))) for key, given in list(result.items())[:MOST_RESULTS]
    ]
    more = len(result) - len(facts)
    return element("div", pairs(facts), element("p", f"and {more:,} more", class_="none") if more > 0 else None)
