"""What a run read and wrote."""

from __future__ import annotations

from mlpipe.report.html.element import Markup, element
from mlpipe.report.html.environment import instant
from mlpipe.report.html.figures import Facts, cell, mapped, mappings, missing, named, number, shape, size, text
from mlpipe.report.html.tables import Heading, table


def arrays_table(record: Facts) -> Markup:
    """Say what was read and written."""
    rows = [_array("input", each) for each in mappings(record.get("inputs"))]
    output = record.get("output")
    role = "output" if record.get("status") == "done" else "output, not written"
    rows += [_array(role, mapped(output))] if output else []
    if not rows:
        return element("p", "Nothing was read or written.", class_="none")
    headings = [
        Heading("path", figures=False),
        Heading("role", figures=False),
        Heading("shape", figures=False),
        Heading("dtype", figures=False),
        Heading("bytes"),
        Heading("fingerprint", "inode, size and time of the last change when it was opened", figures=False),
    ]
    return table(headings, rows, caption="Inputs and outputs", class_="arrays")


def _array(role: str, facts: Facts) -> Markup:
    path = text(facts.get("path"))
    mark = mapped(facts.get("fingerprint"))
    changed = number(mark.get("mtime_ns"))
    inode, length = number(mark.get("inode")), number(mark.get("size"))
    written = [f"inode {inode:.0f}"] if inode is not None else []
    written += [f"{length:,.0f} bytes"] if length is not None else []
    written += [f"changed {instant(changed / 1e9)}"] if changed is not None else []
    nothing = "an output has none" if role != "input" else "no file that could change"
    return element(
        "tr",
        named(path),
        element("td", role, data_value=role),
        element("td", shape(facts.get("shape"))),
        element("td", text(facts.get("dtype")), data_value=text(facts.get("dtype"))),
        cell(facts.get("bytes"), size, "not known of a pipe"),
        element("td", ", ".join(written) or missing(nothing), class_="fingerprint"),
    )
