from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.errors import MemoryCeilingError, OutputError, UsageError
from mlpipe.link import Room, Spec
from mlpipe.stages import external, records
from mlpipe.stages.external import ExternalShuffle
from mlpipe.stages.permutation import Permutation
from mlpipe.writers.draft import Draft
from tests.flow import flow, spec_of

SMALL = 1 << 12
"""A room in which a few hundred rows take several passes."""


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that little data needs many passes."""
    monkeypatch.setattr(external, "LEAST_BYTES", 0)
    monkeypatch.setattr(external, "LEAST_WRITE", 64)
    monkeypatch.setattr(records, "PIECE_ROWS", 13)


def shuffled(rows: np.ndarray, seed: int, epoch: int = 0) -> np.ndarray:
    order = np.empty(len(rows), np.int64)
    Permutation(len(rows), seed, epoch).rows(0, len(rows), order)
    return np.take(rows, order, axis=0)


def made(count: int, row_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    values = np.random.default_rng(count).integers(0, 256, (count, *row_shape, np.dtype(dtype).itemsize), np.uint8)
    return np.ascontiguousarray(values).view(dtype).reshape(count, *row_shape)


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("nbytes", [SMALL, 3 * SMALL, 1 << 20])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    ("count", "row_shape", "dtype"),
    [(0, (3,), "f4"), (1, (3,), "f4"), (700, (3,), "f4"), (997, (), "u1"), (300, (2, 3), "i2"), (50, (0,), "f8")],
)
def test_the_order_is_that_of_the_permutation_whatever_the_memory(
    tmp_path: Path, count: int, row_shape: tuple[int, ...], dtype: str, labelled: bool, nbytes: int, known: bool
) -> None:
    rows = made(count, row_shape, dtype)
    labels = np.arange(count, dtype="i8") if labelled else None
    stage = ExternalShuffle(3, 1, str(tmp_path))
    data, beside = flow(stage, rows, labels, nbytes=nbytes, sizes=(7, 50, 1), known=known)
    assert data.tobytes() == shuffled(rows, 3, 1).tobytes()
    assert data.shape == rows.shape
    if labels is not None and beside is not None:
        np.testing.assert_array_equal(beside, shuffled(labels, 3, 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_tiny")
def test_rows_far_beyond_the_memory_take_several_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int | None] = []
    make_room = Draft.make_room

    def noted(draft: Draft, size: int | None) -> None:
        sizes.append(size)
        make_room(draft, size)

    monkeypatch.setattr(Draft, "make_room", noted)
    rows = np.arange(20_000, dtype="i4")
    data, _ = flow(ExternalShuffle(1, 0, str(tmp_path)), rows, nbytes=2048, sizes=(64,))
    np.testing.assert_array_equal(data, shuffled(rows, 1))
    assert sizes[0] == 20_000 * 6
    assert len(sizes) > 2


def test_what_does_not_fit_is_planned_with_files(tmp_path: Path) -> None:
    spec = spec_of(np.zeros((1 << 20, 16), "f4"))
    stage = ExternalShuffle(1, 0, str(tmp_path))
    held = stage.hold(spec, Room(8 << 20, 2, block_rows=1000))
    assert held.facts["buckets"] > 1
    assert held.facts["temporary_bytes"] == (64 + 3) << 20
    assert sum(held.nbytes.values()) <= 8 << 20
    assert stage.hold(spec, Room(1 << 30, 2, block_rows=1000)).facts == {}


@pytest.mark.parametrize("rows", [1 << 20, None])
def test_too_little_memory_says_what_would_do(tmp_path: Path, rows: int | None) -> None:
    spec, stage = Spec(rows, (1000,), np.dtype("f8")), ExternalShuffle(1, 0, str(tmp_path))
    with pytest.raises(MemoryCeilingError) as caught:
        stage.hold(spec, Room(1000, 1, block_rows=5))
    stage.hold(spec, Room(caught.value.needs, 1, block_rows=5))


@pytest.mark.parametrize("width", [1, 1 << 10, 1 << 20, 1 << 24])
def test_needs_is_enough_for_rows_of_any_width(tmp_path: Path, width: int) -> None:
    spec, stage = Spec(1000, (width,), np.dtype("u1")), ExternalShuffle(1, 0, str(tmp_path))
    with pytest.raises(MemoryCeilingError) as caught:
        stage.hold(spec, Room(10, 1, block_rows=5))
    held = stage.hold(spec, Room(caught.value.needs, 1, block_rows=5))
    assert sum(held.nbytes.values()) <= caught.value.needs


def test_rows_that_never_stop_are_refused() -> None:
    with pytest.raises(UsageError, match="never stop"):
        ExternalShuffle(1).plan(Spec(None, (2,), np.dtype("f4"), endless=True))


def test_a_missing_directory_is_refused_before_the_run() -> None:
    with pytest.raises(OutputError, match="no such directory"):
        ExternalShuffle(1, 0, "/no/such").hold(Spec(1 << 30, (2,), np.dtype("f4")), Room(8 << 20, 1, block_rows=5))


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_midway_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match=f"temporary files in {tmp_path}.*no space left"):
        flow(ExternalShuffle(3, 0, str(tmp_path)), made(500, (3,), "f4"), nbytes=SMALL, known=known)
