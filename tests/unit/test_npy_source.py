from __future__ import annotations

import itertools
import os
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpipe
from mlpipe.errors import InputError, InputMissingError
from mlpipe.readers import npy
from mlpipe.readers.files import Fingerprint, open_regular, read_exactly, shown_name
from mlpipe.readers.npy import NpySource

DTYPES = ["?", "i1", "<u2", ">i4", "<i8", ">u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c16"]
SHAPES = [(1,), (7,), (1, 1), (7, 1), (1, 7), (9, 5), (0, 3), (3, 0), (4, 3, 2), (3, 2, 2, 3), (2, 0, 3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "X.npy"


def made(shape: tuple[int, ...], dtype: str, order: str = "C") -> np.ndarray:
    """An array of values that differ and that float16 holds, where the dtype can tell them apart."""
    values = np.arange(np.prod(shape, dtype=int)) % 2000
    return np.asarray(values.reshape(shape), dtype=dtype, order=order)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_as_numpy_loads_them(path: Path, dtype: str) -> None:
    for shape, order in itertools.product(SHAPES, "CF"):
        array = made(shape, dtype, order)
        np.save(path, array)
        with NpySource(path) as source:
            assert (source.shape, source.dtype, len(source)) == (array.shape, array.dtype, len(array))
            assert (source.spec.rows, source.spec.row_shape, source.spec.dtype) == (shape[0], shape[1:], array.dtype)
            assert source.fortran_order == (array.flags.f_contiguous and not array.flags.c_contiguous)
            read = source[:]
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype.newbyteorder("=")
        assert read.flags.c_contiguous


@pytest.mark.parametrize("source_dtype", DTYPES[:-2])
def test_values_are_converted_as_numpy_does(path: Path, source_dtype: str) -> None:
    for order in "CF":
        array = made((11, 6), source_dtype, order)
        np.save(path, array)
        for dtype in ("f4", "f8", "?", "i8", ">f4", "c16"):
            out = np.empty((5, 6), dtype)
            with NpySource(path) as source:
                source.read_rows(3, out)
            np.testing.assert_array_equal(out, array[3:8].astype(dtype))


def test_values_out_of_range_convert_silently(path: Path) -> None:
    np.save(path, np.array([1e300, -1e300, np.nan, np.inf]))
    out = np.empty(4, np.float32)
    with NpySource(path) as source:
        source.read_rows(0, out)
    np.testing.assert_array_equal(out, np.array([np.inf, -np.inf, np.nan, np.inf], np.float32))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_complex_numbers_never_lose_their_imaginary_part(path: Path, dtype: str) -> None:
    np.save(path, np.ones((3, 2), "c8"))
    with NpySource(path) as source, pytest.raises(InputError, match=r"X\.npy: complex64 .* real, imag or abs"):
        source.read_rows(0, np.empty((3, 2), dtype))


# Columns so short that they are read together, so long that they take several tiles, and in between.
@pytest.mark.parametrize("dtype", [">f4", "<f8", "u1"])
@pytest.mark.parametrize(
    "shape", [(40, 3000), (5000, 37), (20000, 19), (50000, 3), (9000, 3, 5), (30, 20, 30)], ids=str
)
def test_columns_of_every_length(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(7).integers(0, 200, shape).astype(dtype, order="F")
    np.save(path, array)
    for start, stop in [(0, shape[0]), (0, 1), (17, 18), (shape[0] - 25, shape[0]), (1, shape[0] - 1)]:
        for out_dtype in (array.dtype, np.dtype("f4")):
            out = np.empty((stop - start, *shape[1:]), out_dtype)
            with NpySource(path) as source:
                source.read_rows(start, out)
            np.testing.assert_array_equal(out, array[start:stop])


@settings(deadline=None, derandomize=True)
@given(
    st.integers(0, 12),
    st.slices(12) | st.builds(slice, *[st.none() | st.integers(-30, 30)] * 2, st.integers(-5, 5).filter(bool)),
    st.sampled_from("CF"),
    st.sampled_from([npy.SPAN_BYTES, 64, 1]),
)
def test_slices_are_numpy_s(
    tmp_path_factory: pytest.TempPathFactory, rows: int, index: slice, order: str, span: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "slices.npy"
    array = made((rows, 3), "<f4", order)
    np.save(path, array)
    with pytest.MonkeyPatch.context() as patch, NpySource(path) as source:
        patch.setattr(npy, "SPAN_BYTES", span)
        np.testing.assert_array_equal(source[index], array[index], strict=True)


def test_far_rows_are_read_without_those_between(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(path, np.zeros((1000, 1000), np.float32))
    read = []

    def counting(fd: int, out: np.ndarray, offset: int, name: str) -> None:
        read.append(out.nbytes)
        read_exactly(fd, out, offset, name)

    monkeypatch.setattr(npy, "read_exactly", counting)
    with NpySource(path) as source:
        source[::100]
        assert read == [4000] * 10
        read.clear()
        source[5:8]
        assert read == [12000]
        read.clear()
        source[-1]
        assert read == [4000]


@pytest.mark.parametrize("index", [0, 3, -1, -4, np.int64(2)])
def test_one_row(path: Path, index: int) -> None:
    array = made((4, 2, 3), ">f4")
    np.save(path, array)
    with NpySource(path) as source:
        np.testing.assert_array_equal(source[index], array[index])
    np.save(path, array[:, 0, 0])
    with NpySource(path) as source:
        assert source[index].shape == ()
        assert source[index] == array[index, 0, 0]


def test_wrong_indices_are_python_s_errors(path: Path) -> None:
    np.save(path, np.zeros((4, 2)))
    with NpySource(path) as source:
        for index in (4, -5):
            with pytest.raises(IndexError):
                source[index]
        for wrong in (1.0, "1", (1, 2), ..., None):
            with pytest.raises(TypeError):
                source[wrong]
        assert len(list(source)) == 4
        with pytest.raises(IndexError, match="rows 3 to 5 of 4"):
            source.read_rows(3, np.empty((2, 2)))
        with pytest.raises(IndexError):
            source.read_rows(-1, np.empty((2, 2)))
        for out in (np.empty((2, 3)), np.empty(4), np.empty((2, 2), order="F"), np.empty((2, 4))[:, ::2]):
            with pytest.raises(ValueError, match="C-contiguous rows of shape"):
                source.read_rows(0, out)


@pytest.mark.parametrize("rows", [1, 3, 10, 1000])
@pytest.mark.parametrize("count", [0, 1, 10])
def test_blocks_are_all_rows_in_order(path: Path, rows: int, count: int) -> None:
    array = made((count, 3), ">i2")
    np.save(path, array)
    with NpySource(path) as source:
        parts = [(block.start, block.data.copy()) for block in source.blocks(rows)]
    assert [start for start, _ in parts] == list(range(0, count, rows))
    assert all(0 < len(data) <= rows and data.dtype.isnative for _, data in parts)
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 3), "i2"), *(data for _, data in parts)]), array)


