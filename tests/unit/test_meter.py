from __future__ import annotations

import threading

import pytest

from mlpipe.measure import meter as module
from mlpipe.measure.meter import NULL_METER, STATES, Lane, Meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Time that moves only when a test says so."""
    now = {"wall": 1_000, "cpu": 50, "process": 70}
    monkeypatch.setattr(module, "perf_counter_ns", lambda: now["wall"])
    monkeypatch.setattr(module, "thread_time_ns", lambda: now["cpu"])
    monkeypatch.setattr(module, "process_time_ns", lambda: now["process"])
    return now


def test_each_state_gets_the_time_spent_in_it(clock):
    lane = Lane("compute")
    lane.start()
    clock["wall"] += 5
    lane.enter("wait_in")
    clock["wall"] += 7
    lane.enter("self")
    clock["wall"] += 11
    with lane.state("compile"):
        clock["wall"] += 13
        with lane.state("wait_out"):
            clock["wall"] += 17
        clock["wall"] += 19
    clock["wall"] += 23
    clock["cpu"] += 40
    lane.stop()
    assert lane.totals_ns == {"self": 5 + 11 + 23, "wait_in": 7, "compile": 13 + 19, "wait_out": 17}
    assert lane.lifetime_ns == 5 + 7 + 11 + 13 + 17 + 19 + 23
    assert lane.cpu_ns == 40


def test_state_is_restored_when_the_block_raises(clock):
    lane = Lane("compute")

    def fail() -> None:
        with lane.state("compile"):
            clock["wall"] += 3
            raise ValueError("boom")

    lane.start("wait_in")
    with pytest.raises(ValueError, match="boom"):
        fail()
    clock["wall"] += 4
    lane.stop()
    assert lane.totals_ns == {"wait_in": 4, "compile": 3}


def test_a_state_never_entered_is_absent(clock):
    lane = Lane("read")
    with lane:
        clock["wall"] += 2
    assert lane.totals_ns == {"self": 2}


def test_stop_is_harmless_before_start_and_when_repeated(clock):
    lane = Lane("read")
    lane.stop()
    assert (lane.totals_ns, lane.lifetime_ns, lane.cpu_ns) == ({}, 0, None)
    lane.start()
    clock["wall"] += 9
    lane.stop()
    clock["wall"] += 100
    lane.stop()
    assert lane.lifetime_ns == sum(lane.totals_ns.values()) == 9


def test_states_add_up_to_the_lifetime_on_the_real_clock():
    lane = Lane("read")
    with lane:
        for turn in range(20_000):
            lane.enter(STATES[turn % len(STATES)])
    assert sum(lane.totals_ns.values()) == lane.lifetime_ns > 0
    assert set(lane.totals_ns) == set(STATES)


def test_count_adds_rows_bytes_and_batches():
    lane = Lane("read")
    lane.count(rows=3, nbytes=24)
    lane.count(rows=0, nbytes=0)
    lane.count(rows=2, nbytes=16)
    assert (lane.rows, lane.nbytes, lane.batches) == (5, 40, 3)


def test_lanes_keep_the_order_in_which_they_were_made():
    meter = Meter()
    names = [f"lane {i}" for i in range(8)]
    for name in names:
        thread = threading.Thread(target=meter.lane, args=(name,))
        thread.start()
        thread.join()
    assert [lane.name for lane in meter.lanes] == names


def test_cpu_time_is_that_of_the_lanes_own_thread():
    meter = Meter()
    waiting, done = threading.Event(), threading.Event()

    def idle() -> None:
        with meter.lane("idle"):
            waiting.set()
            done.wait()

    thread = threading.Thread(target=idle)
    thread.start()
    waiting.wait()
    with meter.lane("busy") as busy:
        sum(range(3_000_000))
    done.set()
    thread.join()
    idler = meter.lanes[0]
    assert idler.cpu_ns is not None
    assert busy.cpu_ns is not None
    assert idler.cpu_ns < busy.cpu_ns


def test_accounted_is_that_of_the_least_complete_lane(clock):
    meter = Meter()
    full, late = meter.lane("full"), meter.lane("late")
    full.start()
    clock["wall"] += 40
    late.start()
    clock["wall"] += 60
    for lane in (full, late):
        lane.stop()
    clock["process"] += 180
    meter.stop()
    clock["wall"] += 1_000
    clock["process"] += 1_000
    meter.stop()
    assert (meter.wall_ns, meter.cpu_ns) == (100, 180)
    assert meter.accounted() == 0.6


def test_accounted_is_unknown_without_lanes(clock):
    meter = Meter()
    clock["wall"] += 10
    assert meter.accounted() is None


def test_null_meter_measures_nothing_and_keeps_nothing():
    with NULL_METER.lane("read") as lane:
        lane.enter("wait_in")
        lane.count(rows=1, nbytes=8)
        with lane.state("compile"):
            pass
    NULL_METER.stop()
    assert (lane.totals_ns, lane.rows, lane.nbytes, lane.batches, lane.cpu_ns) == ({}, 0, 0, 0, None)
    assert NULL_METER.lanes == []
    assert NULL_METER.accounted() is None
    assert NULL_METER.wall_ns == NULL_METER.cpu_ns == 0


def test_phases_are_accounted_for_one_after_the_other():
    meter = Meter()
    for name in ("first", "second"):
        meter.begin()
        with meter.lane(name), meter.lane("beside"):
            threading.Event().wait(0.02)
    meter.stop()
    assert meter.accounted() > 0.8


def test_cpu_time_of_a_thread_goes_to_the_lane_at_work():
    meter = Meter()
    with meter.lane("waiting") as waiting, meter.lane("working") as working:
        waiting.enter("wait_in")
        while working.lifetime_ns < 20_000_000:
            pass
    assert waiting.cpu_ns < working.cpu_ns / 4
