"""What a thread did when: shares of time by state, in at most 256 steps, whose length doubles when they are full."""

from __future__ import annotations

from collections.abc import Mapping

from mlpipe.measure.facts import STATES, State, TimelineFacts

STEPS = 256
FIRST_STEP_NS = 4_000_000
"""Noting an edge takes microseconds of every lane: with steps of 1 ms that was 2 % of the processors' time."""


class Timeline:
    """Time by state up to each of many moments.

    Parameters
    ----------
    origin : int
        The beginning of the run, in nanoseconds.
    now : int
        When the states begin; there were none before.

    Attributes
    ----------
    edge : int
        The next moment, after which `pass_edges` has to be called before time is added to a state.

    Examples
    --------
    >>> line = Timeline(0, 0)
    >>> line.pass_edges(10_000_000, "self", {}, 0)
    >>> line.facts({"self": 10_000_000}, 12_000_000, 4_000_000)["self"]
    [1.0, 1.0, 0.5]
    """

    __slots__ = ("_marks", "_origin", "_step", "edge")

    def __init__(self, origin: int, now: int) -> None:
        self._origin = origin
        self._step = step_for(now - origin)
        before = (now - origin) // self._step
        self._marks: list[list[int]] = [[0] * len(STATES)] * before
        self.edge = origin + (before + 1) * self._step

    def pass_edges(self, now: int, state: State, totals: Mapping[State, int], since: int) -> None:
        """Note the totals at each edge up to now; `state` is not in them from `since` on."""
        row = [totals.get(name, 0) for name in STATES]
        place = STATES.index(state)
        while self.edge <= now:
            mark = row.copy()
            mark[place] += self.edge - since
            self._marks.append(mark)
            if len(self._marks) == STEPS:
                self._marks = self._marks[1::2]
                self._step *= 2
            self.edge += self._step

    def facts(self, totals: Mapping[State, int], wall: int, step: int) -> TimelineFacts:
        """Shares in steps of one length, which is that of `step_for` the whole run."""
        often, steps = step // self._step, -(-wall // step)
        final = [totals.get(name, 0) for name in STATES]
        marks = [*self._marks[often - 1 :: often], *([final] * steps)][: max(0, steps - 1)]
        marks += [final] * min(1, steps)
        shares: dict[str, list[float]] = {}
        for place, name in enumerate(STATES):
            ends = [mark[place] for mark in marks]
            spent = [end - start for start, end in zip([0, *ends], ends, strict=False)]
            shares[name] = [round(one / step, 4) for one in spent]
        return {
            "step_s": step / 1e9, "self": shares["self"], "wait_in": shares["wait_in"],
            "wait_out": shares["wait_out"], "compile": shares["compile"],
        }  # fmt: skip


def step_for(nanoseconds: int) -> int:
    """Length of a step, so that as long a time has at most as many as there may be.

    Examples
    --------
    >>> step_for(10), step_for(1_016_000_000), step_for(1_024_000_000)
    (4000000, 4000000, 8000000)
    """
    step = FIRST_STEP_NS
    while nanoseconds // step >= STEPS - 1:
        step *= 2
    return step
