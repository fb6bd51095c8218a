"""Keys are in the order of their values, and one for equal values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlpipe.counting.keys import from_keys, to_keys
from mlpipe.counting.ranges import Ranges

DTYPES = ["i4", "u4", "f4", "i8", "u8", "f8"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, st.integers(2, 40))))
def test_keys_are_ordered_as_values_are(values):
    keys = to_keys(values)
    back = from_keys(keys, values.dtype)
    np.testing.assert_array_equal(back, values)
    order = np.argsort(keys, kind="stable")
    np.testing.assert_array_equal(values[order], np.sort(values))
    same = (values[:, None] == values) | ((values != values)[:, None] & (values != values))
    np.testing.assert_array_equal(keys[:, None] == keys, same)


@pytest.mark.parametrize(("dtype", "bits"), [("f4", "u4"), ("f8", "u8")])
def test_zeros_and_nans(dtype, bits):
    values = np.array([0.0, -0.0, np.nan, -np.nan, np.inf], dtype)
    values[3:4].view(bits)[:] |= np.array(77, bits)
    keys = to_keys(values)
    assert keys[0] == keys[1]
    assert keys[2] == keys[3] > keys[4]
    assert not np.signbit(from_keys(keys[1:2], values.dtype))[0]


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays("u8", st.integers(1, 200), elements=st.integers(0, 64).flatmap(lambda b: st.integers(0, 2**b - 1))),
    arrays.arrays("u8", st.integers(1, 200)),
    st.sampled_from([1, 2, 16, 2048]),
)
def test_ranges_ascend(sample, keys, parts):
    ranges = Ranges.of_sample(sample, parts)
    placed = ranges.of(np.sort(np.concatenate([sample, keys]))).astype(int)
    assert (np.diff(placed) >= 0).all()
    assert 0 <= placed.min() <= placed.max() < parts


@pytest.mark.parametrize("draw", ["uniform", "geometric", "normal", "outliers"])
def test_ranges_are_even(draw):
    random = np.random.default_rng(1)
    keys = {
        "uniform": lambda: random.integers(0, 2**63, 50_000).astype("u8"),
        "geometric": lambda: np.exp2(random.uniform(0, 60, 50_000)).astype("u8"),
        "normal": lambda: to_keys(random.standard_normal(50_000)),
        "outliers": lambda: to_keys(np.r_[random.uniform(1, 2, 50_000), -np.inf, -1e300, 0, 1e300, np.inf, np.nan]),
    }[draw]()
    ranges = Ranges.of_sample(np.concatenate([keys[::2], keys[-6:]]), 64)
    keys = np.unique(keys)
    assert np.bincount(ranges.of(keys)).max() < 5 * len(keys) / 64
