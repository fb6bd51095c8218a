"""Columns of arrays or text: rows of them, joining them, and their order."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from mlpipe.counting.columns import Text, begins, column_bytes, concatenate, length, order_of, take

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=60)
STRINGS = st.lists(st.binary(max_size=20) | st.text("ab", max_size=20).map(str.encode), max_size=60)
DTYPES = ("?", "i1", "u1", "i4", "u8", "i8", "f2", "f4", "f8")


def _key(value):
    """What a value is compared by: NaN last, −0.0 as 0.0."""
    return (1, 0.0) if isinstance(value, float) and math.isnan(value) else (0, value)


def _few(dtype: str, shape: int | tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Arrays with many equal values."""
    special = [np.nan, -0.0, 0.0, np.inf, -np.inf, 1.5] if dtype[0] == "f" else [0, 1]
    if dtype[0] in "iu":
        limits = np.iinfo(dtype)
        special = [0, 1, limits.min, limits.max]
    return arrays(np.dtype(dtype), shape, elements=st.sampled_from(np.array(special, dtype).tolist()))


@FIXED
@given(STRINGS, st.data())
def test_rows_of_text_are_those_of_a_list(strings, data):
    text = Text.of(strings)
    places = data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=9)) if strings else []
    start, stop = data.draw(st.integers(0, 70)), data.draw(st.integers(0, 70))
    step = data.draw(st.sampled_from([None, 1, 2, -1]))
    part = take(text, slice(start, stop, step))
    mask = np.array([len(string) % 2 == 1 for string in strings], bool)
    assert length(text) == len(strings)
    assert text.tolist() == strings
    assert take(text, np.array(places, np.int64)).tolist() == [strings[place] for place in places]
    assert take(text, mask).tolist() == [string for string in strings if len(string) % 2]
    assert part.tolist() == strings[start:stop:step]
    assert part.copy().tolist() == part.tolist()
    assert column_bytes(part) == sum(map(len, part.tolist())) + 8 * (len(part.tolist()) + 1)
    assert concatenate([part, text]).tolist() == part.tolist() + strings


def test_a_part_of_a_text_keeps_no_more_than_its_own_bytes_when_copied():
    part = take(Text.of([b"a" * 1000, b"b"]), slice(1, 2)).copy()
    assert (part.content.nbytes, part.offsets.tolist()) == (1, [0, 1])


def test_text_and_arrays_make_no_column():
    with pytest.raises(TypeError, match="no column together"):
        concatenate([Text.of([b"a"]), np.zeros(1)])


@FIXED
@given(STRINGS)
def test_text_is_sorted_by_its_bytes(strings):
    strings = strings * 6  # more than are compared one by one
    order = order_of([Text.of(strings)]).tolist()
    assert order == sorted(range(len(strings)), key=lambda row: strings[row])


@pytest.mark.parametrize("prefix", [b"", b"a" * 7, b"a" * 8, b"\0" * 17])
def test_text_with_long_common_prefixes_is_sorted(prefix):
    random = np.random.default_rng(0)
    strings = [prefix + bytes(random.integers(0, 2, random.integers(0, 30), "u1")) for _ in range(2000)]
    order = order_of([Text.of(strings)]).tolist()
    assert order == sorted(range(len(strings)), key=lambda row: strings[row])


@FIXED
@given(st.data())
def test_numbers_are_sorted_with_nan_last(data):
    array = data.draw(_few(data.draw(st.sampled_from(DTYPES)), 40))
    values = array.tolist()
    assert order_of([array]).tolist() == sorted(range(40), key=lambda row: _key(values[row]))


@FIXED
@given(st.data())
def test_rows_are_sorted_from_left_to_right(data):
    array = data.draw(_few(data.draw(st.sampled_from(DTYPES)), (40, 3)))
    keys = [[_key(value) for value in row] for row in array.tolist()]
    assert order_of([array]).tolist() == sorted(range(40), key=lambda row: keys[row])


@FIXED
@given(st.data())
def test_several_keys_are_sorted_one_after_the_other(data):
    first, third = data.draw(_few("f4", 30)), data.draw(_few("i8", (30, 2)))
    second = data.draw(st.lists(st.sampled_from([b"", b"a", b"a\0", b"b"]), min_size=30, max_size=30))
    keys = [(_key(a), b, c) for a, b, c in zip(first.tolist(), second, third.tolist(), strict=True)]
    order = order_of([first, Text.of(second), third])
    assert order.tolist() == sorted(range(30), key=lambda row: keys[row])
    ordered = [keys[row] for row in order.tolist()]
    new = begins([take(first, order), take(Text.of(second), order), take(third, order)])
    assert new.tolist() == [row == 0 or ordered[row] != ordered[row - 1] for row in range(30)]


def test_fixed_width_strings_are_sorted_too():
    rows = np.array([["b", "a"], ["a", "c"], ["a", "b"], ["b", "a"]])
    assert order_of([rows]).tolist() == [2, 1, 0, 3]
    assert order_of([rows[:, 0].astype("S")]).tolist() == [1, 2, 0, 3]
    assert begins([rows[[2, 1, 0, 3]]]).tolist() == [True, True, True, False]


@pytest.mark.parametrize("column", [np.zeros(0), np.zeros((0, 3)), np.zeros((5, 0)), Text.of([])])
def test_nothing_is_in_order(column):
    assert order_of([column]).tolist() == list(range(len(column)))
    assert begins([column]).sum() == min(1, len(column))
