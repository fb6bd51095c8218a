"""Time in which kernels are compiled or loaded, wherever that happens: Numba says when.

Stages compile ahead, and say so; but a source may have kernels of its own, and a kernel may meet a new kind of array.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlpipe.measure.meter import Lane, State, lane_at_work

_EVENT = "numba:compiler_lock"
"""Held while a kernel is compiled, or loaded from the cache."""


@contextmanager
def compiling_told() -> Iterator[None]:
    """Have the clock of every thread say "compile" while the thread compiles, for the length of a ``with`` block.

    Numba is asked only if it was imported by then: else there are no kernels.

    Examples
    --------
    >>> with compiling_told():
    ...     pass
    """
    events: Any = sys.modules.get("numba.core.event")
    if events is None:
        yield
        return
    listener = _listener(events.Listener)
    events.register(_EVENT, listener)
    try:
        yield
    finally:
        events.unregister(_EVENT, listener)


def _listener(base: Any) -> Any:
    """What Numba tells: an object of a class of its own."""
    under_way = _UnderWay()

    class Listener(base):  # type: ignore[misc]
        def on_start(self, event: Any) -> None:
            under_way.begin()

        def on_end(self, event: Any) -> None:
            under_way.end()

    return Listener()


class _UnderWay(threading.local):
    """What each thread compiles: how deep, and the clock to be put back."""

    depth = 0
    lane: Lane | None = None
    before: State = "self"

    def begin(self) -> None:
        """Compiling begins, maybe within compiling."""
        self.depth += 1
        lane = lane_at_work()
        if self.depth == 1 and lane is not None and lane.now == "self":
            self.lane, self.before = lane, lane.now
            lane.enter("compile")

    def end(self) -> None:
        """It ends."""
        self.depth -= 1
        if self.depth == 0 and self.lane is not None:
            lane, self.lane = self.lane, None
            lane.enter(self.before)
