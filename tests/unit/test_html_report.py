"""The page as text: well-formed and closed for any record, the same each time, told apart by every eye, shipped."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import zipfile
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpipe.measure.schema import RecordFacts, load_record
from mlpipe.report.html import render
from mlpipe.report.html.axis import Span, area, byte_ticks, round_step, time_step
from mlpipe.report.html.changes import Change, changes, headline
from mlpipe.report.html.element import VOID, element, escaped, visible
from mlpipe.report.html.figures import Reasons
from mlpipe.report.html.lanes import STATES, threads
from tests.made_records import empty, made, odd_records, profiled

HERE = Path(__file__).parents[2] / "mlpipe" / "report" / "html"
SAMPLE = Path(__file__).parents[1] / "records" / "sample.json"
STYLE, SCRIPT = (HERE / "style.css").read_text(), (HERE / "script.js").read_text()
ALLOWED = {"href": ("#",), "src": ()}
NASTY = st.text(st.sampled_from("<>&\"'/=-! \n\t\\`;scriptyle\x00\u2028\u202e\ud800é"), max_size=30)


class Checked(HTMLParser):
    """Read a page strictly: every element is closed, and nothing runs, loads or styles but what is ours."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words: list[str] = []
        self.blocks: dict[str, str] = {}
        self.paths: list[str] = []
        self._block = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attributes)
        assert len(given) == len(attributes), "an attribute given twice"
        for name, value in given.items():
            assert not name.startswith("on"), name
            assert name != "style"
            if name in ALLOWED:
                assert (value or "").startswith(ALLOWED[name]), value
        if tag == "path":
            self.paths.append(given["d"] or "")
        self._block = (given.get("id") or tag) if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._block = ""

    def handle_data(self, data: str) -> None:
        if self._block:
            self.blocks[self._block] = self.blocks.get(self._block, "") + data
        else:
            self.words.append(data)


def checked(page: str) -> Checked:
    found = Checked()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(odd_records(), st.none() | odd_records())
def test_any_record_gives_a_well_formed_page(record: RecordFacts, other: RecordFacts | None) -> None:
    page = render(record, other)
    page.encode()  # whatever bytes names were made of
    found = checked(page)
    assert set(found.blocks) == {"style", "script", "record"} | ({"other"} if other else set())
    for path in found.paths:
        assert re.fullmatch(r"[MLHVZ0-9. ]+", path), path
        numbers = [float(each) for each in re.findall(r"[0-9.]+", path)]
        assert all(0 <= each <= 1000 for each in numbers)


def test_a_record_of_a_run_gives_a_page() -> None:
    record = load_record(SAMPLE)
    found = checked(render(record, record))
    words = "".join(found.words)
    assert all(stage["name"] in words for stage in record["stages"])
    assert "As fast as before" in words
    assert json.loads(found.blocks["record"]) == record


@settings(max_examples=200, deadline=None)
@given(NASTY, NASTY)
def test_text_is_text_wherever_it_stands(text: str, attribute: str) -> None:
    found = checked(element("p", text, title=attribute).html)
    assert "".join(found.words) == visible(text)
    assert escaped(text).isprintable() or {"\n", "\t"} & set(text)


@settings(max_examples=100, deadline=None)
@given(NASTY)
def test_nothing_ends_the_block_of_the_record(text: str) -> None:
    record: Any = copy.deepcopy(empty())
    record["error"], record["command"] = text, [text]
    block = checked(render(record)).blocks["record"]
    assert not set("<>&") & set(block)
    assert json.loads(block) == record


def test_the_same_record_gives_the_same_page() -> None:
    assert render(profiled(), made()) == render(copy.deepcopy(profiled()), made())


def test_the_policy_names_what_the_page_holds() -> None:
    found = checked(render(made()))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', render(made()))
    assert policy is not None
    for name, kind in (("style", "style-src"), ("script", "script-src")):
        digest = base64.b64encode(hashlib.sha256(found.blocks[name].encode()).digest()).decode()
        assert f"{kind} &#x27;sha256-{digest}&#x27;" in policy[1]
    assert policy[1].startswith("default-src &#x27;none&#x27;;")
    assert "unsafe" not in policy[1]


def test_our_own_files_ask_for_nothing_and_make_no_markup() -> None:
    for text in (STYLE, SCRIPT):
        assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|@import|url\(|</", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|setAttribute\(\"(style|on)", SCRIPT
    )


