"""The clock each link of a chain runs in.

A link owns one lane, used from one thread at a time. The lane is always in exactly one state, and leaving one
state enters the next at the same instant, so the states add up to the lane's lifetime to the nanosecond.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter_ns, process_time_ns, thread_time_ns
from types import TracebackType
from typing import Self

from mlpipe.measure.batches import Durations
from mlpipe.measure.facts import STATES as STATES
from mlpipe.measure.facts import State as State
from mlpipe.measure.in_flight import InFlight
from mlpipe.measure.threads import ThreadMeter, major_faults, storage, use_of
from mlpipe.measure.timeline import Timeline

_AT_WORK = ("self", "compile")


class _Threads(threading.local):
    """For which lane each thread works, and its CPU time when it began to.

    Asking for the CPU time takes two thirds of a microsecond, twice as long as all the rest of `Lane.enter`; so it is
    asked for only when a thread goes over to another lane. Waiting takes none.
    """

    owner: Lane | None = None
    since = 0


_threads = _Threads()


def lane_at_work() -> Lane | None:
    """For which lane the calling thread works; None if for none."""
    return _threads.owner


def _own(lane: Lane | None) -> None:
    """Have the calling thread work for a lane from now on."""
    now = thread_time_ns()
    if _threads.owner is not None:
        _threads.owner._cpu_spent += now - _threads.since
    _threads.owner, _threads.since = lane, now


class Lane:
    """One thread's clock for one link.

    Parameters
    ----------
    name : str
        What reports call the link.
    thread : str
        What they call the thread; the name of the link by default.
    phase : int
        Part of the run, from 0.
    origin : int or None
        When the run began, in nanoseconds of `time.perf_counter_ns`; the start of the lane by default.

    Attributes
    ----------
    totals_ns : dict of str to int
        Nanoseconds by state, of the states left so far; a state never entered is absent.
    rows, nbytes, batches : int
        What passed through; ``batches`` counts the calls of `count`.
    durations : Durations
        Time of its own for each batch.
    bytes_in, bytes_out, bytes_asked : int or None
        What was taken and handed on, and asked for from a source; None for what nobody told.
    first_wait_ns : int or None
        The wait for the first input, which is part of ``totals_ns["wait_in"]``.
    in_flight : InFlight or None
        Bytes of the buffers that were taken for the link and not yet given back.
    began_ns, ended_ns : int
        When it started and stopped, after the beginning of the run.
    cpu_ns : int or None
        CPU time its thread spent for the lane, known once stopped: from when the lane goes to work until another one of
        the same thread does. Helper threads are not in it.

    Examples
    --------
    >>> lane = Lane("read")
    >>> with lane:
    ...     lane.enter("wait_out")
    ...     lane.enter("self")
    ...     lane.count(rows=10, nbytes=640)
    >>> sum(lane.totals_ns.values()) == lane.lifetime_ns
    True
    >>> lane.batches, sorted(lane.totals_ns)
    (1, ['self', 'wait_out'])
    """

    __slots__ = (
        "_began", "_cpu_spent", "_ended", "_origin", "_since", "_state", "_told",
        "batches", "bytes_asked", "bytes_in", "bytes_out", "cpu_ns", "durations", "first_wait_ns", "in_flight", "name",
        "nbytes", "phase", "rows", "thread", "timeline", "totals_ns",
    )  # fmt: skip

    def __init__(self, name: str, thread: str = "", phase: int = 0, origin: int | None = None) -> None:
        self.name, self.thread, self.phase = name, thread or name, phase
        self.totals_ns: dict[State, int] = {}
        self.rows = self.nbytes = self.batches = 0
        self.durations = Durations()
        self.bytes_in: int | None = None
        self.bytes_out: int | None = None
        self.bytes_asked: int | None = None
        self.first_wait_ns: int | None = None
        self.in_flight: InFlight | None = InFlight()
        self.cpu_ns: int | None = None
        self._state: State = "self"
        self._began = self._since = self._cpu_spent = self._told = 0
        self._ended: int | None = 0
        self._origin = origin
        self.timeline = Timeline(0, 0)

    @property
    def now(self) -> State:
        """The state it is in."""
        return self._state

    @property
    def lifetime_ns(self) -> int:
        """Nanoseconds from `start` to `stop`, or to now while the lane runs."""
        return (perf_counter_ns() if self._ended is None else self._ended) - self._began

    @property
    def began_ns(self) -> int:
        """When it started, after the beginning of the run."""
        return self._began - (self._began if self._origin is None else self._origin)

    @property
    def ended_ns(self) -> int:
        """When it stopped, after the beginning of the run; now, while it runs."""
        return self.began_ns + self.lifetime_ns

    def start(self, state: State = "self") -> None:
        """Start the clock."""
        self._state, self._cpu_spent = state, 0
        if state in _AT_WORK:
            _own(self)
        self._began = self._since = now = perf_counter_ns()
        self.timeline = Timeline(now if self._origin is None else self._origin, now)
        self._ended = None

    def enter(self, state: State) -> None:
        """Leave the present state for another, now; nothing happens when the clock does not run."""
        now = perf_counter_ns()
        if self._ended is not None:
            return
        left, totals, spent = self._state, self.totals_ns, now - self._since
        if now >= self.timeline.edge:
            self.timeline.pass_edges(now, left, totals, self._since)
        if left in totals:
            totals[left] += spent
        else:
            totals[left] = spent
        if left == "wait_in" and left != state and self.first_wait_ns is None:
            self.first_wait_ns = totals[left]
        self._since = now
        self._state = state
        if state in _AT_WORK and _threads.owner is not self:
            _own(self)

    def settle(self) -> None:
        """Take down the CPU time of the calling thread: it works no longer for the lane."""
        if _threads.owner is self:
            _own(None)

    def state(self, state: State) -> _Stay:
        """Be in a state for the length of a ``with`` block, then in the previous one again."""
        return _Stay(self, state)

    def count(self, *, rows: int, nbytes: int) -> None:
        """Note one more batch that passed through; what was spent since the one before is its time."""
        self.rows += rows
        self.nbytes += nbytes
        self.batches += 1
        if self._ended is None:
            own = self.totals_ns.get("self", 0)
            if self._state == "self":
                own += perf_counter_ns() - self._since
            self.durations.add(own - self._told)
            self._told = own
            if self.first_wait_ns is None:
                self.first_wait_ns = 0

    def took(self, nbytes: int) -> None:
        """Note bytes that came in."""
        self.bytes_in = nbytes + (self.bytes_in or 0)

    def gave(self, nbytes: int) -> None:
        """Note bytes that were handed on."""
        self.bytes_out = nbytes + (self.bytes_out or 0)

    def asked(self, nbytes: int) -> None:
        """Note bytes that were asked for from a source."""
        self.bytes_asked = nbytes + (self.bytes_asked or 0)

    def stop(self) -> None:
        """Stop the clock, from any thread; harmless when it does not run."""
        if self._ended is None:
            self.enter(self._state)
            self._ended = self._since
            self.settle()
            self.cpu_ns = self._cpu_spent

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Stay:
    """A state held for the length of a ``with`` block."""

    __slots__ = ("_before", "_lane", "_state")

    def __init__(self, lane: Lane, state: State) -> None:
        self._lane = lane
        self._state = state
        self._before: State = "self"

    def __enter__(self) -> None:
        self._before = self._lane._state
        self._lane.enter(self._state)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lane.enter(self._before)


@dataclass
class Phase:
    """Lanes that run together.

    Parameters
    ----------
    began : int
        When, in nanoseconds of the clock.
    lanes : list of Lane
        One for each link and thread.
    helpers : list of Lane
        One for each thread that runs kernels for others.
    threads : list of ThreadMeter
        Those that were measured.
    """

    began: int
    lanes: list[Lane] = field(default_factory=list)
    helpers: list[Lane] = field(default_factory=list)
    threads: list[ThreadMeter] = field(default_factory=list)


class Meter:
    """The lanes of one run, in the order they were asked for, and the run's wall clock and CPU time.

    Attributes
    ----------
    lanes : list of Lane
        All of them.
    phases : list of Phase
        The same by the part of the run they belong to; parts follow one another.
    in_flight : InFlight
        Bytes in all buffers that were taken and not yet given back.
    queues : dict of str to callable
        What says how many blocks wait, by the link that hands them on, or takes them.

    Examples
    --------
    >>> meter = Meter()
    >>> with meter.lane("read"), meter.lane("write") as lane, lane.state("wait_in"):
    ...     pass
    >>> meter.stop()
    >>> [lane.name for lane in meter.lanes]
    ['read', 'write']
    >>> 0 < meter.accounted() <= 1
    True
    """

    def __init__(self) -> None:
        self.in_flight = InFlight()
        self.queues: dict[str, Callable[[], int]] = {}
        self._cpu_began = process_time_ns()
        self._cpu_ended: int | None = None
        self._use_before = _process_use()
        self._use_after: tuple[int | None, ...] | None = None
        self.began = perf_counter_ns()
        self._ended: int | None = None
        self.phases = [Phase(self.began)]

    @property
    def lanes(self) -> list[Lane]:
        """All lanes."""
        return [lane for phase in self.phases for lane in phase.lanes]

    def lane(self, name: str, thread: str = "") -> Lane:
        """Add a lane; any thread may ask. Two lanes may bear one name."""
        lane = Lane(name, thread, len(self.phases) - 1, self.began)
        lane.in_flight = InFlight(self.in_flight)
        self.phases[-1].lanes.append(lane)
        return lane

    def helping(self, name: str) -> Lane:
        """Add the lane of a thread that runs kernels for others: it is no link, and accounts for none."""
        lane = Lane(name, name, len(self.phases) - 1, self.began)
        self.phases[-1].helpers.append(lane)
        return lane

    def begin(self) -> None:
        """Say that the lanes that follow run together, after those that were asked for before."""
        if self.phases[-1].lanes:
            self.phases.append(Phase(perf_counter_ns()))

    def thread(self, name: str) -> AbstractContextManager[object]:
        """What measures the thread that enters it."""
        thread = ThreadMeter(name, len(self.phases) - 1)
        self.phases[-1].threads.append(thread)
        return thread

    def helper(self, name: str, number: int) -> None:
        """Take down what a thread has used that runs kernels for others; `number` is the system's."""
        helper = ThreadMeter(name, len(self.phases) - 1)
        helper.use = use_of(number)
        self.phases[-1].threads.append(helper)

    def queue(self, name: str, waiting: Callable[[], int]) -> None:
        """Take down what says how many blocks wait."""
        self.queues[name] = waiting

    @contextmanager
    def working(self, lane: Lane, after: State = "wait_out") -> Iterator[Lane]:
        """Have the calling thread work for a lane that was started already, and has another state after that."""
        with self.thread(lane.thread):
            lane.enter("self")
            try:
                yield lane
            finally:
                lane.enter(after)
                lane.settle()

    def stop(self) -> None:
        """Stop the wall clock; the first call counts."""
        if self._ended is None:
            self._ended = perf_counter_ns()
            self._cpu_ended = process_time_ns()
            self._use_after = _process_use()

    @property
    def wall_ns(self) -> int:
        """Nanoseconds from the meter's creation to `stop`, or to now while it runs."""
        return (perf_counter_ns() if self._ended is None else self._ended) - self.began

    @property
    def cpu_ns(self) -> int:
        """CPU time of the whole process over the same span, every thread included."""
        return (process_time_ns() if self._cpu_ended is None else self._cpu_ended) - self._cpu_began

    @property
    def process_use(self) -> tuple[int | None, int | None, int | None]:
        """Major faults and bytes read from and written to storage over the same span; None for what is not known."""
        after = _process_use() if self._use_after is None else self._use_after
        faults, read, written = (
            None if a is None or b is None else max(0, a - b) for a, b in zip(after, self._use_before, strict=True)
        )
        return faults, read, written

    def phase_wall_ns(self, number: int) -> int:
        """Nanoseconds from the beginning of a phase to that of the next, or to the end."""
        bounds = [phase.began for phase in self.phases] + [self.began + self.wall_ns]
        return bounds[number + 1] - bounds[number]

    def accounted(self) -> float | None:
        """Share of the wall clock that the least complete lane explains, of each phase; None without lanes."""
        wall = self.wall_ns
        if not self.lanes or wall <= 0:
            return None
        phases = [phase.lanes for phase in self.phases if phase.lanes]
        return sum(min(sum(lane.totals_ns.values()) for lane in lanes) for lanes in phases) / wall


