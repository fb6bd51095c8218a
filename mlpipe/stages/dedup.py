"""``dedup``: each row once."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import MemoryCeilingError, UsageError
from mlpipe.link import Array, Block, Blocks, Flow, Held, Room, Run, Spec
from mlpipe.opening import Opening
from mlpipe.stages.distinct import MOST_KEPT, WORD, Distinct, Limits, kept_bytes, words_of
from mlpipe.stages.records import LEAST_WRITE, PIECE_ROWS, Records, as_bytes, pieces_of
from mlpipe.stages.streaming import BUFFERS, Buffers, Streaming, buffer_bytes
from mlpipe.writers.temporary import check_directory

LEAST_BYTES = 4 << 20
"""With less, there would be many passes."""

PIECE_BYTES = 4 << 20
"""Held while a piece is worked on."""

MOST_HEAPS = 256
"""More would make their parts short without need: so many hold some two hundred times what fits into memory."""

POSITIONS = 1 << 62
"""Rows there may be, where their number is not known."""


@dataclass(frozen=True)
class Dedup(Streaming):
    """Each row once: the first of those that are equal.

    Rows are equal when all their values are; -0 equals 0, and NaN equals NaN. Values are compared, never hashes
    alone. Labels do not count: the first row keeps its own. Rows that differ come out at once as long as there is
    room to remember them; the others go through a temporary file, and follow in order.

    Example: mlpipe run read examples/data/digits.npy --columns 0:3 then dedup then nothing
    """

    temp_dir: str | None = option(None, help="Where temporary files go; by default beside the output.", metavar="DIR")

    def open(self, opening: Opening) -> Streaming:
        """Temporary files go beside the output unless it was said where."""
        return replace(self, temp_dir=self.temp_dir or opening.temporary)

    @property
    def flow(self) -> Flow:
        """Holds the rows that were seen, as long as there is room."""
        return "buffering"

    def plan(self, spec: Spec) -> Spec:
        """Some of the rows, of which there must be an end."""
        if spec.endless:
            raise UsageError("dedup remembers all rows, but they never stop coming; put head before it")
        return replace(spec, rows=None)

    def hold(self, spec: Spec, room: Room) -> Held:
        """A table of rows, and the buffers through which the others go where it may become full."""
        limits, held = _arrange(spec, room)
        facts = {}
        if limits.capacity != spec.rows:
            check_directory(self.temp_dir or ".")
            facts = {"temporary_files": self.temp_dir or "."}
        return Held(room.block_rows, spec.dtype, held, facts, (spec, limits))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Blocks without the rows that are known; then the rows for which there was no room."""
        spec, limits = held.layout
        place, share = 0, 0.0
        with closing(Distinct(spec, limits, self.temp_dir or ".")) as distinct:
            for block in _all(blocks, distinct, spec, limits, run):
                share += block.share
                if not len(block.data):
                    block.release()
                    continue
                block.start, block.share = place, share
                place, share = place + len(block.data), 0.0
                run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
                yield block


def _all(blocks: Blocks, distinct: Distinct, spec: Spec, limits: Limits, run: Run) -> Blocks:
    """Blocks of the rows that are new, some of them empty."""
    position = 0
    for block in blocks:
        count = len(block.data)
        _compress(block, position, distinct, limits)
        position += count
        yield block
    buffers: Buffers | None = None
    for piece in distinct.rest():
        buffers = buffers or Buffers(run, spec, limits.window_rows, BUFFERS)
        block = buffers.take(len(piece.rows))
        as_bytes(block.data, len(piece.rows))[...] = piece.rows
        if block.labels is not None:
            as_bytes(block.labels, len(piece.rows))[...] = piece.labels
        yield block


def _compress(block: Block, position: int, distinct: Distinct, limits: Limits) -> None:
    """Keep only what is new, at the front of the block."""

    def positions(start: int, stop: int, out: Array) -> None:
        out[:] = np.arange(position + start, position + stop)

    at = start = 0
    for piece in pieces_of([(block.data, block.labels)], limits.records.piece_rows, positions):
        stop = start + len(piece.rows)
        new = distinct.new(piece)
        count = int(np.count_nonzero(new))
        if at != start or count < len(new):
            block.data[at : at + count] = block.data[start:stop][new]
            if block.labels is not None:
                block.labels[at : at + count] = block.labels[start:stop][new]
        at, start = at + count, stop
    block.data = block.data[:at]
    block.labels = None if block.labels is None else block.labels[:at]


def _arrange(spec: Spec, room: Room) -> tuple[Limits, dict[str, int]]:
    """Share out the memory: a table of all rows if it fits, else three quarters for it and one for buffers."""
    rows = POSITIONS if spec.rows is None else spec.rows
    one = Records.of(spec, rows, 0)
    part = room.nbytes // 8
    piece_bytes = one.scratch_bytes + 4 * WORD * words_of(spec) + 32  # canonical words, masks and copies
    window_bytes = (2 + BUFFERS) * buffer_bytes(spec, 1, 1) + 24
    piece_rows = max(1, min(PIECE_ROWS, min(PIECE_BYTES, part) // piece_bytes))
    window_rows = max(1, min(room.block_rows, part // window_bytes))
    records, scratch = replace(one, piece_rows=piece_rows), piece_rows * piece_bytes
    table = rows * kept_bytes(spec)
    if table + scratch <= room.nbytes and rows <= MOST_KEPT:
        return Limits(records, rows, 0, 1, window_rows), {"rows": table, "scratch": scratch}
    scratch += window_rows * window_bytes
    buffers = (room.nbytes - scratch) // 4
    if room.nbytes < LEAST_BYTES or buffers < 2 * one.scratch_bytes:
        least = max(LEAST_BYTES, piece_bytes + window_bytes + 16 * one.scratch_bytes)
        raise MemoryCeilingError(
            "rows to compare with do not fit", needs=min(least, table + table // 7 + 8 + piece_bytes)
        )
    capacity = min(MOST_KEPT, 3 * buffers // kept_bytes(spec))
    heaps = max(2, min(MOST_HEAPS, buffers // max(one.nbytes, LEAST_WRITE), 2 * rows // capacity))
    held = {"rows": capacity * kept_bytes(spec), "buffers": buffers, "scratch": scratch}
    return Limits(records, capacity, buffers, heaps, window_rows), held