def test_the_wheel_holds_style_and_script(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    built = next(WheelBuilder(str(HERE.parents[2])).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(built) as wheel:
        for name, text in (("style.css", STYLE), ("script.js", SCRIPT)):
            assert wheel.read(f"mlpipe/report/html/{name}").decode() == text


def test_a_page_is_small_enough_for_a_mail() -> None:
    assert len(render(made())) < 300_000


# ---- Colours

MACHADO = {  # of the article of 2009, severity 1
    "all colours": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}
THEMES = {"light": 0, "dark": 1}


def colour(name: str, theme: str) -> np.ndarray:
    """A colour of the style, as linear red, green and blue."""
    match = re.search(rf"--{name}: light-dark\((#[0-9a-f]{{6}}), (#[0-9a-f]{{6}})\)", STYLE)
    assert match is not None, name
    shown = match[1 + THEMES[theme]]
    part = np.array([int(shown[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a colour under D65."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x = matrix @ np.clip(linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eye", MACHADO)
def test_states_can_be_told_apart_by_every_eye(eye: str, theme: str) -> None:
    names = [state.key.replace("_", "-") for state in STATES]
    for group in (names, ["anonymous", "files", "flying"]):
        for one, other in combinations(group, 2):
            distance = np.linalg.norm(lab(MACHADO[eye] @ colour(one, theme)) - lab(MACHADO[eye] @ colour(other, theme)))
            assert distance > 18, (one, other)


def test_states_can_be_told_apart_on_grey_paper() -> None:
    lightness = sorted(lab(colour(state.key.replace("_", "-"), "light"))[0] for state in STATES)
    assert min(np.diff(lightness)) > 8


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ink", ["ink", "soft", "accent", "good", "bad", "ceiling"])
def test_text_stands_out(ink: str, theme: str) -> None:
    for ground in ("page", "panel", "faint"):
        low, high = sorted(colour(name, theme) @ [0.2126, 0.7152, 0.0722] for name in (ink, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, ground


# ---- Pieces


@given(st.floats(1e-9, 1e9))
def test_axes_have_a_few_round_marks(wall: float) -> None:
    ticks = Span(wall).ticks()
    assert 1 <= len(ticks) <= 8
    labels = [label for _, label in ticks]
    assert len(set(labels)) == len(labels)
    assert all(0 <= at <= wall * (1 + 1e-9) for at, _ in ticks)
    assert time_step(wall) <= wall or round_step(wall) <= wall


@given(st.floats(1, 1e18))
def test_byte_axes_have_few_marks(most: float) -> None:
    ticks = byte_ticks(most)
    assert len(ticks) <= 4
    assert all(nbytes <= most * (1 + 1e-9) for nbytes, _ in ticks)


def test_links_of_one_thread_stand_together() -> None:
    stages: Any = made()["stages"]
    found = threads(stages, 1.6)
    assert {name: [track.name for track in tracks] for name, tracks in found.items()} == {
        "read": ["read"],
        "compute": ["standardize (learning)", "shuffle", "batch", "standardize"],
        "write": ["write"],
    }
    assert sorted(place for tracks in found.values() for track in tracks for place in track.places) == list(range(7))


def test_areas_hold_until_the_next_place() -> None:
    assert area([0, 10, 20], [0.5, 0.5, 0], 30) == "M0 100V50H20V100H30V100Z"
    assert area([], [], 0) == "M0 0H0V100Z"


def test_the_nearest_reason_counts() -> None:
    reasons = Reasons({"stages.a.b.cpu_s": "one", "stages.cpu_s": "all", "process": "none"})
    assert reasons.of("stages", "a.b", "cpu_s") == "one"
    assert reasons.of("stages", "c", "cpu_s") == "all"
    assert reasons.of("process", "rss_peak") == "none"
    assert reasons.of("wall_s", otherwise="unknown") == "unknown"


def test_changes_of_several_runs_are_those_of_their_medians() -> None:
    old, new = profiled(), copy.deepcopy(profiled())
    assert new["profile"] is not None
    for run in new["profile"]["runs"]:
        run["wall_s"] *= 2
    wall = next(change for change in changes(new, old) if change.metric.name == "wall")
    assert (wall.old, wall.new, wall.verdict) == (1.6, 3.2, "worse")
    assert headline(new, old) == "2.00 times as slow: 3.20 s instead of 1.60 s"


def test_a_change_from_nothing_has_no_share() -> None:
    change = Change(changes(made(), made())[0].metric, [0.0], [1.0])
    assert (change.relative, change.verdict) == (None, "")
    assert headline(empty(), made()) == "Two runs side by side"
