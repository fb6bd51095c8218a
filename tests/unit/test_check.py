from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlpipe.errors import InputError, UsageError
from mlpipe.link import Spec
from mlpipe.stages import check
from mlpipe.stages.check import Check
from tests.flow import flow

REAL = ["u1", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8"]


def offence(rows: np.ndarray, low: float | None, high: float | None, finite: bool) -> int | None:
    """Flat index of the first offender, by NumPy."""
    with np.errstate(over="ignore"):
        wrong = np.zeros(rows.shape, bool)
        for bound, beyond in ((low, np.less), (high, np.greater)):
            if bound is not None and rows.dtype.kind == "f":
                wrong |= beyond(rows, rows.dtype.type(bound)) | np.isnan(rows)
            elif bound is not None:
                wrong |= np.array([beyond(int(value), bound) for value in rows.flat], bool).reshape(rows.shape)
    if finite:
        wrong |= ~np.isfinite(rows)
    found = np.flatnonzero(wrong)
    return int(found[0]) if len(found) else None


BOUNDS = st.none() | st.sampled_from([0, -1, 1, 0.5, 200, 2.0**53 + 2, 2.0**63, -(2.0**63), 2.0**64, 1e300, math.inf])


@pytest.mark.parametrize("dtype", REAL)
@settings(max_examples=30, deadline=None)
@given(data=st.data(), low=BOUNDS, high=BOUNDS, finite=st.booleans())
def test_the_first_offender_is_named(dtype: str, data: st.DataObject, low: Any, high: Any, finite: bool) -> None:
    if (low, high, finite) == (None, None, False) or (low is not None and high is not None and low > high):
        return
    rows = data.draw(arrays.arrays(dtype, st.tuples(st.integers(0, 9), st.integers(1, 4))))
    wanted = offence(rows, low, high, finite)
    stage = Check(finite, low, high)
    if wanted is None:
        out, _ = flow(stage, rows, sizes=(2, 3))
        assert out.tobytes() == rows.tobytes()
        return
    row, column = divmod(wanted, rows.shape[1])
    with pytest.raises(InputError, match=rf"^check: row {row}, column {column}: "):
        flow(stage, rows, sizes=(2, 3))


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (np.array([1.0, np.nan]), {"finite": True}, "check: row 1: nan is not finite"),
        (np.array([1.0, -np.inf], "f4"), {"finite": True}, "check: row 1: -inf is not finite"),
        (np.array([1.0, -np.inf], "f4"), {"min": 0}, "check: row 1: -inf is below --min 0"),
        (np.array([[1.0, np.nan]]), {"min": 0}, "check: row 0, column 1: nan lies within no bounds"),
        (np.array([[[1, 2], [3, -4]]], "i8"), {"min": 0}, "check: row 0, column (1, 1): -4 is below --min 0"),
        (np.array([[1, 2]], "u1"), {"max": 1.5}, "check: row 0, column 1: 2 is above --max 1.5"),
        (np.array([1, 1j * np.inf]), {"finite": True}, "is not finite"),
        (np.array([0.1, 0.5, 70000.0], "f4").astype("f4"), {"max": 0.5}, "row 2: 70000.0 is above --max 0.5"),
        (np.array([False, True]), {"max": 0.5}, "row 1: True is above"),
    ],
)
def test_messages(rows: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        flow(Check(**options), rows)
    assert message in str(caught.value)


def test_bounds_are_rounded_as_values_are() -> None:
    flow(Check(min=0.1, max=0.3), np.array([0.1, 0.3], "f4"))
    flow(Check(max=1e300), np.array([np.inf], "f4"))
    with pytest.raises(InputError):
        flow(Check(max=1e300, finite=True), np.array([np.inf], "f4"))


def test_pieces_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "PIECE", 5)
    rows, labels = np.arange(60.0).reshape(20, 3), np.arange(20)
    out, beside = flow(Check(finite=True), rows, labels, sizes=(20,))
    np.testing.assert_array_equal(out, rows)
    np.testing.assert_array_equal(beside, labels)
    with pytest.raises(InputError, match=r"row 17, column 2: 53.0 is above"):
        flow(Check(max=52), rows, sizes=(20,))


def test_dtype_is_known_before_the_run() -> None:
    spec = Spec(3, (2,), np.dtype("f4"))
    assert Check(dtype="float32").plan(spec) == spec
    assert Check(dtype=">f4").plan(spec) == spec
    with pytest.raises(InputError, match="check --dtype float64: rows are float32"):
        Check(dtype="float64").plan(spec)
    with pytest.raises(InputError, match="complex64 values are not ordered"):
        Check(min=0).plan(Spec(3, (2,), np.dtype("c8")))


@pytest.mark.parametrize("options", [{}, {"min": math.nan}, {"min": 1, "max": 0}, {"dtype": "text"}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Check(**options)