def _process_use() -> tuple[int | None, ...]:
    return major_faults(), *storage()


class _NullLane(Lane):
    """A lane that measures nothing."""

    __slots__ = ()

    def start(self, state: State = "self") -> None:
        """Do nothing."""

    def enter(self, state: State) -> None:
        """Do nothing."""

    def count(self, *, rows: int, nbytes: int) -> None:
        """Do nothing."""

    def took(self, nbytes: int) -> None:
        """Do nothing."""

    def gave(self, nbytes: int) -> None:
        """Do nothing."""

    def asked(self, nbytes: int) -> None:
        """Do nothing."""


class _NullMeter(Meter):
    """A meter that measures nothing: the default. All its lanes are one."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = self.began
        self._cpu_ended = self._cpu_began
        self._lane = _NullLane("")
        self._lane.in_flight = None

    def begin(self) -> None:
        """Do nothing."""

    def lane(self, name: str, thread: str = "") -> Lane:
        """Hand out the lane that does nothing."""
        return self._lane

    def helping(self, name: str) -> Lane:
        """Hand out the lane that does nothing."""
        return self._lane

    def thread(self, name: str) -> AbstractContextManager[object]:
        """Do nothing."""
        return nullcontext()

    def helper(self, name: str, number: int) -> None:
        """Do nothing."""

    def queue(self, name: str, waiting: Callable[[], int]) -> None:
        """Do nothing."""


NULL_METER: Meter = _NullMeter()
