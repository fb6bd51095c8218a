"""Rows passed through verbs in blocks of any sizes, fitting ones and those with side sources included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from mlpipe.link import Array, Block, Blocks, Room, Source, Spec
from mlpipe.opening import Opening
from mlpipe.stages.rowwise import RowWise, fuse
from mlpipe.workers import Workers
from tests.flow import FakeRun, blocks_of, spec_of


class PassingRun(FakeRun):
    """What a stage needs of a run, threads and side sources included."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self.workers = workers

    def read(self, *request: Any) -> Blocks:
        return _read(*request)


def _read(source: Source, ranges: Iterable[tuple[int, int]], dtype: np.dtype[Any], _name: str) -> Blocks:
    for start, stop in ranges:
        data = np.empty((stop - start, *source.spec.row_shape), dtype)
        source.read_rows(start, data)
        yield Block(start, data)


def passed(
    verb: Any, rows: Array, labels: Array | None = None, *, sizes: Sequence[int] = (1000,), threads: int = 1,
    nbytes: int = 64 << 20, known: bool = True, sequential: bool = True,
) -> tuple[Array, Array | None]:  # fmt: skip
    """What comes out of a verb for some rows, and their labels."""
    spec, room = spec_of(rows, labels, known=known), Room(nbytes, threads, sequential, block_rows=max(sizes))
    with ExitStack() as files, Workers(threads) as workers:
        run, stage = PassingRun(workers), verb.open(Opening(files))
        while stage.flow == "fitting":
            given: list[int] = []
            stage = stage.fit(blocks_of(rows, labels, sizes, given), stage.hold(spec, room), run)
            assert given == [1] * len(given), "every block is released once"
        if isinstance(stage, RowWise):
            [stage] = fuse([stage])
        given = []
        made, blocks = stage.plan(spec), blocks_of(rows, labels, sizes, given)
        out = _joined(stage.apply(blocks, stage.hold(spec, room), run), made, len(rows))
        assert given == [1] * len(given), "every block is released once"
    return out


def _joined(blocks: Blocks, spec: Spec, rows: int) -> tuple[Array, Array | None]:
    """Tiles put together, and the labels."""
    out = np.full((rows, *spec.row_shape), 99, spec.dtype)
    labels = None if spec.labels is None else np.full((rows, *spec.labels.row_shape), 99, spec.labels.dtype)
    share, seen = 0.0, 0
    for block in blocks:
        assert block.data.dtype == spec.dtype
        stop = block.start + len(block.data)
        if spec.row_shape:
            columns = slice(block.column, block.column + block.data.shape[1])
            out[block.start : stop, columns] = block.data
        else:
            out[block.start : stop] = block.data
        if labels is not None:
            labels[block.start : stop] = block.labels
        share, seen = share + block.share, seen + block.data.size
        block.release()
    assert seen == out.size
    assert share == pytest.approx(1) or not rows
    return out, labels
