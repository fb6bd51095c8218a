from __future__ import annotations

import errno
import math
import os
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlpipe.counting import entries
from mlpipe.counting.records import Field, RecordTally
from mlpipe.counting.wide import ExactSum
from mlpipe.errors import InputError, MemoryCeilingError, OutputError
from mlpipe.workers import Workers

FIXED = settings(max_examples=60, deadline=None, derandomize=True)
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "S3", "S8", "U1", "U3"]
EXTREMES = {
    "f": [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1.5, -1.5, 5e-324],
    "i": [0, 1, -1, 127, -128],
    "u": [0, 1, 255],
    "b": [False, True],
    "S": [b"", b"a", b"\0a", b"a\0b", b"\xff", b"ab"],
    "U": ["", "a", "\0a", "é", "\U0001f600", "ab"],
}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rooms be so small that little data goes through files."""
    monkeypatch.setattr(entries, "LEAST_ROOM", 1 << 12)


def as_records(columns: Sequence[np.ndarray]) -> np.ndarray:
    """The bytes of columns side by side."""
    count = len(columns[0])
    return np.concatenate(
        [np.ascontiguousarray(one).reshape(count, -1).view(np.uint8).reshape(count, -1) for one in columns]
        if count
        else [np.empty((0, one.dtype.itemsize * math.prod(one.shape[1:])), np.uint8) for one in columns],
        axis=1,
    )


def tally(
    *columns: np.ndarray,
    room: int = 1 << 20,
    threads: int = 1,
    sizes: Sequence[int] = (1000,),
    weights: np.ndarray | None = None,
    directory: str | Path = ".",
) -> tuple[list[np.ndarray], np.ndarray, Any]:
    """Keys, counts and what else is known, of records that come in blocks."""
    fields = [Field(one.dtype, one.shape[1:]) for one in columns]
    records = as_records(columns)
    dtype = None if weights is None else weights.dtype
    counter = RecordTally(fields, room=room, threads=threads, directory=str(directory), weights=dtype)
    try:
        with Workers(threads) as workers:
            start, turn = 0, 0
            while start < len(records):
                stop = start + sizes[turn % len(sizes)]
                counter.add(records[start:stop], workers, None if weights is None else weights[start:stop])
                start, turn = stop, turn + 1
            counted = counter.finish(workers)
            pieces = list(counted.by_value())
    finally:
        counter.close()
    keys = [
        np.concatenate([piece.keys[n] for piece in pieces]) if pieces else np.empty((0, *one.shape[1:]), one.dtype)
        for n, one in enumerate(columns)
    ]
    counts = np.concatenate([piece.counts for piece in pieces]) if pieces else np.empty(0, dtype or np.int64)
    assert counted.distinct == len(counts)
    return keys, counts, counted


def plain(columns: Sequence[np.ndarray]) -> list[tuple[Any, ...]]:
    """Each record as Python compares it."""
    return [
        tuple("nan" if value != value else value for one in columns for value in np.ravel(one[i]).tolist())
        for i in range(len(columns[0]))
    ]


def order_key(record: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((value == "nan", 0 if value == "nan" else value) for value in record)


def check(keys: Sequence[np.ndarray], counts: np.ndarray, columns: Sequence[np.ndarray]) -> None:
    """Compare with `collections.Counter`, order included."""
    expected = Counter(plain(columns))
    found = plain(keys) if len(counts) else []
    assert found == sorted(expected, key=order_key)
    assert counts.tolist() == [expected[record] for record in found]
    for key, one in zip(keys, columns, strict=True):
        assert (key.dtype, key.shape[1:]) == (one.dtype, one.shape[1:])


def columns_of(dtype: str) -> st.SearchStrategy[np.ndarray]:
    kind = np.dtype(dtype).kind
    elements = st.sampled_from([np.array(one, dtype)[()] for one in EXTREMES[kind] if fits(one, dtype)])
    shapes = st.tuples(st.integers(0, 30), st.integers(0, 5)) | st.tuples(st.integers(0, 30))
    return arrays.arrays(dtype, shapes, elements=elements)


def fits(value: Any, dtype: str) -> bool:
    one = np.array(value)
    with np.errstate(all="ignore"):
        made = one.astype(dtype)
    return bool(np.dtype(dtype).kind == "f" or made == one)


@FIXED
@given(st.sampled_from(DTYPES).flatmap(columns_of), st.integers(1, 7))
def test_rows_of_any_dtype(rows: np.ndarray, size: int) -> None:
    if rows.dtype.kind in "SU":
        rows = np.ascontiguousarray(rows)
    keys, counts, counted = tally(rows, sizes=(size, 3))
    check(keys, counts, [rows])
    assert counted.total == len(rows)
    if rows.dtype.kind == "f":
        assert counted.missing == int(np.isnan(rows.reshape(len(rows), math.prod(rows.shape[1:]))).any(axis=1).sum())


@FIXED
@given(st.data(), st.lists(st.sampled_from(DTYPES), min_size=2, max_size=3))
def test_fields_of_different_dtypes(data: st.DataObject, dtypes: list[str]) -> None:
    count = data.draw(st.integers(0, 25))
    columns = []
    for dtype in dtypes:
        values = [one for one in EXTREMES[np.dtype(dtype).kind] if fits(one, dtype)]
        drawn = data.draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))
        columns.append(np.array(drawn, dtype))
    check(*tally(*columns, sizes=(9,))[:2], columns)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("room", [1 << 12, 20_000, 100_000, 1 << 24])
@pytest.mark.parametrize("different", [1, 40, 3_000])
def test_the_memory_changes_nothing(tmp_path: Path, different: int, room: int, threads: int) -> None:
    rows = np.random.default_rng(different).integers(-different, different, (6_000, 3)).astype("i4")
    values, counts = np.unique(rows, axis=0, return_counts=True)
    (keys,), found, counted = tally(rows, room=room, threads=threads, sizes=(999, 77), directory=tmp_path)
    np.testing.assert_array_equal(keys, values)
    np.testing.assert_array_equal(found, counts)
    assert (counted.spilled_bytes > 0) == (counted.method == "partitions on disk")
    if room < 20_000 and different == 3_000:
        assert counted.spilled_bytes
    if room == 1 << 24:
        assert not counted.spilled_bytes
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", [1, 1000, 1e-3])
def test_many_rows_are_in_order(scale: float) -> None:
    rng = np.random.default_rng(5)
    rows = (rng.normal(size=(30_000, 2)) * scale).astype("f4")
    rows[:20_000, 0] = 1
    values, counts = np.unique(rows, axis=0, return_counts=True)
    (keys,), found, _ = tally(rows, sizes=(10_000,), room=1 << 24)
    np.testing.assert_array_equal(keys, values)
    np.testing.assert_array_equal(found, counts)


@pytest.mark.parametrize("room", [1 << 13, 1 << 24])
@pytest.mark.parametrize("dtype", ["i8", "f8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_weights_add_up_in_the_order_of_rows(tmp_path: Path, threads: int, dtype: str, room: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 700, (4_000, 2))
    weights = (rng.random(4_000) * 10.0 ** rng.integers(-8, 8, 4_000)).astype("f8")
    weights = weights.astype(dtype) if dtype == "f8" else rng.integers(0, 2**40, 4_000)
    sums: dict[tuple[int, ...], Any] = {}
    for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
        sums[tuple(row)] = sums.get(tuple(row), 0) + weight
    (keys,), counts, counted = tally(
        rows, room=room, threads=threads, sizes=(511,), weights=weights, directory=tmp_path
    )
    assert [tuple(row) for row in keys.tolist()] == sorted(sums)
    assert counts.tolist() == [sums[row] for row in sorted(sums)]
    assert counted.total == (math.fsum(sums.values()) if dtype == "f8" else sum(weights.tolist()))


@pytest.mark.parametrize("weight", [-1, -1.5, np.nan, np.inf])
def test_wrong_weights_are_refused(weight: float) -> None:
    weights = np.array([1, 2, weight])
    weights = weights.astype("i8") if weight == -1 else weights
    with pytest.raises(InputError, match=r"weight .* of row 2: weights are finite and not negative"):
        tally(np.zeros((3, 1)), weights=weights)


def test_sums_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="add up to 9223372036854775808"):
        tally(np.zeros((2, 1)), weights=np.array([2**62, 2**62]))


def test_wide_rows_of_which_few_fit(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).integers(0, 2, (300, 1001)).astype("u1")
    rows[:, :990] = 0
    room = RecordTally.least([Field(rows.dtype, (1001,))], 2)
    (keys,), counts, counted = tally(rows, room=room, threads=2, sizes=(50,), directory=tmp_path)
    values, expected = np.unique(rows, axis=0, return_counts=True)
    np.testing.assert_array_equal(keys, values)
    np.testing.assert_array_equal(counts, expected)
    assert counted.spilled_bytes


@pytest.mark.parametrize("shape", [(), (3,), (2, 1000), (0,)])
def test_the_least_room_works_and_less_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    fields = [Field(np.dtype("f4"), shape)]
    least = RecordTally.least(fields, 2)
    with pytest.raises(MemoryCeilingError) as caught:
        RecordTally(fields, room=least - 1, threads=2, directory=str(tmp_path))
    assert caught.value.needs == least
    rows = np.random.default_rng(2).integers(0, 1000, (700, *shape)).astype("f4")
    check(*tally(rows, room=least, threads=2, sizes=(100,), directory=tmp_path)[:2], [rows])


def test_nothing_came() -> None:
    for weights in (None, np.empty(0)):
        keys, counts, counted = tally(np.empty((0, 3), "f4"), weights=weights)
        assert (keys[0].shape, len(counts), counted.total, counted.missing) == ((0, 3), 0, 0, 0)


def test_rows_that_lie_anywhere_and_cannot_be_written_to() -> None:
    memory = np.arange(1, 1 + 8 * 50, dtype=np.uint8)[1:-7]
    for width in (8, 7, 16, 3):
        rows = memory[: len(memory) // width * width].reshape(-1, width)
        rows.flags.writeable = False
        check(*tally(rows)[:2], [rows])


def test_equal_hashes_are_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "hash_items", lambda *arguments: arguments[-1].fill(7))
    rows = np.random.default_rng(0).integers(0, 100, (400, 2))
    check(*tally(rows, threads=2)[:2], [rows])


@FIXED
@given(st.lists(st.lists(st.floats(0, 1e300), max_size=5), max_size=6))
def test_exact_sums(parts: list[list[float]]) -> None:
    total = ExactSum()
    for part in parts:
        total.add(part)
    assert total.value == float(sum((Fraction(value) for part in parts for value in part), Fraction(0)))


@pytest.mark.parametrize("dtype", ["c8", "V4", "M8[s]", "g", ">i4", ">U2"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match="are needed"):
        Field(np.dtype(dtype))


def test_a_full_disk_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    rows = np.arange(8_000).reshape(-1, 2)
    with pytest.raises(OutputError, match=f"temporary files in {tmp_path}.*no space left"):
        tally(rows, room=1 << 13, threads=2, directory=tmp_path)


def test_a_closed_counter_leaves_nothing(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 1000, (4000, 2))
    counter = RecordTally([Field(rows.dtype, (2,))], room=1 << 13, threads=1, directory=str(tmp_path))
    with Workers(1) as workers:
        counter.add(as_records([rows]), workers)
    counter.close()
    counter.close()
    assert not list(tmp_path.iterdir())
