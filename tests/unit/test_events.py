"""JSON lines and textfiles: what is awkward stays in its place."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from mlpipe.measure.record import Record
from mlpipe.measure.schema import load_record
from mlpipe.report.events import EventLog, EventProgress
from mlpipe.report.progress import Gauge
from mlpipe.report.prometheus import last_success, prometheus_text

SAMPLE = Path(__file__).parents[1] / "records/sample.json"
AWKWARD = 'a "b"\\c\nd\u2028é\udce9{}'


def test_every_event_is_one_line():
    stream = io.StringIO()
    log = EventLog(stream)
    log.emit("note", message=AWKWARD, path=Path("x"))
    log.finished(load_record(SAMPLE))
    lines = stream.getvalue().split("\n")
    assert lines.pop() == ""
    events = [json.loads(line) for line in lines]
    assert (events[0]["message"], events[0]["path"]) == (AWKWARD, "x")
    assert events[-1]["event"] == "finish"


class _Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError("no room")


def test_a_stream_that_fails_ends_nothing():
    log = EventLog(_Broken())
    log.emit("start")
    log.emit("finish")


def test_progress_tells_how_far_it_is():
    stream = io.StringIO()
    seconds = iter(range(100))
    with EventProgress(Gauge(100, clock=lambda: next(seconds)), EventLog(stream), 0.001) as progress:
        progress.advance(25)
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["event"], last["done"], last["total"], last["share"]) == ("progress", 25, 100, 0.25)
    assert last["left_s"] == pytest.approx(75 / last["rate"])


def test_labels_are_escaped():
    facts = Record(["stats"]).to_dict()
    text = prometheus_text(facts, AWKWARD)
    lines = text.splitlines() if "\u2028" not in text else text.split("\n")
    labelled = next(line for line in lines if line.startswith("mlpipe_run_success"))
    assert labelled == 'mlpipe_run_success{report="a \\"b\\"\\\\c\\nd\u2028é?{}"} 0'
    assert text.encode()


def test_a_figure_that_was_not_measured_is_left_out():
    text = prometheus_text(Record(["stats"], wall_s=1.5, exit_code=4).to_dict(), "r")
    assert "mlpipe_run_duration_seconds" in text
    for name in ("memory_anonymous_peak_bytes", "stage_seconds", "last_success", "None", "nan"):
        assert name not in text


def test_the_last_success_is_kept_through_failures():
    done = load_record(SAMPLE)
    text = prometheus_text(done, AWKWARD)
    when = last_success(text)
    assert when == pytest.approx(1767225600 + done["wall_s"])
    for _ in range(3):
        text = prometheus_text(Record([], status="failed").to_dict(), AWKWARD, text)
        assert last_success(text) == when


@pytest.mark.parametrize("value", ["", " x", " 1.2.3", " 1e999999", " 1e", " ٣"])
def test_a_file_that_tells_no_time_is_let_be(value):
    assert last_success(f"mlpipe_last_success_timestamp_seconds{value}") is None
