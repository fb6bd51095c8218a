"""Distances of rows on their way through a chain to all rows of another source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.link import Array, Block, Blocks, Flow, Held, Room, Run, Source, Spec
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairwise import Pairwise
from mlpipe.stages.streaming import Streaming

MANY = 1 << 40
"""Stands for the number of rows where it is not known."""


class Incoming:
    """Rows on their way, described as a source; they come as blocks, so none can be asked for."""

    name = "what comes in"
    seekable = False

    def __init__(self, spec: Spec) -> None:
        self.spec = spec if spec.rows is not None else replace(spec, rows=MANY)

    def read_rows(self, start: int, out: Array) -> None:
        """Refuse."""
        raise RuntimeError("rows on their way cannot be asked for")

    def check_unchanged(self) -> None:
        """Nothing to check."""

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class Paired(Streaming):
    """`Pairwise`, fed with blocks as they come.

    Parameters
    ----------
    other : Source
        The other rows.
    measure : Measure
        The metric, with all parameters it needs.
    dtype : dtype, optional
        float32 or float64.
    """

    other: Source
    measure: Measure
    dtype: Any = None

    @property
    def name(self) -> str:
        """Its verb."""
        return "pairwise"

    @property
    def flow(self) -> Flow:
        """Holds the other rows, or what of them the memory takes."""
        return "buffering"

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """The other rows."""
        return {"read Y": self.other}

    def plan(self, spec: Spec) -> Spec:
        """A distance for each of the other rows."""
        made = self._pairwise(spec).plan(spec)
        return replace(spec, row_shape=made.row_shape, dtype=made.dtype)

    def _pairwise(self, spec: Spec) -> Pairwise:
        return Pairwise(Incoming(spec), self.other, self.measure, self.dtype)

    def hold(self, spec: Spec, room: Room) -> Held:
        """Tiles such that the other rows are read as seldom as the memory allows; whole rows, where labels go along."""
        pairwise = self._pairwise(spec)
        inner = pairwise.hold(pairwise.x.spec, replace(room, sequential=room.sequential or spec.labels is not None))
        facts = inner.facts if spec.rows is not None else {"metric": inner.facts["metric"]}
        return replace(inner, facts=facts, layout=(pairwise, inner))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Yield tiles of the rows, gathered into blocks of the size that was planned."""
        pairwise, inner = held.layout
        rows: Block | None = None

        def noted() -> Blocks:
            nonlocal rows
            for block in _gathered(blocks, inner.block_rows, pairwise.features, inner.dtype, run):
                rows = block
                yield block

        if pairwise.columns:
            for tile in pairwise.apply(noted(), inner, run):
                if rows is not None:
                    tile.share, tile.labels = rows.share * tile.data.shape[1] / pairwise.columns, rows.labels
                yield tile
            return
        for block in noted():
            block.data = np.empty((len(block.data), 0), pairwise.output)
            yield block


def _gathered(blocks: Blocks, rows: int, features: int, dtype: np.dtype[Any], run: Run) -> Iterator[Block]:
    """The same rows in blocks of one size and a dtype, in memory of their own."""
    pool = run.pool(2, partial(aligned_empty, (rows, features), dtype))
    made, labels, place = None, list[Array](), 0
    for block in blocks:
        flat, at = block.data.reshape(len(block.data), features), 0
        while at < len(flat):
            if made is None:
                buffer = pool.take(run.lane)
                made = Block(place, buffer[:0], release=partial(pool.give, buffer))
            filled = len(made.data)
            stop = min(len(flat), at + rows - filled)
            made.data = buffer[: filled + stop - at]
            with np.errstate(over="ignore"):
                made.data[filled:] = flat[at:stop]
            made.share += block.share * (stop - at) / len(flat)
            if block.labels is not None:
                labels.append(block.labels[at:stop].copy())
            at = stop
            if len(made.data) == rows:
                yield _labelled(made, labels)
                made, place = None, place + rows
        block.release()
    if made is not None:
        yield _labelled(made, labels)


def _labelled(block: Block, labels: list[Array]) -> Block:
    """The block with the labels gathered, which starts the next ones."""
    if labels:
        block.labels = np.concatenate(labels)
        labels.clear()
    return block
