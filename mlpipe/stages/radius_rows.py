"""The stage `neighbors` with a radius: all rows of a source that lie within it of every row that comes in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.kernels.within import keep_first
from mlpipe.link import Array, Blocks, Held, Labels, Room, Run, Spec
from mlpipe.stages.among_data import DATA, NO_PREPARATION, AmongData
from mlpipe.stages.data_passes import DataPasses, Queries, check_place, warm_rows
from mlpipe.stages.defaults import fill_in, parameter_bytes, passes
from mlpipe.stages.paired import Incoming
from mlpipe.stages.pairing import Pairing, Panels, Rows
from mlpipe.stages.radius_layout import WithinSizes, choose_radius_layout
from mlpipe.stages.search_layout import MANY, Layout, Sizes
from mlpipe.stages.search_sizes import sizes_of
from mlpipe.stages.shapes import check_rows
from mlpipe.stages.streaming import BUFFERS, Buffers
from mlpipe.stages.within import (
    Buffer,
    Collecting,
    Counting,
    Sorted,
    Tiles,
    check_radius,
    empty_buffers,
    empty_sorted,
    plain,
)
from mlpipe.writers.sparse import SparseRows

KERNEL_BYTES = 16 << 20
"""What compiling takes where hits are collected, besides what every plan counts (measured: 11 MiB)."""


@dataclass(frozen=True)
class RadiusRows(AmongData):
    """All rows of a source within a radius of every row that comes in, or how many there are.

    What comes out does not depend on how rows come in, on the memory, nor on the threads. Without `count_only` it is
    `SparseRows`, which only `mlpipe.writers.sparse` takes.

    Parameters
    ----------
    radius : float
        How far; for the largest values, rows within are those of at least as much.
    count_only : bool
        Only count them.

    The others are those of `AmongData`.
    """

    radius: float = 0.0
    count_only: bool = field(default=False, kw_only=True)

    def plan(self, spec: Spec) -> Spec:
        """A count for every row, or distances labelled with indices; labels that rows carry are dropped.

        Raises
        ------
        UsageError
            For a radius that makes no sense.
        InputError
            For rows that do not fit.
        """
        self.measure.check_features(check_rows([Incoming(spec), self.data]))
        check_radius(self.radius, self.measure)
        if self.own and spec.rows is not None:
            check_place(spec.rows, self.data_rows, self.data.name)
        if self.count_only:
            return replace(spec, row_shape=(), dtype=np.dtype(np.int64), labels=None)
        return Spec(None, (), self.output(spec), Labels((), np.dtype(np.int64)), spec.endless)

    def sizes(self, spec: Spec, room: Room) -> Sizes:
        """What its layout depends on."""
        output = self.output(spec)
        base = sizes_of(self.measure, self.features, self.data_rows, output.itemsize, 1, room.threads)
        search = WithinSizes(**{one.name: getattr(base, one.name) for one in fields(base)}, again=not self.count_only)
        return Sizes(
            rows=MANY if spec.rows is None else spec.rows,
            data_rows=self.data_rows,
            features=self.features,
            compute_bytes=search.compute_bytes,
            out_bytes=8 if self.count_only else 0,
            out_rows=max(1, room.block_rows),
            search=search,
            extra=parameter_bytes(self.measure, self.features),
            keeps_rows=self.measure.definition.prepare in NO_PREPARATION,
            kernels=(0 if self.count_only else KERNEL_BYTES) + self.writing,
        )

    def hold(self, spec: Spec, room: Room) -> Held:
        """Blocks of queries such that data are read as seldom as the memory allows, and room for what is found."""
        layout, hits, nbytes = choose_radius_layout(self.sizes(spec, room), room, collect=not self.count_only)
        facts: dict[str, Any] = {
            "metric": self.measure.definition.name,
            "radius": plain(self.radius),
            "query_rows": layout.query_rows,
            "data_rows_held": self.data_rows if layout.held else min(layout.read_rows, self.data_rows),
            "passes_before": passes(self.measure),
        }
        if spec.rows is not None:
            facts |= {"blocks": layout.blocks(spec.rows), "passes_over_data_at_least": layout.passes(spec.rows)}
        if not self.count_only:
            facts["pairs_held"] = hits * room.threads
        return Held(max(1, min(room.block_rows, layout.query_rows)), spec.dtype, nbytes, facts, (layout, hits, spec))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Yield what was found for some queries after others, each time through all data."""
        layout, hits, spec = held.layout
        sources = [self.data] if self.queries is None else [self.queries, self.data]
        measure = fill_in(self.measure, sources, self.features, run.workers)
        pairing = Pairing(measure, self.features, self.output(spec))
        with run.lane.state("compile"):
            self._compile(pairing, run)
        turns = None if spec.rows is None else layout.blocks(spec.rows)
        data = _Data(self, layout, pairing, run, turns)
        tiles, panels, place = Tiles(pairing, run.workers), pairing.empty_panels(layout.query_rows), 0
        found = _Counts(self, tiles, run, held) if self.count_only else _Hits(self, tiles, run, hits)
        for rows, share in Queries(blocks, layout.query_rows, pairing).each():
            if self.own:
                check_place(place + len(rows), self.data_rows, self.data.name)
            panels.columns = 0
            pairing.add(panels, rows, run.workers)
            panels.values[panels.count - 1, :, (panels.columns - 1) % pairing.width + 1 :] = 0  # no slow denormals
            yield from found.of(panels, place, share, data)
            place += len(rows)

    def _compile(self, pairing: Pairing, run: Run) -> None:
        """Compile the kernels, or load them from the cache, by looking at a few rows."""
        pairing.compile()
        tiles, panels = Tiles(pairing, run.workers), pairing.empty_panels(1)
        pairing.add(panels, warm_rows(pairing, 1), run.workers)
        rows = pairing.prepare(warm_rows(pairing, 2), run.workers)
        if self.count_only:
            Counting(tiles, panels, self.radius).add(rows, 0)
            return
        buffers = empty_buffers(run.workers.threads, 2 * tiles.columns, pairing.dtype)
        collecting = Collecting(tiles, panels, self.radius, buffers)
        collecting.begin()
        collecting.add(rows, 0)
        collecting.finish(lambda hits: empty_sorted(hits, pairing.dtype))
        keep_first(*buffers[0], 1, 1, np.empty(3, np.int64))


