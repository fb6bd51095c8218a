"""Verbs that choose or order rows, driven as views of a source and as stages, in blocks of any sizes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from mlpipe.buffers import Array
from mlpipe.link import Labels, Room, Source, Spec, gather_into, read_into
from mlpipe.opening import Opening
from tests.flow import FakeRun, blocks_of, spec_of


class LabelledArray:
    """An array with labels as a source; reads are checked to be within it."""

    seekable = True
    name = "X"

    def __init__(self, rows: Array, labels: Array | None = None) -> None:
        self.rows, self.labels = rows, labels
        self.spec: Spec = spec_of(rows, labels)
        self.closed = self.checked = 0
        self.rows_read = 0

    def read_rows(self, start: int, out: Array) -> None:
        assert 0 <= start <= start + len(out) <= len(self.rows)
        out[:] = self.rows[start : start + len(out)]
        self.rows_read += len(out)

    def read_labelled(self, start: int, out: Array, labels: Array) -> None:
        assert self.labels is not None
        self.read_rows(start, out)
        labels[:] = self.labels[start : start + len(out)]

    def check_unchanged(self) -> None:
        self.checked += 1

    def close(self) -> None:
        self.closed += 1


def labelled(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Rows that all differ, and labels that say which they are."""
    rows = np.arange(count * 3, dtype=np.int32).reshape(count, 3) * 7 + seed
    return rows, np.arange(count, dtype=np.int64)


def source_of(count: int) -> LabelledArray:
    return LabelledArray(*labelled(count))


def empty_for(spec: Spec, count: int) -> tuple[Array, Array | None]:
    labels: Labels | None = spec.labels
    data = np.empty((count, *spec.row_shape), spec.dtype)
    return data, None if labels is None else np.empty((count, *labels.row_shape), labels.dtype)


def read_all(source: Source, sizes: Sequence[int] = (5,), stop: int | None = None) -> tuple[Array, Array | None]:
    """All rows of a source, or those up to `stop`, read a few at a time and gathered backwards: both must agree."""
    total = stop if stop is not None else source.spec.rows
    assert total is not None
    data, labels = empty_for(source.spec, total)
    start = turn = 0
    while start < total:
        end = min(total, start + sizes[turn % len(sizes)])
        read_into(source, start, data[start:end], None if labels is None else labels[start:end])
        start, turn = end, turn + 1
    again, beside = empty_for(source.spec, total)
    gather_into(source, np.arange(total)[::-1].copy(), again, beside)
    np.testing.assert_array_equal(again[::-1], data)
    if labels is not None and beside is not None:
        np.testing.assert_array_equal(beside[::-1], labels)
    return data, labels


def viewed(verb: Any, count: int, sizes: Sequence[int] = (5,)) -> list[int]:
    """Which rows a verb shows as a view; rows and labels are checked to belong together."""
    source = verb.view(source_of(count))
    return _which(*read_all(source, sizes))


def streamed(
    verb: Any,
    count: int,
    sizes: Sequence[int] = (5,),
    *,
    known: bool = True,
    nbytes: int = 1 << 30,
    stop: int = 1 << 60,
) -> list[int]:
    """Which rows come out of a verb as a stage; positions, sizes, shares and releases are checked."""
    rows, labels = labelled(count)
    with ExitStack() as files:
        stage = verb.open(Opening(files))
        spec = spec_of(rows, labels, known=known)
        out, room = stage.plan(spec), Room(nbytes, 1, block_rows=max(sizes))
        held = stage.hold(spec, room)
        assert sum(held.nbytes.values()) <= nbytes
        given: list[int] = []
        found, tags, place, share = [rows[:0]], [labels[:0]], 0, 0.0
        blocks = stage.apply(blocks_of(rows, labels, sizes, given), held, FakeRun())
        for block in blocks:
            assert block.start == place
            assert 0 < len(block.data) == len(block.labels)
            found.append(block.data.copy())
            tags.append(block.labels.copy())
            place += len(block.data)
            share += block.share
            block.release()
            if place >= stop:
                break
        blocks.close()
    assert out.rows in (None, place) or place >= stop
    assert share <= 1 + 1e-9
    assert place >= stop or given == [1] * len(given), "every block is released once"
    return _which(np.concatenate(found), np.concatenate(tags))


def _which(rows: Array, labels: Array | None) -> list[int]:
    assert labels is not None
    if len(rows):
        assert rows[:, 0].tolist() == (labels * 21).tolist(), "labels go with their rows"
        assert (np.diff(rows, axis=1) == 7).all()
    found: list[int] = labels.tolist()
    return found


def refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
