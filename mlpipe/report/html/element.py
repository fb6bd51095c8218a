"""HTML and SVG elements as Python functions: whatever is not an element is text, and is escaped."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta", "wbr"})

# Control characters, halves of surrogate pairs, marks that turn the direction of writing, and what HTML does not allow.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


class Markup:
    """HTML that is safe as it stands: made by `element`, or of a file of our own.

    Not a string, so that it cannot be joined with one by accident.
    """

    __slots__ = ("html",)

    def __init__(self, html: str) -> None:
        self.html = html

    def __repr__(self) -> str:
        return f"Markup({self.html!r})"


Child = Markup | str | int | float | None | Iterable["Child"]


def visible(text: str) -> str:
    r"""Write out characters that a browser would hide, obey or refuse.

    Examples
    --------
    >>> print(visible("a\x1b[31m\u202efdp.npy\udcff"))
    a\x1b[31m\u202efdp.npy\xff
    """
    return _UNSEEN.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, as Python keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escaped(text: object) -> str:
    """Write any value as text, which no browser takes for markup.

    Examples
    --------
    >>> escaped('<img src=x onerror="alert(1)">.npy')
    '&lt;img src=x onerror=&quot;alert(1)&quot;&gt;.npy'
    """
    return html.escape(visible(str(text)), quote=True)


def element(tag: str, *children: Child, **attributes: object) -> Markup:
    """Make an element.

    Parameters
    ----------
    tag : str
        Its name.
    *children : Markup, str, number, None or iterables of them
        What is in it; everything but Markup is escaped, None is left out.
    **attributes : object
        Escaped, too. Underscores become hyphens, and one at the end is dropped (``class_``); None and False leave the
        attribute out, True gives it without a value.

    Returns
    -------
    Markup
        The element.

    Examples
    --------
    >>> element("td", "a < b", class_="name", data_value=1.5, hidden=None).html
    '<td class="name" data-value="1.5">a &lt; b</td>'
    >>> element("p", ["one ", element("b", "two")], " three").html
    '<p>one <b>two</b> three</p>'
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        written = name.removesuffix("_").replace("_", "-")
        parts.append(written if value is True else f'{written}="{escaped(value)}"')
    opening = f"<{' '.join(parts)}>"
    return Markup(opening if tag in VOID else f"{opening}{joined(*children).html}</{tag}>")


def joined(*children: Child) -> Markup:
    """Put elements and text side by side.

    Examples
    --------
    >>> joined("1 < 2", None, element("br")).html
    '1 &lt; 2<br>'
    """
    return Markup("".join(_html(child) for child in children))


def _html(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child.html
    if isinstance(child, str | int | float):
        return escaped(child)
    return "".join(_html(each) for each in child)


def _finite(value: Any) -> Any:
    """Put null in the place of what JSON does not know: NaN and infinities."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def data_block(name: str, value: Any) -> Markup:
    r"""Embed a value as JSON for the script: nothing in it can end the block.

    Examples
    --------
    >>> data_block("r", {"path": "</script>"}).html
    '<script type="application/json" id="r">{"path":"\\u003c/script\\u003e"}</script>'
    """
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: names are written as \uXXXX
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(f'<script type="application/json" id="{escaped(name)}">{text}</script>')
