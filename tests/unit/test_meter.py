from __future__ import annotations

import threading

import pytest

from mlpipe.measure import meter as module
from mlpipe.measure.compiling import compiling_told
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


def test_compiling_is_told_wherever_it_happens():
    numba = pytest.importorskip("numba")

    @numba.njit
    def inner(x):
        return x + 1

    @numba.njit
    def kernel(x):
        return inner(x) * 2

    meter = Meter()
    reading, waiting = meter.lane("read"), meter.lane("waits")
    reading.start()
    waiting.start("wait_in")
    with compiling_told(), compiling_told():
        assert kernel(1) == 4
        spent = reading.totals_ns["compile"]
        assert kernel(2) == 6
        with reading.state("compile"):
            assert kernel(1.0) == 4.0
            assert reading.now == "compile"
        assert reading.now == "self"
    then = dict(reading.totals_ns)
    assert kernel(1j) == 2 + 2j
    reading.stop()
    waiting.stop()
    assert 0 < spent < then["compile"] == reading.totals_ns["compile"]
    assert set(waiting.totals_ns) == {"wait_in"}


def test_a_thread_that_works_for_nobody_compiles_for_nobody():
    numba = pytest.importorskip("numba")
    lane = Meter().lane("read")
    with lane, compiling_told():
        thread = threading.Thread(target=lambda: numba.njit(lambda x: x)(1))
        thread.start()
        thread.join()
    assert set(lane.totals_ns) == {"self"}


def test_the_first_wait_ends_with_the_first_input(clock):
    lane = Lane("compute")
    lane.start("wait_in")
    clock["wall"] += 3
    lane.enter("wait_in")
    clock["wall"] += 4
    lane.enter("self")
    lane.enter("wait_in")
    clock["wall"] += 50
    lane.stop()
    assert (lane.first_wait_ns, lane.totals_ns["wait_in"]) == (7, 57)


def test_a_first_input_that_was_there_already_was_not_waited_for(clock):
    lane = Lane("write")
    with lane:
        lane.count(rows=1, nbytes=8)
        lane.enter("wait_in")
        clock["wall"] += 50
    assert lane.first_wait_ns == 0


def test_batches_take_what_was_spent_since_the_one_before(clock):
    lane = Lane("compute")
    lane.start()
    for own in (5, 20, 90):
        lane.enter("wait_in")
        clock["wall"] += 1000
        lane.enter("self")
        clock["wall"] += own
        lane.count(rows=1, nbytes=8)
    lane.stop()
    times = lane.durations
    assert (times.count, times.quantile(0.5), times.longest) == (3, 20, 90)


def test_a_lane_stopped_from_elsewhere_stays_stopped():
    meter, lane = Meter(), Meter().lane("read")
    lane.start("wait_out")
    gone, over = threading.Event(), threading.Event()

    def work() -> None:
        with meter.working(lane):
            sum(range(200_000))
            gone.set()
            over.wait()

    thread = threading.Thread(target=work)
    thread.start()
    gone.wait()
    lane.stop()
    spent = dict(lane.totals_ns)
    over.set()
    thread.join()
    assert lane.totals_ns == spent
    assert sum(spent.values()) == lane.lifetime_ns


def test_threads_come_and_go_for_one_lane():
    meter = Meter()
    lane = meter.lane("read")
    lane.start("wait_out")

    def work() -> None:
        with meter.working(lane):
            sum(range(300_000))

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    lane.stop()
    meter.stop()
    assert lane.cpu_ns > 0
    uses = [thread.use for thread in meter.phases[0].threads]
    assert len(uses) == 3
    assert lane.cpu_ns <= sum(use.cpu_ns for use in uses)
