"""Where the time went: chains that run over a second, whose times are known."""

from __future__ import annotations

import numpy as np
import pytest

from mlpipe.measure.schema import RecordFacts
from mlpipe.stages.head import Head
from tests.measured import BLOCK, Sink, Source, Waits, measured, stage_of

STATES = ("self_s", "wait_in_s", "wait_out_s", "compile_s")


def check_accounts(record: RecordFacts) -> None:
    """The times of every thread add up to the wall clock, in sum and along the timeline."""
    wall = record["wall_s"]
    assert wall is not None
    assert wall > 1
    assert record["accounted"] > 0.98
    with_stages = [thread for thread in record["thread_facts"] if thread["stages"]]
    assert {thread["name"] for thread in with_stages} >= {"read", "compute", "write"}
    assert all(0.98 < thread["accounted"] <= 1.0001 for thread in record["thread_facts"])
    assert all(thread["timeline"] for thread in record["thread_facts"] if not thread["stages"])
    for stage in record["stages"]:
        spent = sum(stage[key] or 0.0 for key in STATES)
        assert spent == pytest.approx(stage["ended_s"] - stage["began_s"])
        assert stage["accounted"] > 0.98
        assert (stage["first_wait_s"] or 0.0) <= (stage["wait_in_s"] or 0.0)
        line = stage["timeline"]
        assert len(line["self"]) <= 256
        assert len(line["self"]) * line["step_s"] >= wall
        for key in STATES:
            drawn = sum(line[key.removesuffix("_s")]) * line["step_s"]
            assert drawn == pytest.approx(stage[key] or 0.0, abs=1e-4 * 256 * line["step_s"])
        together = np.sum([line[key.removesuffix("_s")] for key in STATES], axis=0)
        assert (together <= 1.001).all()


def test_a_slow_source() -> None:
    record = measured(Source(6, 0.2), [Waits()], Sink())
    check_accounts(record)
    assert 1.19 < stage_of(record, "read")["self_s"] < 2
    waits = stage_of(record, "waits")
    assert 0.15 < waits["first_wait_s"] < waits["wait_in_s"] - 0.5
    assert waits["wait_in_s"] > 1.1
    assert record["bottleneck"]["kind"] == "source"


def test_a_stage_that_sleeps_300_ms_a_batch() -> None:
    record = measured(Source(5), [Waits(), Waits(0.3, called="sleeps"), Waits()], Sink())
    check_accounts(record)
    sleeps = stage_of(record, "sleeps")
    assert sleeps["batch_p50_s"] == pytest.approx(0.3, rel=0.05)
    assert 0.3 < sleeps["batch_p95_s"] <= sleeps["batch_max_s"] < sleeps["self_s"] - 4 * 0.3 + 0.01
    assert (sleeps["batches"], sleeps["rows"]) == (5, 5 * BLOCK)
    assert sleeps["bytes_in"] == sleeps["bytes_out"] == 5 * BLOCK * 32
    assert (record["bottleneck"]["kind"], record["bottleneck"]["stage"]) == ("compute", "sleeps")


def test_a_slow_sink() -> None:
    record = measured(Source(6), [Waits()], Sink(0.2))
    check_accounts(record)
    write = stage_of(record, "write")
    assert 1.19 < write["self_s"] < 2
    assert write["bytes_in"] == write["bytes_out"] == 6 * BLOCK * 32
    assert record["bottleneck"]["kind"] == "sink"
    read = stage_of(record, "read")
    assert read["in_flight_peak"] == 2 * BLOCK * 32 == record["process"]["in_flight_peak"]
    assert stage_of(record, "waits")["in_flight_peak"] is None
    assert max(record["process"]["samples"]["in_flight"]) <= 2 * BLOCK * 32
    assert set(record["process"]["samples"]["queues"]) == {"read", "write"}


def test_an_early_stop() -> None:
    record = measured(Source(50, 0.1), [Waits(0.3), Head(4 * BLOCK)], Sink())
    check_accounts(record)
    assert stage_of(record, "head")["rows"] == 4 * BLOCK
    assert stage_of(record, "read")["rows"] < 10 * BLOCK


@pytest.mark.parametrize("where", ["source", "sink", "stage"])
def test_an_error(where: str) -> None:
    def fail(left: list[int] = [4]) -> None:  # noqa: B006 - counts the calls
        left[0] -= 1
        if not left[0] and where == "stage":
            raise OSError("stopped")

    source = Source(9, 0.2, fails_at=6 if where == "source" else None)
    record = measured(source, [Waits(0.3, act=fail)], Sink(fails_at=4 if where == "sink" else None))
    check_accounts(record)
    assert (record["status"], record["complete"], record["exit_code"]) == ("failed", False, 1)
    assert record["error"] in ("the disk is gone", "stopped", "no room")


def test_a_source_that_fails_while_others_work_on() -> None:
    record = measured(Source(9, fails_at=2), [Waits(0.6)], Sink())
    check_accounts(record)
    assert stage_of(record, "read")["wait_out_s"] > 1


def test_no_stage() -> None:
    record = measured(Source(6, 0.2), [], Sink())
    check_accounts(record)
    assert stage_of(record, "hand on")["bytes_out"] == 6 * BLOCK * 32


def test_compiling() -> None:
    record = measured(Source(3), [Waits(0.1, compiling=1.0)], Sink())
    check_accounts(record)
    assert stage_of(record, "waits")["compile_s"] == pytest.approx(1.0, rel=0.3)
    assert record["bottleneck"]["kind"] == "compile"
    assert max(stage_of(record, "waits")["timeline"]["compile"]) == pytest.approx(1.0, abs=0.05)
