"""Records of one or more runs."""

from __future__ import annotations

import copy
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpipe.measure.child import Ended
from mlpipe.measure.profiles import Run, profiled, spread
from mlpipe.measure.sampling import ProcessSampler, Sample
from mlpipe.measure.schema import check_record
from tests import made_records

MIB = 1 << 20
MADE: Any = made_records.made()


def ended(wall: float, code: int = 0, **changes: Any) -> Ended:
    facts: dict[str, Any] = {
        "exit_code": code, "killed": False, "signum": None, "started": "2026-01-01T00:00:00.000+00:00", "wall_s": wall,
        "cpu_s": wall / 2, "rss_peak": 300 * MIB, "major_faults": 0, "sampler": None,
    }  # fmt: skip
    return Ended(**{**facts, **changes})


def run_of(wall: float, code: int = 0, **changes: Any) -> Run:
    record = copy.deepcopy(MADE)
    record["wall_s"] = wall - 0.3
    return Run(ended(wall, code, **changes), record)


def make(*runs: Run, **options: Any) -> Any:
    settings: dict[str, Any] = {"interval": None, "sampler": None, "lines": False}
    return check_record(profiled(["distances", "X.npy"], runs, **{**settings, **options}))


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=9))
def test_spread(values: list[float]) -> None:
    found = spread(values)
    assert found["median"] == statistics.median(values)
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["mad"] == statistics.median(abs(value - found["median"]) for value in values)


@pytest.mark.parametrize(("walls", "middle"), [([2.0], 2.0), ([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 3.0, 2.0], 2.0)])
def test_the_record_is_that_of_the_run_of_median_time(walls: list[float], middle: float) -> None:
    record = make(*map(run_of, walls))
    assert record["wall_s"] == middle - 0.3
    assert [one["wall_s"] for one in record["profile"]["runs"]] == walls
    assert record["profile"]["spread"]["wall_s"] == spread(walls)
    assert record["profile"]["runs"][0]["stages"]["shuffle"]["self_s"] > 0


def test_of_a_run_that_fails_it_is_the_record_and_it_is_not_in_the_spread() -> None:
    record = make(run_of(1.0), run_of(9.0, code=5))
    assert (record["status"], record["complete"], record["exit_code"]) == ("failed", False, 5)
    assert record["profile"]["spread"]["wall_s"] == spread([1.0])
    assert [one["exit_code"] for one in record["profile"]["runs"]] == [0, 5]


@pytest.mark.parametrize(
    ("code", "signum", "status", "why"),
    [
        (0, None, "done", "distances carried out no chain"),
        (3, None, "failed", "the command ended before it carried out a chain"),
        (143, 15, "interrupted", "the command ended before it carried out a chain"),
    ],
)
def test_a_command_that_leaves_no_record_gets_one(code: int, signum: int | None, status: str, why: str) -> None:
    record = make(Run(ended(1.5, code, signum=signum)))
    assert (record["status"], record["complete"], record["exit_code"]) == (status, code == 0, code)
    assert (record["wall_s"], record["cpu_s"], record["stages"]) == (1.5, 0.75, [])
    assert record["not_measured"]["stages"] == why
    assert record["process"]["rss_peak"] == 300 * MIB
    assert record["process"]["anonymous_peak"] is None
    assert "--memory" in record["not_measured"]["process.anonymous_peak"]


def sampler_of(*samples: Sample) -> ProcessSampler:
    sampler = ProcessSampler(1, 0.1, 0.0)
    for sample in samples:
        sampler.series.append(sample)
    return sampler


def test_peaks_are_the_largest_that_anybody_saw() -> None:
    sampler = sampler_of(
        Sample(0.1, rss=100 * MIB, anonymous=90 * MIB, file_backed=10 * MIB, rss_peak=400 * MIB),
        Sample(0.2, rss=320 * MIB, anonymous=200 * MIB, file_backed=20 * MIB, rss_peak=330 * MIB),
    )
    record = make(run_of(1.0, sampler=sampler), interval=0.1, sampler="memory-profiler 0.61.0")
    process, [run] = record["process"], record["profile"]["runs"]
    assert process["anonymous_peak"] == run["anonymous_peak"] == 200 * MIB
    assert process["file_backed_peak"] == run["file_backed_peak"] == 91 * MIB  # from inside
    assert process["rss_peak"] == run["rss_peak"] == 400 * MIB
    assert record["profile"]["samples"]["t_s"] == [0.1, 0.2]
    assert record["not_measured"].keys() & {"profile.samples", "process.anonymous_peak"} == set()


def test_a_process_too_short_for_a_sample_says_so() -> None:
    record = make(run_of(1.0, sampler=sampler_of()), interval=0.1, sampler="memory-profiler 0.61.0")
    assert record["profile"]["samples"] is None
    assert record["not_measured"]["profile.samples"] == "the process had ended before the first sample"


@pytest.mark.parametrize(
    ("reasons", "code", "why"),
    [
        (["one", "two"], 0, "one; two"),
        ([], 0, "no apply-python function was called"),
        ([], 3, "the run ended before"),
    ],
)
def test_why_there_are_no_lines(reasons: list[str], code: int, why: str) -> None:
    run = Run(ended(1.0, code), copy.deepcopy(MADE), [], reasons)
    assert make(run, lines=True)["not_measured"]["profile.lines"] == why
