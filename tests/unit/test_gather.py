from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.errors import InputError, InputMissingError
from mlpipe.kernels.gather import gather, locate
from mlpipe.link import gather_into
from mlpipe.readers import mapped
from mlpipe.readers.array import ArraySource
from mlpipe.readers.mapped import FileMap, MappedRows
from mlpipe.readers.npy import NpySource


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any), st.data())
def test_every_row_is_found_in_its_file(sizes: list[int], data: st.DataObject) -> None:
    bounds = np.cumsum([0, *sizes])
    rows = np.array(data.draw(st.lists(st.integers(0, int(bounds[-1]) - 1))), np.int64)
    firsts = np.arange(len(sizes)) * 1000
    addresses, needed = np.empty(len(rows), np.int64), np.zeros(len(sizes), np.bool_)
    assert locate(bounds, firsts, 3, rows, addresses, needed)
    places = np.searchsorted(bounds, rows, side="right") - 1
    np.testing.assert_array_equal(addresses, firsts[places] + 3 * (rows - bounds[places]))
    assert set(np.flatnonzero(needed)) == set(places)
    for row in (-1, int(bounds[-1])):
        assert not locate(bounds, firsts, 3, np.append(rows, row), np.append(addresses, 0), needed)


def test_files_of_very_different_sizes() -> None:
    bounds = np.cumsum([0, 1, 0, 10**9, 0, 0, 3, 5, 0])
    rows = np.array([0, 1, 2, 10**9, 10**9 + 1, 10**9 + 3, 10**9 + 4, 10**9 + 8])
    addresses, needed = np.empty(len(rows), np.int64), np.zeros(8, np.bool_)
    assert locate(bounds, 10**10 * np.arange(8), 0, rows, addresses, needed)
    assert (addresses // 10**10).tolist() == [0, 2, 2, 2, 5, 5, 6, 6]


@pytest.mark.parametrize("nbytes", [1, 3, 64, 65, 516, 5000])
def test_rows_of_any_size_are_copied(nbytes: int) -> None:
    memory = np.random.default_rng(1).integers(0, 255, (50, nbytes), np.uint8)
    rows = np.random.default_rng(2).integers(0, 50, 33)
    out = np.full((34, nbytes), 7, np.uint8)
    gather(memory.ctypes.data + rows * nbytes, out[:33])
    np.testing.assert_array_equal(out[:33], memory[rows])
    assert (out[33] == 7).all()
    gather(np.empty(0, np.int64), out[:0])


@pytest.mark.parametrize("dtype", ["?", "i1", ">i4", "<f2", "<f4", ">f8", "<c8"])
@pytest.mark.parametrize("shape", [(1,), (7,), (9, 5), (40, 3, 2), (5, 0)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_gathered_rows_are_numpy_s(tmp_path: Path, shape: tuple[int, ...], dtype: str, order: str) -> None:
    array = np.asarray((np.arange(np.prod(shape)) % 100).reshape(shape), dtype, order=order)
    np.save(tmp_path / "X.npy", array)
    rows = np.random.default_rng(3).integers(0, shape[0], 25)
    with NpySource(tmp_path / "X.npy") as source:
        for out_dtype in {array.dtype, array.dtype.newbyteorder("="), np.dtype("c16"), np.dtype("f4")}:
            if array.dtype.kind == "c" and out_dtype.kind != "c":
                continue
            out = np.empty((25, *shape[1:]), out_dtype)
            source.gather(rows, out)
            np.testing.assert_array_equal(out, array[rows].astype(out_dtype))
        source.gather(rows[:0], out[:0])


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.zeros((4, 2), "c8"))
    with NpySource(tmp_path / "X.npy") as source:
        out = np.empty((2, 2), "c8")
        for rows in ([0, 4], [-1, 0]):
            with pytest.raises(IndexError, match="of 4"):
                source.gather(np.array(rows), out)
        with pytest.raises(ValueError, match="int64"):
            source.gather(np.array([0, 1], np.int32), out)
        with pytest.raises(ValueError, match="C-contiguous rows of shape"):
            source.gather(np.array([0, 1]), np.empty((2, 3), "c8"))
        with pytest.raises(InputError, match="complex64"):
            source.gather(np.array([0, 1]), np.empty((2, 2), "f4"))
    with pytest.raises(ValueError, match="is closed"):
        source.gather(np.array([0, 1]), out)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_file_that_shrinks_is_an_error_not_the_end_of_the_process(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "X.npy"
    np.save(path, np.zeros((10_000, 10), "f4"))
    rows = np.arange(9_999, 0, -7)
    with NpySource(path) as source:
        out = np.empty((len(rows), 10), dtype)
        source.gather(rows, out)
        os.truncate(path, 5000)
        with pytest.raises(InputError, match=r"X\.npy: truncated while reading, it now ends at byte 5000"):
            source.gather(rows, out)


def test_rows_of_several_files(tmp_path: Path) -> None:
    parts = [np.random.default_rng(n).random((rows, 3)) for n, rows in enumerate([4, 1, 0, 7])]
    bounds = np.cumsum([0, *map(len, parts)])
    sources = []
    for n, part in enumerate(parts):
        np.save(tmp_path / f"{n}.npy", part)
        sources.append(NpySource(tmp_path / f"{n}.npy"))
    seen: list[int] = []
    rows = MappedRows(bounds, 24, lambda place: sources[place].map(), lambda places: seen.extend(places.tolist()))
    out = np.empty((20, 3))
    wanted = np.random.default_rng(0).integers(0, 12, 20)
    wanted[0] = 4
    rows.gather(wanted, out)
    np.testing.assert_array_equal(out, np.concatenate(parts)[wanted])
    assert seen == [0, 1, 3]
    for source in sources:
        source.close()
    rows.gather(wanted[:3], out[:3])  # maps outlive the descriptors


def test_rows_that_are_not_in_memory_are_asked_for_together(tmp_path: Path) -> None:
    path = tmp_path / "X.npy"
    array = np.random.default_rng(0).random((3000, 100))
    np.save(path, array)
    os.sync()
    with NpySource(path) as source:
        os.posix_fadvise(source._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        rows = np.random.default_rng(1).permutation(3000)
        out = np.empty_like(array)
        source.gather(rows, out)
        np.testing.assert_array_equal(out, array[rows])


def test_pages_of_a_row() -> None:
    page = mapped._PAGE
    assert mapped._pages(3 * page + 5, 7) == (3 * page, 12)
    assert mapped._pages(3 * page - 5, 7) == (2 * page, page + 2)


def test_what_cannot_be_mapped_says_so() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing), pytest.raises(InputMissingError, match="pipe: cannot be mapped"):
        FileMap(reading, 10, "pipe")


def test_sources_without_gather_are_read_run_by_run() -> None:
    array = np.random.default_rng(0).random((10, 2))
    read: list[tuple[int, int]] = []

    class Counting(ArraySource):
        def read_rows(self, start: int, out: np.ndarray) -> None:
            read.append((start, len(out)))
            super().read_rows(start, out)

    rows = np.array([3, 4, 5, 9, 0, 1, 1])
    out = np.empty((7, 2))
    gather_into(Counting(array, "X"), rows, out)
    np.testing.assert_array_equal(out, array[rows])
    assert read == [(3, 3), (9, 1), (0, 2), (1, 1)]
    gather_into(Counting(array, "X"), rows[:0], out[:0])
