"""Figures of a record as text: a dash, with the reason, for what was not measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlpipe.measure.sizes import format_count, format_duration, format_size
from mlpipe.report.html.element import Markup, element

DASH = "–"
UNKNOWN = "not measured"

Facts = Mapping[str, Any]
Write = Callable[[float], str]


def number(value: Any) -> float | None:
    """Give a figure of a record, or None for what is none: null, text, NaN, infinity.

    Examples
    --------
    >>> number(3), number(0.5), number(None), number("NaN"), number(float("inf")), number(True)
    (3, 0.5, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer that no float holds
        return None


def numbers(values: Any) -> list[float]:
    """Give a series of a record; what is no figure counts as 0, for a picture.

    Examples
    --------
    >>> numbers([1, None, "NaN", 0.5]), numbers(None)
    ([1, 0.0, 0.0, 0.5], [])
    """
    return [number(value) or 0.0 for value in listed(values)]


def listed(value: Any) -> list[Any]:
    """Give a list of a record, or an empty one."""
    return value if isinstance(value, list) else []


def mapped(value: Any) -> Facts:
    """Give a mapping of a record, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[Facts]:
    """Give the mappings of a list."""
    return [each for each in listed(value) if isinstance(each, Mapping)]


def text(value: Any) -> str:
    """Give text of a record, or none."""
    return value if isinstance(value, str) else ""


def duration(seconds: float) -> str:
    """Write seconds."""
    return format_duration(seconds)


def size(nbytes: float) -> str:
    """Write bytes."""
    return format_size(nbytes)


def count(amount: float) -> str:
    """Write a count."""
    return format_count(amount)


def per_second(write: Write) -> Write:
    """Write a rate."""
    return lambda value: f"{write(value)}/s"


def percent(share: float) -> str:
    """Write a share of 1; what is not all is never rounded to all, nor what is not nothing to nothing.

    Examples
    --------
    >>> [percent(share) for share in (0, 0.0004, 0.126, 0.9996, 1)]
    ['0 %', '<0.1 %', '12.6 %', '99.9 %', '100 %']
    """
    if share <= 0 or share >= 1:
        return f"{share * 100:.0f} %"
    return f"{math.floor(share * 1000) / 10} %" if share >= 0.001 else "<0.1 %"


def shape(value: Any) -> str:
    """Write the shape of an array.

    Examples
    --------
    >>> shape([1797, 64]), shape([5]), shape([]), shape(None)
    ('1,797 × 64', '5', 'one value', '–')
    """
    if not isinstance(value, list):
        return DASH
    sides = [f"{side:,}" if isinstance(side, int) else DASH if side is None else str(side) for side in value]
    return " × ".join(sides) or "one value"


class Reasons:
    """Why a figure of a record is missing.

    Examples
    --------
    >>> reasons = Reasons({"stages.read.bytes_read": "no access", "stages.gpu_kernel_s": "no GPU was used"})
    >>> reasons.of("stages", "read", "bytes_read"), reasons.of("stages", "read", "gpu_kernel_s")
    ('no access', 'no GPU was used')
    >>> reasons.of("process", "cpu_s")
    'not measured'
    """

    def __init__(self, not_measured: Any) -> None:
        self._known = {str(key): str(reason) for key, reason in mapped(not_measured).items()}

    def __bool__(self) -> bool:
        return bool(self._known)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._known.items())

    def of(self, *path: str, otherwise: str = UNKNOWN) -> str:
        """Give the reason that stands for a path, or for its ends alone."""
        first, last = path[0], path[-1]
        for key in (".".join(path), f"{first}.{last}", f"{first}.*.{last}", last, first):
            if key in self._known:
                return self._known[key]
        return otherwise


def shown(value: Any, write: Write, reason: str = UNKNOWN) -> Markup:
    """Give a figure, or a dash with the reason."""
    known = number(value)
    if known is None:
        return missing(reason)
    return element("data", write(known), value=repr(known))


def missing(reason: str = UNKNOWN) -> Markup:
    """Give the dash of a missing figure; who cannot see its title hears it."""
    return element("span", DASH, element("span", f" {reason}", class_="unseen"), class_="missing", title=reason)


def cell(value: Any, write: Write, reason: str = UNKNOWN) -> Markup:
    """Give a table's cell with a figure, which also says the figure in full, for sorting."""
    known = number(value)
    full = None if known is None else repr(known)
    title = None if known is None else exactly(known, write)
    return element("td", shown(value, write, reason), class_="figure", data_value=full, title=title)


def exactly(value: float, write: Write) -> str | None:
    """Write a figure in full where its text is shortened."""
    if write is duration:
        return f"{value:.9g} s"
    if write is size and value >= 1024:
        return f"{value:,.0f} bytes"
    return f"{value:,.0f}" if write is count and value >= 100_000 else None


def named(name: str, *more: Markup | None) -> Markup:
    """Give the heading of a table's row, which sorts by its text."""
    return element("th", element("bdi", name), more, scope="row", data_value=name)
