"""Memory that is allocated once and passed round: aligned arrays, pools of them, and channels."""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from mlpipe.measure.in_flight import InFlight
from mlpipe.measure.meter import Lane, State

Array = npt.NDArray[Any]

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector."""

PAGE = 4096
"""Bytes of a memory page, and of the units in which files are written past the page cache."""

WAKE = 0.05
"""Seconds after which a wait looks round: Python misses a signal that comes just before a thread falls asleep."""

Item = TypeVar("Item")


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Make an uninitialised array that starts on a cache line.

    Examples
    --------
    >>> aligned_empty((3, 5), "f4").ctypes.data % ALIGNMENT
    0
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    array: Array = memory[start : start + size].view(kind).reshape(shape)
    return array


class Closed(Exception):  # noqa: N818 - an end, not an error
    """A channel was closed while somebody waited at it."""


class Channel(Generic[Item]):
    """Hands items from one thread to another, in order, or the latest first.

    It has no limit of its own: what bounds it is the number of buffers in the pools behind the items.
    Waiting is told to the waiter's lane. An error of the producer is raised at the consumer.

    Parameters
    ----------
    latest_first : bool
        Take what was put last.

    Examples
    --------
    >>> channel = Channel()
    >>> channel.put(1)
    >>> channel.finish()
    >>> channel.take(Lane("write"), "wait_in"), channel.take(Lane("write"), "wait_in")
    (1, None)
    """

    def __init__(self, latest_first: bool = False) -> None:
        self._latest_first = latest_first
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> None:
        """Add an item; raise `Closed` when nobody will take it."""
        with self._changed:
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify()

    def take(self, lane: Lane, state: State) -> Item | None:
        """Wait for the next item; None after the last one."""
        with self._changed:
            if not self._ready():
                with lane.state(state):
                    while not self._changed.wait_for(self._ready, WAKE):
                        pass
            if self._closed:
                raise Closed
            if self._items:
                return self._items.pop() if self._latest_first else self._items.popleft()
            if self._error is not None:
                raise self._error
            return None

    def __len__(self) -> int:
        return len(self._items)

    def _ready(self) -> bool:
        return bool(self._items) or self._finished or self._closed

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no item follows, or what went wrong instead."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Wake everybody who waits: the run is over."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


def _unseen(array: Array) -> bool:
    """Whether no other view of an array's memory is left: new ones can then only be made from this one.

    Memory that goes round saves the system clearing pages anew.
    """
    memory = array.base
    return memory is not None and sys.getrefcount(memory) == _OWN_REFERENCES


_OWN_REFERENCES = 3  # the array's, the name `memory`, and the argument


SPARE = 2
"""Further arrays of a pool whose arrays somebody may look at."""


class Pool:
    """A fixed number of arrays that go round; `take` waits until one is given back.

    Parameters
    ----------
    count : int
        How many there are.
    make : callable
        Makes one; called on first use, so that a short run touches less memory.
    reuse : bool
        Whether an array that was given back always goes round again; else only if nobody kept a view of it, and a new
        one is made if somebody did.
    in_flight : InFlight, optional
        Told of the bytes that are taken and given back.
    """

    def __init__(
        self, count: int, make: Callable[[], Array], *, reuse: bool = True, in_flight: InFlight | None = None
    ) -> None:
        # What was given back last is still in the cache; and buffers that are not needed are never made.
        # Those that somebody may look at: the longest unused first, and some to spare, for the last are still seen.
        self._free: Channel[Array | None] = Channel(latest_first=reuse)
        self._make, self._reuse, self._in_flight = make, reuse, in_flight
        for _ in range(count if reuse else count + SPARE):
            self._free.put(None)

    def take(self, lane: Lane) -> Array:
        """An array for use until `give`."""
        array = self._free.take(lane, "wait_out")
        if array is None or not (self._reuse or _unseen(array)):
            array = self._make()
        if self._in_flight is not None:
            self._in_flight.add(array.nbytes)
        return array

    def give(self, array: Array) -> None:
        """Give an array back; harmless when the run is over."""
        if self._in_flight is not None:
            self._in_flight.add(-array.nbytes)
        try:
            self._free.put(array)
        except Closed:
            return

    def close(self) -> None:
        """Wake whoever waits."""
        self._free.close()
