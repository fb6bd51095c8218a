"""Threads that run kernels side by side.

Kernels hold no GIL, so plain threads are enough, and a task is handed to whoever is free: on a shared
machine one slow core does not hold up the others. The calling thread works too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

from mlpipe.measure.meter import Lane

Task = TypeVar("Task")


class Workers:
    """A fixed number of threads, the caller's included.

    Parameters
    ----------
    threads : int
        How many tasks may run at once.
    clocks : sequence of Lane
        Of the threads that are not the caller's, in the order in which they are started; they are running.

    Attributes
    ----------
    helpers : list of int
        The system's numbers of the threads that were started so far.

    Examples
    --------
    >>> done = []
    >>> with Workers(2) as workers:
    ...     workers.run(lambda task, worker: done.append(task), range(5))
    >>> sorted(done)
    [0, 1, 2, 3, 4]
    """

    def __init__(self, threads: int, clocks: Sequence[Lane] = ()) -> None:
        self.threads = threads
        self.helpers: list[int] = []
        self._clocks, self._own = iter(clocks), threading.local()
        self._pool = ThreadPoolExecutor(threads - 1, "mlpipe-worker", self._begin) if threads > 1 else None
        self._lock = threading.Lock()

    def run(self, function: Callable[[Task, int], object], tasks: Iterable[Task]) -> None:
        """Call ``function(task, worker)`` for every task; workers count from 0, the caller.

        The first exception ends the run once the tasks under way are done; a signal that raises in the
        calling thread does the same.
        """
        remaining = iter(tasks)
        if self._pool is None:
            for task in remaining:
                function(task, 0)
            return
        stop = threading.Event()
        helpers: list[Future[None]] = []
        try:
            for worker in range(1, self.threads):
                helpers.append(self._pool.submit(self._help, function, remaining, stop, worker))  # noqa: PERF401
            self._work(function, remaining, stop, 0)
        finally:
            stop.set()
            # What did not even begin, because others keep the threads busy, is not waited for.
            helpers = [helper for helper in helpers if not helper.cancel()]
            wait(helpers)
        for helper in helpers:
            helper.result()

    def _help(
        self, function: Callable[[Task, int], object], remaining: Iterator[Task], stop: threading.Event, worker: int
    ) -> None:
        """Work beside the caller, and have the clock of the thread say so."""
        clock: Lane | None = self._own.clock
        if clock is None:
            self._work(function, remaining, stop, worker)
            return
        clock.enter("self")
        try:
            self._work(function, remaining, stop, worker)
        finally:
            clock.enter("wait_in")

    def _work(
        self, function: Callable[[Task, int], object], remaining: Iterator[Task], stop: threading.Event, worker: int
    ) -> None:
        try:
            while not stop.is_set():
                with self._lock:
                    task = next(remaining, stop)
                if isinstance(task, threading.Event):
                    return
                function(task, worker)
        except BaseException:
            stop.set()
            raise

    def _begin(self) -> None:
        """Introduce a thread that was started."""
        with self._lock:
            self.helpers.append(threading.get_native_id())
            self._own.clock = next(self._clocks, None)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
