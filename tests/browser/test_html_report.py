"""The page in a browser: what is seen, heard, pointed at, typed and printed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpipe.measure.schema import RecordFacts, load_record
from mlpipe.measure.sizes import format_duration, format_size
from mlpipe.report.html import render
from mlpipe.report.html.figures import percent
from mlpipe.report.html.stages import FLOW, RARE, TIME
from tests.made_records import empty, made, odd_records, profiled

Open = Callable[..., Any]
NASTY = '</script><script>window.bad=1</script><img src="http://example.com/x.png" onerror="window.bad=1">'
SAMPLE = Path(__file__).parents[1] / "records" / "sample.json"
STANDARDIZE = 5  # its place among the stages


def cells(page: Any, table: str) -> list[list[dict[str, str | None]]]:
    return page.eval_on_selector_all(  # type: ignore[no-any-return]
        f"table.{table} tbody tr",
        "rows => rows.map(row => [...row.cells].map(e => ({text: e.innerText, value: e.dataset.value ?? null})))",
    )


def column(page: Any, table: str, place: int) -> list[str | None]:
    return [row[place]["value"] for row in cells(page, table)]


def lane(page: Any, stage: int) -> Any:
    return page.locator(f'#time svg.lane[data-stages="{stage}"]')


def tip(page: Any) -> list[list[str]]:
    return page.eval_on_selector_all("#tip tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")  # type: ignore[no-any-return]


def point(page: Any, picture: Any, share: float) -> None:
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)


def shares(record: RecordFacts, stage: int, step: int) -> list[list[str]]:
    line: Any = record["stages"][stage]["timeline"]
    states = (("self", "self"), ("compile", "compile"), ("wait_out", "wait out"), ("wait_in", "wait in"))
    return [[name, percent(line[key][step])] for key, name in states if line[key][step] > 0]


def slower() -> RecordFacts:
    record: Any = copy.deepcopy(made(wall_s=2.4, threads=1))
    record["stages"][STANDARDIZE]["self_s"] *= 2.5
    return record  # type: ignore[no-any-return]


def test_figures_are_those_of_the_record(opened: Open) -> None:
    record: Any = made()
    page = opened(render(record))
    flow = [each for each in FLOW if each.key not in RARE]
    for table, columns, first in (("times", TIME, 3), ("flows", flow, 1)):
        rows = cells(page, table)
        assert len(rows) == len(record["stages"])
        for stage, row in zip(record["stages"], rows, strict=True):
            assert row[0]["value"] == stage["name"]
            for place, each in enumerate(columns, first):
                value = stage[each.key]
                if value is None:
                    assert row[place]["value"] is None
                    assert row[place]["text"].startswith("–")
                else:
                    assert float(row[place]["value"]) == value
                    assert row[place]["text"] == each.write(value)
    tiles = page.eval_on_selector_all(".tiles data", "all => all.map(each => [each.value, each.innerText])")
    peak = record["process"]["anonymous_peak"]
    assert tiles == [
        ["1.6", "1.60 s"],
        ["2.25", "2.25 s"],
        [str(peak), "152 MiB"],
        ["17970", "17,970"],
        ["0.9984", "99.8 %"],
    ]
    assert page.locator("h1").inner_text() == "Compute-bound in standardize; 2 of 2 threads busy"
    assert json.loads(page.locator("#record").text_content()) == record


def test_a_record_of_a_run_shows_its_figures(opened: Open) -> None:
    record: Any = load_record(SAMPLE)
    page = opened(render(record))
    shown = [row[3]["value"] for row in cells(page, "times")]
    assert [None if each is None else float(each) for each in shown] == [stage["self_s"] for stage in record["stages"]]
    for picture in page.locator("#time svg[data-wall]").all():
        point(page, picture, 0.5)
        assert page.locator("#tip .when").inner_text()


def test_the_script_writes_figures_as_the_rest_does(opened: Open) -> None:
    page = opened(render(made()))
    amounts = [0, 1e-9, 4.2e-5, 0.0123, 0.35, 0.9996, 1.245, 9.996, 12.34, 59.94, 59.96, 61, 3599.6, 7384, 86399, 2e5]
    bytes_ = [0, 1, 640, 1023, 1024, 1536, 999 * 1024, 2**20, 1023.6 * 1024, 5 * 2**30, 2**50]
    parts = [0, 0.0004, 0.001, 0.126, 0.29, 0.5, 0.9996, 1]
    told = page.evaluate(
        "([a, b, c]) => [a.map(mlpipeReport.duration), b.map(mlpipeReport.size), c.map(mlpipeReport.percent)]",
        [amounts, bytes_, parts],
    )
    assert told == [
        [format_duration(each) for each in amounts],
        [format_size(each) for each in bytes_],
        list(map(percent, parts)),
    ]


@pytest.mark.parametrize("step", [75, 90, 150])
def test_pointing_at_a_lane_shows_the_step_there(opened: Open, step: int) -> None:
    record = made()
    page = opened(render(record))
    point(page, lane(page, STANDARDIZE), (step + 0.5) / 200)
    assert tip(page) == shares(record, STANDARDIZE, step)
    assert page.locator("#tip b").inner_text() == "standardize, pass 2"
    length = record["stages"][STANDARDIZE]["timeline"]["step_s"]
    when = f"{format_duration(step * length)} to {format_duration((step + 1) * length)}"
    assert page.locator("#tip .when").inner_text() == when
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()


def test_pointing_shows_both_passes_of_a_link_threads_memory_and_queues(opened: Open) -> None:
    record: Any = made()
    page = opened(render(record))
    read = page.locator('#time svg.lane[data-stages="0 2"]')
    point(page, read, 20.5 / 200)
    assert (page.locator("#tip b").inner_text(), tip(page)) == ("read", shares(record, 0, 20))
    point(page, read, 120.5 / 200)
    assert (page.locator("#tip b").inner_text(), tip(page)) == ("read, pass 2", shares(record, 2, 120))
    point(page, read, 0.002)
    assert page.locator("#tip").inner_text().endswith("not running")

    point(page, page.locator("#time svg.thin"), 150.5 / 200)
    assert [name for name, _ in tip(page)] == ["shuffle", "batch", "standardize"]

    samples = record["process"]["samples"]
    point(page, page.locator("#time svg.memory"), 0.503)  # of 1.6 s, sampled each 10 ms
    assert page.locator("#tip .when").inner_text() == format_duration(samples["t_s"][80])
    keys = ("anonymous", "in_flight", "file_backed", "rss")
    assert [figure for _, figure in tip(page)] == [format_size(samples[key][80]) for key in keys]
    assert page.locator("#time svg.memory line.cursor").get_attribute("x1").startswith("50.")
    point(page, page.locator('#time svg[data-queue="read"]'), 0.503)
    assert tip(page) == [["waiting", str(samples["queues"]["read"][80])]]


def test_a_tap_shows_what_pointing_shows(opened: Open) -> None:
    record = made()
    page = opened(render(record), has_touch=True, viewport={"width": 360, "height": 740}, is_mobile=True)
    picture = lane(page, STANDARDIZE)
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 150.5 / 200, box["y"] + 5)
    assert tip(page) == shares(record, STANDARDIZE, 150)
    placed = page.locator("#tip").bounding_box()
    assert placed["x"] >= 0
    assert placed["x"] + placed["width"] <= 360


def test_the_keyboard_reaches_every_moment(opened: Open) -> None:
    record = made()
    page = opened(render(record))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    picture = lane(page, STANDARDIZE)
    picture.focus()
    page.keyboard.press("Home")
    assert page.locator("#tip").inner_text().endswith("not running")
    for _ in range(9):
        page.keyboard.press("PageUp")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert tip(page) == shares(record, STANDARDIZE, 91)
    spoken = picture.get_attribute("aria-valuetext")
    assert spoken.endswith(", ".join(" ".join(each) for each in shares(record, STANDARDIZE, 91)))
    assert picture.get_attribute("role") == "slider"
    page.keyboard.press("End")
    assert "not running" in picture.get_attribute("aria-valuetext")
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.stages") == "6"


def test_headings_sort(opened: Open) -> None:
    page = opened(render(made()))
    place = 3 + [each.key for each in TIME].index("wait_in_s")
    heading = page.locator("table.times thead th").nth(place)
    before = column(page, "times", place)
    known = sorted((each for each in before if each is not None), key=float)
    none = [None] * before.count(None)

    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(page, "times", place) == [*reversed(known), *none]
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(page, "times", place) == [*known, *none]
    heading.locator("button").press("Space")
    assert heading.get_attribute("aria-sort") == "none"
    assert column(page, "times", place) == before

    names = column(page, "times", 0)
    page.locator("table.times thead button").first.click()
    assert column(page, "times", 0) == sorted(names, key=str)
    assert page.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1


def test_markup_in_names_stays_text(opened: Open) -> None:
    record: Any = copy.deepcopy(profiled())
    record["command"] = ["info", NASTY]
    for facts in (record["inputs"][0], record["output"]):
        facts["path"] = facts["dtype"] = NASTY
    for stage in record["stages"]:
        stage["name"] = stage["thread"] = NASTY
    record["bottleneck"] = {**record["bottleneck"], "stage": NASTY, "sentence": NASTY, "help": NASTY}
    record["not_measured"] = {NASTY: NASTY}
    record["host"]["cpu"] = record["error"] = NASTY
    record["status"] = "failed"
    record["plan"][NASTY] = NASTY
    record["plan"]["links"][0]["link"] = record["plan"]["stages"][0]["stage"] = NASTY
    record["process"]["samples"]["queues"] = {NASTY: record["process"]["samples"]["queues"]["read"]}
    record["result"] = {NASTY: {NASTY: NASTY}}
    record["profile"]["lines"][0]["lines"][0]["source"] = NASTY
    page = opened(render(record, made()))
    assert page.evaluate("window.bad") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 3
    assert page.locator("table.arrays th bdi").first.inner_text() == NASTY
    assert page.locator(".lines .source").first.inner_text() == NASTY
    assert page.title().startswith("mlpipe info </script>")
    point(page, page.locator("#time svg.queue"), 0.5)
    assert page.locator("#tip b").inner_text() == f"queue {NASTY}"
    point(page, page.locator("#time svg.lane").nth(1), 0.2)
    assert NASTY in page.locator("#tip b").inner_text()
    assert page.locator("#tip img").count() == 0


def test_the_policy_lets_nothing_else_run(opened: Open) -> None:
    inside = (
        "<script>window.bad = 1</script><p id=p style='position: fixed' onclick='window.bad = 1'>x</p>"
        "<img src='https://example.com/x.png'><style>h1 { color: red }</style>"
    )
    page = opened(render(made()).replace("</main>", f"{inside}</main>"), refused=True)
    page.locator("#p").dispatch_event("click")
    assert page.evaluate("window.bad") is None
    assert page.evaluate("getComputedStyle(document.getElementById('p')).position") == "static"
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(255, 0, 0)"
    fetched = page.evaluate("fetch('https://example.com/').then(() => 'fetched', () => 'refused')")
    assert fetched == "refused"
    page.locator("#time svg.lane").first.hover()  # our own script does run
    assert page.locator("#tip").is_visible()


@pytest.mark.parametrize("name", ["made", "profiled", "compared", "empty", "long"])
def test_a_phone_scrolls_in_one_direction_only(opened: Open, name: str) -> None:
    long: Any = copy.deepcopy(made(error="x" * 500, status="failed"))
    for stage in long["stages"]:
        stage["name"] = f"{stage['name']}{'m' * 300}"
    long["inputs"][0]["path"] = long["inputs"][0]["dtype"] = "n" * 900
    long["plan"]["links"][0]["link"] = "l" * 300
    long["bottleneck"] = {**long["bottleneck"], "sentence": "s" * 200}
    records: dict[str, tuple[RecordFacts, RecordFacts | None]] = {
        "made": (made(), None), "profiled": (profiled(), None), "compared": (profiled(), slower()),
        "empty": (empty(), empty()), "long": (long, made()),
    }  # fmt: skip
    page = opened(render(*records[name]))
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    outside = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('.unseen')"
        " && e.getBoundingClientRect().right > 361).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


def test_dark_light_and_the_button(opened: Open) -> None:
    def dark(page: Any) -> bool:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour[4:-1].split(","))) < 200

    page = opened(render(made()), color_scheme="dark")
    assert dark(page)
    button = page.locator("#theme")
    assert button.inner_text() == "Theme: auto"
    button.click()
    assert dark(page)
    button.click()
    assert (button.inner_text(), dark(page)) == ("Theme: light", False)
    kept = page.evaluate("({...localStorage})")
    assert kept == {"mlpipe-theme": "light"}
    # Another page finds it: handed on by hand, since Chromium keeps what pages store only a while later.
    page.add_init_script(f"Object.assign(localStorage, {json.dumps(kept)})")
    page.reload()
    assert (button.inner_text(), dark(page)) == ("Theme: light", False)
    assert not dark(opened(render(made()), color_scheme="light"))


def test_it_prints_on_white(opened: Open) -> None:
    page = opened(render(profiled(), slower()), color_scheme="dark")
    page.locator("#theme").click()  # dark
    assert page.pdf(format="A4").startswith(b"%PDF-")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#theme").is_hidden()
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 700


def test_two_records_side_by_side(opened: Open) -> None:
    now, before = made(), slower()
    page = opened(render(now, before))
    assert page.locator("h1").inner_text() == "1.50 times as fast: 1.60 s instead of 2.40 s"
    rows = {row[0]["value"]: row for row in cells(page, "changes")}
    wall = rows["wall"]
    assert [each["value"] for each in wall[1:5]] == ["2.4", "1.6", repr((1.6 - 2.4) / 2.4), "better"]
    assert [each["text"] for each in wall[1:5]] == ["2.40 s", "1.60 s", "▼ -33.3 %", "better"]
    old, new = (each["stages"][STANDARDIZE]["self_s"] for each in (before, now))
    changed = rows["stage.standardize.self"]
    assert [float(changed[place]["value"] or "nan") for place in (1, 2)] == [old, new]
    assert rows["stage.read.self"][4]["text"] == ""  # folded away: it did not change
    assert page.locator("details").get_attribute("open") is None
    differing = page.locator(".differences tbody tr").all_inner_texts()
    assert [each.split("\t") for each in differing] == [["threads", "1", "2"]]

    # One scale for both: the bars are as long as the times.
    sides = page.eval_on_selector_all(
        "table.sides tr svg",
        "all => all.map(svg => Math.max(0, ...[...svg.children].map(e => e.getBBox().x + e.getBBox().width)))",
    )
    totals = [float(row[3]["value"] or "nan") for row in cells(page, "sides")]
    assert [round(side / max(sides), 2) for side in sides] == [round(total / max(totals), 2) for total in totals]

    ends = page.eval_on_selector_all("svg.lane", "all => all.map(svg => svg.dataset.wall)")
    assert set(ends) == {"2.4"}
    point(page, page.locator(f'#before svg.lane[data-stages="{STANDARDIZE}"]'), 150.5 / 200 * 1.6 / 2.4)
    assert tip(page) == shares(before, STANDARDIZE, 150)
    assert page.locator("#before .chart.looked").count() == 1
    assert page.locator("#time .chart.looked").count() == 0


def test_profiles_show_their_runs_and_lines(opened: Open) -> None:
    record: Any = profiled()
    page = opened(render(record))
    runs = [row[1]["value"] for row in cells(page, "runs")]
    assert [float(each or "nan") for each in runs] == [run["wall_s"] for run in record["profile"]["runs"]]
    spread = cells(page, "spread")[0]
    assert [each["text"] for each in spread[:5]] == ["wall", "1.60 s", "1.58 s", "1.71 s", "20.0 ms"]
    source = page.eval_on_selector_all(".lines .source", "all => all.map(each => each.textContent)")
    assert source == [line["source"] for line in record["profile"]["lines"][0]["lines"]]
    assert [row[1]["text"] for row in cells(page, "lines")] == [
        "–\nnever run",
        "17,970",
        "35,940",
    ]
    point(page, page.locator("#profile svg.memory"), 0.5)
    assert dict(tip(page))["anonymous"] == "140 MiB"


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_what_did_not_end_is_marked(opened: Open, status: str) -> None:
    page = opened(render(made(status=status, complete=False, error="out of <room>", exit_code=5)))
    banner = page.locator(".bad.note").inner_text()
    assert "after 1.60 s." in banner
    assert "out of <room>" in banner
    assert page.locator(f".status.{status}").inner_text() == status
    assert [row[1]["value"] for row in cells(page, "arrays")] == ["input", "output, not written"]
    assert " written" not in page.locator(".tiles").inner_text()
    assert opened(render(made())).locator(".bad.note").count() == 0


def test_a_record_of_nothing_says_why(opened: Open) -> None:
    page = opened(render(empty()))
    assert page.locator("h1").inner_text() == "This run failed"
    assert page.locator(".tiles .missing").first.get_attribute("title") == "the run had not begun"
    assert page.locator("svg.lane").count() == 0
    assert "Nothing was measured over time." in page.locator("#time").inner_text()


def test_missing_figures_say_why(opened: Open) -> None:
    record: Any = copy.deepcopy(made())
    record["stages"][0]["bytes_read"] = None
    record["not_measured"]["stages.read.bytes_read"] = "/proc/self/io cannot be read"
    page = opened(render(record))
    place = 1 + [each.key for each in FLOW].index("bytes_read")
    dash = page.locator("table.flows tbody tr").first.locator("td").nth(place - 1).locator(".missing")
    assert dash.get_attribute("title") == "/proc/self/io cannot be read"
    assert dash.text_content() == "– /proc/self/io cannot be read"
    listed = page.locator("table.reasons tbody tr").all_inner_texts()
    assert "stages.read.bytes_read\t/proc/self/io cannot be read" in listed


def test_without_scripts_all_figures_are_there(opened: Open) -> None:
    page = opened(render(made()), java_script_enabled=False)
    assert page.locator("table.times tbody tr").count() == len(made()["stages"])
    assert page.locator("#time svg.lane path.self").count() == 7
    assert page.locator("#theme").is_hidden()
    assert page.locator("table.times thead button").first.is_disabled()
    assert page.locator("#time svg.lane").last.get_attribute("aria-label").startswith("queue after write")


def test_the_record_can_be_taken_out_as_it_was(opened: Open, tmp_path: Path) -> None:
    record = made()
    page = opened(render(record), accept_downloads=True)
    with page.expect_download() as waiting:
        page.locator("#save").click()
    waiting.value.save_as(tmp_path / "record.json")
    assert json.loads((tmp_path / "record.json").read_text()) == record


def test_everything_drawn_is_told_in_words(opened: Open) -> None:
    page = opened(render(profiled(), slower()))
    silent = page.evaluate(
        "[...document.querySelectorAll('svg')]"
        ".filter(e => !e.closest('[aria-hidden=true]') && !e.getAttribute('aria-label')).length"
    )
    assert silent == 0
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, [role=region]')].filter(e => !(e.textContent || e.ariaLabel)).length"
    )
    assert unnamed == 0
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(next_ - level <= 1 for level, next_ in pairwise(levels))
    identities = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(identities) == len(set(identities))


def test_lanes_are_as_long_as_the_times(opened: Open) -> None:
    # The area of a state's colour, over that of the lane, is its share of the wall clock.
    record: Any = made()
    page = opened(render(record))
    for place, stage in enumerate(record["stages"]):
        if stage["name"] == "read":
            continue  # two passes in one lane
        path = lane(page, place).locator("path.self").get_attribute("d")
        assert math.isclose(_area(path) / 100_000, stage["self_s"] / record["wall_s"], rel_tol=1e-3)


def _area(path: str) -> float:
    """Area under a path of horizontal and vertical lines, from the bottom at 100."""
    parts = path.replace("H", " H ").replace("V", " V ").replace("M", "").replace("Z", "").split()
    x, total, y = float(parts[0]), 0.0, 100.0
    for letter, amount in zip(parts[2::2], map(float, parts[3::2]), strict=True):
        if letter == "H":
            total += (amount - x) * (100 - y)
            x = amount
        else:
            y = amount
    return total


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(odd_records(), st.none() | odd_records())
def test_any_record_opens_without_errors(opened: Open, record: RecordFacts, other: RecordFacts | None) -> None:
    page = opened(render(record, other))
    assert page.locator("h1").count() == 1
    for picture in page.locator("svg[data-wall]").all()[:4]:
        picture.focus()
        page.keyboard.press("End")
        assert page.locator("#tip").is_visible()
