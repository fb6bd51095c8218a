"""Marks of an axis, and pictures that stretch with the page while their text does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlpipe.measure.sizes import format_size
from mlpipe.report.html.element import Child, Markup, element

WIDTH, HEIGHT = 1000.0, 100.0
"""Of the coordinates in a plot, from its top left."""

MOST_TICKS = 6
_LONG = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Span:
    """The time that pictures show, from 0 to `wall` seconds.

    Examples
    --------
    >>> Span(1.5).ticks()
    [(0.0, '0'), (0.5, '0.5 s'), (1.0, '1 s'), (1.5, '1.5 s')]
    """

    wall: float

    def share(self, seconds: float) -> float:
        """Place a moment, from 0 to 1."""
        return min(max(seconds / self.wall, 0.0), 1.0)

    def at(self, seconds: float) -> str:
        """Place a moment, as text in percent of the width."""
        return f"{self.share(seconds) * 100:.3f}%"

    def x(self, seconds: float) -> float:
        """Place a moment in the coordinates of a plot."""
        return self.share(seconds) * WIDTH

    def ticks(self) -> list[tuple[float, str]]:
        """Choose round moments, each with its label."""
        step = time_step(self.wall)
        return [(place * step, moment(place * step, step)) for place in range(int(self.wall / step + 1e-9) + 1)]


def round_step(reach: float, most: int = MOST_TICKS) -> float:
    """Choose a step of 1, 2 or 5 times a power of ten, of which no more than `most` go into `reach`.

    Examples
    --------
    >>> round_step(1.5), round_step(0.127, 4), round_step(7)
    (0.5, 0.05, 2.0)
    """
    rough = reach / most
    power = math.floor(math.log10(rough))
    factor = next(factor for factor in (1, 2, 5, 10) if factor >= rough / 10.0**power - 1e-9)
    return factor * 10.0**power


def time_step(wall: float) -> float:
    """Choose a step people count time in."""
    if wall <= 120:
        return round_step(wall)
    found = next((step for step in _LONG if wall / step <= MOST_TICKS), None)
    return found or round_step(wall / _DAY) * _DAY


def moment(seconds: float, step: float) -> str:
    """Write a moment of an axis, as closely as its step asks for.

    Examples
    --------
    >>> moment(0.04, 0.02), moment(2e-6, 1e-6), moment(300, 60), moment(5400, 1800), moment(86400 * 3, 86400)
    ('40 ms', '2 µs', '5 min', '1:30 h', '3 d')
    """
    if seconds == 0:
        return "0"
    if step >= _DAY:
        return f"{seconds / _DAY:g} d"
    if step >= 1800:
        return f"{int(seconds // _HOUR)}:{int(seconds % _HOUR // _MINUTE):02d} h"
    if step >= _MINUTE:
        return f"{seconds / _MINUTE:g} min"
    for limit, scale, unit in ((0.1, 1, "s"), (1e-4, 1e3, "ms"), (1e-7, 1e6, "µs")):
        if step >= limit * (1 - 1e-9):
            return f"{seconds * scale:.10g} {unit}"
    return f"{seconds * 1e9:.6g} ns"


def byte_ticks(most: float) -> list[tuple[float, str]]:
    """Choose powers of two up to `most` bytes, above 0.

    Examples
    --------
    >>> byte_ticks(52 * 2**20)
    [(16777216, '16 MiB'), (33554432, '32 MiB'), (50331648, '48 MiB')]
    """
    step = 1 << max(0, math.ceil(math.log2(max(most, 1) / 4)))
    return [(step * place, round_size(step * place)) for place in range(1, int(most / step + 1e-9) + 1)]


def round_size(nbytes: float) -> str:
    """Write a round number of bytes without the zeros of a measured one.

    Examples
    --------
    >>> round_size(2**30), round_size(1.5 * 2**30), round_size(512 * 2**20)
    ('1 GiB', '1.5 GiB', '512 MiB')
    """
    amount, unit = format_size(nbytes).split(" ")
    return f"{amount.rstrip('0').rstrip('.') if '.' in amount else amount} {unit}"


def plot(shapes: Child, over: Child, **attributes: object) -> Markup:
    """Make a picture as wide as there is room, and as high as its class.

    Parameters
    ----------
    shapes : children
        What stretches, in coordinates up to `WIDTH` and `HEIGHT`.
    over : children
        What does not: text and lines, placed in percent.
    **attributes : object
        Of the picture.
    """
    inner = element(
        "svg",
        shapes,
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
        aria_hidden="true",
    )
    return element("svg", inner, over, **attributes)


def coordinate(value: float) -> str:
    """Write a coordinate in few characters."""
    return f"{value:.3f}".rstrip("0").rstrip(".") or "0"


def grid(span: Span) -> list[Markup]:
    """Give a thin line for each moment of the axis."""
    return [element("line", x1=span.at(at), x2=span.at(at), y1="0", y2="100%", class_="grid") for at, _ in span.ticks()]


def cursor() -> Markup:
    """Give the line that the script moves to the moment looked at."""
    return element("line", x1="0", x2="0", y1="0", y2="100%", class_="cursor")


def time_axis(span: Span) -> Markup:
    """Give the axis of time: an own picture, for under others."""
    marks = []
    for at, label in span.ticks():
        share = at / span.wall
        anchor = "start" if share < 0.02 else "end" if share > 0.96 else "middle"
        marks.append(element("line", x1=span.at(at), x2=span.at(at), y1="0", y2="4", class_="mark"))
        marks.append(element("text", label, x=span.at(at), y="16", text_anchor=anchor))
    return element("svg", marks, class_="axis", aria_hidden="true")


def steps(values: Sequence[float], step: float) -> str:
    """Draw an area over equal steps of time: `values` are shares of the height, `step` is the width of each.

    Neighbours of one height become one line. What is beyond the width is left out.

    Examples
    --------
    >>> steps([0.5, 0.5, 1], 250), steps([1, 0], 800)
    ('M0 100V50H500V0H750V100Z', 'M0 100V0H800V100H1000V100Z')
    """
    return area([step * place for place in range(len(values))], values, step * len(values))


def area(starts: Sequence[float], values: Sequence[float], end: float) -> str:
    """Draw an area whose height changes at given places: `values` are shares of the height."""
    parts = [f"M{coordinate(min(starts[0], WIDTH))} {HEIGHT:g}" if starts else "M0 0"]
    before = None
    for x, value in zip(starts, values, strict=True):
        if x >= WIDTH:
            break
        y = coordinate(HEIGHT * (1 - min(max(value, 0.0), 1.0)))
        if y != before:
            parts.append(f"V{y}" if before is None else f"H{coordinate(x)}V{y}")
            before = y
    return "".join([*parts, f"H{coordinate(min(end, WIDTH))}V{HEIGHT:g}Z"])
