"""Where the time went: a lane for each link, under the thread that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlpipe.report.html.axis import HEIGHT, WIDTH, Span, coordinate, cursor, grid, plot, steps
from mlpipe.report.html.element import Markup, element
from mlpipe.report.html.figures import Facts, duration, mapped, mappings, number, numbers, percent, text


class State(NamedTuple):
    """What a link is doing: its key in a record, its name, and what it means."""

    key: str
    name: str
    means: str


STATES = (
    State("self", "self", "working"),
    State("compile", "compile", "compiling kernels, or loading them"),
    State("wait_out", "wait out", "waiting until what comes next takes what is ready"),
    State("wait_in", "wait in", "waiting for input"),
)
"""From the bottom of a lane to its top."""


@dataclass
class Track:
    """One line of the picture: stages of one name, one after the other."""

    name: str
    places: list[int] = field(default_factory=list)
    until: float = 0.0


def began(stage: Facts) -> float:
    """When a stage began, in seconds from the start of the run."""
    return number(stage.get("began_s")) or 0.0


def ended(stage: Facts, wall: float) -> float:
    """When a stage ended; with the run, where that is not known."""
    at = number(stage.get("ended_s"))
    return wall if at is None else at


def thread_of(stage: Facts) -> str:
    """Name of the thread that runs a stage; its own where that is not known."""
    return text(stage.get("thread")) or text(stage.get("name"))


def threads(stages: Sequence[Facts], wall: float) -> dict[str, list[Track]]:
    """Sort stages by thread, and those of one name that follow each other into one track.

    Examples
    --------
    >>> stages = [{"name": "read", "thread": "read", "began_s": 0, "ended_s": 1},
    ...           {"name": "read", "thread": "read", "began_s": 1, "ended_s": 2},
    ...           {"name": "read", "thread": "read", "began_s": 1, "ended_s": 2}]
    >>> [track.places for track in threads(stages, 2.0)["read"]]
    [[0, 1], [2]]
    """
    found: dict[str, list[Track]] = {}
    for place, stage in enumerate(stages):
        tracks = found.setdefault(thread_of(stage), [])
        name = text(stage.get("name"))
        start = began(stage)
        fitting = (track for track in tracks if track.name == name and track.until <= start + 1e-9)
        track = next(fitting, None)
        if track is None:
            track = Track(name)
            tracks.append(track)
        track.places.append(place)
        track.until = max(ended(stage, wall), start)
    return found


def helpers(record: Facts) -> list[Facts]:
    """Threads that run kernels for others, as if they were stages: places after those of the stages are theirs.

    Examples
    --------
    >>> timeline = {"step_s": 0.5, "self": [0.5, 1.0], "wait_in": [0.5, 0.0]}
    >>> found = helpers({"thread_facts": [{"name": "read"}, {"name": "worker 1", "timeline": timeline}]})
    >>> found[0]["thread"], found[0]["self_s"], found[0]["wait_in_s"]
    ('worker 1', 0.75, 0.25)
    """
    found: list[Facts] = []
    for thread in mappings(record.get("thread_facts")):
        timeline = mapped(thread.get("timeline"))
        step = number(timeline.get("step_s"))
        if step is not None:
            totals = {f"{state.key}_s": step * sum(numbers(timeline.get(state.key))) for state in STATES}
            found.append({**thread, **totals, "thread": text(thread.get("name"))})
    return found


def lanes(record: Facts, span: Span, prefix: str) -> list[Markup]:
    """Draw the lanes of a record.

    Parameters
    ----------
    record : mapping
        A record.
    span : Span
        The time shown.
    prefix : str
        What tells the record from another one on the page.

    Returns
    -------
    list of Markup
        A row for each link, under its thread.
    """
    stages = [*mappings(record.get("stages")), *helpers(record)]
    suspect = text(mapped(record.get("bottleneck")).get("stage"))
    rows = []
    for thread, tracks in threads(stages, span.wall).items():
        alone = thread if len(tracks) == 1 else ""
        group = [_row(track, stages, span, prefix, alone, suspect == track.name) for track in tracks]
        if len(tracks) > 1:
            group.insert(0, _together(thread, tracks, stages, span, prefix))
        rows.append(element("div", group, class_="thread shared" if len(tracks) > 1 else "thread"))
    return rows


def _row(track: Track, stages: Sequence[Facts], span: Span, prefix: str, thread: str, suspect: bool) -> Markup:
    mine = [stages[place] for place in track.places]
    shapes = [shape for stage in mine for shape in _areas(stage, span)]
    beside = thread.removeprefix(track.name).strip()  # as far as the name of the link does not say it
    spoken = f"{track.name}: {_spoken(mine)}"
    label = element(
        "div",
        element("bdi", track.name, class_="name", title=track.name),
        element("bdi", beside, class_="brief beside") if beside else None,
        element("span", "bottleneck", class_="chip") if suspect else None,
        element("span", _brief(mine), class_="brief"),
        class_="label",
    )
    return element("div", label, _lane(shapes, span, prefix, track.places, spoken, "lane"), class_="row")


def _together(thread: str, tracks: Sequence[Track], stages: Sequence[Facts], span: Span, prefix: str) -> Markup:
    """Draw how busy a thread is that several links share."""
    places = [place for track in tracks for place in track.places]
    timelines = [mapped(stages[place].get("timeline")) for place in places]
    step = max((number(timeline.get("step_s")) or 0.0 for timeline in timelines), default=0.0)
    busy = [min(sum(states), 1.0) for states in _columns(timelines)]
    shapes = [element("path", d=_scaled(busy, step, span), class_="busy")] if step > 0 and any(busy) else []
    label = element(
        "div",
        element("bdi", thread, class_="name", title=thread),
        element("span", f"one thread for {len(tracks)} links: while one works, the others wait", class_="brief"),
        class_="label",
    )
    spoken = f"thread {thread}, busy or not, over {len(tracks)} links"
    return element("div", label, _lane(shapes, span, prefix, places, spoken, "lane thin"), class_="row")


def _columns(timelines: Sequence[Facts]) -> Iterator[list[float]]:
    """Give what all links do of work in each step of time."""
    series = [numbers(timeline.get(key)) for timeline in timelines for key in ("self", "compile")]
    for place in range(max(map(len, series), default=0)):
        yield [values[place] for values in series if place < len(values)]


def _lane(shapes: Sequence[Markup], span: Span, prefix: str, places: Sequence[int], spoken: str, class_: str) -> Markup:
    return plot(
        shapes,
        [*grid(span), cursor()],
        class_=class_,
        role="img",
        tabindex="0",
        aria_label=spoken,
        data_record=prefix,
        data_stages=" ".join(map(str, places)),
        data_wall=repr(span.wall),
    )


def _areas(stage: Facts, span: Span) -> Iterator[Markup]:
    """Draw one stage: its states on top of each other, the upper ones behind, so that no gap shows between."""
    left, right = span.x(began(stage)), span.x(ended(stage, span.wall))
    width = coordinate(max(right - left, 0.0))
    yield element("rect", x=coordinate(left), y="0", width=width, height=f"{HEIGHT:g}", class_="alive")
    timeline = mapped(stage.get("timeline"))
    step = number(timeline.get("step_s")) or 0.0
    if step <= 0:
        return
    below: list[float] = []
    drawn = []
    for state in STATES:
        values = numbers(timeline.get(state.key))
        if any(value > 0 for value in values):
            below += [0.0] * (len(values) - len(below))
            values += [0.0] * (len(below) - len(values))
            below = [one + max(other, 0.0) for one, other in zip(below, values, strict=True)]
            drawn.append(element("path", d=_scaled(below, step, span), class_=state.key))
    yield from reversed(drawn)


def _scaled(values: Sequence[float], step: float, span: Span) -> str:
    """Draw steps of a given length in seconds."""
    return steps(values, step / span.wall * WIDTH)


def _total(stages: Sequence[Facts], key: str) -> float | None:
    known = [value for stage in stages if (value := number(stage.get(f"{key}_s"))) is not None]
    return sum(known) if known else None


def _brief(stages: Sequence[Facts]) -> str:
    """Say how much of its time a link worked."""
    totals = {state.key: _total(stages, state.key) or 0.0 for state in STATES}
    whole = sum(totals.values())
    if whole <= 0:
        return ""
    key = max(totals, key=lambda each: totals[each])
    name = next(state.name for state in STATES if state.key == key)
    return f"{name} {percent(totals[key] / whole)}"


def _spoken(stages: Sequence[Facts]) -> str:
    """Say in words what a lane shows."""
    parts = [f"{state.name} {duration(spent)}" for state in STATES if (spent := _total(stages, state.key)) is not None]
    return ", ".join(parts) or "not measured"


def swatch(class_: str) -> Markup:
    """Give a patch of the colour of a class."""
    patch = element("rect", width="100%", height="100%", class_=class_)
    return element("svg", patch, class_="swatch", aria_hidden="true")


def legend() -> Markup:
    """Say what the colours mean."""
    items = [
        element(
            "li",
            element(
                "svg",
                element("rect", width="100%", height="100%", class_=state.key),
                class_="swatch",
                aria_hidden="true",
            ),
            element("b", state.name),
            f" {state.means}",
        )
        for state in STATES
    ]
    return element("ul", items, class_="legend", aria_label="Colours")
