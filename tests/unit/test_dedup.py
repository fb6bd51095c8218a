from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlpipe.errors import MemoryCeilingError, OutputError, UsageError
from mlpipe.kernels.hashing import hash_rows
from mlpipe.link import Room, Spec
from mlpipe.stages import dedup, distinct, records
from mlpipe.stages.dedup import Dedup
from tests.flow import flow, spec_of


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that little data goes through files."""
    monkeypatch.setattr(dedup, "LEAST_BYTES", 0)
    monkeypatch.setattr(dedup, "LEAST_WRITE", 64)
    monkeypatch.setattr(dedup, "PIECE_ROWS", 13)
    monkeypatch.setattr(records, "PIECE_ROWS", 13)


def first_of_each(rows: np.ndarray) -> list[int]:
    """Indices of the rows that are kept, one by one."""
    seen, kept = set(), []
    for index, row in enumerate(rows):
        values = tuple("nan" if value != value else value for value in np.ravel(row).tolist())
        if values not in seen:
            seen.add(values)
            kept.append(index)
    return kept


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["u1", "i8", "f2", "f4", "f8", "?"]).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            st.tuples(st.integers(0, 40), st.integers(0, 3)),
            elements=st.sampled_from([0, -0.0, np.nan, 1, np.inf] if dtype[0] == "f" else [0, 1]),
        )
    )
)
def test_the_first_of_equal_rows_stays(rows: np.ndarray) -> None:
    kept = first_of_each(rows)
    labels = np.arange(len(rows))
    out, beside = flow(Dedup(), rows, labels, sizes=(7, 1), drops=True)
    assert out.tobytes() == rows[kept].tobytes()
    np.testing.assert_array_equal(beside, labels[kept])


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("nbytes", [6_000, 20_000, 1 << 30])
@pytest.mark.parametrize("different", [1, 50, 10_000])
@pytest.mark.parametrize("labelled", [False, True])
def test_the_memory_changes_nothing(tmp_path: Path, different: int, nbytes: int, known: bool, labelled: bool) -> None:
    rows = np.random.default_rng(different).integers(0, different, (1500, 1)) * np.array([[1, 3]])
    labels = np.arange(1500, dtype="u2") if labelled else None
    stage = Dedup(str(tmp_path))
    out, beside = flow(stage, rows, labels, nbytes=nbytes, sizes=(40, 3), known=known, drops=True)
    kept = first_of_each(rows)
    np.testing.assert_array_equal(out, rows[kept])
    if labels is not None:
        np.testing.assert_array_equal(beside, labels[kept])
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_tiny")
def test_heaps_that_are_too_large_are_divided_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "MOST_HEAPS", 2)
    made: list[int] = []
    finish = distinct._Overflow.finish

    def noted(self: distinct._Overflow) -> object:
        made.append(1)
        return finish(self)

    monkeypatch.setattr(distinct._Overflow, "finish", noted)
    rows = np.random.default_rng(0).integers(0, 3000, 6000)
    out, _ = flow(Dedup(str(tmp_path)), rows, nbytes=8_000, sizes=(64,), drops=True)
    np.testing.assert_array_equal(out, rows[first_of_each(rows)])
    assert len(made) > 10


@pytest.mark.usefixtures("_tiny")
def test_equal_hashes_are_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "hash_rows", lambda rows, key, out: out.fill(7))
    rows = np.random.default_rng(0).integers(0, 100, 400)
    out, _ = flow(Dedup(str(tmp_path)), rows, sizes=(64,), drops=True)
    np.testing.assert_array_equal(out, rows[first_of_each(rows)])


def test_siphash() -> None:
    def rounds(v: list[int], count: int) -> None:
        def left(word: int, bits: int) -> int:
            return (word << bits | word >> (64 - bits)) % 2**64

        for _ in range(count):
            v[0] = (v[0] + v[1]) % 2**64
            v[1] = left(v[1], 13) ^ v[0]
            v[0] = left(v[0], 32)
            v[2] = (v[2] + v[3]) % 2**64
            v[3] = left(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) % 2**64
            v[3] = left(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) % 2**64
            v[1] = left(v[1], 17) ^ v[2]
            v[2] = left(v[2], 32)

    def siphash(words: list[int], key: list[int]) -> int:
        v = [key[0] ^ 0x736F6D6570736575, key[1] ^ 0x646F72616E646F6D, key[0] ^ 0x6C7967656E657261]
        v.append(key[1] ^ 0x7465646279746573)
        for word in words:
            v[3] ^= word
            rounds(v, 1)
            v[0] ^= word
        v[2] ^= 0xFF
        rounds(v, 3)
        return v[0] ^ v[1] ^ v[2] ^ v[3]

    rows = np.random.default_rng(0).integers(0, 2**64, (20, 5), np.uint64)
    key, out = np.array([2**64 - 3, 12345], np.uint64), np.empty(20, np.uint64)
    hash_rows(rows, key, out)
    assert out.tolist() == [siphash(row, key.tolist()) for row in rows.tolist()]


@pytest.mark.parametrize("width", [1, 1 << 10, 1 << 22])
@pytest.mark.parametrize("rows", [10, 1 << 20, None])
def test_too_little_memory_says_what_would_do(rows: int | None, width: int) -> None:
    spec = Spec(rows, (width,), np.dtype("u1"))
    with pytest.raises(MemoryCeilingError) as caught:
        Dedup().hold(spec, Room(100, 1, block_rows=5))
    held = Dedup().hold(spec, Room(caught.value.needs, 1, block_rows=5))
    assert sum(held.nbytes.values()) <= caught.value.needs


def test_rows_that_never_stop_are_refused() -> None:
    with pytest.raises(UsageError, match="never stop"):
        Dedup().plan(Spec(None, (2,), np.dtype("f4"), endless=True))
    assert Dedup().plan(spec_of(np.zeros(3))).rows is None


@pytest.mark.usefixtures("_tiny")
def test_a_full_disk_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match=f"temporary files in {tmp_path}.*no space left"):
        flow(Dedup(str(tmp_path)), np.arange(3000), nbytes=6_000, sizes=(40,), drops=True)
