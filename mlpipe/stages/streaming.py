"""What stages have in common that need no more than one block at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from mlpipe.buffers import Pool, aligned_empty
from mlpipe.link import Block, Blocks, Flow, Held, Labels, Room, Run, Source, Spec
from mlpipe.opening import Opening


@dataclass(frozen=True)
class Streaming:
    """A stage that hands on each block as it comes, changed or not; what differs is `plan` and `each`.

    Stages that hold more are derived from it too, for what they have in common: they say their own `flow`, `hold` and
    `apply`.
    """

    @property
    def name(self) -> str:
        """Its verb; by default its class in small letters."""
        return type(self).__name__.lower()

    @property
    def flow(self) -> Flow:
        """Needs one block."""
        return "streaming"

    @property
    def chooses(self) -> bool:
        """Takes blocks as they come."""
        return False

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """None."""
        return {}

    def open(self, opening: Opening) -> Streaming:
        """Nothing to open."""
        return self

    def plan(self, spec: Spec) -> Spec:
        """By default the rows stay what they are."""
        return spec

    def hold(self, spec: Spec, room: Room) -> Held:
        """Blocks that are handed on as they came hold nothing."""
        return Held(room.block_rows, spec.dtype, {}, {}, None)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Hand on what `each` makes of every block, positions counted anew."""
        place = 0
        for block in blocks:
            for made in self.each(block):
                made.start = place
                place += len(made.data)
                run.lane.count(rows=len(made.data), nbytes=made.data.nbytes)
                yield made

    def each(self, block: Block) -> Iterator[Block]:
        """Blocks in the place of one; by default the same."""
        yield block


class Buffers:
    """Buffers of one shape for the blocks that a stage makes, labels included, which go round.

    Parameters
    ----------
    run : Run
        In which they are used.
    spec : Spec
        Of the rows they hold.
    rows : int
        Of one block.
    count : int
        How many there are.
    """

    def __init__(self, run: Run, spec: Spec, rows: int, count: int) -> None:
        self._run, self._rows = run, rows
        kinds = [Labels(spec.row_shape, spec.dtype.newbyteorder("=")), *([spec.labels] if spec.labels else [])]
        self._pools: list[Pool] = [
            run.pool(count, partial(aligned_empty, (rows, *kind.row_shape), kind.dtype)) for kind in kinds
        ]

    def take(self, rows: int) -> Block:
        """A block of so many rows, to be filled."""
        buffers = [pool.take(self._run.lane) for pool in self._pools]

        def release() -> None:
            for pool, buffer in zip(self._pools, buffers, strict=True):
                pool.give(buffer)

        data, *labels = (buffer[:rows] for buffer in buffers)
        return Block(0, data, release=release, labels=labels[0] if labels else None)


BUFFERS = 3
"""Blocks a stage makes: one being filled, one waiting, one in use by the next."""


def buffer_bytes(spec: Spec, rows: int, count: int = BUFFERS) -> int:
    """Bytes of `Buffers`."""
    return count * rows * (spec.row_bytes + (spec.labels.row_bytes if spec.labels else 0))


class Parts:
    """Takes a block apart; it is released when `done` was called and the last part is released.

    Parameters
    ----------
    block : Block
        Of which parts are taken.
    """

    def __init__(self, block: Block) -> None:
        self._block, self._held, self._lock = block, 1, threading.Lock()

    def take(self, start: int, stop: int) -> Block:
        """Rows start … stop of the block, with their share of its share."""
        block = self._block
        with self._lock:
            self._held += 1
        labels = None if block.labels is None else block.labels[start:stop]
        share = block.share * (stop - start) / max(1, len(block.data))
        return Block(block.start + start, block.data[start:stop], release=self.done, share=share, labels=labels)

    def done(self) -> None:
        """No more parts are taken; each part calls it once, too."""
        with self._lock:
            self._held -= 1
            over = self._held == 0
        if over:
            self._block.release()
