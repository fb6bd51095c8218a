"""Figures of records by name."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from mlpipe.errors import InputError
from mlpipe.measure.metrics import Metric, figures, parse_metric, stage_figures
from tests.made_records import MIB, made, profiled, stage


def value(record: Any, name: str) -> float:
    metric = parse_metric(name)
    assert metric is not None
    [found] = figures(record, metric, "a.json", of_runs=False)
    return found


def test_figures_of_the_process() -> None:
    record = made()
    assert value(record, "wall") == 1.6
    assert value(record, "anon_peak") == 152 * MIB
    assert value(record, "major_faults") == 3


def test_figures_of_entries_of_one_name_are_put_together() -> None:
    record = made()
    reads = [one for one in record["stages"] if one["name"] == "read"]
    assert len(reads) == 2
    assert value(record, "stage.read.self") == pytest.approx(sum(one["self_s"] or 0 for one in reads))
    assert value(record, "stage.read.rows") == 2 * 17_970
    assert value(record, "stage.read.batch_max") == max(one["batch_max_s"] or 0 for one in reads)
    assert value(record, "stage.read.rows_per_s") == pytest.approx(
        2 * 17_970 / sum(one["self_s"] or 0 for one in reads)
    )


def test_runs_have_a_figure_each() -> None:
    record = profiled()
    walls = figures(record, Metric(None, "wall"), "a.json", of_runs=True)
    assert walls == [1.62, 1.58, 1.71, 1.6, 1.59]
    assert figures(record, Metric(None, "wall"), "a.json", of_runs=False) == [1.6]
    found = figures(record, Metric("standardize", "self"), "a.json", of_runs=True)
    assert statistics.median(found) == 0.8
    assert figures(record, Metric(None, "major_faults"), "a.json", of_runs=True) == [3]  # known of one run only


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stage.raed.self", "a.json: has no stage 'raed'; did you mean read?"),
        ("stage.write.gone", None),
        ("stage.shuffle.compile",
         "a.json: stage.shuffle.compile was not measured: the stage never was in that state, or it was not measured"),
    ],
)  # fmt: skip
def test_what_a_record_lacks_is_an_error(name: str, message: str | None) -> None:
    metric = parse_metric(name)
    if message is None:
        assert metric is None
        return
    assert metric is not None
    with pytest.raises(InputError) as caught:
        figures(made(), metric, "a.json", of_runs=False)
    assert str(caught.value) == message


def test_the_reason_is_told() -> None:
    record = made()
    record["process"]["anonymous_peak"] = None
    record["not_measured"]["process.anonymous_peak"] = "there is no /proc"
    with pytest.raises(InputError, match=r"^a\.json: anon_peak was not measured: there is no /proc$"):
        figures(record, Metric(None, "anon_peak"), "a.json", of_runs=False)


def test_one_run_that_lacks_a_figure_is_an_error() -> None:
    record = profiled()
    assert record["profile"] is not None
    record["profile"]["runs"][2]["anonymous_peak"] = None
    with pytest.raises(InputError, match="anon_peak was not measured"):
        figures(record, Metric(None, "anon_peak"), "a.json", of_runs=True)


def with_samples(stages: list[dict[str, Any]], at: list[float], anonymous: list[int | None]) -> Any:
    record = made(stages=stages)
    nothing: list[Any] = [None] * len(at)
    record["process"]["samples"] = {
        "t_s": at, "anonymous": anonymous, "file_backed": nothing, "rss": nothing, "rss_peak": None,
        "in_flight": [0] * len(at), "queues": {},
    }  # fmt: skip
    return record


def test_memory_of_a_stage_is_the_largest_while_it_was_at_work() -> None:
    stages = [
        stage("first", "compute", 0.0, 0.8, {"self": 1.0}),
        stage("second", "compute", 0.0, 1.6, {"wait_in": lambda at: at < 0.8, "compile": lambda at: at >= 0.8}),
        stage("idle", "compute", 0.0, 1.6, {"wait_in": 1.0}),
    ]
    record = with_samples(stages, [0.1, 0.5, 0.79, 1.0, 1.2], [10, 30, 20, 50, 40])
    found = stage_figures(record)
    # The sample at 1.0 stands for the time since 0.79, in which the first one was still at work.
    assert found["first"]["anon_peak"] == 50
    assert found["second"]["anon_peak"] == 50
    assert found["idle"]["anon_peak"] is None
    record = with_samples(stages, [0.1, 0.5, 0.8, 1.0, 1.2], [10, 30, 20, None, 40])
    found = stage_figures(record)
    assert found["first"]["anon_peak"] == 30
    assert found["second"]["anon_peak"] == 40


def test_a_stage_without_a_timeline_was_at_work_all_its_life() -> None:
    one = stage("read", "read", 0.5, 0.6, {"self": 1.0})
    one["timeline"] = {"step_s": 0.1, "self": [], "wait_in": [], "wait_out": [], "compile": []}
    record = with_samples([one], [0.2, 0.55, 0.9], [9, 5, 7])
    assert stage_figures(record)["read"]["anon_peak"] == 7


def test_samples_from_outside_count_from_the_start_of_the_process() -> None:
    stages = [
        stage("first", "compute", 0.0, 0.8, {"self": 1.0}),
        stage("second", "compute", 0.8, 1.6, {"self": 1.0}),
    ]
    record = with_samples(stages, [0.4, 1.2], [10, 20])
    record["startup_s"] = 0.5
    record["profile"] = profiled()["profile"]
    at = [0.25, 0.5, 1.0, 1.3, 1.8]  # the run begins at 0.5 and the second stage at 1.3
    record["profile"]["samples"] = {
        "t_s": at, "rss": [90, 1, 2, 3, 4], "anonymous": [80, 15, 12, 13, 60], "file_backed": [0] * 5,
        "rss_peak": [99, 5, 31, 32, 41],
    }  # fmt: skip
    found = stage_figures(record)
    assert (found["first"]["anon_peak"], found["first"]["rss_peak"]) == (20, 32)
    assert (found["second"]["anon_peak"], found["second"]["rss_peak"]) == (60, 41)
    record["startup_s"] = None  # not known: nothing from outside can be told apart
    found = stage_figures(record)
    assert (found["first"]["anon_peak"], found["first"]["rss_peak"]) == (20, None)
