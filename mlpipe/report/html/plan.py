"""The plan of a run: its links, what each hands on, and the memory that each holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mlpipe.report.html.element import Child, Markup, element
from mlpipe.report.html.figures import (
    Facts,
    cell,
    mapped,
    mappings,
    missing,
    named,
    number,
    shape,
    size,
    text,
)
from mlpipe.report.html.tables import Heading, pairs, table

PROCESS = "process"
"""Who holds what belongs to no stage."""

LONGEST = 300
"""Characters of a value without a form of its own."""

_BYTES = ("bytes", "memory")
_SHOWN_ELSEWHERE = frozenset({"stages", "links", "memory_ceiling", "memory_base", "bytes_held"})


def plan_section(plan: Facts) -> list[Child]:
    """Show a plan: the chain, its memory, and what the planner chose."""
    if not plan:
        return [element("p", "The run ended before its plan stood.", class_="none")]
    links, stages = mappings(plan.get("links")), mappings(plan.get("stages"))
    chosen = [(key.replace("_", " "), value(plan[key], key)) for key in plan if key not in _SHOWN_ELSEWHERE]
    return [
        _chain(links) if links else None,
        _memory(plan, stages, links),
        pairs(chosen) if chosen else None,
        _choices(stages),
    ]


def value(given: Any, key: str = "") -> Markup | str:
    """Write any value of a plan or a result.

    Examples
    --------
    >>> value([256, 1797]), value(True), value("once"), value({"a": 1})
    ('256 × 1,797', 'yes', 'once', '{"a": 1}')
    """
    if given is None:
        return missing("not known")
    if isinstance(given, bool):
        return "yes" if given else "no"
    known = number(given)
    if known is not None:
        write = size if key.startswith(_BYTES) or key.endswith("_bytes") else _plain
        return element("data", write(known), value=repr(known))
    if isinstance(given, list) and given and all(type(each) is int for each in given):
        return shortened(shape(given))
    return shortened(given if isinstance(given, str) else json.dumps(given, default=str))


def shortened(written: str) -> str:
    """Keep what is long to its beginning, and say so."""
    return written if len(written) <= LONGEST else f"{written[:LONGEST]} … ({len(written):,} characters)"


def _plain(amount: float) -> str:
    return f"{amount:,}" if isinstance(amount, int) else f"{amount:.9g}"


def _chain(links: Sequence[Facts]) -> Markup:
    """Draw the links one after the other, with what flows between them."""
    items = []
    for link in links:
        rows = number(link.get("rows"))
        many = "rows not known ahead" if rows is None else f"{rows:,.0f} rows"
        labels = text(link.get("labels"))
        items.append(
            element(
                "li",
                element("bdi", text(link.get("link")), class_="name"),
                element("span", many),
                element("span", f"{shape(link.get('shape'))} {text(link.get('dtype'))}".strip()),
                element("span", f"labels {labels}") if labels else None,
            )
        )
    return element("ol", items, class_="chain", aria_label="Links, and what each hands on")


def _holdings(stages: Sequence[Facts], links: Sequence[Facts]) -> Iterator[tuple[str, str, float]]:
    """Give who holds what, and how many bytes."""
    seen = set()
    for stage in stages:
        name = text(stage.get("stage"))
        seen.add(name)
        for what, nbytes in mapped(stage.get("bytes_held")).items():
            known = number(nbytes)
            if known is not None:
                yield name, str(what), known
    for link in links:
        name, held = text(link.get("link")), number(link.get("bytes_held"))
        if held and name not in seen:
            yield name, "buffers", held


def _memory(plan: Facts, stages: Sequence[Facts], links: Sequence[Facts]) -> Markup:
    """Show what the planner gave to whom, as shares of the ceiling."""
    ceiling, base = number(plan.get("memory_ceiling")), number(plan.get("memory_base"))
    holdings = list(_holdings(stages, links))
    held = number(plan.get("bytes_held"))
    planned = sum(nbytes for *_, nbytes in holdings) if held is None else held
    used = (base or 0.0) + planned
    widest = max(ceiling or 0.0, used, 1.0)
    entries = [("", "interpreter and kernels", base)] if base is not None else []
    entries += sorted(holdings, key=lambda entry: -entry[2])
    rest = planned - sum(nbytes for *_, nbytes in holdings)
    entries += [("", "blocks read ahead, and others", rest)] if rest > 0 else []
    entries += [("", "left", max(ceiling - used, 0.0))] if ceiling is not None else []
    rows = [
        element(
            "tr",
            _owner(owner),
            element("td", element("bdi", what), data_value=what),
            cell(nbytes, size),
            _share(nbytes or 0.0, widest, "left" if what == "left" and not owner else "held"),
        )
        for owner, what, nbytes in entries
    ]
    headings = [
        Heading("stage", figures=False),
        Heading("what", figures=False),
        Heading("bytes"),
        Heading("of the ceiling", drawn=True),
    ]
    return table(headings, rows, caption="Memory as planned", class_="planned")


def _owner(owner: str) -> Markup:
    name = owner or PROCESS
    return element("th", element("bdi", name), scope="row", data_value=name, class_=None if owner else "owner")


def _share(nbytes: float, widest: float, class_: str) -> Markup:
    drawn = element("rect", width=f"{nbytes / widest * 100:.2f}%", height="100%", class_=class_)
    return element(
        "td", element("svg", drawn, class_="bar", aria_hidden="true"), class_="bars", data_value=repr(nbytes)
    )


def _choices(stages: Sequence[Facts]) -> Markup | None:
    """Show what the planner chose for each stage."""
    rows = []
    for stage in stages:
        chosen = [(key, stage[key]) for key in stage if key not in ("stage", "bytes_held")]
        if chosen:
            cells = [
                element("span", element("span", key.replace("_", " ")), " ", value(given, key), class_="choice")
                for key, given in chosen
            ]
            name = text(stage.get("stage"))
            rows.append(element("tr", named(name), element("td", cells, class_="long")))
    if not rows:
        return None
    headings = [Heading("stage", figures=False), Heading("what the planner chose", figures=False)]
    return table(headings, rows, caption="What the planner chose for each stage", class_="choices")
