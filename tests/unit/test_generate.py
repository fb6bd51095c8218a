"""Made-up rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mlpipe
from mlpipe.errors import UsageError
from mlpipe.readers import generate
from mlpipe.readers.generate import KINDS, Generate, GeneratedSource

F4, I8 = np.dtype("f4"), np.dtype("i8")


def made(start: int = 0, stop: int | None = None, **options: Any) -> np.ndarray:
    values: dict[str, Any] = {"rows": 500, "columns": 3, "kind": "normal", "seed": 1, "dtype": F4, **options}
    source = GeneratedSource(**values)
    out = np.empty(((stop or values["rows"]) - start, values["columns"]), values["dtype"])
    source.read_rows(start, out)
    return out


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(KINDS), st.integers(0, 499), st.integers(1, 40), st.integers(1, 2000))
def test_a_row_depends_on_its_number_alone(kind: str, start: int, count: int, scratch: int) -> None:
    whole = made(kind=kind)
    stop = min(500, start + count)
    before, generate.SCRATCH_BYTES = generate.SCRATCH_BYTES, scratch
    try:
        np.testing.assert_array_equal(made(start, stop, kind=kind), whole[start:stop])
    finally:
        generate.SCRATCH_BYTES = before


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_and_columns_differ(kind: str) -> None:
    a, b = made(kind=kind, distinct=1 << 20), made(kind=kind, seed=2, distinct=1 << 20)
    assert (a != b).mean() > 0.5
    assert (a[:, 0] != a[:, 1]).mean() > 0.5


def test_normals() -> None:
    values = made(rows=20000, dtype=np.dtype("f8")).ravel()
    assert stats.kstest(values, "norm").pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_uniform_numbers_are_below_1(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = made(rows=20000, kind="uniform", dtype=np.dtype(dtype)).astype("f8").ravel()
    assert stats.kstest(values, "uniform").statistic < 0.01
    monkeypatch.setattr(generate.randoms, "uniform", lambda key, start, out: out.fill(1 - 2.0**-53))
    assert made(kind="uniform", dtype=np.dtype(dtype)).max() < 1


def test_integers_are_equally_likely() -> None:
    counts = np.bincount(made(rows=30000, kind="integers", dtype=I8, distinct=7).ravel(), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-3


def test_zipf() -> None:
    counts = np.bincount(made(rows=30000, kind="zipf", dtype=I8, distinct=9).ravel(), minlength=9)
    law = 1 / np.arange(1, 10)
    assert len(counts) == 9
    assert stats.chisquare(counts, law / law.sum() * counts.sum()).pvalue > 1e-3


def test_labels() -> None:
    source = GeneratedSource(5000, 2, "normal", 3, F4, classes=5)
    x, y = np.empty((5000, 2), "f4"), np.empty(5000, "i8")
    source.read_labelled(0, x, y)
    assert stats.chisquare(np.bincount(y, minlength=5)).pvalue > 1e-3
    part, labels = np.empty((10, 2), "f4"), np.empty(10, "i8")
    source.read_labelled(77, part, labels)
    np.testing.assert_array_equal(labels, y[77:87])
    np.testing.assert_array_equal(part, x[77:87])
    np.testing.assert_array_equal(made(rows=5000, columns=2, seed=3), x)  # labels change nothing


def test_known_values() -> None:
    # Once drawn, for ever the same: outputs depend on them.
    assert made(0, 1, kind="integers", dtype=I8, distinct=1000).tolist() == KNOWN
    assert made(kind="zipf", rows=0).shape == (0, 3)


KNOWN = [[52, 142, 602]]


@pytest.mark.parametrize("kind", KINDS)
def test_from_python(kind: str) -> None:
    batches = list(mlpipe.generate(rows=10, columns=2, kind=kind).batch(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert batches[0].dtype == (I8 if kind in ("integers", "zipf") else F4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": -1}, "--rows -1: give 0 or more"),
        ({"columns": 0}, "--columns 0: give 1 or more"),
        ({"kind": "poisson"}, "--kind poisson: give one of normal, uniform, integers, zipf"),
        ({"dtype": "i4"}, "--dtype i4: normal numbers are float16"),
        ({"dtype": "object"}, "--dtype object: give bool"),
        ({"kind": "integers", "dtype": "u1"}, "--dtype u1: does not hold 1000 integers"),
        ({"kind": "integers", "dtype": "?"}, "does not hold"),
        ({"kind": "integers", "dtype": "f2", "distinct": 2050}, "does not hold 2050"),
        ({"kind": "integers", "dtype": "c8"}, "does not hold"),
        ({"kind": "zipf", "distinct": 1 << 21}, "--distinct 2097152: give 1 to 1048576 for zipf"),
        ({"kind": "integers", "distinct": 0}, "--distinct 0: give 1"),
        ({"classes": 0}, "--classes 0: give 1"),
        ({"rows": 1 << 62}, "more than any file can hold"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Generate(**{"rows": 10, "columns": 3, **options})
