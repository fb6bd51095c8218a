"""Nearest neighbours the obvious way: all distances, sorted."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlpipe.api import pairwise_distances
from mlpipe.engine.budget import plan
from mlpipe.engine.local import iterate
from mlpipe.link import Source, Stage
from mlpipe.pipeline import Pipeline
from mlpipe.writers.nothing import NothingSink

Array = Any


def sorted_rows(table: Array, k: int, *, own: bool = False, largest: bool = False) -> tuple[Array, Array]:
    """The k first of each row of a matrix, by value and place, NaN last, the diagonal left out if `own`; and where."""
    values, places = [], []
    for i, row in enumerate(table.tolist()):
        others = [j for j in range(len(row)) if not (own and i == j)]
        others.sort(key=lambda j: (row[j] != row[j], -row[j] if largest else row[j], j))
        places.append(others[:k])
        values.append([row[j] for j in others[:k]])
    shape = (len(table), k)
    return np.array(values, table.dtype).reshape(shape), np.array(places, np.int64).reshape(shape)


def naive(Q: Array, D: Array | None, k: int, metric: str, largest: bool = False, **how: Any) -> tuple[Array, Array]:
    """Distances and indices of the nearest."""
    table = pairwise_distances(Q, D, metric, **how)
    return sorted_rows(table, k, own=D is None, largest=largest)


def through(source: Source, stage: Stage, room: int = 1 << 30, threads: int = 2) -> tuple[Array, Array]:
    """Rows and labels that a stage makes of a source, planned to hold at most so many bytes."""
    planned = plan(Pipeline(source, [stage], NothingSink()), room, threads, base=0)
    assert planned.read_bytes + sum(sum(held.nbytes.values()) for held in planned.held) <= room
    spec = planned.output
    assert spec.labels is not None
    rows, labels = (
        [np.empty((0, *spec.row_shape), spec.dtype)],
        [np.empty((0, *spec.labels.row_shape), spec.labels.dtype)],
    )
    place, share = 0, 0.0
    for block in iterate(planned):
        assert block.start == place
        assert 0 < len(block.data) <= planned.held[-1].block_rows
        rows.append(block.data)
        labels.append(block.labels)
        place += len(block.data)
        share += block.share
    assert spec.rows in (None, place)
    assert not place or abs(share - 1) < 1e-9
    return np.concatenate(rows), np.concatenate(labels)


def smallest_room(source: Source, stage: Stage, threads: int = 2) -> int:
    """The least bytes that a plan takes, which is what the refusal names."""
    from mlpipe.engine.budget import BASE_VARIES
    from mlpipe.errors import MemoryCeilingError

    try:
        plan(Pipeline(source, [stage], NothingSink()), 1, threads, base=0)
    except MemoryCeilingError as error:
        return error.needs - BASE_VARIES
    return 1
