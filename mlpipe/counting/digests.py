"""What is counted in one partition, or in some neighbouring ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlpipe.counting.arenas import Arenas
from mlpipe.kernels import counting
from mlpipe.kernels.count_tables import (
    DENSE_SPAN,
    FULL,
    LEAST_SLOTS,
    compress,
    digest,
    fold,
    fold_pairs,
    grown,
    sort_by_key,
)
from mlpipe.link import Array

GROUP_ROWS = 1 << 16
"""Keys of partitions that are counted by one call."""

FIRST_SLOTS = 1 << 10

FIRST_GUESS = 0.5
"""Distinct keys for a key: if there are more, the first table grows."""


class Scratch:
    """How keys of partitions are counted.

    Parameters
    ----------
    most : int
        Distinct keys for which there is room.
    stage_words : int
        Words that come together.
    mix : uint64
        What hashes keys.
    in_order : bool
        Whether they come out by key.
    weights : dtype, optional
        Of weights.
    """

    def __init__(self, most: int, stage_words: int, mix: np.uint64, in_order: bool, weights: np.dtype | None) -> None:
        self.most, self.mix, self.in_order, self.weights = most, mix, in_order, weights
        self.group_rows = max(1, min(GROUP_ROWS, most // 2))


class Desk:
    """What a worker needs to count partitions in memory, made once: fresh memory costs more than the counting.

    Parameters
    ----------
    rows : int
        Keys of the largest group.
    """

    def __init__(self, rows: int) -> None:
        slots = LEAST_SLOTS
        while slots * FULL < rows + 64:
            slots *= 2
        self.stage, self.keys, self.spare_keys = (np.empty(rows + 1, np.uint64) for _ in range(3))
        self.counts, self.spare_counts = (np.empty(rows + 1, np.int64) for _ in range(2))
        self.edges = np.empty(rows // 2 + 3, np.int64)
        self.tables = np.empty((2, 2 * slots, 2), np.uint64)
        self.counters = np.empty(DENSE_SPAN, np.int64)


def digest_group(
    group: tuple[int, int], arenas: Arenas, pairs: tuple[Array, Array, Array], scratch: Scratch, desk: Desk
) -> tuple[Array, Array]:
    """Distinct keys of neighbouring partitions, which are in memory, and their counts, until the next call."""
    keys, counts, bounds = pairs
    found = digest(*group, *arenas.kept(), arenas.shape.chunk, keys, counts.view(np.uint64), bounds, scratch.mix,
                   desk.stage, FIRST_GUESS, scratch.in_order, desk.keys, desk.counts, desk.tables, desk.counters,
                   desk.spare_keys, desk.spare_counts, desk.edges)  # fmt: skip
    return desk.keys[:found], desk.counts[:found]


def count_words(
    pieces: Iterator[Array], heavy_keys: Array, heavy_counts: Array, scratch: Scratch
) -> tuple[Array, Array] | None:
    """Distinct keys of one partition and their counts; None when there are too many."""
    if len(heavy_keys) >= scratch.most:
        return None
    slots = FIRST_SLOTS
    while slots * FULL < len(heavy_keys) + 1:
        slots *= 2
    table = np.zeros((slots, 2), np.uint64)
    found = fold_pairs(heavy_keys, heavy_counts.view(np.uint64), table, 0, scratch.mix)
    for words in pieces:
        done = 0
        while done < len(words):
            limit = int(len(table) * FULL)
            more, found = fold(words[done:], table, found, scratch.mix, min(limit, scratch.most))
            done += more
            if found >= scratch.most:
                return None
            if found >= limit:
                table = grown(table, scratch.mix, 2)
    keys, counts = np.empty(found, np.uint64), np.empty(found, np.int64)
    compress(table, keys, counts)
    del table
    if scratch.in_order:
        _sort(keys, counts)
    return keys, counts


def _sort(keys: Array, counts: Array) -> None:
    """By key, in place."""
    spare = np.empty(len(keys), np.uint64), np.empty(len(keys), np.int64)
    sort_by_key(keys, counts, *spare, np.empty(len(keys) // 2 + 3, np.int64))


def sum_words(
    pieces: Iterator[Array], heavy_keys: Array, heavy_counts: Array, scratch: Scratch
) -> tuple[Array, Array] | None:
    """Distinct keys of one partition, which come in turns with weights, and sums of these; None for too many keys."""
    kind = scratch.weights
    exact = kind is None or kind.kind != "f"
    add = counting.add_exactly if exact else counting.add_compensated
    dtype, columns = (np.int64, 1) if exact else (np.float64, 2)
    table, found = np.zeros((FIRST_SLOTS, 2), np.uint64), 0
    sums = np.empty((int(FIRST_SLOTS * FULL), columns), dtype)
    for words in pieces:
        done = 0
        while done < len(words):
            rest = words[done:]
            more, found = add(rest, rest.view(dtype), table, sums, found, scratch.mix, len(sums))
            done += 2 * more
            if found >= scratch.most:
                return None
            if done < len(words):
                table = grown(table, scratch.mix, 2)
                more_sums = np.empty((int(len(table) * FULL), columns), dtype)
                more_sums[:found] = sums[:found]
                sums = more_sums
    keys = np.empty(found, np.uint64)
    counting.unpack(table, keys)
    order = np.argsort(keys)
    return keys[order], sums[order].sum(axis=1)
