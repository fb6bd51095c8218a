"""Memory over time: a bounded number of samples, neighbours of which become one when there are too many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mlpipe.measure.facts import SampleFacts

MOST = 1024


class Sample(NamedTuple):
    """What a process holds at one time: bytes, and blocks that wait in each queue."""

    at: float
    memory: tuple[int | None, ...]
    in_flight: int
    queues: Mapping[str, int]

    def and_next(self, later: Sample) -> Sample:
        """One sample for two: the larger of their figures, so that no peak is lost."""
        memory = tuple(
            b if a is None else a if b is None else max(a, b) for a, b in zip(self.memory, later.memory, strict=True)
        )
        names = {**self.queues, **later.queues}
        queues = {name: max(self.queues.get(name, 0), later.queues.get(name, 0)) for name in names}
        return Sample(later.at, memory, max(self.in_flight, later.in_flight), queues)


class Samples:
    """Samples of what a process holds, at most 1024 of them.

    Attributes
    ----------
    thinned : int
        How often two became one: samples may come twice less often each time.

    Examples
    --------
    >>> samples = Samples()
    >>> for second in range(1500):
    ...     samples.add(Sample(second, (2**20 + second, 0, 2**20, None), 512, {"read": 1}))
    >>> facts = samples.facts()
    >>> len(facts["t_s"]), facts["t_s"][:3], facts["rss_peak"], samples.thinned
    (988, [1, 3, 5], None, 1)
    """

    def __init__(self) -> None:
        self.thinned = 0
        self._rows: list[Sample] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, sample: Sample) -> None:
        """Add one, later than all before: anonymous, file-backed, resident and largest resident bytes."""
        if len(self._rows) == MOST:
            pairs = zip(self._rows[::2], self._rows[1::2], strict=True)
            self._rows = [one.and_next(later) for one, later in pairs]
            self.thinned += 1
        self._rows.append(sample)

    def facts(self) -> SampleFacts:
        """All of them, as a record has them."""
        rows = self._rows
        anonymous, file_backed, rss, rss_peak = ([sample.memory[place] for sample in rows] for place in range(4))
        names = dict.fromkeys(name for sample in rows for name in sample.queues)
        return {
            "t_s": [round(sample.at, 4) for sample in rows],
            "anonymous": anonymous,
            "file_backed": file_backed,
            "rss": rss,
            "rss_peak": None if None in rss_peak else rss_peak,
            "in_flight": [sample.in_flight for sample in rows],
            "queues": {name: [sample.queues.get(name, 0) for sample in rows] for name in names},
        }
