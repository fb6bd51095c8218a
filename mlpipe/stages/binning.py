"""The stage that counts in bins: those given, or those that passes over all values find."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any, ClassVar

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Blocks, Flow, Held, Room, Run, Spec
from mlpipe.stages.counting import Counting, Layout
from mlpipe.stages.feeding import Feeding
from mlpipe.stages.subjects import Subject
from mlpipe.workers import Workers

if TYPE_CHECKING:
    from mlpipe.counting.histogram import HistogramCounter

KERNEL_BYTES = 16 << 20
"""What compiling the kernels of the passes takes, besides what every plan counts."""


@dataclass(frozen=True)
class _Bins(Subject):
    """Values, whose keys are bins."""

    @property
    def names(self) -> tuple[str, ...]:
        """Where a bin begins, and where it ends."""
        return ("low", "high")


@dataclass(frozen=True)
class _Learning:
    """A counter that still learns, as one that counts."""

    counter: HistogramCounter

    def add(self, values: Any, workers: Workers, weights: Any = None) -> None:
        """Take in values of a pass before counting."""
        self.counter.learn(values, workers)

    def finish(self, workers: Workers) -> Any:
        """Nothing is counted yet."""
        raise TypeError("bins are not known yet")

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class Binning(Counting):
    """Counts values in bins.

    Parameters
    ----------
    counters : tuple of HistogramCounter
        For each table, once they learn or have learned.
    """

    instead: ClassVar[str] = "give --edges, or read a file"
    """What to do where values come only once."""

    counters: tuple[HistogramCounter, ...] = ()

    @property
    def flow(self) -> Flow:
        """Has to see all values first, unless edges are given."""
        if self.options.edges is not None or (self.counters and not any(one.learning for one in self.counters)):
            return "reducing"
        return "fitting"

    def subjects(self, spec: Spec) -> tuple[Subject, ...]:
        """As for values, but that keys are bins."""
        return tuple(
            _Bins(one.columns, one.whole, None, one.value, one.row_shape, one.table) for one in super().subjects(spec)
        )

    def _new(self, subject: Subject, room: int, threads: int) -> HistogramCounter:
        from mlpipe.counting.histogram import HistogramCounter

        options = self.options
        asked: dict[str, Any] = {"bins": options.bins} if options.edges is None else {"edges": options.edges}
        return HistogramCounter(subject.value, **asked, threads=threads, room=room, weights=self._weight)

    def _least(self, subject: Subject, threads: int) -> int:
        try:
            self._new(subject, 0, threads)
        except MemoryCeilingError as error:
            return error.needs
        return 0

    def _facts(self) -> dict[str, Any]:
        known = "edges given" if self.options.edges is not None else "edges learned from all values first"
        return {"method": f"bins, {known}"}

    def hold(self, spec: Spec, room: Room) -> Held:
        """As for values; and how often they are read before."""
        if self.flow != "fitting":
            return super().hold(spec, room)
        from mlpipe.counting.edges import SCRATCH_BYTES

        more = {"passes": room.threads * SCRATCH_BYTES, "kernels": KERNEL_BYTES}
        apart = sum(more.values())
        try:
            held = super().hold(spec, changed(room, nbytes=room.nbytes - apart))
        except MemoryCeilingError as error:
            raise MemoryCeilingError(str(error), needs=error.needs + apart) from None
        layout: Layout = held.layout
        passes = max(self._new(one, layout.counter_room, layout.threads).passes for one in layout.subjects)
        return changed(held, nbytes={**held.nbytes, **more}, facts={**held.facts, "passes_over_source": passes})

    def fit(self, blocks: Blocks, held: Held, run: Run) -> Binning:
        """One pass, for all tables that do not know their bins yet."""
        layout: Layout = held.layout
        counters = self.counters or tuple(
            self._new(one, layout.counter_room, layout.threads) for one in layout.subjects
        )
        still = [place for place, counter in enumerate(counters) if counter.learning]
        subjects = [layout.subjects[place] for place in still]
        feed = Feeding(subjects, [_Learning(counters[place]) for place in still], run.workers)
        steps, seen = self._steps(layout, run, beside=False), 0
        for block in blocks:
            feed(steps(block, seen))
            seen += len(block.data)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            block.release()
        for counter in (counters[place] for place in still):
            counter.learned()
        return changed(self, counters=counters)

    def _counter(self, subject: Subject, layout: Layout) -> HistogramCounter:
        if self.counters:
            return self.counters[layout.subjects.index(subject)]
        return self._new(subject, layout.counter_room, layout.threads)
