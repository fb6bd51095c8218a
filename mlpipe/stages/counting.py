"""The stage that counts: blocks go to counters, and a table of their counts comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import BLOCKS_AHEAD, Block, Blocks, Flow, Held, Room, Run, Source, Spec
from mlpipe.npy_format import check_dtype
from mlpipe.stages.beside import Beside, check_beside
from mlpipe.stages.count_rows import made_spec, rows_of
from mlpipe.stages.streaming import Streaming, buffer_bytes
from mlpipe.stages.subjects import Subject, check_rows, counted_shape, subjects_of
from mlpipe.workers import Workers

if TYPE_CHECKING:
    from mlpipe.counting.counted import Counted, Counter
    from mlpipe.counting.table import Table
    from mlpipe.stages.count_features import CountFeatures
    from mlpipe.stages.feeding import Steps

BLOCK_BYTES = 8 << 20
"""Of a block, where the stage chooses: handing parts of it to threads costs some 50 µs."""

LEAST_ROWS = 32
"""Of a block."""

TABLE_BYTES = 64 << 20
"""For putting the table in order, at most: beyond it goes through files anyway."""


@dataclass(frozen=True)
class Result:
    """What was counted for one table."""

    subject: Subject
    counted: Counted


@dataclass(frozen=True)
class Layout:
    """How the room is shared out.

    Parameters
    ----------
    spec : Spec
        The rows that come.
    subjects : tuple of Subject
        What is counted, a table each.
    counter_room, table_room : int
        Bytes of each counter, and for putting tables in order.
    threads : int
        Threads that feed one counter at a time.
    block_rows, out_rows : int
        Of blocks that come, and that go.
    """

    spec: Spec
    subjects: tuple[Subject, ...]
    counter_room: int
    table_room: int
    threads: int
    block_rows: int
    out_rows: int


@dataclass(frozen=True)
class Found:
    """What was counted.

    Parameters
    ----------
    results : sequence of Result
        For each table.
    rows : int
        That were read.
    """

    results: Sequence[Result]
    rows: int


Deliver: TypeAlias = "Callable[[Found, Table, Run], None]"
"""Takes what was counted, and the table of it, where no rows come out."""


@dataclass(frozen=True)
class Counting(Streaming):
    """Counts rows.

    Parameters
    ----------
    options : CountFeatures
        The verb.
    labels, weights : Source or None
        Files beside the rows.
    directory : str
        Where temporary files go.
    deliver : callable, optional
        Takes the results; then no rows come out, and the stage chooses its blocks, as the first one.
    """

    options: CountFeatures
    labels: Source | None = None
    weights: Source | None = None
    directory: str = "."
    deliver: Deliver | None = None

    @property
    def name(self) -> str:
        """Its verb."""
        return "count-features"

    @property
    def flow(self) -> Flow:
        """Merges what was counted to one."""
        return "reducing"

    @property
    def chooses(self) -> bool:
        """Whether it is the first stage for sure."""
        return self.deliver is not None

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """Labels and weights."""
        found = {"read labels": self.labels, "read weights": self.weights}
        return {name: source for name, source in found.items() if source is not None}

    @property
    def _flags(self) -> list[str]:
        """What named the side sources."""
        return [flag for flag, one in (("--by", self.labels), ("--weights", self.weights)) if one is not None]

    def plan(self, spec: Spec) -> Spec:
        """A table: a row for each value, its parts and its count."""
        check_rows(self.options, spec)
        self._check_beside(spec)
        subjects = self.subjects(spec)
        if self.deliver is not None:
            return Spec(None, (sum(len(one.fields) for one in subjects[:1]) + 1,), np.dtype(np.int64))
        return made_spec(self.options, subjects[0], self._weight)

    def _check_beside(self, spec: Spec) -> None:
        """Raise for files that do not go with the rows."""
        for source, flag in ((self.labels, "--by"), (self.weights, "--weights")):
            if source is not None:
                check_beside(source, spec, f"count-features {flag}")
                if source.spec.dtype.kind not in "SU":  # labels may be strings
                    check_dtype(source.spec.dtype, source.name)

    def subjects(self, spec: Spec) -> tuple[Subject, ...]:
        """What is counted, a table each."""
        return subjects_of(self.options, spec, self.labels)

    def hold(self, spec: Spec, room: Room) -> Held:
        """Blocks and scratch for them; the rest is for counters, and for putting what they found in order."""
        kernels = self._kernel_bytes(spec)
        try:
            layout, held = self._arranged(spec, replace(room, nbytes=room.nbytes - kernels))
        except MemoryCeilingError as error:
            raise MemoryCeilingError(str(error), needs=error.needs + kernels) from None
        rows = layout.out_rows if room.block_rows else layout.block_rows
        held |= {"kernels": kernels} if kernels else {}
        return Held(rows, spec.dtype, held, {"tables": len(layout.subjects), **self._facts()}, layout)

    def _kernel_bytes(self, spec: Spec) -> int:
        """What compiling takes, besides what every plan counts."""
        from mlpipe.stages.counters import kernel_bytes

        options = self.options
        if options.bins is not None or options.edges is not None or options.approx:
            return 0
        return kernel_bytes(self.subjects(spec), self.weights is not None)

    def _facts(self) -> dict[str, Any]:
        """What the plan shows."""
        return {"method": "chosen by the first rows: dense, table or partitions", "temporary_files": self.directory}

    def _least(self, subject: Subject, threads: int) -> int:
        """Bytes without which a counter does not work."""
        from mlpipe.stages.counters import least_room

        return least_room(subject, threads)

    def _counter(self, subject: Subject, layout: Layout) -> Counter:
        """A new counter."""
        from mlpipe.stages.counters import make_counter

        rows = layout.spec.rows
        return make_counter(subject, layout.counter_room, layout.threads, self.directory, rows, self._weight)

    def _arranged(self, spec: Spec, room: Room) -> tuple[Layout, dict[str, int]]:
        from mlpipe.stages.counters import least_table

        subjects = self.subjects(spec)
        threads = 1 if len(subjects) >= room.threads > 1 else room.threads
        row_bytes = max(1, self._row_bytes(spec, subjects, room.threads))
        least = sum(self._least(one, threads) for one in subjects)
        table = least_table(subjects)
        out = 0 if self.deliver is not None else buffer_bytes(self.plan(spec), 1)
        rows = room.block_rows or LEAST_ROWS
        needs = least + table + rows * row_bytes + out
        if needs > room.nbytes:
            raise MemoryCeilingError("counters do not fit", needs=needs)
        spare = room.nbytes - least - table - out
        if not room.block_rows:
            rows = max(rows, min(spare // 4 // row_bytes, BLOCK_BYTES // max(1, spec.row_bytes)))
        out_rows = max(1, min(rows, (spare - rows * row_bytes) // 8 // out)) if out else 0
        scratch = rows * row_bytes + out_rows * out
        table += min(TABLE_BYTES, (room.nbytes - scratch - least - table) // 4)
        counters = room.nbytes - scratch - table
        held = {"counters": counters, "table": table, "blocks": scratch}
        return Layout(spec, subjects, counters // len(subjects), table, threads, rows, out_rows), held

    @property
    def _weight(self) -> np.dtype[Any] | None:
        """Dtype of weights as counters take them."""
        if self.weights is None:
            return None
        return np.dtype(np.float64 if self.weights.spec.dtype.kind == "f" else np.int64)

    def _row_bytes(self, spec: Spec, subjects: Sequence[Subject], threads: int) -> int:
        """Of a row on its way: as it comes, picked, cast, as keys, with what goes beside it."""
        width = math.prod(spec.row_shape)
        beside = sum(one.spec.dtype.itemsize for one in self.side_sources.values())
        beside += spec.labels.row_bytes if spec.labels is not None and self.options.by is not None else 0
        total = (BLOCKS_AHEAD * spec.row_bytes if self.chooses else 0) + (BLOCKS_AHEAD + 2) * beside
        if self.options.where is not None:
            total += 17 * width + spec.row_bytes + beside * width
        if self.options.cast is not None:
            total += width * np.dtype(self.options.cast).itemsize
        if self.weights is not None:
            total += 8 * (1 + width)
        side_by_side = min(threads, len(subjects))
        return total + side_by_side * max(one.keys_of_row * one.key_bytes for one in subjects)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Count all blocks; then hand on the table, or give it to whom it is for."""
        layout: Layout = held.layout
        with ExitStack() as files:
            counters: list[Counter] = []
            with run.lane.state("compile"):
                for subject in layout.subjects:
                    counters.append(self._counter(subject, layout))
                    files.callback(counters[-1].close)
            rows, share = yield from self._count(blocks, layout, counters, run)
            found = Found(finished(layout, counters, run.workers), rows)
            for result in found.results:
                files.callback(result.counted.close)
            table = self._table(found, layout)
            files.callback(table.close)
            if self.deliver is not None:
                self.deliver(found, table, run)
            else:
                yield from rows_of(table, self.plan(layout.spec), layout.out_rows, share, run)

    def _count(
        self, blocks: Blocks, layout: Layout, counters: Sequence[Counter], run: Run
    ) -> Generator[Block, None, tuple[int, float]]:
        """Feed all rows to the counters; where no table comes out, blocks without rows say how far it is."""
        from mlpipe.stages.feeding import Feeding

        steps, feed = self._steps(layout, run), Feeding(layout.subjects, counters, run.workers)
        total, share, seen = layout.spec.rows, 0.0, 0
        for block in blocks:
            rows = len(block.data)
            feed(steps(block, seen))
            run.lane.count(rows=rows, nbytes=block.data.nbytes)
            seen += rows
            block.release()
            if self.deliver is None:
                share += block.share
            elif total:
                yield Block(0, np.empty((0, 1)), share=rows / total)
        steps.finish()
        return seen, share

    def _steps(self, layout: Layout, run: Run, *, beside: bool = True) -> Steps:
        """What is done to each block before it is counted; in a pass before, files beside the rows are left alone."""
        from mlpipe.stages.feeding import Casting, Picking, Steps, Weighing

        spec, workers = layout.spec, run.workers
        condition = self.options.condition()
        made = replace(spec, row_shape=counted_shape(self.options, spec))
        files = {
            name: Beside(source, name, f"count-features {flag}", layout.block_rows, run)
            for name, source, flag in (
                ("read labels", self.labels, "--by"),
                ("read weights", self.weights, "--weights"),
            )
            if source is not None and beside
        }
        weighing = None if self.weights is None else Weighing(self.weights.name, self.weights.spec.dtype)
        return Steps(
            files.get("read labels"), files.get("read weights"), weighing, self.options.by is not None,
            layout.subjects[0].keys_of_row,
            None if condition is None else Picking(condition, spec, workers),
            None if self.options.cast is None else Casting(np.dtype(self.options.cast), made, workers),
        )  # fmt: skip

    def _table(self, found: Found, layout: Layout) -> Table:
        """The tables in the order and number asked for, as one."""
        from mlpipe.counting.table import arranged, arranged_each

        names, room = layout.subjects[0].names, layout.table_room
        arrangement = self.options.arrangement()
        if layout.subjects[0].table is None:
            return arranged(found.results[0].counted, arrangement, names, room=room, directory=self.directory)
        each = [(one.subject.table or 0, one.counted) for one in found.results]
        return arranged_each(each, arrangement, names, room=room, directory=self.directory)


def finished(layout: Layout, counters: Sequence[Counter], workers: Workers) -> list[Result]:
    """What each counter found; those that one thread feeds are finished side by side."""
    results: list[Result | None] = [None] * len(counters)

    def finish(place: int, own: Workers) -> None:
        results[place] = Result(layout.subjects[place], counters[place].finish(own))

    if layout.threads == workers.threads:
        for place in range(len(counters)):
            finish(place, workers)
    else:
        alone = [Workers(layout.threads) for _ in range(workers.threads)]
        workers.run(lambda place, worker: finish(place, alone[worker]), range(len(counters)))
    return [result for result in results if result is not None]
