"""The clock each link of a chain runs in.

A link owns one lane, used from one thread. The lane is always in exactly one state, and leaving one
state enters the next at the same instant, so the states add up to the lane's lifetime to the nanosecond.
"""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter_ns, process_time_ns, thread_time_ns
from types import TracebackType
from typing import Literal, Self

State = Literal["self", "wait_in", "wait_out", "compile"]
STATES: tuple[State, ...] = ("self", "wait_in", "wait_out", "compile")
_AT_WORK = ("self", "compile")


class Lane:
    """One thread's clock for one link.

    Parameters
    ----------
    name : str
        What reports call the link.

    Attributes
    ----------
    totals_ns : dict of str to int
        Nanoseconds by state, of the states left so far; a state never entered is absent.
    rows, nbytes, batches : int
        What passed through; ``batches`` counts the calls of `count`.
    cpu_ns : int or None
        CPU time its thread spent at work for the lane, known once stopped. Helper threads are not in it, nor is
        what the thread does meanwhile for other lanes: for this one, that is waiting.

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
        "_began",
        "_cpu_since",
        "_cpu_spent",
        "_ended",
        "_since",
        "_state",
        "batches",
        "cpu_ns",
        "name",
        "nbytes",
        "rows",
        "totals_ns",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.totals_ns: dict[State, int] = {}
        self.rows = 0
        self.nbytes = 0
        self.batches = 0
        self.cpu_ns: int | None = None
        self._state: State = "self"
        self._began = self._since = self._cpu_since = self._cpu_spent = 0
        self._ended: int | None = 0

    @property
    def lifetime_ns(self) -> int:
        """Nanoseconds from `start` to `stop`, or to now while the lane runs."""
        return (perf_counter_ns() if self._ended is None else self._ended) - self._began

    def start(self, state: State = "self") -> None:
        """Start the clock, in the thread that will run the link."""
        self._state = state
        self._ended = None
        self._cpu_spent, self._cpu_since = 0, thread_time_ns()
        self._began = self._since = perf_counter_ns()

    def enter(self, state: State) -> None:
        """Leave the present state for another, now."""
        now = perf_counter_ns()
        left = self._state
        self.totals_ns[left] = self.totals_ns.get(left, 0) + now - self._since
        self._since = now
        self._state = state
        if (left in _AT_WORK) != (state in _AT_WORK):
            cpu = thread_time_ns()
            self._cpu_spent += cpu - self._cpu_since if left in _AT_WORK else 0
            self._cpu_since = cpu

    def state(self, state: State) -> _Stay:
        """Be in a state for the length of a ``with`` block, then in the previous one again."""
        return _Stay(self, state)

    def count(self, *, rows: int, nbytes: int) -> None:
        """Note one more batch that passed through."""
        self.rows += rows
        self.nbytes += nbytes
        self.batches += 1

    def stop(self) -> None:
        """Stop the clock; harmless when it does not run."""
        if self._ended is None:
            self.enter(self._state)
            self._ended = self._since
            self.cpu_ns = self._cpu_spent + (thread_time_ns() - self._cpu_since if self._state in _AT_WORK else 0)

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


class Meter:
    """The lanes of one run, in the order they were asked for, and the run's wall clock and CPU time.

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
        self.lanes: list[Lane] = []
        self._phases: list[int] = []
        self._cpu_began = process_time_ns()
        self._cpu_ended: int | None = None
        self._began = perf_counter_ns()
        self._ended: int | None = None

    def lane(self, name: str) -> Lane:
        """Add a lane; any thread may ask. Two lanes may bear one name."""
        lane = Lane(name)
        self.lanes.append(lane)
        return lane

    def begin(self) -> None:
        """Say that the lanes that follow run together, after those that were asked for before."""
        self._phases.append(len(self.lanes))

    def stop(self) -> None:
        """Stop the wall clock; the first call counts."""
        if self._ended is None:
            self._ended = perf_counter_ns()
            self._cpu_ended = process_time_ns()

    @property
    def wall_ns(self) -> int:
        """Nanoseconds from the meter's creation to `stop`, or to now while it runs."""
        return (perf_counter_ns() if self._ended is None else self._ended) - self._began

    @property
    def cpu_ns(self) -> int:
        """CPU time of the whole process over the same span, every thread included."""
        return (process_time_ns() if self._cpu_ended is None else self._cpu_ended) - self._cpu_began

    def accounted(self) -> float | None:
        """Share of the wall clock that the least complete lane explains, of each phase; None without lanes."""
        wall = self.wall_ns
        if not self.lanes or wall <= 0:
            return None
        bounds = sorted({0, *self._phases, len(self.lanes)})
        phases = [self.lanes[start:stop] for start, stop in pairwise(bounds)]
        return sum(min(sum(lane.totals_ns.values()) for lane in lanes) for lanes in phases) / wall


class _NullLane(Lane):
    """A lane that measures nothing."""

    __slots__ = ()

    def start(self, state: State = "self") -> None:
        """Do nothing."""

    def enter(self, state: State) -> None:
        """Do nothing."""

    def count(self, *, rows: int, nbytes: int) -> None:
        """Do nothing."""


class _NullMeter(Meter):
    """A meter that measures nothing: the default. All its lanes are one."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = self._began
        self._cpu_ended = self._cpu_began
        self._lane = _NullLane("")

    def begin(self) -> None:
        """Do nothing."""

    def lane(self, name: str) -> Lane:
        """Hand out the lane that does nothing."""
        return self._lane


NULL_METER: Meter = _NullMeter()
