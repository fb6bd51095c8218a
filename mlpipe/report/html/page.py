"""The page: its head, which lets nothing in, and its sections."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import cast

from mlpipe.measure.schema import RecordFacts
from mlpipe.report.html.arrays import arrays_table
from mlpipe.report.html.axis import Span, time_axis
from mlpipe.report.html.changes import headline
from mlpipe.report.html.comparing import compare_section
from mlpipe.report.html.element import Child, Markup, data_block, element, joined, visible
from mlpipe.report.html.environment import environment, not_measured, process_facts, result_facts
from mlpipe.report.html.figures import (
    Facts,
    Reasons,
    listed,
    mapped,
    mappings,
    number,
    numbers,
    text,
)
from mlpipe.report.html.head import header
from mlpipe.report.html.lanes import began, ended, lanes, legend
from mlpipe.report.html.memory import memory_row, queue_rows
from mlpipe.report.html.plan import plan_section
from mlpipe.report.html.profiles import profile_section
from mlpipe.report.html.stages import flow_table, thread_table, time_table
from mlpipe.report.html.tables import section

LONGEST_TITLE = 120
HINT = "Point at a moment or tap it, or reach a lane with Tab and move with the arrow keys."


def render(record: RecordFacts, other: RecordFacts | None = None) -> str:
    """Render a record as an HTML page that needs nothing but itself.

    Parameters
    ----------
    record : RecordFacts
        A run, as `mlpipe.measure.schema.check_record` lets it pass.
    other : RecordFacts, optional
        An earlier run, which it is compared with.

    Returns
    -------
    str
        The page. The same records give the same page.

    Examples
    --------
    >>> from mlpipe.measure.record import Record
    >>> render(Record(["distances", "<X>.npy"]).to_dict()).count("&lt;X&gt;.npy")
    2
    """
    facts, before = cast("Facts", record), cast("Facts | None", other)
    title = visible(" ".join(["mlpipe", *map(str, listed(facts.get("command")))]))
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content="mlpipe"),
        element("title", _shortened(title)),
        Markup(f"<style>{_asset('style.css')}</style>"),
    ]
    comparing = [section("compare", "Before and now", *compare_section(record, other))] if other is not None else []
    body = [
        element("a", "Skip to the figures", href="#time", class_="skip"),
        header(facts, headline(record, other) if other is not None else None),
        element("main", comparing, _sections(facts, before)),
        _footer(facts),
        element("div", id="tip", role="status", aria_live="polite", hidden=True),
        data_block("record", facts),
        data_block("other", before) if before is not None else None,
        Markup(f"<script>{_asset('script.js')}</script>"),
    ]
    page = element("html", element("head", head), element("body", body), lang="en")
    return f"<!doctype html>\n{page.html}\n"


@cache
def _asset(name: str) -> str:
    """Read a file of ours that lies beside this one."""
    return (files("mlpipe.report.html") / name).read_text(encoding="utf-8")


def _policy() -> str:
    """Allow our own style and script, by their hashes, and nothing else: no network, no frame, no form."""
    digests = [hashlib.sha256(_asset(name).encode()).digest() for name in ("style.css", "script.js")]
    style, script = (f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"


def _shortened(title: str) -> str:
    return title if len(title) <= LONGEST_TITLE else f"{title[:LONGEST_TITLE]}…"


def _sections(record: Facts, other: Facts | None) -> list[Child]:
    reasons = Reasons(record.get("not_measured"))
    wall = max(reach(record), reach(other) if other is not None else 0.0)
    span = Span(wall)
    result = result_facts(record)
    threads = thread_table(record, reasons)
    key = legend() if mappings(record.get("stages")) else None
    return [
        section("time", "Where the time went", key, chart(record, span, "record", reasons)),
        _before(other, span) if other is not None else None,
        section("stages", "Stages", *_stages(record, reasons)),
        section("process", "The whole process", process_facts(record, reasons), threads),
        _profile(record, reasons),
        section("plan", "Plan", *plan_section(mapped(record.get("plan")))),
        section("arrays", "Inputs and outputs", arrays_table(record)),
        section("result", "Result", result) if result is not None else None,
        section("environment", "Environment", environment(record, reasons)),
        section("missing", "Not measured", not_measured(reasons)),
    ]


def _before(other: Facts, span: Span) -> Markup:
    """Draw the record that is compared with, over the same time."""
    return section("before", "Where it went before", chart(other, span, "other", Reasons(other.get("not_measured"))))


def _profile(record: Facts, reasons: Reasons) -> Markup | None:
    return section("profile", "Profile", *profile_section(record, reasons, "record")) if record.get("profile") else None


def _stages(record: Facts, reasons: Reasons) -> list[Child]:
    if not mappings(record.get("stages")):
        return [element("p", "No link had begun.", class_="none")]
    return [time_table(record, reasons), element("h3", "What passed through"), flow_table(record, reasons)]


def reach(record: Facts) -> float:
    """Seconds that the pictures of a record have to show: never none.

    Examples
    --------
    >>> reach({"wall_s": 2.0, "stages": []}), reach({"wall_s": None, "stages": [{"ended_s": 0.5}]}), reach({}) > 0
    (2.0, 0.5, True)
    """
    wall = number(record.get("wall_s"))
    if wall is not None and wall > 0:
        return wall
    ends = [max(ended(stage, 0.0), began(stage)) for stage in mappings(record.get("stages"))]
    samples = mapped(mapped(record.get("process")).get("samples"))
    return max([*ends, *numbers(samples.get("t_s")), 0.0]) or 1e-3


def chart(record: Facts, span: Span, prefix: str, reasons: Reasons) -> Markup:
    """Draw lanes, memory and queues over one axis of time."""
    samples = mapped(mapped(record.get("process")).get("samples"))
    if not mappings(record.get("stages")) and not listed(samples.get("t_s")):
        return element("p", "Nothing was measured over time.", class_="none")
    end = reach(record)
    axis = element("div", element("div", class_="label"), time_axis(span), class_="row")
    queues = queue_rows(samples, end, span, prefix)
    return element(
        "div",
        lanes(record, span, prefix),
        axis,
        memory_row(samples, end, number(record.get("memory_ceiling")), span, prefix, reasons),
        element("div", element("h3", "Queues: blocks that wait for who takes them"), queues, axis, class_="queues")
        if queues
        else None,
        element("p", HINT, class_="hint", hidden=True),
        class_="chart",
        data_wall=repr(span.wall),
    )


def _footer(record: Facts) -> Markup:
    version = text(mapped(record.get("versions")).get("mlpipe"))
    return element(
        "footer",
        element("p", joined("mlpipe ", version, ". This file needs no network and sends nothing.")),
        element("button", "Save the record as JSON", id="save", type="button", hidden=True),
    )
