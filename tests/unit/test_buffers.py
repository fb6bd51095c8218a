"""Aligned arrays, channels between threads, and pools of buffers."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from mlpipe.buffers import ALIGNMENT, SPARE, Channel, Closed, Pool, aligned_empty
from mlpipe.measure.meter import NULL_METER, Lane

LANE = NULL_METER.lane("nobody")
pytestmark = pytest.mark.timeout(60)


def in_thread(function) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def waiting(take) -> tuple[threading.Thread, list]:
    """A thread that waits in `take`, and where it puts what came of it."""
    outcome: list = []

    def run() -> None:
        try:
            outcome.append(take())
        except BaseException as error:
            outcome.append(error)

    thread = in_thread(run)
    thread.join(0.05)
    assert outcome == []
    return thread, outcome


# Arrays.


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", ">i2", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7, 3), (0, 5), (5, 0), (2, 3, 129)])
def test_aligned_array(shape, dtype):
    array = aligned_empty(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.ctypes.data % ALIGNMENT == 0 or array.size == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[...] = 1
    assert (array == 1).all()


def test_aligned_arrays_do_not_share_memory():
    first, second = aligned_empty((9, 9), "f4"), aligned_empty((9, 9), "f4")
    assert not np.shares_memory(first, second)


# Channels.


def test_items_come_in_order_then_none_for_ever():
    channel: Channel[int] = Channel()
    for item in range(3):
        channel.put(item)
    channel.finish()
    assert [channel.take(LANE, "wait_in") for _ in range(5)] == [0, 1, 2, None, None]


def test_latest_first():
    channel: Channel[int] = Channel(latest_first=True)
    for item in range(3):
        channel.put(item)
    assert [channel.take(LANE, "wait_in") for _ in range(3)] == [2, 1, 0]


def test_all_items_cross_threads_in_order():
    channel: Channel[int] = Channel()

    def produce() -> None:
        for item in range(5000):
            channel.put(item)
        channel.finish()

    thread = in_thread(produce)
    received = list(iter(lambda: channel.take(LANE, "wait_in"), None))
    thread.join()
    assert received == list(range(5000))


def test_take_waits_for_an_item():
    channel: Channel[str] = Channel()
    thread, outcome = waiting(lambda: channel.take(LANE, "wait_in"))
    channel.put("late")
    thread.join()
    assert outcome == ["late"]


def test_take_waits_for_the_end():
    channel: Channel[str] = Channel()
    thread, outcome = waiting(lambda: channel.take(LANE, "wait_in"))
    channel.finish()
    thread.join()
    assert outcome == [None]


def test_error_follows_the_items_that_were_sound():
    channel: Channel[int] = Channel()
    channel.put(1)
    error = OSError("the disk is gone")
    channel.finish(error)
    assert channel.take(LANE, "wait_in") == 1
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone") as caught:
            channel.take(LANE, "wait_in")
        assert caught.value is error


def test_error_wakes_the_consumer():
    channel: Channel[int] = Channel()
    thread, outcome = waiting(lambda: channel.take(LANE, "wait_in"))
    error = OSError()
    channel.finish(error)
    thread.join()
    assert outcome == [error]


def test_close_wakes_everybody():
    channel: Channel[int] = Channel()
    waiters = [waiting(lambda: channel.take(LANE, "wait_in")) for _ in range(3)]
    channel.close()
    for thread, outcome in waiters:
        thread.join()
        assert [type(one) for one in outcome] == [Closed]


def test_closed_channel_neither_takes_nor_gives():
    channel: Channel[int] = Channel()
    channel.put(1)
    channel.close()
    channel.close()  # harmless
    with pytest.raises(Closed):
        channel.put(2)
    with pytest.raises(Closed):
        channel.take(LANE, "wait_in")
    channel.finish()
    with pytest.raises(Closed):
        channel.take(LANE, "wait_in")


def test_items_left_behind_are_let_go():
    """So that what they hold is freed."""
    channel: Channel[list] = Channel()
    gone: list[int] = []

    class Watched(list):
        def __del__(self) -> None:
            gone.append(1)

    channel.put(Watched())
    channel.close()
    assert gone == [1]


def test_waiting_is_on_the_lane_of_the_waiter_and_only_waiting():
    lane = Lane("compute")
    channel: Channel[int] = Channel()
    channel.put(1)
    with lane:
        channel.take(lane, "wait_in")
        assert set(lane.totals_ns) <= {"self"}
        thread = in_thread(lambda: (time.sleep(0.05), channel.put(2)))
        channel.take(lane, "wait_in")
        thread.join()
    assert set(lane.totals_ns) == {"self", "wait_in"}
    assert lane.totals_ns["wait_in"] > 0
    assert sum(lane.totals_ns.values()) == lane.lifetime_ns


# Pools.


def test_pool_makes_no_more_than_it_may_and_only_what_is_wanted():
    made: list[np.ndarray] = []

    def make() -> np.ndarray:
        made.append(np.empty(3))
        return made[-1]

    pool = Pool(3, make)
    assert made == []
    for _ in range(10):
        pool.give(pool.take(LANE))
    assert len(made) == 1  # one at a time: one is enough
    taken = [pool.take(LANE) for _ in range(3)]
    assert len({id(array) for array in taken}) == len(made) == 3


def test_empty_pool_waits_until_one_is_given_back():
    pool = Pool(1, lambda: np.empty(3))
    first = pool.take(LANE)
    thread, outcome = waiting(lambda: pool.take(LANE))
    pool.give(first)
    thread.join()
    assert outcome[0] is first


def test_closed_pool():
    pool = Pool(1, lambda: np.empty(3))
    first = pool.take(LANE)
    thread, outcome = waiting(lambda: pool.take(LANE))
    pool.close()
    thread.join()
    assert [type(one) for one in outcome] == [Closed]
    pool.give(first)  # harmless
    with pytest.raises(Closed):
        pool.take(LANE)


def test_waiting_for_a_buffer_is_waiting_for_output():
    lane = Lane("compute")
    pool = Pool(1, lambda: np.empty(3))
    with lane:
        first = pool.take(lane)
        thread = in_thread(lambda: (time.sleep(0.05), pool.give(first)))
        pool.take(lane)
        thread.join()
    assert set(lane.totals_ns) == {"self", "wait_out"}


def test_buffers_go_round_between_threads_unharmed():
    """A buffer that is in use is never handed out a second time."""
    pool = Pool(2, lambda: np.empty(64))
    full: Channel[np.ndarray] = Channel()

    def produce() -> None:
        for item in range(2000):
            array = pool.take(LANE)
            array[:] = item
            full.put(array)
        full.finish()

    thread = in_thread(produce)
    for item in range(2000):
        array = full.take(LANE, "wait_in")
        assert array is not None
        assert (array == item).all()
        pool.give(array)
    thread.join()
    assert full.take(LANE, "wait_in") is None


def test_memory_that_somebody_still_sees_does_not_go_round():
    pool, lane = Pool(1, lambda: aligned_empty((4,), "i8"), reuse=False), Lane("read")
    array = pool.take(lane)
    seen, memory = array[1:], array.base
    pool.give(array)
    del array
    found = []
    for _ in range(8):
        other = pool.take(lane)
        found.append(other.base is memory)
        pool.give(other)
        del other
    assert not any(found)
    assert len(seen) == 3


def test_memory_that_nobody_sees_any_more_goes_round():
    pool, lane = Pool(1, lambda: aligned_empty((4,), "i8"), reuse=False), Lane("read")
    addresses = set()
    for _ in range(12):
        array = pool.take(lane)
        addresses.add(array.ctypes.data)
        pool.give(array)
        del array
    assert len(addresses) <= 1 + SPARE
