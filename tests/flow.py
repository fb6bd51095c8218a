"""Stages on their own: blocks of any size go in, and what comes out is checked and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from mlpipe.buffers import Array, Pool
from mlpipe.link import Block, Blocks, Labels, Room, Spec, Stage
from mlpipe.measure.meter import NULL_METER
from mlpipe.workers import Workers


class FakeRun:
    """What a stage needs of a run."""

    def __init__(self) -> None:
        self.lane = NULL_METER.lane("stage")
        self.workers = Workers(2)
        self.ends: list[Callable[[], None]] = []

    def pool(self, count: int, make: Callable[[], Array]) -> Pool:
        return Pool(count, make)

    def at_end(self, function: Callable[[], None]) -> None:
        self.ends.append(function)

    def read(self, *_: Any) -> Blocks:
        raise AssertionError("no side source")


def spec_of(rows: Array, labels: Array | None = None, *, known: bool = True) -> Spec:
    kind = None if labels is None else Labels(labels.shape[1:], labels.dtype)
    return Spec(len(rows) if known else None, rows.shape[1:], rows.dtype, kind)


def blocks_of(rows: Array, labels: Array | None, sizes: Sequence[int], given: list[int]) -> Iterator[Block]:
    """Blocks of these sizes, over and over, each a copy that is spoilt when it is released."""
    start, turn = 0, 0
    while start < len(rows):
        stop = min(start + sizes[turn % len(sizes)], len(rows))
        data, beside = rows[start:stop].copy(), None if labels is None else labels[start:stop].copy()

        given.append(0)

        def release(turn: int = turn, data: Array = data, beside: Array | None = beside) -> None:
            given[turn] += 1
            for array in (data, beside):
                if array is not None:
                    array.reshape(-1).view(np.uint8)[:] = 0xA5

        yield Block(start, data, release=release, share=(stop - start) / len(rows), labels=beside)
        start, turn = stop, turn + 1


def flow(
    stage: Stage, rows: Array, labels: Array | None = None, *, nbytes: int = 1 << 30, sizes: Sequence[int] = (7,),
    known: bool = True, drops: bool = False,
) -> tuple[Array, Array | None]:  # fmt: skip
    """Rows and labels that come out; positions, shares, sizes and releases are checked."""
    spec = spec_of(rows, labels, known=known)
    out = stage.plan(spec)
    held = stage.hold(spec, Room(nbytes, 2, block_rows=max(sizes)))
    assert sum(held.nbytes.values()) <= nbytes
    given: list[int] = []
    run = FakeRun()
    data, beside, place, share = [np.empty((0, *out.row_shape), out.dtype)], [], 0, 0.0
    with run.workers:
        for block in stage.apply(blocks_of(rows, labels, sizes, given), held, run):
            assert block.start == place
            assert 0 < len(block.data) <= max(sizes)
            data.append(block.data.copy())
            if block.labels is not None:
                beside.append(block.labels.copy())
                assert len(block.labels) == len(block.data)
            place += len(block.data)
            share += block.share
            block.release()
        for end in reversed(run.ends):
            end()
    assert out.rows in (None, place)
    assert given == [1] * len(given), "every block is released once"
    assert drops or share == pytest.approx(1) or not place
    joined = None if labels is None else np.concatenate([labels[:0], *beside])
    return np.concatenate(data), joined
