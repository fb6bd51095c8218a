"""Values as text: the same by Python, for a few rows, and by kernels."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from mlpipe.counting.columns import Text
from mlpipe.writers import cells as module
from mlpipe.writers.cells import csv_cells, float_strings, json_cells, lines
from mlpipe.writers.rows import Strings, chunks

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=60)


@pytest.fixture(params=["kernels", "python"], scope="module", autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """How text is made of a few rows."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "kernels":
            patch.setattr(module, "FEW", -1)
        yield


def _as_text(array: np.ndarray) -> list[str]:
    return [text.decode() for text in float_strings(array).tolist()]


@FIXED
@given(arrays(np.uint64, 50))
def test_floats_of_64_bits_are_as_python_has_them(bits):
    array = bits.view("f8")
    assert _as_text(array) == [repr(value) for value in array.tolist()]


@FIXED
@given(st.lists(st.floats(), max_size=20))
def test_common_floats_are_as_python_has_them(values):
    assert _as_text(np.array(values, "f8")) == [repr(value) for value in values]


def test_the_edges_of_floats_are_as_python_has_them():
    array = np.concatenate(
        [2.0 ** np.arange(-1074, 1024), 10.0 ** np.arange(-323, 309), np.arange(3000, dtype="u8").view("f8")]
    )
    array = np.concatenate([array, np.nextafter(array, 0), np.nextafter(array, np.inf), -array])
    assert _as_text(array) == [repr(value) for value in array.tolist()]


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_short_floats_are_the_shortest_that_read_back(dtype):
    if dtype == "f2":
        array = np.arange(1 << 16, dtype="u2").view("f2")
    else:
        array = np.random.default_rng(0).integers(0, 1 << 32, 50_000, dtype="u4").view("f4")
        array = np.concatenate([array, (2.0 ** np.arange(-149, 128)).astype("f4")])
    array = array[np.isfinite(array)]
    found = _as_text(array)
    for text, value in zip(found, array, strict=True):
        assert Decimal(text) == Decimal(str(value))  # NumPy puts the exponent elsewhere
    assert np.array_equal(np.array(found, "f8").astype(dtype), array)


@FIXED
@given(st.sampled_from(["i1", "u2", "i8", "u8"]).flatmap(lambda kind: arrays(np.dtype(kind), st.integers(0, 30))))
def test_integers_are_as_python_has_them(array):
    assert lines([array], [b";"], csv_cells).tobytes().decode() == "".join(f";{value}" for value in array.tolist())


def test_the_largest_and_smallest_integers_are_right():
    signed = np.array(
        [-(2**63), 2**63 - 1, 0, *(sign * 10**k + d for k in range(19) for d in (-1, 0) for sign in (1, -1))]
    )
    unsigned = np.array([2**64 - 1, *(10**k - d for k in range(20) for d in (0, 1))], np.uint64)
    for array in (signed, unsigned):
        assert lines([array], [b" "], csv_cells).tobytes().split() == [b"%d" % value for value in array.tolist()]


@FIXED
@given(st.lists(st.binary(max_size=9) | st.text('a",\n\r', max_size=9).map(str.encode), max_size=20))
def test_any_text_reads_back_from_csv_and_json(strings):
    columns = [Text.of(strings), np.ones(len(strings), int)]
    parts = list(chunks(tuple(columns)))
    csv_text, json_text = (
        b"".join(lines(part, before, cells).tobytes() for part in parts)
        for before, cells in (([b"\n", b","], csv_cells), ([b"],\n[", b","], json_cells))
    )
    if b"\0" not in b"".join(strings):  # which Python's reader refuses
        rows = list(csv.reader(io.StringIO(csv_text[1:].decode("latin-1"), newline="")))
        assert rows == [[string.decode("latin-1"), "1"] for string in strings]
    rows = json.loads(b"[" + json_text[2:] + b"]" * bool(strings) + b"]")
    assert rows == [[string.decode("utf-8", "backslashreplace"), 1] for string in strings]


@pytest.mark.parametrize("cells", [csv_cells, json_cells])
def test_every_kind_of_column_becomes_text(cells):
    columns = [
        np.array([True, False]), np.array([0.5, np.inf]), np.array([-1, 2], "i1"), np.array([b"a,b", b""]),
        np.array(["ä", '"']),
    ]  # fmt: skip
    found = lines(columns, [b"\n", *[b" "] * 4], cells).tobytes().decode()
    if cells is csv_cells:
        assert found == '\nTrue 0.5 -1 "a,b" ä\nFalse inf 2  """"'
    else:
        assert found == '\ntrue 0.5 -1 "a,b" "ä"\nfalse null 2 "" "\\""'


def test_of_no_rows_there_is_no_text():
    for column in (np.zeros(0, int), np.zeros(0), np.zeros(0, bool), np.zeros(0, "S3"), Text.of([])):
        [values] = [column] if isinstance(column, np.ndarray) else [Strings(column.content, column.offsets)]
        assert lines([values], [b"\n"], csv_cells).tobytes() == b""
