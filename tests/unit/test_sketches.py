"""Sketches: within their bounds, and the same for any blocks."""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.counting import sketches
from mlpipe.counting.columns import Column, Text
from mlpipe.counting.sketches import DistinctSketch, Frequent, FrequentSketch, QuantileSketch
from mlpipe.errors import UsageError

pytest.importorskip("datasketches")

DTYPES = ["?", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
WORDS = [b"", b"to", b"be", b"or", b"not", b"T\xc3\xb6", b"\xff\xfe", b"a\x00b", b" to"]


def frequent(values: Column, parts: int = 1, lg_size: int = 14) -> Frequent:
    sketch = FrequentSketch(None if isinstance(values, Text) else values.dtype, lg_size)
    if isinstance(values, Text):
        step = max(1, len(values) // parts)
        for start in range(0, len(values), step):
            stop = min(start + step, len(values))
            sketch.add(Text(values.content, values.offsets[start : stop + 1]))
    else:
        for part in np.array_split(values, parts):
            sketch.add(part.copy())
    return sketch.finish()


def column(values: Column) -> list[Any]:
    """Values of a table: bytes of text."""
    if isinstance(values, Text):
        content = values.content.tobytes()
        return [content[a:b] for a, b in zip(values.offsets[:-1], values.offsets[1:], strict=True)]
    return values.tolist()


def bytes_of(table: Frequent) -> tuple[Any, ...]:
    return repr(column(table.values)), table.counts.tobytes(), table.low.tobytes(), table.error, table.total


@pytest.mark.parametrize("dtype", DTYPES)
def test_few_values_are_exact(dtype: str) -> None:
    values = np.random.default_rng(1).integers(0, 2 if dtype == "?" else 50, 3000).astype(dtype)
    sketch = DistinctSketch()
    sketch.add(values.reshape(30, 100))
    keys, counts = np.unique(values, return_counts=True)
    estimate = sketch.estimate()
    assert round(estimate.value) == len(keys)
    assert estimate.low <= len(keys) <= math.ceil(estimate.high)
    table = frequent(values)
    assert table.values.dtype == values.dtype
    assert (table.values.tolist(), table.counts.tolist()) == (keys.tolist(), counts.tolist())
    assert table.low.tolist() == counts.tolist()
    assert (table.error, table.total, table.distinct, table.missing) == (0, 3000, len(keys), 0)
    assert "exact" in table.why


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_all_nan_are_one_value_and_zeros_have_no_sign(dtype: str) -> None:
    values = np.array([math.nan, -math.nan, 0.0, -0.0, math.inf, 1.5], dtype)
    values = np.concatenate([values, -values])
    sketch = DistinctSketch()
    sketch.add(values)
    assert round(sketch.estimate().value) == 6
    table = frequent(values)
    assert repr(table.values.tolist()) == "[-inf, -1.5, 0.0, 1.5, inf, nan]"
    assert table.counts.tolist() == [1, 1, 4, 1, 1, 4]
    assert (table.missing, table.total) == (4, 12)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_integers_beyond_what_floats_hold_are_told_apart(dtype: str) -> None:
    ends = np.iinfo(dtype)
    values = np.array([ends.max, ends.max - 1, ends.min, ends.min + 1, 2**53, 2**53 + 1], dtype)
    sketch = DistinctSketch()
    sketch.add(values)
    assert round(sketch.estimate().value) == 6
    assert frequent(values).values.tolist() == sorted(values.tolist())


def texts(kind: str, size: int) -> tuple[Column, Counter[Any]]:
    random = np.random.default_rng(2)
    words = [WORDS[place] for place in random.integers(0, len(WORDS), size)]
    if kind == "text":
        return Text.of(words), Counter(words)
    if kind == "S":
        words = [word.replace(b"\x00", b"") for word in words]
        return np.array(words), Counter(words)
    strings = [word.decode("utf-8", "surrogateescape").replace("\x00", "") for word in words]
    return np.array(strings), Counter(strings)


@pytest.mark.parametrize("kind", ["text", "S", "U"])
def test_strings(kind: str) -> None:
    values, expected = texts(kind, 3000)
    sketch = DistinctSketch()
    sketch.add(values)
    assert round(sketch.estimate().value) == len(expected)
    table = frequent(values, 7)
    assert column(table.values) == sorted(expected)
    assert table.counts.tolist() == [expected[word] for word in sorted(expected)]
    assert sum(table.low) == table.total == 3000


@pytest.mark.parametrize("strings", [False, True], ids=["numbers", "strings"])
def test_blocks_do_not_show(strings: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "FREQUENT_GROUP", 1000)
    monkeypatch.setattr(sketches, "STRINGS_GROUP", 1000)
    numbers = np.minimum(np.random.default_rng(3).zipf(1.2, 20_000), 10**9)
    values = np.array([f"w{number}" for number in numbers.tolist()]) if strings else numbers
    estimates, tables = set(), set()
    for parts in (1, 2, 7, 100, 3001):
        sketch = DistinctSketch(8)
        for part in np.array_split(values, parts):
            sketch.add(part)
        estimates.add(sketch.estimate())
        tables.add(bytes_of(frequent(values, parts, 6)))
    sketch = DistinctSketch(8)
    sketch.add(np.sort(values)[::-1])
    assert estimates == {sketch.estimate()}
    assert len(tables) == 1


@given(
    values=st.lists(st.integers(0, 40) | st.integers(0, 3), max_size=400),
    size=st.integers(3, 6),
    group=st.sampled_from([10, 64, 1000]),
    strings=st.booleans(),
)
@settings(max_examples=100)
def test_frequent_values_are_found_within_the_error(values: list[int], size: int, group: int, strings: bool) -> None:
    before = sketches.FREQUENT_GROUP, sketches.STRINGS_GROUP
    sketches.FREQUENT_GROUP = sketches.STRINGS_GROUP = group
    try:
        given_values = np.array([f"{v}" for v in values], "U4") if strings else np.array(values, np.int32)
        table = frequent(given_values, 1, size)
    finally:
        sketches.FREQUENT_GROUP, sketches.STRINGS_GROUP = before
    check(table, Counter(given_values.tolist()))


def check(table: Frequent, true: Counter[Any]) -> None:
    """Assert what a table promises."""
    found = column(table.values)
    assert found == sorted(found)
    for value, low, high in zip(found, table.low.tolist(), table.counts.tolist(), strict=True):
        assert low <= true[value] <= high
        assert high - true[value] <= table.error
    assert {value for value, count in true.items() if count > table.error} <= set(found)
    assert table.total == sum(true.values())


@pytest.mark.parametrize("lg_size", [4, 8, 12])
def test_the_error_is_as_small_as_stated(lg_size: int) -> None:
    values = np.minimum(np.random.default_rng(4).zipf(1.1, 300_000), 2**60)
    table = frequent(values, 3, lg_size)
    check(table, Counter(values.tolist()))
    assert 0 < table.error <= (3.5 + 4 / 3) / 2**lg_size * len(values)
    assert f"at most {table.error} too high" in table.why


@pytest.mark.parametrize("lg_k", [7, 10, 14])
@pytest.mark.parametrize("size", [100, 10_000, 200_000])
def test_distinct_values_are_within_bounds(size: int, lg_k: int) -> None:
    values = np.random.default_rng(5).integers(0, 2**62, size)
    sketch = DistinctSketch(lg_k)
    sketch.add(np.concatenate([values, values[::-1]]))
    estimate = sketch.estimate()
    width = 2 * 1.04 / math.sqrt(2**lg_k)
    assert estimate.low <= estimate.value <= estimate.high
    assert abs(estimate.value - size) <= 1.5 * width * size  # three standard deviations
    assert estimate.high - estimate.low <= 3 * width * size


def test_sketches_merge() -> None:
    values = np.random.default_rng(6).integers(0, 5000, 50_000)
    whole, parts = DistinctSketch(), [DistinctSketch() for _ in range(3)]
    whole.add(values)
    for sketch, part in zip(parts, np.array_split(values, 3), strict=True):
        sketch.add(part)
    parts[0].merge(parts[1])
    parts[2].merge(parts[0])
    assert parts[2].estimate() == whole.estimate()

    counters = [FrequentSketch(values.dtype, 8) for _ in range(2)]
    for counter, part in zip(counters, np.array_split(values, 2), strict=True):
        counter.add(part)
    counters[0].merge(counters[1])
    check(counters[0].finish(), Counter(values.tolist()))

    quantiles = [QuantileSketch() for _ in range(2)]
    for one, part in zip(quantiles, np.array_split(values, 2), strict=True):
        one.add(part)
    quantiles[0].merge(quantiles[1])
    assert quantiles[0].count == len(values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantiles_of_few_values_are_exact(dtype: str) -> None:
    values = np.random.default_rng(7).integers(0, 100, 500).astype(dtype)
    at = [0.0, 0.01, 0.25, 0.5, 0.99, 1.0]
    sketch = QuantileSketch()
    sketch.add(values.reshape(50, 10))
    assert sketch.exact
    assert sketch.rank_error == 0
    assert sketch.quantiles(at) == np.quantile(values.astype("f8"), at, method="inverted_cdf").tolist()


def test_quantiles_are_within_the_stated_rank_error() -> None:
    values = np.random.default_rng(8).normal(size=200_000).astype(np.float32)
    sketch, at = QuantileSketch(), [0.0, 0.01, 0.5, 0.9, 1.0]
    for part in np.array_split(values, 9):
        sketch.add(part)
    assert not sketch.exact
    assert 0.001 < sketch.rank_error < 0.002
    ranks = np.searchsorted(np.sort(values), sketch.quantiles(at)) / len(values)
    np.testing.assert_allclose(ranks, at, atol=3 * sketch.rank_error)  # coins are thrown: a failure must not be


def test_quantiles_pass_over_nan() -> None:
    sketch = QuantileSketch()
    sketch.add(np.array([math.nan, 3.0, math.inf, math.nan, -math.inf]))
    assert sketch.count == 3
    assert sketch.quantiles([0.0, 0.5, 1.0]) == [-math.inf, 3.0, math.inf]


def test_nothing_came() -> None:
    assert DistinctSketch().estimate() == (0, 0, 0)
    assert math.isnan(QuantileSketch().quantiles([0.5])[0])
    for values in (np.empty(0), np.empty(0, "S3"), np.empty((0, 4), "i4"), Text.of([])):
        table = frequent(values)
        assert (table.distinct, table.total, table.error, list(table.by_value())) == (0, 0, 0, [])
        sketch = DistinctSketch()
        sketch.add(values)
        assert sketch.estimate().value == 0


def test_the_table_of_a_sketch() -> None:
    [entries] = frequent(np.array([2, 1, 2])).by_value()
    assert entries.keys[0].tolist() == [1, 2]
    assert entries.counts.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistinctSketch(6), r"2\^7 to 2\^21 registers, not 2\^6"),
        (lambda: FrequentSketch(np.dtype("i8"), 27), r"2\^3 to 2\^26 places, not 2\^27"),
        (lambda: QuantileSketch(7), "8 to 65535, not 7"),
        (lambda: FrequentSketch(np.dtype("i8")).add(np.ones(2), weights=np.ones(2)), "does not add up weights"),
        (lambda: FrequentSketch(np.dtype("i8")).add(Text.of([b"x"])), "does not take text"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("make", [DistinctSketch, QuantileSketch, lambda: FrequentSketch(None)])
def test_a_missing_package_is_named(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketches", None)
    with pytest.raises(UsageError, match=r"pip install 'mlpipe\[sketches\]'"):
        make()


def test_arrays_may_be_reused_after_they_were_added() -> None:
    sketch, block = FrequentSketch(np.dtype("u8")), np.zeros(10, "u8")
    for number in range(5):
        block[:] = number
        sketch.add(block)
    assert sketch.finish().counts.tolist() == [10] * 5
