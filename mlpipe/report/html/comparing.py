"""Two records side by side: what changed, and what was different from the start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mlpipe.measure.schema import RecordFacts
from mlpipe.report.html.changes import SMALL, Change, changes
from mlpipe.report.html.element import Child, Markup, element
from mlpipe.report.html.figures import (
    Facts,
    Write,
    cell,
    count,
    duration,
    mapped,
    mappings,
    missing,
    number,
    per_second,
    size,
    text,
)
from mlpipe.report.html.lanes import STATES, legend
from mlpipe.report.html.plan import shortened
from mlpipe.report.html.stages import bar
from mlpipe.report.html.tables import Heading, scrolled, table

WRITE: dict[str, Write] = {"seconds": duration, "bytes": size, "count": count, "per second": per_second(count)}
WORDS = {"noise": "within the spread"}


def compare_section(record: RecordFacts, other: RecordFacts) -> list[Child]:
    """Show two records side by side.

    Parameters
    ----------
    record, other : RecordFacts
        The run at hand, and the one it is compared with.
    """
    differing = list(_differences(record, other))
    return [
        _notice(differing),
        element("h3", "Time of each stage"),
        legend(),
        _bars(record, other),
        element("h3", "What changed"),
        *_changes(changes(record, other)),
    ]


def _changes(found: list[Change]) -> list[Child]:
    """Show the figures that changed, and fold away those that did not."""
    still = [change for change in found if change.verdict == "same" or change.old == change.new]
    moved = [change for change in found if change not in still]
    return [
        _change_table(moved, "What changed") if moved else element("p", "No figure did.", class_="none"),
        element(
            "details",
            element("summary", f"{len(still)} figures that changed by less than {SMALL:.0%}"),
            _change_table(still, "What did not change"),
        )
        if still
        else None,
    ]


def _change_table(found: list[Change], caption: str) -> Markup:
    headings = [
        Heading("figure", figures=False),
        Heading("before"),
        Heading("now"),
        Heading("change", "of the figure before"),
        Heading("verdict", f"changes below {SMALL:.0%} count as none", figures=False),
        Heading("side by side", "above before, below now", drawn=True),
    ]
    return table(headings, [_row(change) for change in found], caption=caption, class_="changes")


def _row(change: Change) -> Markup:
    metric = change.metric
    write = per_second(size) if metric.field == "bytes_per_s" else WRITE[metric.kind]
    verdict = change.verdict
    relative = change.relative
    owner = element("bdi", metric.stage or "", class_="owner") if metric.stage else None
    name = metric.field.replace("_", " ")
    most = max(change.old or 0.0, change.new or 0.0)
    signed = missing("only one of them has it" if change.old is None or change.new is None else "it was 0")
    if relative is not None:
        sign = "▲" if relative > 0 else "▼" if relative < 0 else ""
        signed = element("span", f"{sign} {_signed(relative)}".strip())
    return element(
        "tr",
        element("th", owner, " " if owner else None, name, scope="row", data_value=metric.name),
        cell(change.old, write, "not in this record"),
        cell(change.new, write, "not in this record"),
        element("td", signed, class_="figure", data_value=None if relative is None else repr(relative)),
        element("td", WORDS.get(verdict, verdict), class_="verdict", data_value=verdict or None),
        element("td", _pair(change, most), class_="bars", data_value=repr(most)),
        class_=verdict or None,
    )


def _signed(relative: float) -> str:
    amount = relative * 100
    return f"{amount:+.0f} %" if abs(amount) >= 99.5 else f"{amount:+.1f} %"


def _pair(change: Change, most: float) -> Markup:
    shapes = []
    for place, (value, class_) in enumerate(((change.old, "before"), (change.new, "now"))):
        share = max(value or 0.0, 0.0) / most * 100 if most > 0 else 0.0
        y = f"{place * 52}%"
        shapes.append(element("rect", x="0", y=y, width=f"{share:.2f}%", height="48%", class_=class_))
    return element("svg", shapes, class_="bar", aria_hidden="true")


def _bars(record: RecordFacts, other: RecordFacts) -> Markup:
    """Draw the states of each stage, one bar for each record."""
    names = list(dict.fromkeys(stage["name"] for each in (other, record) for stage in each["stages"]))
    spent = {name: (_states(other, name), _states(record, name)) for name in names}
    widest = max((sum(value for _, value in states) for both in spent.values() for states in both), default=0.0)
    rows = [
        _side(name, which, states, widest)
        for name, both in spent.items()
        for which, states in zip(("before", "now"), both, strict=True)
    ]
    head = element("tr", [element("th", name, scope="col") for name in ("stage", "run", "time", "in all")])
    content = element("table", element("thead", head), element("tbody", rows), class_="sides")
    return scrolled(content, "Time of each stage")


def _side(name: str, which: str, states: list[tuple[str, float]], widest: float) -> Markup:
    told = ", ".join(f"{state.name} {duration(of[1])}" for state, of in zip(STATES, states, strict=True) if of[1])
    return element(
        "tr",
        element("th", element("bdi", name, class_="unseen" if which == "now" else None), scope="row"),
        element("td", which, class_="which"),
        element("td", bar(states, widest), element("span", told or "not there", class_="unseen"), title=told or None),
        cell(sum(value for _, value in states) if told else None, duration, "this run has no such stage"),
        class_=which,
    )


def _states(record: RecordFacts, name: str) -> list[tuple[str, float]]:
    mine = [stage for stage in mappings(record["stages"]) if stage.get("name") == name]
    return [(state.key, sum(number(stage.get(f"{state.key}_s")) or 0.0 for stage in mine)) for state in STATES]


def _differences(record: RecordFacts, other: RecordFacts) -> Iterator[tuple[str, str, str]]:
    """Give what was not the same from the start, before and now: a comparison may mean little then."""
    for what, before, now in (
        ("command", " ".join(other["command"]), " ".join(record["command"])),
        ("status", other["status"], record["status"]),
        ("threads", other["threads"], record["threads"]),
        ("memory ceiling", other["memory_ceiling"], record["memory_ceiling"]),
        ("seed", other["seed"], record["seed"]),
    ):
        if before != now:
            yield what, _said(before), _said(now)
    for place in range(max(len(other["inputs"]), len(record["inputs"]))):
        before, now = (_input(each, place) for each in (other, record))
        if before != now:
            yield f"input {place + 1}", before, now
    for group in ("host", "versions"):
        had, has = (mapped(each.get(group)) for each in (other, record))
        for key in {**had, **has}:
            if had.get(key) != has.get(key):
                yield f"{group}: {key}", _said(had.get(key)), _said(has.get(key))


def _input(record: Facts | RecordFacts, place: int) -> str:
    """Say which file it was and in what state: one that was changed in between is another one."""
    inputs = mappings(record.get("inputs"))
    if place >= len(inputs):
        return "none"
    facts = inputs[place]
    mark = mapped(facts.get("fingerprint"))
    told = f", fingerprint {'/'.join(str(mark.get(key)) for key in ('inode', 'size', 'mtime_ns'))}" if mark else ""
    return f"{text(facts.get('path'))}, {json.dumps(facts.get('shape'))} {text(facts.get('dtype'))}{told}"


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def _notice(differing: list[tuple[str, str, str]]) -> Markup:
    if not differing:
        return element("p", "Command, inputs, machine and versions are the same.", class_="good note")
    rows = [element("tr", element("th", what, scope="row"), [_one(said) for said in both]) for what, *both in differing]
    head = element("tr", [element("th", name, scope="col") for name in ("not the same", "before", "now")])
    content = element("table", element("thead", head), element("tbody", rows), class_="differences")
    intro = element("p", "These were not the same, which may be the reason:")
    return element("div", intro, scrolled(content, "What was not the same"), class_="warn note")


def _one(said: str) -> Markup:
    return element("td", element("bdi", shortened(said)), class_="long")
