"""Some rows and columns, labels from a column or from files: against slices of the whole array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.errors import InputError, UsageError
from mlpipe.link import Source, gather_into, read_into
from mlpipe.readers import columns
from mlpipe.readers.array import ArraySource
from mlpipe.readers.columns import PartSource, check_columns, parse_columns, parse_range, resolve_columns
from mlpipe.readers.labels import PairedSource

X = np.arange(11 * 6, dtype="f4").reshape(11, 6)
Y = np.arange(11)[::-1].astype(">i2")

numbers = st.none() | st.integers(-14, 14)
ranges = st.builds(lambda a, b: f"{'' if a is None else a}:{'' if b is None else b}", numbers, numbers)


def all_of(source: Source, block: int = 4) -> tuple[np.ndarray, np.ndarray | None]:
    """All rows and labels, read in blocks and gathered backwards, which must agree."""
    spec = source.spec
    rows = spec.rows or 0
    x = np.empty((rows, *spec.row_shape), spec.dtype.newbyteorder("="))
    y = None if spec.labels is None else np.empty((rows, *spec.labels.row_shape), spec.labels.dtype)
    for start in range(0, rows, block):
        read_into(source, start, x[start : start + block], None if y is None else y[start : start + block])
    again, labels = np.empty_like(x), None if y is None else np.empty_like(y)
    gather_into(source, np.arange(rows)[::-1].copy(), again, labels)
    np.testing.assert_array_equal(again[::-1], x)
    if y is not None and labels is not None:
        np.testing.assert_array_equal(labels[::-1], y)
    return x, y


lists = st.lists(st.integers(-6, 5) | ranges, min_size=1, max_size=4)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(ranges, st.none() | lists, st.none() | st.integers(-6, 5))
def test_parts(rows: str, chosen: list[int | str] | None, label: int | None) -> None:
    part = parse_range(rows, "--rows")
    flat: list[int] = []
    for one in chosen or [":"]:
        flat += [one % 6] if isinstance(one, int) else list(range(6))[parse_range(one, "c")]
    if label is not None:
        flat = [one for one in flat if one != label % 6]
    x, y = all_of(PartSource(ArraySource(X, "X"), part, chosen, label))
    np.testing.assert_array_equal(x, X[part][:, flat])
    if label is None:
        assert y is None
    else:
        np.testing.assert_array_equal(y, X[part, label])


@pytest.mark.parametrize("label", [None, 2])
@pytest.mark.parametrize("dtype", ["u1", ">f8", "i8", "f2"])
def test_labels_have_the_dtype_of_the_file(dtype: str, label: int | None) -> None:
    array = (X % 7).astype(dtype)
    source = PartSource(ArraySource(array, "X"), None, ["0"], label)
    x, y = all_of(source)
    assert x.dtype == array.dtype.newbyteorder("=")
    if y is not None:
        np.testing.assert_array_equal(y, array[:, 2])
        assert y.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("scratch", [1, 60, 1 << 20])
def test_little_is_held(scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SCRATCH_BYTES", scratch)
    x, y = all_of(PartSource(PairedSource(ArraySource(X, "X"), ArraySource(Y, "Y")), slice(2, None), ["-1", "0"]), 9)
    np.testing.assert_array_equal(x, X[2:, [5, 0]])
    np.testing.assert_array_equal(y, Y[2:])


def test_labels_of_their_own_go_with_the_rows() -> None:
    source = PartSource(PairedSource(ArraySource(X, "X"), ArraySource(Y, "Y")), slice(3, -1))
    x, y = all_of(source)
    np.testing.assert_array_equal(x, X[3:-1])
    np.testing.assert_array_equal(y, Y[3:-1])
    out = np.empty((2, 6), "f4")
    source.read_rows(1, out)
    np.testing.assert_array_equal(out, X[4:6])


def test_as_many_labels_as_rows() -> None:
    with pytest.raises(InputError, match="Y: 10 labels, but X has 11 rows"):
        PairedSource(ArraySource(X, "X"), ArraySource(Y[:10], "Y"))


@pytest.mark.parametrize("text", ["", "5", "1:2:3", "a:b", "1.0:", ":-", "9" * 30 + ":"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UsageError, match=r"--rows .*: give a range such as"):
        parse_range(text, "--rows")


@pytest.mark.parametrize("text", ["", "x", "1,,2", "1;2", "1:2:3", "--1", "1.5"])
def test_what_are_no_columns(text: str) -> None:
    with pytest.raises(UsageError, match=r"--columns .*: give indices and ranges"):
        check_columns(parse_columns(text))


def test_columns_that_are_not_there() -> None:
    for index in (6, -7):
        with pytest.raises(InputError, match=rf"--columns {index}: X has 6 columns, from 0 to 5, or -6 to -1"):
            resolve_columns([str(index)], 6, "X")
        with pytest.raises(InputError, match=rf"--label-column {index}: X has 6 columns"):
            PartSource(ArraySource(X, "X"), label_column=index)


@pytest.mark.parametrize("array", [X[:, 0], X.reshape(11, 3, 2)])
def test_rows_without_columns(array: Any) -> None:
    with pytest.raises(InputError, match=r"rows of shape \(.*\) have no columns"):
        PartSource(ArraySource(array, "X"), columns=["0"])


def test_the_working_of_close(tmp_path: Path) -> None:
    closed = []

    class Closing(ArraySource):
        def close(self) -> None:
            closed.append(self.name)

    PartSource(PairedSource(Closing(X, "X"), Closing(Y, "Y"))).close()
    assert closed == ["X", "Y"]
