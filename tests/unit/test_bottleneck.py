"""The rule that names what kept a run from being faster: chains whose culprit is known, and records of machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlpipe.measure.bottleneck import find_bottleneck
from mlpipe.measure.record import Record
from mlpipe.measure.schema import RecordFacts, StageFacts, ThreadFacts, load_record
from tests.measured import Sink, Source, Waits, measured

SAMPLE = Path(__file__).parents[1] / "records/sample.json"


@pytest.mark.parametrize(
    ("source", "stages", "sink", "kind", "stage"),
    [
        (Source(6, 0.03), [Waits(0.002)], Sink(0.002), "source", "read"),
        (Source(6, 0.002), [Waits(0.002, called="a"), Waits(0.03, called="b")], Sink(0.002), "compute", "b"),
        (Source(6, 0.002), [Waits(0.03, called="a"), Waits(0.01, called="b")], Sink(), "compute", "a"),
        (Source(6, 0.002), [Waits(0.002)], Sink(0.03), "sink", "write"),
        (Source(6, 0.002), [Waits(0.002, compiling=0.2)], Sink(), "compile", "waits"),
        (Source(6, 0.002), [Waits(0.03, compiling=0.06)], Sink(), "compute", "waits"),
        (Source(1, 0.1), [Waits(0.1)], Sink(0.1), "unknown", None),
    ],
    ids=["source", "stage", "other stage", "sink", "compile", "little to compile", "nobody"],
)
def test_chains_whose_culprit_is_known(source, stages, sink, kind, stage):
    found = measured(source, stages, sink)["bottleneck"]
    assert (found["kind"], found["stage"]) == (kind, stage)
    assert (found["share"] is None) == (stage is None)
    assert found["sentence"]
    assert found["help"]


def _stage(name: str, thread: str, **known: Any) -> StageFacts:
    unknown = dict.fromkeys(StageFacts.__annotations__)
    return {**unknown, "name": name, "thread": thread, "phase": 0, **known}


def _thread(name: str, cpu: float, delay: float = 0.0, phase: int = 0) -> ThreadFacts:
    return {**dict.fromkeys(ThreadFacts.__annotations__), "name": name, "phase": phase, "cpu_s": cpu, "delay_s": delay}


def _record(stages: list[StageFacts], uses: list[ThreadFacts], **changed: Any) -> RecordFacts:
    facts = Record(["run"], wall_s=10.0, threads=2).to_dict()
    facts["host"]["usable_processors"] = 2
    return {**facts, "stages": stages, "thread_facts": uses, **changed}


def _computing(**changed: Any) -> RecordFacts:
    stages = [
        _stage("read", "read", self_s=1.0, cpu_s=1.0, bytes_asked=100, cache="warm"),
        _stage("standardize", "compute", self_s=9.0, cpu_s=8.9),
        _stage("write", "write", self_s=2.0, cpu_s=1.0, bytes_out=100),
    ]
    threads = [_thread("read", 1.0), _thread("compute", 8.9), _thread("worker 1", 8.8), _thread("write", 1.0)]
    return _record(stages, threads, **changed)


def test_all_threads_busy():
    found = find_bottleneck(_computing())
    assert found["sentence"] == "compute-bound in standardize; 2 of 2 threads busy"
    assert (found["kind"], found["stage"], found["share"]) == ("compute", "standardize", 0.9)


def test_one_of_two_threads_busy():
    facts = _computing()
    facts["thread_facts"][2]["cpu_s"] = 0.1
    assert find_bottleneck(facts)["sentence"] == "compute-bound in standardize; 1 of 2 threads busy"


def test_fewer_threads_than_there_are_processors():
    facts = _computing(threads=1)
    facts["host"]["usable_processors"] = 8
    facts["thread_facts"][2]["cpu_s"] = 0.0
    found = find_bottleneck(facts)
    assert found["sentence"] == "compute-bound in standardize; 1 of 1 thread busy"
    assert "--threads 8" in found["help"]


def test_more_threads_than_processors():
    facts = _computing(threads=8)
    for thread in facts["thread_facts"]:
        thread["delay_s"] = 30.0
    found = find_bottleneck(facts)
    assert found["sentence"] == "compute-bound in standardize; 8 threads share 2 processors"
    assert found["help"].startswith("give --threads 2")


def test_other_programs_have_the_processors():
    facts = _computing()
    facts["thread_facts"][1].update(cpu_s=3.0, delay_s=5.9)
    facts["thread_facts"][2].update(cpu_s=3.0, delay_s=6.1)
    found = find_bottleneck(facts)
    assert found["sentence"] == "bound by standardize, which waited 67 % of its time for a processor"
    assert (found["kind"], found["stage"]) == ("compute", "standardize")


def test_a_stage_that_sleeps():
    facts = _computing()
    facts["thread_facts"] = [_thread("compute", 0.2), _thread("worker 1", 0.1)]
    assert find_bottleneck(facts)["sentence"] == "standardize took 90 % of the time, most of it idle"


def _reading(cache: str | None, cpu: float, delay: float = 0.0) -> RecordFacts:
    stages = [
        _stage("read", "read", self_s=8.0, cpu_s=cpu, bytes_asked=100, bytes_read=100, cache=cache),
        _stage("log1p", "compute", self_s=2.0, cpu_s=2.0, wait_in_s=8.0),
        _stage("write", "write", self_s=1.0, cpu_s=1.0, wait_in_s=9.0),
    ]
    return _record(stages, [_thread("read", cpu, delay), _thread("compute", 2.0), _thread("write", 1.0)])


def test_a_cold_source_waits_for_the_disk():
    found = find_bottleneck(_reading("cold", 0.9))
    assert (found["kind"], found["stage"]) == ("disk", "read")
    assert found["sentence"] == "waiting for the disk 71 % of the time: read is cold"
    assert found["share"] == pytest.approx(0.71)


def test_a_warm_source_that_is_idle_waits_for_something_else():
    assert find_bottleneck(_reading("warm", 0.5))["sentence"].startswith("waiting for the source: read took 80 %")
    assert find_bottleneck(_reading(None, 0.5))["kind"] == "source"


def test_a_source_that_converts_is_bound_by_reading():
    assert find_bottleneck(_reading("cold", 7.0))["sentence"] == "bound by reading: read is busy 80 % of the time"
    assert "waited 64 %" in find_bottleneck(_reading("cold", 2.5, 4.5))["sentence"]


def test_several_readers_count_as_one_link():
    facts = _reading("warm", 7.0)
    facts["stages"] += [_stage("read", "read 2", self_s=7.0, cpu_s=6.0, bytes_asked=100, cache="warm")]
    facts["thread_facts"] += [_thread("read 2", 6.0)]
    found = find_bottleneck(facts)
    assert (found["kind"], found["stage"], found["share"]) == ("source", "read", 0.75)


def test_phases_follow_one_another():
    facts = _computing()
    facts["stages"] = [
        _stage("read", "read", self_s=4.0, cpu_s=4.0, bytes_asked=1),
        _stage("scale (learning)", "compute", self_s=4.0, cpu_s=4.0),
        _stage("read", "read", phase=1, self_s=1.0, cpu_s=1.0, bytes_asked=1),
        _stage("scale", "compute", phase=1, self_s=5.0, cpu_s=5.0),
    ]
    facts["thread_facts"] = [_thread("compute", 4.0), _thread("compute", 5.0, phase=1)]
    found = find_bottleneck(facts)
    assert (found["kind"], found["stage"], found["share"]) == ("compute", "scale", 0.5)


def test_a_sink_that_waits_and_one_that_is_busy():
    facts = _computing()
    facts["stages"][1]["self_s"] = 1.0
    facts["stages"][2].update(self_s=9.5, cpu_s=0.5)
    assert find_bottleneck(facts)["sentence"] == "waiting for the output: write took 95 % of the time, most of it idle"
    facts["stages"][2]["cpu_s"] = 9.0
    assert find_bottleneck(facts)["sentence"] == "bound by writing: write is busy 95 % of the time"
    facts["stages"][2]["bytes_out"] = None
    assert find_bottleneck(facts)["sentence"] == "bound by write, which is busy 95 % of the time"


@pytest.mark.parametrize(("waited", "kind"), [(1.5, "compute"), (7.5, "sink")])
def test_a_sink_counts_only_if_it_is_waited_for(waited, kind):
    record = _computing()
    standardize, write = record["stages"][1:]
    standardize["self_s"], standardize["wait_out_s"], write["self_s"] = 8.0 - waited / 4, waited, 9.5
    assert find_bottleneck(record)["kind"] == kind


def test_starting_took_longer_than_the_run():
    facts = _computing(startup_s=0.6, wall_s=0.2)
    found = find_bottleneck(facts)
    assert (found["kind"], found["share"]) == ("startup", pytest.approx(0.75))
    assert found["sentence"] == "starting took 600 ms, the run itself 200 ms"


def test_nothing_to_go_by():
    assert find_bottleneck(Record([]).to_dict())["kind"] == "unknown"
    stages = [_stage("read", "read", self_s=0.001, bytes_asked=1), _stage("write", "write", self_s=0.001)]
    assert find_bottleneck(_record(stages, [], wall_s=0.002))["sentence"] == "the run was too short to tell"


def test_it_is_a_rule_on_the_record_alone():
    sample = load_record(SAMPLE)
    again = json.loads(json.dumps(sample))
    again["bottleneck"] = None
    assert find_bottleneck(again) == sample["bottleneck"]