def test_blocks_of_one_iterator_share_memory_and_those_of_two_do_not(path: Path) -> None:
    np.save(path, made((10, 3), "f4"))
    with NpySource(path) as source:
        first, other = source.blocks(4), source.blocks(4)
        one, two, three = next(first).data, next(first).data, next(other).data
    assert np.shares_memory(one, two)
    assert not np.shares_memory(one, three)


def test_blocks_of_no_rows_make_no_sense(path: Path) -> None:
    np.save(path, np.zeros(3))
    with NpySource(path) as source, pytest.raises(ValueError, match="at least 1"):
        next(source.blocks(0))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_conversion_holds_a_bounded_scratch(path: Path, dtype: str, order: str) -> None:
    np.save(path, np.zeros((100_000, 20), dtype, order=order))
    out = np.empty((100_000, 20), np.float32)
    with NpySource(path) as source:
        tracemalloc.start()
        try:
            source.read_rows(0, out)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < (50_000 if (dtype, order) == ("<f4", "C") else npy.SCRATCH_BYTES + 50_000)


@pytest.mark.parametrize("order", ["C", "F"])
def test_threads_may_read_at_once(path: Path, order: str) -> None:
    array = made((3000, 16), ">f8", order)
    np.save(path, array)
    barrier = threading.Barrier(4)
    with NpySource(path) as source, ThreadPoolExecutor(4) as pool:

        def part(first: int) -> np.ndarray:
            barrier.wait()
            return np.concatenate([source[start : start + 50] for start in range(first, 3000, 200)])

        parts = list(pool.map(part, range(0, 200, 50)))
    for first, read in zip(range(0, 200, 50), parts, strict=True):
        np.testing.assert_array_equal(read, array.reshape(15, 4, 50, 16)[:, first // 50].reshape(-1, 16))


def test_short_reads_are_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = made((30, 4), "f4")
    np.save(path, array)
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: whole(fd, [memoryview(parts[0]).cast("B")[:37]], at))
    with NpySource(path) as source:
        np.testing.assert_array_equal(source[2:], array[2:])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_truncated_while_reading(path: Path, dtype: str, order: str) -> None:
    np.save(path, np.zeros((1000, 50), order=order))
    with NpySource(path) as source:
        source.read_rows(0, np.empty((1000, 50), dtype))
        os.truncate(path, 200_000)
        with pytest.raises(InputError, match=r"X\.npy: truncated while reading.* 200000"):
            source.read_rows(0, np.empty((1000, 50), dtype))


def test_an_unreadable_disk_is_an_input_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(path, np.zeros(3))

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with NpySource(path) as source:
        monkeypatch.setattr(os, "preadv", broken)
        with pytest.raises(InputMissingError, match=r"X\.npy: cannot be read: Input/output error"):
            source[0]


def test_unchanged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(path, np.zeros(3))
    monkeypatch.chdir(path.parent)
    with NpySource("X.npy") as source:
        assert source.fingerprint == Fingerprint.of(path.stat())
        monkeypatch.chdir("/")
        source[:]
        path.chmod(0o600)
        source.check_unchanged()


def rewritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"changed!")
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # where the clock is coarse


