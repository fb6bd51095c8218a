"""The summary of a matrix: right, and the same for any tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlpipe.kernels.summary import EXPONENTS, GROUP, SPLIT, add_exactly
from mlpipe.link import Block, Spec
from mlpipe.writers.summary import Summary, SummarySink

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=100)

Tile = tuple[int, int, int, int]


def summary_of(values: np.ndarray, tiles: list[Tile], above: bool = False) -> Summary:
    sink = SummarySink(above)
    with sink.open(Spec(len(values), values.shape[1:], values.dtype)) as writing:
        for top, bottom, left, right in tiles:
            writing.write(Block(top, np.ascontiguousarray(values[top:bottom, left:right]), left))
    return sink.summary()


def whole(values: np.ndarray) -> list[Tile]:
    return [(0, len(values), 0, values.shape[1])]


def cut(length: int, at: list[int]) -> Iterator[tuple[int, int]]:
    edges = sorted({0, length, *(point for point in at if 0 < point < length)})
    return itertools.pairwise(edges)


@st.composite
def tilings(draw: st.DrawFn, shape: tuple[int, int]) -> list[Tile]:
    """All of a matrix in tiles that begin at whole groups of columns, in any order."""
    tiles = []
    for top, bottom in cut(shape[0], draw(st.lists(st.integers(1, max(1, shape[0]))))):
        columns = [GROUP * point for point in draw(st.lists(st.integers(1, 5)))]
        tiles += [(top, bottom, left, right) for left, right in cut(shape[1], columns)]
    return draw(st.permutations(tiles))


SHAPES = st.tuples(st.integers(0, 6), st.integers(0, 300))
DISTANCES = st.floats(0, 1e6, width=32)
ODDITIES = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e-310, 1e300, -1e300, 3.0, 3.0])


@st.composite
def matrices(draw: st.DrawFn, elements: st.SearchStrategy[float], dtype: str | None = None) -> np.ndarray:
    dtype = dtype or draw(st.sampled_from(["f4", "f8"]))
    with np.errstate(over="ignore", under="ignore"):
        return draw(arrays.arrays("f8", draw(SHAPES), elements=elements, fill=draw(st.just(elements)))).astype(dtype)


# Against obvious oracles.


def expected(values: np.ndarray, above: bool) -> dict:
    places = [(i, j) for i in range(len(values)) for j in range(values.shape[1]) if j > i or not above]
    numbers = [float(values[place]) for place in places]
    comparable = [(value, place) for value, place in zip(numbers, places, strict=True) if not math.isnan(value)]
    least = min(comparable, key=lambda pair: pair, default=(None, None))
    most = max(comparable, key=lambda pair: (pair[0], [-index for index in pair[1]]), default=(None, None))
    return {
        "shape": values.shape,
        "dtype": str(values.dtype),
        "pairs": len(numbers),
        "missing": sum(map(math.isnan, numbers)),
        "infinite": sum(map(math.isinf, numbers)),
        "minimum": least[0],
        "closest": least[1],
        "maximum": most[0],
        "farthest": most[1],
    }


def check(values: np.ndarray, summary: Summary, above: bool) -> None:
    for name, value in expected(values, above).items():
        assert getattr(summary, name) == value, name
    part = np.triu(np.ones(values.shape, bool), 1) if above else np.ones(values.shape, bool)
    finite = [Fraction(float(value)) for value in values[part] if math.isfinite(value)]
    if not finite:
        assert summary.mean is None
        return
    exact = sum(finite) / len(finite)
    size = sum(map(abs, finite)) / len(finite)
    assert abs(Fraction(summary.mean) - exact) <= size * Fraction(GROUP, 2**53) + Fraction(1, 2**1074)


@FIXED
@given(matrices(st.one_of(DISTANCES, ODDITIES)), st.booleans())
def test_summary_of_a_matrix(values, above):
    check(values, summary_of(values, whole(values), above), above)


@FIXED
@given(matrices(st.integers(0, 2**20).map(float)), st.booleans())
def test_mean_of_integers_is_exact(values, above):
    summary = summary_of(values, whole(values), above)
    part = np.triu(np.ones(values.shape, bool), 1) if above else np.ones(values.shape, bool)
    numbers = [int(value) for value in values[part]]
    assert summary.mean == (float(Fraction(sum(numbers), len(numbers))) if numbers else None)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 200])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_place_is_seen(width, dtype):
    """Whatever its lane and group."""
    for place in range(width):
        values = np.full((1, width), 5, dtype)
        values[0, place] = 2
        summary = summary_of(values, whole(values))
        assert (summary.minimum, summary.closest, summary.pairs) == (2, (0, place), width)
        values[0, place] = 9
        summary = summary_of(values, whole(values))
        assert (summary.maximum, summary.farthest) == (9, (0, place))
        values[0, place] = np.nan
        assert summary_of(values, whole(values)).missing == 1
        values[0, place] = np.inf
        summary = summary_of(values, whole(values))
        assert (summary.infinite, summary.maximum, summary.farthest) == (1, np.inf, (0, place))
        assert summary.mean == (5 if width > 1 else None)


# Any tiles.


@FIXED
@given(st.data(), matrices(st.one_of(DISTANCES, ODDITIES)), st.booleans())
def test_tiles_and_their_order_do_not_matter(data, values, above):
    tiles = data.draw(tilings(values.shape))
    assert summary_of(values, tiles, above) == summary_of(values, whole(values), above)


def test_many_tiles_of_rounding_values():
    """Sums in another order would differ in their last bits."""
    values = np.random.default_rng(4).random((300, 1000)).astype("f4")
    tiles = [(i, i + 1, j, min(j + GROUP, 1000)) for i in range(300) for j in range(0, 1000, GROUP)]
    expected = summary_of(values, whole(values))
    assert summary_of(values, tiles) == expected
    assert summary_of(values, tiles[::-1]) == expected
    assert expected.mean == pytest.approx(math.fsum(values.ravel().tolist()) / 300_000, rel=1e-15)


def test_tiles_below_the_diagonal_add_nothing():
    values = np.full((200, 200), 7.0)
    upper = np.triu_indices(200, 1)
    values[upper] = 1.0
    tiles = [(i, i + 50, j, min(j + GROUP, 200)) for i in range(0, 200, 50) for j in range(0, 200, GROUP)]
    summary = summary_of(values, tiles, above=True)
    assert (summary.pairs, summary.maximum) == (len(upper[0]), 1.0)


# Ties, and nothing.


@FIXED
@given(st.data(), st.sampled_from(["f4", "f8"]))
def test_of_equal_extremes_the_first_is_named(data, dtype):
    values = data.draw(matrices(st.sampled_from([1.0, 2.0, 3.0]), dtype))
    summary = summary_of(values, data.draw(tilings(values.shape)))
    if values.size:
        assert summary.closest == tuple(np.argwhere(values == values.min())[0])
        assert summary.farthest == tuple(np.argwhere(values == values.max())[0])


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_no_values(shape):
    values = np.empty(shape)
    assert summary_of(values, whole(values)) == Summary(shape, "float64", 0, 0, 0, None, None, None, None, None)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_above_the_diagonal(count):
    summary = summary_of(np.zeros((count, count)), whole(np.zeros((count, count))), above=True)
    assert (summary.pairs, summary.minimum, summary.mean) == (0, None, None)


def test_only_nan():
    summary = summary_of(np.full((3, 70), np.nan), [(0, 3, 0, 70)])
    assert (summary.pairs, summary.missing, summary.minimum, summary.mean, summary.closest) == (
        210,
        210,
        None,
        None,
        None,
    )


def test_only_infinities():
    summary = summary_of(np.array([[np.inf, -np.inf]]), [(0, 1, 0, 2)])
    assert (summary.infinite, summary.minimum, summary.maximum, summary.mean) == (2, -np.inf, np.inf, None)
    assert (summary.closest, summary.farthest) == ((0, 1), (0, 0))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("value", [0.9, 0.5])
def test_values_near_the_largest(dtype, value):
    """Their sum overflows; their mean does not."""
    large = np.full((3, 200), value * float(np.finfo(dtype).max), dtype)
    summary = summary_of(large, whole(large))
    assert summary.infinite == 0
    assert summary.mean == pytest.approx(float(large[0, 0]), rel=1e-12)
    assert summary.maximum == float(large[0, 0])


def test_denormals():
    small = np.full((2, 130), 5e-324)
    assert summary_of(small, whole(small)).mean == 5e-324


# The kernel.


@FIXED
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_exact_sum(numbers):
    low, high = np.zeros(EXPONENTS, np.int64), np.zeros(EXPONENTS, np.int64)
    values = np.array(numbers, "f8")
    add_exactly(values.view(np.int64), len(values), low, high)
    total = Fraction(0)
    for exponent in range(EXPONENTS):
        significand = (int(high[exponent]) << SPLIT) + int(low[exponent])
        total += Fraction(significand) * Fraction(2) ** (max(exponent, 1) - 1075)
    assert total == sum(map(Fraction, numbers))


def test_compile_leaves_no_trace():
    sink = SummarySink()
    sink.compile(Spec(1, (2,), np.dtype("f4")))
    with sink.open(Spec(1, (2,), np.dtype("f4"))) as writing:
        writing.write(Block(0, np.array([[1, 2]], "f4")))
    assert (sink.summary().pairs, sink.summary().mean) == (2, 1.5)