class _Data:
    """Rows of data, prepared, as often as they are asked for."""

    def __init__(self, stage: RadiusRows, layout: Layout, pairing: Pairing, run: Run, turns: int | None) -> None:
        self._source, self._layout, self._pairing, self._run = stage.data, layout, pairing, run
        self._rows, self._planned = stage.data_rows, turns is not None and not layout.held
        self._passes = DataPasses(stage.data, layout, pairing, run, DATA, turns)

    def each(self) -> Iterator[tuple[Rows, int]]:
        """All rows, in a pass that was planned."""
        for rows, first in self._passes.each():
            yield self._pairing.prepare(rows, self._run.workers), first

    def again(self) -> Iterator[tuple[Rows, int]]:
        """All rows once more; what is read ahead by then is for the next pass that was planned."""
        if not self._planned:
            yield from self.each()
            return
        step = self._layout.read_rows
        buffer = self._pairing.empty_rows(min(step, self._rows))
        for first in range(0, self._rows, step):
            rows = buffer[: self._rows - first]
            self._source.read_rows(first, rows.reshape(len(rows), *self._source.spec.row_shape))
            yield self._pairing.prepare(rows, self._run.workers), first


class _Counts:
    """Counts of some queries after others."""

    def __init__(self, stage: RadiusRows, tiles: Tiles, run: Run, held: Held) -> None:
        self._stage, self._tiles, self._run, self._size = stage, tiles, run, held.block_rows
        self._out = Buffers(run, Spec(None, (), np.dtype(np.int64)), held.block_rows, BUFFERS)

    def of(self, panels: Panels, place: int, share: float, data: _Data) -> Blocks:
        """Blocks of counts."""
        stage, own = self._stage, place if self._stage.own else None
        counting = Counting(self._tiles, panels, stage.radius, largest=stage.largest, own=own)
        for rows, first in data.each():
            counting.add(rows, first)
        counts = counting.finish()
        for start in range(0, len(counts), self._size):
            part = counts[start : start + self._size]
            block = self._out.take(len(part))
            block.data[:] = part
            block.start, block.share = place + start, share * len(part) / len(counts)
            self._run.lane.count(rows=len(part), nbytes=part.nbytes)
            yield block


class _Hits:
    """What is found for some queries after others, in as many passes as the room asks for."""

    def __init__(self, stage: RadiusRows, tiles: Tiles, run: Run, hits: int) -> None:
        self._stage, self._tiles, self._run = stage, tiles, run
        threads, self._kind = run.workers.threads, tiles.pairing.dtype
        self._buffers: list[Buffer] = empty_buffers(threads, hits, self._kind)
        self._most = hits * threads
        size = self._most * (8 + self._kind.itemsize)
        self._pool = run.pool(1, partial(aligned_empty, (size,), np.uint8))
        self._entries = 0

    def of(self, panels: Panels, place: int, share: float, data: _Data) -> Blocks:
        """Blocks of entries."""
        stage, own = self._stage, place if self._stage.own else None
        collecting = Collecting(
            self._tiles, panels, stage.radius, self._buffers, largest=stage.largest, own=own
        )  # fmt: skip
        turn = data.each
        while not collecting.done:
            collecting.begin()
            for rows, first in turn():
                collecting.add(rows, first)
            turn = data.again
            memory = self._pool.take(self._run.lane)
            found = collecting.finish(partial(self._sorted, memory))
            ends = self._entries + found.bounds[1 : found.complete + 1]
            block = SparseRows(
                self._entries, found.distances, release=partial(self._pool.give, memory),
                share=share * found.complete / panels.columns, labels=found.indices, ends=ends,
            )  # fmt: skip
            self._entries += len(found.distances)
            self._run.lane.count(rows=found.complete, nbytes=found.distances.nbytes + found.indices.nbytes)
            yield block

    def _sorted(self, memory: Array, _hits: int) -> Sorted:
        """Memory for hits in order, all that there may be."""
        split = 8 * self._most
        keys = memory[split:].view(f"i{self._kind.itemsize}")
        return Sorted(memory[:split].view(np.int64), keys, keys.view(self._kind))