def replaced(path: Path) -> None:
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        np.save(file, np.zeros(3))
    new.rename(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rewritten, "written to while"),
        (replaced, "replaced while"),
        (lambda path: os.truncate(path, 140), "from 152 to 140 bytes"),
        (lambda path: os.truncate(path, 200), "from 152 to 200 bytes"),
        (Path.unlink, "removed or renamed while"),
        (lambda path: path.rename(path.with_suffix(".old")), "removed or renamed while"),
    ],
    ids=["rewritten", "replaced", "truncated", "grown", "removed", "renamed"],
)
def test_changed(path: Path, change, words: str) -> None:
    np.save(path, np.zeros(3))
    with NpySource(path) as source:
        change(path)
        with pytest.raises(InputError, match=words) as caught:
            source.check_unchanged()
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("run again")


def test_closing(path: Path) -> None:
    np.save(path, np.zeros(3))
    before = len(os.listdir("/proc/self/fd"))
    source = NpySource(path)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    source.close()
    source.close()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="is closed"):
        source[0]
    source.check_unchanged()


def test_descriptors_are_not_inherited(path: Path) -> None:
    np.save(path, np.zeros(3))
    fd, fingerprint = open_regular(path)
    try:
        assert not os.get_inheritable(fd)
        assert fingerprint.st_ino == path.stat().st_ino
    finally:
        os.close(fd)


def test_what_replaces_a_file_while_it_is_opened_is_refused_without_blocking(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(path, np.zeros(3))
    opening = os.open

    def swapped(name: str, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return opening(name, flags)

    monkeypatch.setattr(os, "open", swapped)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InputMissingError, match="a pipe"):
        NpySource(path)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_mlpipe_open_is_the_lazy_source(path: Path) -> None:
    np.save(path, np.arange(6.0).reshape(3, 2))
    with mlpipe.open(str(path)) as source:
        assert isinstance(source, NpySource)
        assert repr(source) == f"NpySource({str(path)!r}, shape=(3, 2), dtype=float64)"
        assert source.name == source.path == str(path)
        assert source.header.offset == 128


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.npy", "plain.npy"),
        ("Größe.npy", "Größe.npy"),
        ("a\tb\x07", r"a\tb\x07"),
        ("\u202etxt", r"\u202etxt"),
        ("", "''"),
    ],
)
def test_names_are_shown_on_one_printable_line(name: str, shown: str) -> None:
    assert shown_name(name) == shown
    assert (shown_name(Path(name)) == shown) or not name
