"""Memory and queues over time, on the axis of the lanes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from mlpipe.report.html.axis import HEIGHT, Span, area, byte_ticks, coordinate, cursor, grid, plot
from mlpipe.report.html.element import Markup, element
from mlpipe.report.html.figures import Facts, Reasons, count, listed, mapped, number, numbers, size
from mlpipe.report.html.lanes import swatch

Series = Sequence[float] | None

MUCH_ABOVE = 2.5
"""A ceiling this many times the peak or more is named rather than drawn: else there would be little else to see."""


def moments(samples: Facts) -> list[float]:
    """When memory was looked at: seconds, never going back."""
    return list(accumulate(numbers(samples.get("t_s")), max))


def known(series: object, length: int) -> list[float] | None:
    """Give a series as long as it should be, a gap being what was before it; None if nothing was measured."""
    values = [number(value) for value in listed(series)][:length]
    if all(value is None for value in values):
        return None
    first = next(value for value in values if value is not None)
    filled = list(accumulate(values, lambda before, value: before if value is None else value, initial=first))[1:]
    return [value or 0.0 for value in filled] + [0.0] * (length - len(values))


def memory_row(samples: Facts, end: float, ceiling: float | None, span: Span, prefix: str, reasons: Reasons) -> Markup:
    """Draw memory over time.

    Parameters
    ----------
    samples : mapping
        ``t_s`` and series of bytes of equal length.
    end : float
        When the run ended, in seconds: until then the last sample holds.
    ceiling : float or None
        On anonymous memory.
    span : Span
        The time shown.
    prefix : str
        What the script finds the samples by.
    reasons : Reasons
        Why there are none.

    Returns
    -------
    Markup
        A row: what is drawn, and the picture.
    """
    at = moments(samples)
    anonymous, files = known(samples.get("anonymous"), len(at)), known(samples.get("file_backed"), len(at))
    resident, flying = known(samples.get("rss"), len(at)), known(samples.get("in_flight"), len(at))
    if not at or (anonymous is None and resident is None):
        why = reasons.of("process", "samples", "anonymous")
        return _row("memory", None, element("p", "Memory over time: ", why, class_="none"))
    stacked = _stacked(anonymous or [0.0] * len(at), files or [0.0] * len(at))
    peak = max(*stacked, *(resident or [0.0]), 1.0)
    near = ceiling is not None and ceiling < MUCH_ABOVE * peak
    reach = max(peak, ceiling or 0.0) * 1.16 if near else peak * 1.25
    places = [span.x(moment) for moment in [*at, max(end, at[-1])]]
    shapes = [_area(stacked, places, reach, "files")] if files else []
    shapes += [_area(anonymous, places, reach, "anonymous")] if anonymous else []
    shapes += [_area(flying, places, reach, "flying")] if flying and any(flying) else []
    shapes += [_line(resident, places, reach, "resident")] if resident else []
    over = [*grid(span), *_scale(reach, ceiling if near else None), *_ceiling(ceiling, reach, near), cursor()]
    spoken = _spoken(anonymous, files, resident, flying, ceiling)
    picture = plot(
        shapes, over, class_="memory", role="img", tabindex="0", aria_label=spoken,
        data_record=prefix, data_memory="samples", data_wall=repr(span.wall),
    )  # fmt: skip
    return _row("memory", _legend(files, flying, resident, ceiling), picture)


def queue_rows(samples: Facts, end: float, span: Span, prefix: str) -> list[Markup]:
    """Draw how many blocks wait in each queue, a row for each."""
    at = moments(samples)
    places = [span.x(moment) for moment in [*at, max([end, *at[-1:]])]]
    rows = []
    for name, depths in mapped(samples.get("queues")).items():
        values = known(depths, len(at))
        if values is None or not at:
            continue
        most = max(*values, 1.0)
        spoken = f"queue after {name}: at most {count(max(values))} blocks"
        picture = plot(
            [_area(values, places, most * 1.1, "depth")],
            [*grid(span), cursor()],
            class_="lane queue", role="img", tabindex="0", aria_label=spoken,
            data_record=prefix, data_queue=name, data_wall=repr(span.wall),
        )  # fmt: skip
        brief = element("span", f"at most {count(max(values))} waiting", class_="brief")
        label = element("div", element("bdi", name, class_="name", title=name), brief, class_="label")
        rows.append(element("div", label, picture, class_="row"))
    return rows


def _row(name: str, legend: Markup | None, picture: Markup) -> Markup:
    label = element("div", element("span", name, class_="name"), legend, class_="label")
    return element("div", label, picture, class_="row tall")


def _stacked(below: Sequence[float], above: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(below, above, strict=True)]


def _area(values: Sequence[float], places: Sequence[float], reach: float, class_: str) -> Markup:
    """Draw a series; `places` has one more, its end."""
    return element("path", d=area(places[:-1], [value / reach for value in values], places[-1]), class_=class_)


def _line(values: Sequence[float], places: Sequence[float], reach: float, class_: str) -> Markup:
    points = [
        f"{'L' if place else 'M'}{coordinate(x)} {coordinate(HEIGHT * (1 - value / reach))}"
        for place, (x, value) in enumerate(zip(places[:-1], values, strict=True))
    ]
    return element("path", d="".join(points), class_=f"line {class_}", vector_effect="non-scaling-stroke")


def _scale(reach: float, ceiling: float | None) -> list[Markup]:
    """Give the axis of bytes: lines, each with its size above it; none where the ceiling's line is."""
    marks = []
    for nbytes, label in byte_ticks(reach):
        if ceiling is not None and abs(nbytes - ceiling) < reach * 0.05:
            continue
        y = f"{(1 - nbytes / reach) * 100:.3f}%"
        marks.append(element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        marks.append(element("text", label, x="4", y=y, dy="-3", class_="scale"))
    return marks


def _ceiling(ceiling: float | None, reach: float, near: bool) -> list[Markup]:
    """Give the line of the ceiling, or at the top where it is: far above."""
    if ceiling is None:
        return []
    if not near:
        label = f"↑ ceiling {size(ceiling)}, above this scale"
        return [element("text", label, x="100%", y="12", dx="-4", text_anchor="end", class_="ceiling")]
    y = f"{(1 - ceiling / reach) * 100:.3f}%"
    return [
        element("line", x1="0", x2="100%", y1=y, y2=y, class_="ceiling"),
        element(
            "text", f"ceiling {size(ceiling)}", x="100%", y=y, dx="-4", dy="-4", text_anchor="end", class_="ceiling"
        ),
    ]


def _legend(files: Series, flying: Series, resident: Series, ceiling: float | None) -> Markup:
    entries = [
        ("anonymous", "anonymous", True),
        ("flying", "of it in flight", bool(flying and any(flying))),
        ("files", "file-backed", files is not None),
        ("resident", "resident", resident is not None),
        ("ceiling", "ceiling on anonymous", ceiling is not None),
    ]
    items = [element("li", _swatch(class_), name) for class_, name, there in entries if there]
    return element("ul", items, class_="legend small")


def _swatch(class_: str) -> Markup:
    if class_ not in ("resident", "ceiling"):
        return swatch(class_)
    shape = element("line", x1="0", x2="100%", y1="50%", y2="50%", class_=f"line {class_}")
    return element("svg", shape, class_="swatch", aria_hidden="true")


def _spoken(anonymous: Series, files: Series, resident: Series, flying: Series, ceiling: float | None) -> str:
    """Say in words what the picture shows."""
    series = (("anonymous", anonymous), ("file-backed", files), ("resident", resident), ("in flight", flying))
    parts = [f"{name} at most {size(max(values))}" for name, values in series if values]
    limit = [f"ceiling {size(ceiling)}"] if ceiling is not None else []
    return "memory over time: " + ", ".join([*parts, *limit])
