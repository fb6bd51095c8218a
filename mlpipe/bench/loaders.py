"""Ways to get batches out of a directory of ``.npy`` files with NumPy and generators.

Each takes a `Shards` and the number of an epoch, and yields batches; whatever it opens or draws, it does so for every
epoch anew, as a program does. The code is what people write, not the best that could be written. Nothing is
imported here that these ways do not need, for it would count as their memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.link import Array


@dataclass(frozen=True)
class Shards:
    """What is loaded, and how.

    Parameters
    ----------
    paths : list of str
        Files that have rows.
    rows, row_bytes : int
        In all files; of each.
    batch : int
        Rows of a batch; the last one may be smaller.
    buffer : int
        Rows of a shuffle buffer.
    seed : int
        Of all orders.
    threads : int
        That mlpipe computes with.
    """

    paths: list[str]
    rows: int
    row_bytes: int
    batch: int
    buffer: int
    seed: int
    threads: int

    def random(self, epoch: int) -> np.random.Generator:
        """What draws the order of an epoch."""
        return np.random.default_rng((self.seed, epoch))


def full_load(shards: Shards, epoch: int) -> Iterator[Array]:
    """Everything in memory, then batches of a permutation."""
    rows = np.concatenate([np.load(path) for path in shards.paths])
    order = shards.random(epoch).permutation(len(rows))
    for start in range(0, len(rows), shards.batch):
        yield rows[order[start : start + shards.batch]]


def rows_of(paths: list[str]) -> Iterator[Array]:
    """Row after row, lazily."""
    for path in paths:
        yield from np.load(path, mmap_mode="r")


def buffered(rows: Iterator[Any], size: int, random: np.random.Generator) -> Iterator[Any]:
    """Rows out of a buffer: a random one leaves when another one comes."""
    buffer: list[Any] = []
    for row in rows:
        if len(buffer) < size:
            buffer.append(row)
            continue
        place = int(random.integers(size))
        yield buffer[place]
        buffer[place] = row
    random.shuffle(buffer)
    yield from buffer


def by_row(shards: Shards, epoch: int) -> Iterator[Array]:
    """Generators of rows: read, shuffle in a buffer, collect into batches."""
    batch: list[Array] = []
    for row in buffered(rows_of(shards.paths), shards.buffer, shards.random(epoch)):
        batch.append(row)
        if len(batch) == shards.batch:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def by_batch(shards: Shards, epoch: int) -> Iterator[Array]:
    """A generator of batches: shards in random order, each shuffled as a whole; what is left over goes on."""
    random = shards.random(epoch)
    rest: Array | None = None
    for place in random.permutation(len(shards.paths)):
        rows = random.permutation(np.load(shards.paths[place]))
        rows = rows if rest is None or not len(rest) else np.concatenate([rest, rows])
        whole = len(rows) - len(rows) % shards.batch
        for start in range(0, whole, shards.batch):
            yield rows[start : start + shards.batch]
        rest = rows[whole:].copy()
    if rest is not None and len(rest):
        yield rest


def memory_map(shards: Shards, epoch: int) -> Iterator[Array]:
    """Copies of slices of memory maps, in order; the last batch of a shard may be smaller."""
    for path in shards.paths:
        rows = np.load(path, mmap_mode="r")
        for start in range(0, len(rows), shards.batch):
            yield np.array(rows[start : start + shards.batch])


def memory_map_shuffled(shards: Shards, epoch: int) -> Iterator[Array]:
    """Rows of memory maps in the order of a permutation of all."""
    maps = [np.load(path, mmap_mode="r") for path in shards.paths]
    bounds = np.cumsum([0, *map(len, maps)])
    order = shards.random(epoch).permutation(bounds[-1])
    for start in range(0, len(order), shards.batch):
        wanted = order[start : start + shards.batch]
        places = np.searchsorted(bounds, wanted, side="right") - 1
        yield np.stack([maps[place][row - bounds[place]] for place, row in zip(places, wanted, strict=True)])
