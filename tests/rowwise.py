"""Row-wise stages carried out without a pipeline, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlpipe.buffers import Pool
from mlpipe.link import Block, Labels, Room, Spec
from mlpipe.measure.meter import Lane
from mlpipe.stages.rowwise import Fused, RowWise
from mlpipe.workers import Workers


@dataclass
class Bench:
    """As much of a run as they need."""

    workers: Workers
    lane: Lane

    def pool(self, count: int, make: Callable[[], np.ndarray]) -> Pool:
        return Pool(count, make)


def transformed(
    stages: Sequence[RowWise],
    x: np.ndarray,
    *,
    block_rows: int = 0,
    threads: int = 1,
    fused: bool = True,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """What becomes of the rows of `x`, and of their labels, if there are any."""
    if not fused:
        for stage in stages:
            x = transformed([stage], x, block_rows=block_rows, threads=threads)
        return x
    block_rows = block_rows or max(1, len(x))
    spec = Spec(len(x), x.shape[1:], x.dtype, None if labels is None else Labels(labels.shape[1:], labels.dtype))
    stage = Fused(tuple(stages))
    made = stage.plan(spec)
    held = stage.hold(spec, Room(1 << 30, threads, block_rows=block_rows))
    data = x.astype(x.dtype.newbyteorder("="))
    released = []

    def blocks() -> Iterator[Block]:
        for start in range(0, len(x), block_rows):
            part = slice(start, start + block_rows)
            yield Block(
                start,
                data[part].copy(),
                release=lambda start=start: released.append(start),
                share=len(data[part]) / len(x),
                labels=None if labels is None else labels[part].copy(),
            )

    parts, tags, share = [np.empty((0, *made.row_shape), made.dtype)], [], 0.0
    with Workers(threads) as workers, Lane("test") as lane:
        for block in stage.apply(blocks(), held, Bench(workers, lane)):
            assert (block.data.dtype, block.data.shape[1:]) == (made.dtype, made.row_shape)
            assert block.start == sum(len(one) for one in parts)
            parts.append(block.data.copy())
            tags.append(block.labels)
            share += block.share
            if labels is not None:
                np.testing.assert_array_equal(block.labels, labels[block.start : block.start + len(block.data)])
            block.release()
    assert len(x) == 0 or np.isclose(share, 1)
    assert released == list(range(0, len(x), block_rows))
    return np.concatenate(parts)
