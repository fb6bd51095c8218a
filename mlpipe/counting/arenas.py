"""Where keys that were sorted out wait: for each worker, lines on their way, and chunks of an arena."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.kernels.count_keys import LINE
from mlpipe.kernels.count_parts import BLOCK, collect
from mlpipe.link import Array

MOST_PARTS = 2048
"""More, and their lines no longer stay in the cache: 128 KiB."""

PART_ROWS = 16384
"""Keys of a partition, if all are known: what is counted then is a table that stays in the cache."""

CHUNK_WORDS = 1024
LEAST_CHUNK = 64


class Shape(NamedTuple):
    """How an arena is divided.

    Parameters
    ----------
    parts : int
        Partitions.
    width : int
        Words of an entry.
    chunk : int
        Words of a chunk.
    chunks : int
        Chunks of each worker.
    reserve : int
        Chunks of which a block of values may need as many.
    """

    parts: int
    width: int
    chunk: int
    chunks: int
    reserve: int


def reserve_of(parts: int, width: int, chunk: int) -> int:
    """Chunks that `BLOCK` values may begin: a line of a partition must be full before it needs one."""
    begun = min(parts, BLOCK if width > 1 else BLOCK // LINE)
    return begun + BLOCK * width // chunk + 1


def shape_for(rows: int | None, width: int, workers: int, room: int | None, part_rows: int = PART_ROWS) -> Shape:
    """Divide so many bytes, or as many as the rows take if that is known and there is no limit."""
    parts = 1
    while parts < MOST_PARTS and (rows is None or parts * part_rows < rows):
        parts *= 2
    if room is None:
        words = (rows or 0) * width
        chunk = CHUNK_WORDS if words >= parts * CHUNK_WORDS else LEAST_CHUNK
        reserve = reserve_of(parts, width, chunk)
        return Shape(parts, width, chunk, words // chunk + parts + reserve + 1, reserve)
    chunk, own = CHUNK_WORDS, room // workers
    while chunk > LEAST_CHUNK and reserve_of(parts, width, chunk) * 8 * chunk > own // 8:
        chunk //= 2
    while parts > 1 and (reserve_of(parts, width, chunk) + parts) * (8 * chunk + 4) + parts * 100 > own // 4:
        parts //= 2
    chunks = (own - parts * 100) // (8 * chunk + 4)
    if rows is not None:
        chunks = min(chunks, rows * width // chunk + parts + reserve_of(parts, width, chunk) + 1)
    return Shape(parts, width, chunk, chunks, reserve_of(parts, width, chunk))


class Arenas:
    """The state of all workers, as `mlpipe.kernels.count_parts.sift` takes it.

    Parameters
    ----------
    shape : Shape
        How they are divided.
    workers : int
        How many there are.
    """

    def __init__(self, shape: Shape, workers: int) -> None:
        self.shape, self.workers = shape, workers
        self.counts = np.zeros((workers, shape.parts), np.int64)
        self.current = np.zeros((workers, shape.parts), np.int32)
        self.lines = aligned_empty((workers, shape.parts * LINE), np.uint64)
        self.previous = np.empty((workers, shape.chunks), np.int32)
        self.arena = aligned_empty((workers, shape.chunks * shape.chunk), np.uint64)
        self.used = np.zeros((workers, 2), np.int64)

    def entries(self) -> Array:
        """Entries of each partition."""
        total: Array = self.counts.sum(axis=0)
        return total

    def kept(self) -> tuple[Array, ...]:
        """What kernels take to collect a partition, but for the words of a chunk."""
        return self.counts, self.current, self.lines, self.previous, self.arena

    def collect(self, part: int, skip: int, stage: Array) -> Array:
        """Words of a partition from an entry on, as far as there is room in `stage`."""
        words = collect(part, self.shape.width, *self.kept(), self.shape.chunk, skip, stage)
        return stage[:words]

    def clear(self) -> None:
        """All chunks are free again."""
        self.counts[:] = 0
        self.used[:, 0] = 0
