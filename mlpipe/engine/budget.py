"""Bytes to block sizes: a plan that keeps a memory ceiling, made before any work is done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Any

import numpy as np

from mlpipe.errors import MemoryCeilingError, at_link
from mlpipe.link import BLOCKS_AHEAD, Held, Room, Spec, Stage, scattered
from mlpipe.measure.memory import anonymous_bytes
from mlpipe.measure.sizes import format_size, size_argument
from mlpipe.pipeline import Pipeline
from mlpipe.stages.batch import Batch
from mlpipe.stages.rowwise import Fused, RowWise, fuse

KERNEL_BYTES = 64 << 20
"""What compiling and loading kernels, the threads and the interpreter take while running (measured: 25 to 50 MiB)."""


BLOCK_BYTES = 2 << 20
"""Of a block, where no stage chooses: it stays in the second-level cache of two threads, and costs few calls."""

SCATTERED_BYTES = 4 << 20
"""Of a block whose rows lie anywhere: several threads read such blocks, and handing one on takes them 0.1 ms.

An epoch of 640 000 rows of 516 bytes in 54 ms; with 2 MiB 62 ms, with 1 MiB 70 ms.
"""

READERS = 8
"""Threads that read rows which lie anywhere, at most: more than that no memory serves."""

LEAST_ROWS = 32
"""Blocks of fewer are not tried where larger ones do not fit: each takes some 50 µs."""

BASE_VARIES = 4 << 20
"""By how much the base may differ between two processes: the ceiling that a message names must do in the next."""


@dataclass(frozen=True)
class Plan:
    """How a pipeline will be carried out.

    Parameters
    ----------
    pipeline : Pipeline
        What will be carried out.
    specs : list of Spec
        What flows between its links.
    held : list of Held
        What each stage holds.
    block_rows : int
        Rows of a block as the source delivers them.
    dtype : numpy.dtype
        In which it does.
    read_bytes : int
        Bytes of the blocks that are read ahead, where no stage counts them.
    blocks_ahead : int
        Blocks of the source in flight: one in use, the others being read.
    ceiling, base : int
        Bytes of anonymous memory: the most there may be, and those that are taken before any data.
    threads : int
        Threads that compute.
    """

    pipeline: Pipeline
    specs: list[Spec]
    held: list[Held]
    ceiling: int
    base: int
    threads: int
    block_rows: int
    dtype: np.dtype[Any]
    read_bytes: int = 0
    blocks_ahead: int = BLOCKS_AHEAD

    @property
    def readers(self) -> int:
        """Threads that read the source: one, which reads ahead, but where rows lie anywhere in memory."""
        return min(self.threads, self.blocks_ahead - 1) if scattered(self.pipeline.source) else 1

    @property
    def output(self) -> Spec:
        """What the sink gets."""
        return self.specs[-1]

    def describe(self) -> dict[str, Any]:
        """The plan as plain values, for `--dry-run` and reports."""
        stages = [
            {"stage": stage.name, "bytes_held": held.nbytes, **held.facts}
            for stage, held in zip(self.pipeline.stages, self.held, strict=True)
        ]
        held = self.read_bytes + sum(sum(held.nbytes.values()) for held in self.held)
        return {
            "memory_ceiling": self.ceiling,
            "memory_base": self.base,
            "bytes_held": held,
            "bytes_read": self.specs[0].nbytes,
            "bytes_written": self.output.nbytes,
            "threads": self.threads,
            "stages": stages,
        }

    def links(self) -> list[dict[str, Any]]:
        """What each link hands on and holds, for `mlpipe run --dry-run` and its reports."""
        pipeline = self.pipeline
        within = pipeline.within or [("read", self.specs[0])]
        links = [_link(name, spec, 0) for name, spec in within]
        links[-1]["bytes_held"] = self.read_bytes
        for stage, spec, held in zip(pipeline.stages, self.specs[1:], self.held, strict=True):
            links.append(_link(stage.name, spec, sum(held.nbytes.values())))
        return [*links, _link(pipeline.ending, self.output, 0)]

    @property
    def passes(self) -> int:
        """How often the source is read: by the run, and before it by each stage that has to see everything first."""
        return 1 + sum(int(held.facts.get("passes_over_source", 0)) for held in self.held)


def _link(name: str, spec: Spec, nbytes: int) -> dict[str, Any]:
    return {
        "link": name, "rows": spec.rows, "shape": list(spec.row_shape), "dtype": spec.dtype.name,
        "labels": None if spec.labels is None else spec.labels.dtype.name, "bytes_held": nbytes,
    }  # fmt: skip


def plan(
    pipeline: Pipeline, ceiling: int, threads: int, prefetch: int = BLOCKS_AHEAD - 1, base: int | None = None
) -> Plan:
    """Plan a pipeline within a ceiling on the anonymous memory of the whole process.

    Neighbouring row-wise stages become one.

    Parameters
    ----------
    pipeline : Pipeline
        What to plan.
    ceiling : int
        Bytes.
    threads : int
        Threads that compute.
    prefetch : int
        Blocks of the source that are read ahead of the one in use, where no stage chooses its blocks; at least one
        for each of the threads that read.
    base : int, optional
        Bytes that are taken before any data; measured when not given.

    Raises
    ------
    MemoryCeilingError
        When the ceiling is too small; the message names the smallest that works.
    OutputError
        When the sink cannot take the output.
    """
    replace(pipeline, stages=[stage for one in pipeline.stages for stage in fuse([one])]).specs()  # tells of one stage
    pipeline = _fused(pipeline)
    specs = pipeline.specs()
    with at_link(pipeline.link(len(pipeline.stages)), pipeline.ending):
        pipeline.sink.check(specs[-1])
    if base is None:
        base = (anonymous_bytes() or 0) + KERNEL_BYTES
    ahead = max(prefetch, min(threads, READERS)) if scattered(pipeline.source) else prefetch
    planning = _Planning(pipeline, specs, max(0, ceiling - base), threads, ahead + 1)
    try:
        return planning.plan(ceiling, base)
    except MemoryCeilingError as error:
        planning.at, needs = _least(planning, error.needs, ceiling, base)
        least = base + needs + BASE_VARIES
        raise MemoryCeilingError(
            f"a memory ceiling of {format_size(ceiling)} is too small: {planning.at} and the interpreter need "
            f"{format_size(least)}; use --memory {size_argument(least)} or more",
            needs=least,
        ) from None


def _least(planning: _Planning, needs: int, ceiling: int, base: int) -> tuple[str, int]:
    """What has to be held by all links, and which asks for most: an error tells of the first that does not fit."""
    at = planning.at
    while True:
        planning.nbytes = needs
        planning.held.clear()
        try:
            planning.plan(ceiling, base)
        except MemoryCeilingError as error:
            if error.needs <= needs:  # it cannot say
                return at, needs
            at, needs = planning.at, error.needs
        else:
            return at, needs


def _fused(pipeline: Pipeline) -> Pipeline:
    """Neighbouring row-wise stages as one; those that have to learn first stay what they are."""
    groups = groupby(pipeline.stages, lambda stage: stage.flow == "fitting")
    stages = [stage for apart, group in groups for stage in (group if apart else fuse(list(group)))]
    numbers, left = list[tuple[int, ...]](), list(pipeline.numbers)
    for stage in stages if left else []:
        count = len(stage.stages) if isinstance(stage, Fused) else 1
        numbers.append(tuple(chain.from_iterable(left[:count])))
        del left[:count]
    return replace(pipeline, stages=stages, numbers=[*numbers, *left])


class _Planning:
    """Shares out what memory there is: first to what streams, then what is left to what holds more."""

    def __init__(self, pipeline: Pipeline, specs: list[Spec], nbytes: int, threads: int, ahead: int) -> None:
        self.pipeline, self.specs, self.nbytes, self.threads, self.ahead = pipeline, specs, nbytes, threads, ahead
        self.at = pipeline.reading
        self.held: dict[int, Held] = {}

    def plan(self, ceiling: int, base: int) -> Plan:
        """Plan every link; with smaller blocks where larger ones do not fit, so that more is never too little."""
        stages = self.pipeline.stages
        rows = 0 if stages and stages[0].chooses else self._block_rows()
        while True:
            try:
                return self._with_blocks(rows, ceiling, base)
            except MemoryCeilingError:
                if rows <= LEAST_ROWS:
                    raise
                rows = max(LEAST_ROWS, rows // 2)
                self.held.clear()

    def _with_blocks(self, rows: int, ceiling: int, base: int) -> Plan:
        """Plan every link with blocks of so many rows; 0 where the first stage chooses."""
        stages = list(self.pipeline.stages)
        first = self.specs[0]
        read = self.ahead * rows * _row_bytes(first)
        streaming = [stage for stage in stages if stage.flow == "streaming"]
        self._hold(streaming, rows, self.nbytes - read, read)
        used = read + sum(sum(one.nbytes.values()) for one in self.held.values())
        rest = [stage for stage in stages if stage.flow != "streaming"]
        self._hold_rest(rest, rows, used)
        in_order = [self.held[id(stage)] for stage in stages]
        if rows:
            return Plan(
                self.pipeline, self.specs, in_order, ceiling, base, self.threads, rows, first.dtype.newbyteorder("="),
                read, self.ahead,
            )  # fmt: skip
        chosen = in_order[0]
        return Plan(
            self.pipeline, self.specs, in_order, ceiling, base, self.threads, chosen.block_rows, chosen.dtype
        )  # fmt: skip

    def _hold_rest(self, stages: list[Stage], block_rows: int, used: int) -> None:
        """Add what stages hold that do not stream, each with the same share of what is left.

        Where that is too little, what is named has to do for all of them.
        """
        room = (self.nbytes - used) // max(1, len(stages))
        needs, total, failed, at = 0, used, False, self.at
        for stage in stages:
            try:
                self._hold([stage], block_rows, room, 0)
                need = sum(self.held[id(stage)].nbytes.values())
            except MemoryCeilingError as error:
                need, failed = error.needs, True
            total += need
            if need > needs:
                needs, at = need, self.at
        if failed or total > self.nbytes:
            self.at = at
            raise MemoryCeilingError("what has to be held does not fit", needs=used + needs * len(stages))

    def _block_rows(self) -> int:
        """Rows of a block such that blocks stay in the cache, and all that are in flight take half of the memory."""
        stages = self.pipeline.stages
        widest = max(1, *(_row_bytes(spec) for spec in self.specs))
        in_flight = self.ahead + 3 * len(stages)
        most = SCATTERED_BYTES if scattered(self.pipeline.source) else BLOCK_BYTES
        rows = max(1, min(most, self.nbytes // (2 * in_flight)) // widest)
        # Batches that lie within a block are not copied.
        regroups = next((stage for stage in stages if not isinstance(stage, RowWise)), None)
        return rows // regroups.size * regroups.size or rows if isinstance(regroups, Batch) else rows

    def _hold(self, stages: list[Stage], block_rows: int, room: int, used: int) -> None:
        """Add what some stages hold, by their identity."""
        for place, (stage, spec) in enumerate(zip(self.pipeline.stages, self.specs, strict=False)):
            if not any(stage is one for one in stages):
                continue
            self.at = self.pipeline.link(place) or stage.name
            last = place == len(self.pipeline.stages) - 1
            sink = self.pipeline.sink
            share = Room(
                max(0, room), self.threads, sink.sequential or not last, sink.stored or not last,
                sink.offset(self.specs[-1]) if last else 0, self._incoming(place, block_rows),
                (self.specs[-1].nbytes or 0) if sink.stored else 0,
            )  # fmt: skip
            try:
                with at_link(self.pipeline.link(place), stage.name):
                    self.held[id(stage)] = stage.hold(spec, share)
            except MemoryCeilingError as error:
                raise MemoryCeilingError(str(error), needs=used + error.needs * max(1, len(stages))) from None

    def _incoming(self, place: int, block_rows: int) -> int:
        """Rows of a block that comes to a stage: those the one before hands on, where that is planned already."""
        before = self.pipeline.stages[place - 1] if place else None
        held = None if before is None or before.chooses else self.held.get(id(before))
        return held.block_rows if held is not None else block_rows


def _row_bytes(spec: Spec) -> int:
    """Bytes of one row, its label included."""
    return spec.row_bytes + (spec.labels.row_bytes if spec.labels else 0)
