"""Workers: every task once, errors and signals to the caller, no thread left."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import Counter

import pytest

from mlpipe.errors import Interrupted
from mlpipe.measure.meter import Lane
from mlpipe.workers import Workers

THREADS = (1, 2, 3, 8)
pytestmark = pytest.mark.timeout(60)


def helpers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mlpipe-worker")]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_every_task_once(threads, count):
    done: list[int] = []
    with Workers(threads) as workers:
        workers.run(lambda task, _worker: done.append(task), range(count))
    assert Counter(done) == Counter(range(count))


@pytest.mark.parametrize("threads", THREADS)
def test_result_does_not_depend_on_who_is_faster(threads):
    """Tasks end in another order than they began; each writes to its own place."""
    result = [0] * 40

    def work(task: int, worker: int) -> None:
        time.sleep(0.002 * (task % 3 == worker % 3))
        result[task] = task * task

    with Workers(threads) as workers:
        workers.run(work, range(40))
    assert result == [task * task for task in range(40)]


def test_workers_work_at_the_same_time():
    """Three tasks that wait for one another need three threads."""
    together = threading.Barrier(3, timeout=30)
    with Workers(3) as workers:
        workers.run(lambda _task, _worker: together.wait(), range(3))


def test_scratch_of_a_worker_is_its_own():
    busy = [threading.Lock() for _ in range(4)]
    seen = set()

    def work(_task: int, worker: int) -> None:
        assert busy[worker].acquire(blocking=False)
        time.sleep(0.001)
        seen.add(worker)
        busy[worker].release()

    with Workers(4) as workers:
        workers.run(work, range(50))
    assert seen <= {0, 1, 2, 3}


def test_caller_is_worker_zero():
    caller = threading.current_thread()
    threads_of: dict[int, set] = {}
    barrier = threading.Barrier(3, timeout=30)

    def work(_task: int, worker: int) -> None:
        barrier.wait()
        threads_of.setdefault(worker, set()).add(threading.current_thread())

    with Workers(3) as workers:
        workers.run(work, range(3))
    assert threads_of[0] == {caller}
    assert sorted(threads_of) == [0, 1, 2]


def test_one_thread_starts_none_and_keeps_the_order():
    done: list[tuple[int, int]] = []
    before = threading.active_count()
    with Workers(1) as workers:
        workers.run(lambda task, worker: done.append((task, worker)), range(5))
        assert threading.active_count() == before
    assert done == [(task, 0) for task in range(5)]


@pytest.mark.parametrize("threads", THREADS)
def test_tasks_are_taken_as_they_are_wanted(threads):
    """A generator of tasks is not run ahead of the work."""
    made: list[int] = []
    done: list[int] = []
    ahead: list[int] = []

    def tasks():
        for task in range(100):
            made.append(task)
            yield task

    def work(task: int, _worker: int) -> None:
        ahead.append(len(made) - len(done))
        done.append(task)

    with Workers(threads) as workers:
        workers.run(work, tasks())
    assert len(made) == 100
    assert max(ahead) <= 2 * threads


@pytest.mark.parametrize("threads", THREADS)
def test_error_comes_out_and_ends_the_run(threads):
    begun: list[int] = []

    def work(task: int, _worker: int) -> None:
        begun.append(task)
        if task == 3:
            raise ValueError("task 3")
        time.sleep(0.001)

    with Workers(threads) as workers:
        with pytest.raises(ValueError, match="task 3"):
            workers.run(work, range(10_000))
        assert len(begun) < 10_000
        begun.clear()
        workers.run(work, [0, 1, 2])  # they can go on
        assert sorted(begun) == [0, 1, 2]
    assert helpers() == []


@pytest.mark.parametrize("failing", ["caller", "helper", "both"])
def test_error_of_either_side(failing):
    barrier = threading.Barrier(2, timeout=30)

    def work(_task: int, worker: int) -> None:
        barrier.wait()
        if failing == "both" or (worker == 0) == (failing == "caller"):
            raise ValueError("failed")

    with Workers(2) as workers, pytest.raises(ValueError, match="failed"):
        workers.run(work, range(2))


def test_nobody_works_on_after_run_has_ended():
    """Buffers may be reused as soon as `run` returns, also by an error."""
    barrier = threading.Barrier(2, timeout=30)
    working = threading.Event()

    def work(_task: int, worker: int) -> None:
        barrier.wait()
        if worker == 0:
            raise ValueError("failed")
        working.set()
        time.sleep(0.05)
        working.clear()

    with Workers(2) as workers:
        with pytest.raises(ValueError, match="failed"):
            workers.run(work, range(2))
        assert not working.is_set()


@pytest.mark.parametrize("threads", THREADS)
def test_error_of_the_tasks_comes_out(threads):
    def tasks():
        yield 1
        raise RuntimeError("no more tasks")

    with Workers(threads) as workers, pytest.raises(RuntimeError, match="no more tasks"):
        workers.run(lambda _task, _worker: None, tasks())


@pytest.mark.parametrize("threads", THREADS)
def test_signal_in_the_calling_thread(threads):
    """It raises between two tasks, and everybody stops."""
    begun: list[int] = []

    def interrupt(signum: int, _frame: object) -> None:
        raise Interrupted(signum)

    def work(task: int, worker: int) -> None:
        begun.append(task)
        time.sleep(0.001)
        if worker == 0:
            signal.raise_signal(signal.SIGTERM)

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        with Workers(threads) as workers, pytest.raises(Interrupted) as caught:
            workers.run(work, range(10_000))
    finally:
        signal.signal(signal.SIGTERM, old)
    assert caught.value.exit_code == 143
    assert len(begun) < 10_000
    assert helpers() == []


def test_threads_end_with_the_context():
    barrier = threading.Barrier(3, timeout=30)
    with Workers(3) as workers:
        workers.run(lambda _task, _worker: barrier.wait(), range(3))
        assert len(helpers()) == 2
    assert helpers() == []
    workers.close()  # harmless


def test_signal_while_helpers_are_started(monkeypatch):
    """Those already at work stop as well."""
    begun = threading.Event()
    with Workers(3) as workers:
        submit = workers._pool.submit

        def interrupted(*arguments):
            if begun.is_set():
                raise Interrupted(signal.SIGTERM)
            future = submit(*arguments)
            begun.wait(30)
            return future

        monkeypatch.setattr(workers._pool, "submit", interrupted)
        with pytest.raises(Interrupted):
            workers.run(lambda _task, _worker: begun.set(), itertools.count())
    assert helpers() == []


def test_helpers_have_clocks_that_say_when_they_work():
    clocks = [Lane(f"worker {number}") for number in (1, 2)]
    for clock in clocks:
        clock.start("wait_in")
    both = threading.Barrier(3)
    with Workers(3, clocks) as workers:
        for _ in range(2):
            workers.run(lambda task, worker: (both.wait(30), time.sleep(0.02)), range(3))
        time.sleep(0.05)
        with pytest.raises(ValueError, match="task"):
            workers.run(fail_late, range(30))
    for clock in clocks:
        clock.stop()
        assert clock.totals_ns["self"] > 0.04e9
        assert clock.totals_ns["wait_in"] > 0.05e9
        assert clock.now == "wait_in"
        assert sum(clock.totals_ns.values()) == clock.lifetime_ns
    assert len(set(workers.helpers)) == 2


def fail_late(task: int, worker: int) -> None:
    if task == 20:
        raise ValueError("task")
