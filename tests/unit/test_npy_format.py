from __future__ import annotations

import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlpipe.errors import InputError, InputMissingError
from mlpipe.npy_format import Header, build_header, check_dtype, check_file_size, parse_header, read_header
from tests.malformed import GOOD_DATA, dictionary, framed

READABLE = ["?", "i1", "u1", "<i2", ">i2", "<u4", ">i8", "<u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]
DTYPES = [*READABLE, "<c8", ">c16"]
FIXED = settings(derandomize=True, deadline=None)
SHAPES = [(), (0,), (1,), (7,), (3, 2), (0, 5), (5, 0), (2, 3, 4), (1,) * 32, (123456789, 0)]


@pytest.fixture(scope="module")
def file() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile(buffering=0) as opened:
        yield opened


def read(file: BinaryIO, raw: bytes, **options: bool) -> Header:
    file.seek(0)
    file.truncate()
    file.write(raw)
    return read_header(file.fileno(), "X.npy", **options)


def numpy_bytes(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    saved = io.BytesIO()
    np.lib.format.write_array(saved, array, version)
    return saved.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_numpy_writes_is_read_back(file: BinaryIO, shape: tuple[int, ...], dtype: str, version) -> None:
    for order in "CF":
        array = np.zeros(shape, dtype, order=order)
        raw = numpy_bytes(array, version)
        header = read(file, raw)
        assert header.version == version
        assert header.shape == shape
        assert header.dtype == array.dtype
        assert header.dtype.byteorder == array.dtype.byteorder
        assert header.fortran_order == (array.flags.f_contiguous and not array.flags.c_contiguous)
        assert (header.count, header.nbytes, header.file_bytes) == (array.size, array.nbytes, len(raw))


@FIXED
@given(st.lists(st.integers(0, 10**6) | st.integers(0, 2**63 - 1), max_size=6), st.sampled_from(DTYPES))
def test_headers_are_numpy_s_bytes(shape: list[int], dtype: str) -> None:
    expected = io.BytesIO()
    fields = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(expected, fields)
    assert build_header(tuple(shape), dtype) == expected.getvalue()


@pytest.mark.parametrize("rows", [0, 7, 10**6, 10**18])
def test_headers_leave_the_room_numpy_leaves_for_growth(rows: int) -> None:
    for dimensions in range(64):  # with some of them one space more takes another 64 bytes
        shape = (rows, *[10] * dimensions)
        expected = io.BytesIO()
        np.lib.format.write_array_header_1_0(expected, {"descr": "<f4", "fortran_order": False, "shape": shape})
        assert build_header(shape, "f4") == expected.getvalue()


@FIXED
@given(st.lists(st.integers(0, 2**63 - 1), max_size=64), st.sampled_from([16, 64, 512, 4096, 65536]))
def test_headers_are_aligned_and_numpy_understands_them(shape: list[int], align: int) -> None:
    raw = build_header(tuple(shape), "<f4", align=align)
    assert len(raw) % align == 0
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    parse = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    assert parse(stream, max_header_size=1 << 17) == (tuple(shape), False, np.dtype("<f4"))
    assert stream.tell() == len(raw)


def test_version_2_only_where_version_1_cannot_hold_the_length() -> None:
    assert build_header((3,), "f4", align=32768)[6:8] == b"\x01\x00"
    assert build_header((3,), "f4", align=65536)[6:8] == b"\x01\x00"
    assert build_header((3,), "f4", align=131072)[6:8] == b"\x02\x00"


def test_a_shape_may_hold_numpy_integers() -> None:
    assert build_header((np.int64(3), np.int32(2)), "f4") == build_header((3, 2), "f4")


@pytest.mark.parametrize(
    "header",
    [
        '{"descr": "<f4", "fortran_order": False, "shape": (3, 2)}',
        "{'shape':(3,2),'fortran_order':False,'descr':'<f4'}",
        "{'shape': (3, 2,), 'fortran_order': False, 'descr': '<f4', }   \n",
        "{'shape': (3L, 2L), 'fortran_order': False, 'descr': '<f4'}",
        " \t{\n 'descr' : '<f4' ,\n 'fortran_order' : False ,\n 'shape' : ( 3 , 2 , ) ,\n}\n\n",
        "{'descr': 'f4', 'fortran_order': False, 'shape': (3, 2)}",
        "{'descr': '=f4', 'fortran_order': False, 'shape': (3, 2)}",
    ],
)
def test_other_writers_spellings(file: BinaryIO, header: str) -> None:
    assert read(file, framed(header)).shape == (3, 2)


def test_a_header_of_64_kib_is_read(file: BinaryIO) -> None:
    header = dictionary().strip().ljust(65535) + "\n"
    assert read(file, framed(header, version=(2, 0))).offset == 12 + 65536


def test_sizes_have_no_limit_below_a_file_s() -> None:
    raw = dictionary(descr="'|u1'", shape="(9223372036854775807,)").encode()
    header = parse_header(raw, (1, 0), 128, "X.npy")
    assert header.file_bytes == 2**63 + 127
    with pytest.raises(InputError, match="9223372036854775807 bytes"):
        check_file_size(header, 1000, "X.npy")


def test_the_size_check_can_be_left_for_later(file: BinaryIO) -> None:
    header = read(file, framed(dictionary(), b""), check_size=False)
    assert header.shape == (3, 2)
    check_file_size(header, header.file_bytes, "X.npy")
    for size in (header.file_bytes - 1, header.file_bytes + 1):
        with pytest.raises(InputError, match=r"^X\.npy: "):
            check_file_size(header, size, "X.npy")


def test_the_file_position_is_left_alone(file: BinaryIO) -> None:
    read(file, framed(dictionary()))
    file.seek(5)
    read_header(file.fileno(), "X.npy")
    assert file.tell() == 5


def test_a_descriptor_that_cannot_be_read_is_an_input_error() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(InputMissingError, match=r"^X\.npy: cannot be read: Illegal seek$"):
            read_header(reading, "X.npy")
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("dtype", READABLE)
def test_dtypes_of_numbers_pass(dtype: str) -> None:
    check_dtype(np.dtype(dtype), "X.npy")


@pytest.mark.parametrize("dtype", ["c8", "c16", "O", "V4", "U3", "S3", "M8[s]", "m8[s]", "g", "f4,f4"])
def test_other_dtypes_do_not(dtype: str) -> None:
    with pytest.raises(InputError, match=r"X\.npy"):
        check_dtype(np.dtype(dtype), "X.npy")


def outcome(file: BinaryIO, raw: bytes) -> Header | None:
    """The header, or nothing if it was refused as it should be."""
    try:
        return read(file, raw)
    except InputError as error:
        message = str(error)
    assert message.startswith("X.npy: ")
    assert message.isprintable()
    assert len(message) < 1000
    return None


def assert_numpy_agrees(header: Header, raw: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about integers as Python 2 wrote them
        array = np.lib.format.read_array(io.BytesIO(raw), max_header_size=1 << 17)
    assert (array.shape, array.dtype) == (header.shape, header.dtype)


GOOD = {version: numpy_bytes(np.arange(6, dtype="<f4").reshape(3, 2), version) for version in [(1, 0), (2, 0), (3, 0)]}


@FIXED
@given(
    st.sampled_from(sorted(GOOD)),
    st.lists(st.tuples(st.integers(0, 151), st.integers(1, 255)), min_size=1, max_size=6),
    st.integers(-30, 30),
)
def test_damaged_files_are_refused_or_understood_as_numpy_does(
    file: BinaryIO, version: tuple[int, int], flips: list[tuple[int, int]], growth: int
) -> None:
    raw = bytearray(GOOD[version])
    for position, bits in flips:
        raw[position] ^= bits
    raw = raw[: len(raw) + growth] + b"x" * growth
    header = outcome(file, bytes(raw))
    if header is not None:
        assert_numpy_agrees(header, bytes(raw))


TOKENS = ["'descr'", "'fortran_order'", "'shape'", "'<f4'", "'|O'", "False", "True", "None", "(3, 2)", "(3L,2)", "6"]
TOKENS += ["{", "}", "[", "]", "(", ")", ":", ",", "'", '"', "\\", "-", "#", "\n", " ", "\x00", "\xa0", "'x'", "(0,)"]


@FIXED
@given(st.lists(st.sampled_from(TOKENS) | st.text(max_size=3), max_size=30).map("".join), st.sampled_from(sorted(GOOD)))
@example("{'descr':'<f4','fortran_order':False,'shape':(3, 2)}", (1, 0))
def test_any_text_as_header_is_refused_or_understood(file: BinaryIO, text: str, version: tuple[int, int]) -> None:
    encoding = "utf-8" if version == (3, 0) else "latin-1"
    raw = framed(text.encode(encoding, "replace"), GOOD_DATA, version)
    header = outcome(file, raw)
    if header is not None:
        assert_numpy_agrees(header, raw)


values = st.sampled_from(["'<f4'", "'>i2'", "'|b1'", "'<M8[s]'", "True", "False", "(3, 2)", "(6,)", "()", "(-1,)"])
entries = st.tuples(st.sampled_from(["descr", "fortran_order", "shape", "other"]), values | st.text(max_size=8))


@FIXED
@given(
    st.permutations(["descr", "fortran_order", "shape"]), st.lists(values, min_size=3, max_size=3), st.lists(entries)
)
def test_any_dictionary_as_header_is_refused_or_understood(
    file: BinaryIO, keys: list[str], first: list[str], more: list[tuple[str, str]]
) -> None:
    items = [*zip(keys, first, strict=True), *more[:2]]
    text = "{" + ", ".join(f"'{key}': {value}" for key, value in items) + "}"
    raw = framed(text.encode("latin-1", "replace"), GOOD_DATA)
    header = outcome(file, raw)
    if header is not None:
        assert_numpy_agrees(header, raw)


@FIXED
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(file: BinaryIO, raw: bytes) -> None:
    assert outcome(file, raw) is None
    assert outcome(file, b"\x93NUMPY\x01\x00" + raw) is None
