"""Tables: sortable by their headings, and scrolled on their own where the page is narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mlpipe.report.html.element import Child, Markup, element


class Heading(NamedTuple):
    """A column: its heading, what it means, whether it holds figures, and whether they are drawn."""

    text: str
    means: str | None = None
    figures: bool = True
    drawn: bool = False


def table(headings: Sequence[Heading], rows: Iterable[Child], *, caption: str, class_: str = "") -> Markup:
    """Make a table.

    Parameters
    ----------
    headings : sequence of Heading
        The columns. With the script, each is a button that sorts.
    rows : children
        Elements ``tr``; cells sort by their ``data-value``.
    caption : str
        What the table shows, for who hears it.
    class_ : str
        Further classes.
    """
    head = [
        element(
            "th",
            element("button", heading.text, type="button", title=heading.means, disabled=True),
            scope="col",
            class_="figure drawn" if heading.drawn else "figure" if heading.figures else None,
            aria_sort="none",
        )
        for heading in headings
    ]
    return scrolled(
        element(
            "table",
            element("caption", caption, class_="unseen"),
            element("thead", element("tr", head)),
            element("tbody", rows),
            class_=f"sortable {class_}".strip(),
        ),
        caption,
    )


def scrolled(content: Markup, label: str) -> Markup:
    """Let a wide table scroll within the page; the keyboard reaches it, too."""
    return element("div", content, class_="scroll", role="region", tabindex="0", aria_label=label)


def pairs(facts: Iterable[tuple[str, Child]]) -> Markup:
    """List names, each with its value."""
    items = [element("div", element("dt", name), element("dd", value)) for name, value in facts]
    return element("dl", items, class_="facts")


def section(name: str, heading: str, *content: Child) -> Markup:
    """Make a section that links can name."""
    title = element("h2", heading, id=f"{name}-heading")
    return element("section", title, content, id=name, aria_labelledby=f"{name}-heading")
