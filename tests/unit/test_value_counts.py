"""`mlpipe.value_counts` against NumPy and the standard library."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import mlpipe
from mlpipe.errors import UsageError

DTYPES = ["bool", "i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8", ">i4", ">f8"]


def as_counter(values: np.ndarray) -> Counter:
    return Counter("nan" if value != value else value + 0 for value in values.ravel().tolist())


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_side=0, max_dims=3))))
def test_small_arrays_are_counted_as_a_counter_does(array):
    values, counts = mlpipe.value_counts(array)
    assert dict(zip(["nan" if v != v else v + 0 for v in values.tolist()], counts.tolist(), strict=True)) == as_counter(
        array
    )
    assert values.dtype == array.dtype.newbyteorder("=")
    assert counts.dtype == np.int64
    numbers = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    assert (numbers[1:] > numbers[:-1]).all()
    assert not np.isnan(values[:-1]).any() if values.dtype.kind == "f" else True


@pytest.mark.parametrize("sort", ["value", "count", None])
@pytest.mark.parametrize("distinct", [3, 5000, 100_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_larger_arrays(dtype, distinct, sort):
    random = np.random.default_rng(distinct)
    spread = random.integers(0, 256, (distinct, np.dtype(dtype).itemsize), np.uint8)
    some = (spread & 1).astype(bool).ravel() if dtype == "bool" else spread.view(dtype).ravel()
    x = some[random.integers(0, distinct, (2, 150_000))]
    for threads in (1, 2):
        values, counts = mlpipe.value_counts(x, sort=sort, threads=threads)
        wide = values.astype(np.float32) if values.dtype == np.float16 else values
        unique, often = np.unique(x.astype(wide.dtype), return_counts=True)
        order = np.arange(len(unique)) if sort != "count" else np.lexsort((np.arange(len(unique)), -often))
        if sort is None:
            back = np.argsort(wide, kind="stable")
            wide, counts = wide[back], counts[back]
        np.testing.assert_array_equal(wide, unique[order])
        np.testing.assert_array_equal(counts, often[order])


def test_extremes_meet():
    limits = np.iinfo(np.int64)
    x = np.array([limits.min, limits.max, 0, limits.max]).repeat(9000)
    values, counts = mlpipe.value_counts(x)
    assert values.tolist() == [limits.min, 0, limits.max]
    assert counts.tolist() == [9000, 9000, 18000]


def test_python_lists_and_views():
    assert mlpipe.value_counts([])[0].shape == (0,)
    x = np.arange(40_000).reshape(200, 200) % 7
    values, counts = mlpipe.value_counts(x[::2, ::3])
    assert counts.sum() == 100 * 67
    assert values.tolist() == list(range(7))


def test_bad_arguments():
    with pytest.raises(UsageError, match="sort='up' is not known"):
        mlpipe.value_counts([1], sort="up")
    with pytest.raises(UsageError, match="threads=0"):
        mlpipe.value_counts([1], threads=0)
    with pytest.raises(UsageError, match="dtype complex128"):
        mlpipe.value_counts([1j])
