from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlpipe.counting.records import Field, RecordTally
from mlpipe.errors import InputError, InputMissingError
from mlpipe.npy_format import parse_header, read_header, read_stream_header
from mlpipe.readers.npy import NpySource
from mlpipe.readers.shards import ShardsSource
from mlpipe.readers.strings import StringSource, holds_text
from mlpipe.readers.text_rows import TextRows
from mlpipe.workers import Workers
from tests.malformed import dictionary, framed

FIXED = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


strings = st.sampled_from(["S4", "S5", "<U2", ">U3", "<U7"]).flatmap(
    lambda dtype: st.tuples(
        arrays.arrays(
            dtype,
            st.tuples(st.integers(0, 9)) | st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 3)),
            elements=st.sampled_from(
                [b"", b"a", b"\0a", b"\xff", b"abcd"] if dtype[0] == "S" else ["", "a", "\0é", "\U0010ffff"]
            ),
        ),
        st.sampled_from("CF"),
    )
)


@FIXED
@given(strings, st.integers(1, 4))
def test_rows_come_as_numpy_has_them(tmp_path: Path, made: tuple[np.ndarray, str], size: int) -> None:
    array = np.asarray(made[0], order=made[1])
    path = saved(tmp_path / "text.npy", array)
    with StringSource(path) as source:
        assert source.text_dtype == array.dtype.newbyteorder("=")
        assert source.spec.row_shape == (*array.shape[1:], array.dtype.itemsize)
        assert (source.spec.rows, source.spec.dtype) == (len(array), np.uint8)
        blocks = [block.data.copy() for block in source.blocks(size)]
        rows = np.concatenate(blocks) if blocks else source[:0]
        if array.size:
            np.testing.assert_array_equal(rows.view(source.text_dtype)[..., 0], array)
            order = np.arange(len(array))[::-1].copy()
            source.gather(order, rows)
            np.testing.assert_array_equal(rows.view(source.text_dtype)[..., 0], array[::-1])
        source.check_unchanged()


@FIXED
@given(strings)
def test_strings_are_counted(tmp_path: Path, made: tuple[np.ndarray, str]) -> None:
    array = np.asarray(made[0], order=made[1])
    with StringSource(saved(tmp_path / "text.npy", array)) as source, Workers(1) as workers:
        field = Field(source.text_dtype)
        tally = RecordTally([field], room=1 << 20, threads=1, directory=str(tmp_path))
        for block in source.blocks(3):
            tally.add(block.data.reshape(-1, field.row_bytes), workers)
        pieces = list(tally.finish(workers).by_value())
        tally.close()
    found = {key: count for keys, counts in pieces for key, count in zip(keys[0].tolist(), counts, strict=True)}
    assert found == Counter(array.ravel().tolist())
    assert list(found) == sorted(found)


def test_other_readers_go_on_refusing_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "text.npy", np.array(["to", "be"]))
    assert holds_text(path)
    with pytest.raises(InputError, match=r"dtype '<U2': text; save bool, integers or floats of 1 to 8 bytes"):
        NpySource(path)
    raw = path.read_bytes()
    with pytest.raises(InputError, match="text"):
        read_stream_header(io.BytesIO(raw).read, "X.npy")
    with pytest.raises(InputError, match="text"):
        parse_header(raw[10:128], (1, 0), 128, "X.npy")
    assert parse_header(raw[10:128], (1, 0), 128, "X.npy", text=True).dtype == np.dtype("<U2")
    with path.open("rb") as file:
        assert read_header(file.fileno(), "X.npy", text=True).shape == (2,)


def test_numbers_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "numbers.npy", np.arange(3))
    assert not holds_text(path)
    with pytest.raises(InputError, match=r"numbers\.npy: int64 where strings are needed"):
        StringSource(path)
    with pytest.raises(InputMissingError):
        holds_text(tmp_path / "none.npy")


@pytest.mark.parametrize(
    "descr", ["'|O'", "'U'", "'<S-1'", "'S4,U4'", "'<U999999999'", "'V4'", "'<M8[s]'", "'a4'", "'c'"]
)
def test_other_dtypes_stay_refused(tmp_path: Path, descr: str) -> None:
    path = tmp_path / "X.npy"
    path.write_bytes(framed(dictionary(descr=descr)))
    with pytest.raises(InputError, match=r"X\.npy: ") as caught:
        StringSource(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("descr", ["'<U1'", "'>U1'", "'|S4'"])
def test_truncated_files_are_refused(tmp_path: Path, descr: str) -> None:
    path = tmp_path / "X.npy"
    path.write_bytes(framed(dictionary(descr=descr), bytes(23)))
    with pytest.raises(InputError, match="truncated: shape"):
        StringSource(path)
    path.write_bytes(framed(dictionary(descr=descr), bytes(24)))
    with StringSource(path) as source:
        rows = source[:]
        path.write_bytes(framed(dictionary(descr=descr), bytes(20)))
        with pytest.raises(InputError, match="truncated while reading"):
            source.read_rows(0, rows)


def test_what_is_no_character_is_named(tmp_path: Path) -> None:
    array = np.array(["ab", "cd", "ef"])
    array.view(np.uint32)[3] = 0x110000
    with (
        StringSource(saved(tmp_path / "X.npy", array)) as source,
        pytest.raises(InputError, match=r"X\.npy: no text: character 1 from row 1 on is 1114112, above the 1114111"),
    ):
        source[:]


def test_a_single_value_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="single value without rows"):
        StringSource(saved(tmp_path / "X.npy", np.array("abc")))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["S3", "<U3", ">U3"])
def test_rows_of_strings_in_a_wider_type(
    tmp_path: Path, dtype: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlpipe.readers.text_rows.SCRATCH_BYTES", 64)
    array = np.array(["a", "b\0c", "", "abc"] * 15, dtype).reshape(30, 2)
    path = saved(tmp_path / "X.npy", np.asarray(array, order="F" if order == "F" else "C"))
    files = [path, saved(tmp_path / "Y.npy", array[:5].astype(f"{dtype[:-1]}9")), saved(tmp_path / "Z.npy", array[:0])]
    whole = np.concatenate([array, array[:5]]).astype(f"{array.dtype.kind}9")
    with ShardsSource(files, common=True, kind=TextRows) as source:
        assert source.spec.dtype.newbyteorder("=") == whole.dtype
        source.read_rows(3, out := np.empty((32, 2), whole.dtype))
        assert out.tolist() == whole[3:].tolist()
        rows = np.array([34, 0, 7, 29, 30, 7])
        source.gather(rows, out := np.empty((6, 2), whole.dtype))
        assert out.tolist() == whole[rows].tolist()
