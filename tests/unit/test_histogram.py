"""Histograms: NumPy's edges and counts, for any blocks and threads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpipe
from mlpipe.counting.bins import explicit_bins, uniform_bins
from mlpipe.counting.facts import GROUP, Groups, Inside, Quartiles
from mlpipe.counting.histogram import FEW_BINS, Histogram, HistogramCounter
from mlpipe.errors import InputError, MemoryCeilingError, MlpipeError, UsageError
from mlpipe.link import Array
from mlpipe.workers import Workers

DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
RULES = ["auto", "doane", "fd", "rice", "scott", "sqrt", "stone", "sturges"]
RANGES = [None, (-2, 9), (-0.5, 3.25), (1000, 2000), (0, 0)]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of bool and of overflow


def data(dtype: str, size: int, scale: float = 10.0) -> Array:
    values = np.random.default_rng(size).normal(0, scale, size)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return values > 0
    if kind == "u":
        values = abs(values)
    if kind in "iu":
        values = np.clip(values, np.iinfo(dtype).min, min(np.iinfo(dtype).max, 2.0**62))
    return values.astype(dtype)


def counted(
    values: Array, cuts: Sequence[int] = (), threads: int = 1, weights: Array | None = None, **options: Any
) -> Histogram:
    """What a stream of blocks makes."""
    options.setdefault("room", 1 << 30)
    kinds = None if weights is None else weights.dtype
    counter = HistogramCounter(values.dtype, threads=threads, weights=kinds, **options)
    places = [0, *(cut for cut in cuts if cut < len(values)), len(values)]
    blocks = [slice(a, b) for a, b in itertools.pairwise(places)]
    passes = 0
    with Workers(threads) as workers:
        while counter.learning:
            for block in blocks:
                counter.learn(values[block].copy(), workers)
            counter.learned()
            passes += 1
        assert passes <= counter.passes or not counter.learning
        for block in blocks:
            counter.add(values[block].copy(), workers, None if weights is None else weights[block].copy())
        return counter.finish(workers)


def same(values: Array, bins: Any, ends: Any = None, weights: Any = None) -> None:
    """Assert that mlpipe does as NumPy does."""
    try:
        counts, edges = np.histogram(values, bins, ends, weights=weights)
    except ValueError:
        with pytest.raises(MlpipeError):
            mlpipe.histogram(values, bins, ends, weights)
        return
    if not np.isfinite(edges).all():  # the range is too wide for its type: NumPy returns what it can
        return
    got = mlpipe.histogram(values, bins, ends, weights)
    assert (got[0].dtype, got[1].dtype) == (counts.dtype, edges.dtype)
    np.testing.assert_array_equal(got[1], edges)
    np.testing.assert_array_equal(got[0], counts)


@pytest.mark.parametrize("ends", RANGES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bins_of_equal_width_are_those_of_numpy(dtype: str, ends: Any) -> None:
    for size in (0, 1, 2, 1025, 100_000):
        for bins in (1, 3, 10, 100, 1000):
            same(data(dtype, size), bins, ends)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "edges",
    [[-3, -1, 0, 0, 2.5, 7], [0, 1], [-4, 0, 4], [3, 3], [1, 1, 1], [-math.inf, 0, math.inf], [0, 1, 1], [200, 300]],
    ids=str,
)
def test_edges_that_are_given_are_searched(dtype: str, edges: list[float]) -> None:
    for size in (0, 1, 1025, 70_000):
        same(data(dtype, size), edges)
    for kind in ("f2", "f4", "i8"):
        if all(map(math.isfinite, edges)):
            same(data(dtype, 3000), np.array(edges).astype(kind))


@pytest.mark.parametrize("ends", RANGES[:4], ids=str)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "u8", "f4", "f8"])
def test_rules_are_those_of_numpy(dtype: str, rule: str, ends: Any) -> None:
    for size in (0, 1, 2, 3, 10, 1000) + (() if rule == "stone" else (70_000,)):
        for scale in (1.0, 50.0):
            same(data(dtype, size, scale), rule, ends)


@pytest.mark.parametrize("rule", ["auto", "fd", "rice", "sqrt", "sturges"])
def test_rules_in_float16_are_those_of_numpy_unless_it_overflows(rule: str) -> None:
    same(data("f2", 5000), rule)


def test_quartiles_of_int8_do_not_overflow() -> None:
    values = np.array([-128, -128, 127, 127], "i1")
    assert mlpipe.histogram(values, "fd")[1].tolist() == np.histogram(values.astype("i4"), "fd")[1].tolist()


@given(
    values=st.lists(st.floats(width=64) | st.floats(-10, 10) | st.integers(-3, 3).map(float), max_size=50),
    bins=st.integers(1, 40),
    ends=st.none() | st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)).map(sorted) | st.just((0, 1)),
)
@settings(max_examples=120)
def test_any_floats(values: list[float], bins: int, ends: Any) -> None:
    same(np.array(values, np.float64), bins, ends)
    with np.errstate(all="ignore"):
        same(np.array(values, np.float32), bins, ends)


@given(
    low=st.integers(-(2**63), 2**63 - 1),
    steps=st.lists(st.integers(0, 2**64) | st.integers(0, 5000), min_size=1, max_size=30),
    bins=st.integers(1, 30),
    whole=st.booleans(),
)
@settings(max_examples=100)
def test_any_integers(low: int, steps: list[int], bins: int, whole: bool) -> None:
    values = np.array([min(low + step, 2**63 - 1) for step in steps], np.int64)
    same(values, bins)
    same(values.view(np.uint64), bins)
    low, high = int(values.min()), int(values.max())
    same(values, bins, (low, (low + high) // 2) if whole else (float(low), float(high)))


@given(
    values=st.lists(st.floats(allow_nan=True) | st.integers(-4, 4).map(float), max_size=40),
    edges=st.lists(st.integers(-4, 4).map(float) | st.floats(allow_nan=False), min_size=2, max_size=40).map(sorted),
)
@settings(max_examples=100)
def test_any_edges(values: list[float], edges: list[float]) -> None:
    same(np.array(values, np.float64), edges)


@pytest.mark.parametrize("exponent", [-310, -308, -160, 0, 160, 300])
def test_tiny_and_huge_ranges(exponent: int) -> None:
    values = np.random.default_rng(1).random(2000) * 10.0**exponent
    for bins in (1, 7, 100, 1000):
        same(values, bins)
        same(values, np.linspace(values.min(), values.max(), bins + 1))
    same(values, 10, (values.min(), values.max()))


@pytest.mark.parametrize("bins", [1, 7, 100, 1000, 2000])
def test_in_a_range_of_few_subnormal_numbers_counts_go_by_the_edges(bins: int) -> None:
    values = np.random.default_rng(1).random(2000) * 10.0**-320
    counts, edges = mlpipe.histogram(values, bins)
    assert edges.tolist() == np.histogram_bin_edges(values, bins).tolist()
    assert counts.tolist() == np.histogram(values, edges)[0].tolist()  # other than of np.histogram(values, bins)


@pytest.mark.parametrize("bins", [2, 10, 51, 255, 256, 510])
@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "f4", "f8"])
def test_values_on_the_edges(dtype: str, bins: int) -> None:
    same(np.random.default_rng(3).integers(0, 256, 20_000).astype(dtype), bins)
    same(np.random.default_rng(3).integers(0, 256, 20_000).astype(dtype), bins, (0.0, 255.0))
    same((np.random.default_rng(3).integers(0, 256, 20_000) / 10).astype(np.float32).astype(dtype), bins)


@pytest.mark.parametrize("bins", [FEW_BINS, FEW_BINS + 1, 100_000])
def test_many_bins(bins: int) -> None:
    same(data("f8", 200_000), bins)
    same(data("i4", 200_000, 1e6), bins)
    same(data("f4", 200_000), bins)


@pytest.mark.parametrize("offset", [2.0**24, 1e8])
def test_bins_as_narrow_as_floats_of_their_type(offset: float) -> None:
    values = (offset + np.random.default_rng(4).integers(0, 200, 5000)).astype(np.float32)
    for bins in range(1, 30):
        same(values, bins)


@pytest.mark.parametrize("bins", [10, "auto", "scott", "doane", [-5.0, 0.0, 1.0, 30.0]], ids=str)
@pytest.mark.parametrize("dtype", ["u1", "i4", "f2", "f8"])
def test_blocks_threads_and_room_do_not_show(dtype: str, bins: Any) -> None:
    values = data(dtype, 3 * GROUP + 1234)
    how = {"edges": bins} if isinstance(bins, list) else {"bins": bins}
    whole = counted(values, **how)
    cuts = [1, 2, 1000, GROUP - 1, GROUP + 3, 2 * GROUP + 7]
    for other in (counted(values, cuts, 2, **how), counted(values, cuts, 3, room=32 << 20, **how)):
        assert other.counts.tobytes() == whole.counts.tobytes()
        assert other.edges.tobytes() == whole.edges.tobytes()


@pytest.mark.parametrize("ends", [None, (-5.0, 12.0)], ids=str)
@pytest.mark.parametrize("weights", ["f2", "f4", "f8", "i1", "i8", "u8", "?"])
def test_weights_are_added_up_as_numpy_does(weights: str, ends: Any) -> None:
    values = data("f8", 2 * GROUP + 99)
    many = (np.random.default_rng(5).random(len(values)) * 5).astype(weights)
    for bins in (1, 10):
        same(values, bins, ends, many)
        same(data("u1", len(values)), bins, ends, many)
    got, edges = mlpipe.histogram(values, [-3.0, 0.0, 3.0], None, many)
    if np.dtype(weights).kind in "iu":
        np.testing.assert_array_equal(got, np.histogram(values, edges, weights=many)[0])
    elif weights == "f8":
        np.testing.assert_allclose(got, np.histogram(values, edges, weights=many)[0], rtol=1e-12)


@pytest.mark.parametrize("weights", ["f8", "i8"])
@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "i8"])
def test_weights_do_not_show_blocks_or_threads(dtype: str, weights: str) -> None:
    values = data(dtype, 3 * GROUP + 5)
    many = (np.random.default_rng(6).random(len(values)) * 9).astype(weights)
    for how in ({"bins": 20}, {"edges": [-1.0, 0.0, 3.0, 40.0]}):
        whole = counted(values, weights=many, **how)
        parts = counted(values, [5, GROUP, GROUP + 1, 150_000], 3, many, **how)
        assert whole.counts.tobytes() == parts.counts.tobytes()
        assert (whole.missing, whole.outside) == (parts.missing, parts.outside)


def test_integer_weights_are_exact_beyond_what_floats_hold() -> None:
    got, _ = mlpipe.histogram([0.0, 0.0, 1.0], 1, weights=np.array([2**60, 1, 1]))
    assert got.tolist() == [2**60 + 2]


@pytest.mark.parametrize("weights", [None, np.ones(7)], ids=["counts", "weights"])
def test_what_is_left_out_is_told(weights: Array | None) -> None:
    values = np.array([0.0, 1.0, 2.0, math.nan, math.inf, -math.inf, 5.0])
    table = counted(values, weights=weights, bins=2, range=(0, 2))
    assert (table.counts.tolist(), table.missing, table.outside, table.total) == ([1, 2], 1, 3, 3)
    table = counted(values.astype("f2"), weights=weights, edges=[0.0, 1.0, 2.0])
    assert (table.counts.tolist(), table.missing, table.outside) == ([1, 2], 1, 3)


def test_the_table_of_a_histogram() -> None:
    table = counted(np.arange(200_000.0), bins=100_000)
    pieces = list(table.by_value())
    low, high = (np.concatenate([piece.keys[place] for piece in pieces]) for place in (0, 1))
    assert len(pieces) > 1
    assert low.tolist() == table.edges[:-1].tolist()
    assert high.tolist() == table.edges[1:].tolist()
    assert sum(piece.counts.sum() for piece in pieces) == table.total == 200_000
    assert (table.distinct, table.method, table.spilled_bytes) == (100_000, "bins", 0)
    assert "100000" in table.why
    table.close()


def test_layouts_and_byte_orders() -> None:
    values = data("f8", 3000).reshape(30, 100)
    frozen = values.copy()
    frozen.setflags(write=False)
    wanted = np.histogram(values, 10)[0].tolist()
    for other in (values.T, values[::-1], values.astype(">f8"), frozen, np.asfortranarray(values), values.tolist()):
        assert mlpipe.histogram(other, 10)[0].tolist() == wanted
    weights = np.arange(3000.0).reshape(30, 100)
    assert mlpipe.histogram(values.T, 10, None, weights.T)[0].sum() == weights.sum()


@pytest.mark.parametrize("values", [[1.0, math.nan], [math.inf, 0.0], [math.nan, math.nan, -math.inf]])
@pytest.mark.parametrize("bins", [10, "auto", "doane", "stone", "rice"])
def test_values_without_a_range_are_refused_with_their_number(bins: Any, values: list[float]) -> None:
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    with pytest.raises(InputError, match=f"{nan} values are NaN and {infinite} infinite.*give edges or a range"):
        mlpipe.histogram(values, bins)
    same(np.array(values), 10 if bins == "stone" else bins, (-1.0, 1.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "1 or more, not 0"),
        ({"bins": -3}, "1 or more, not -3"),
        ({"bins": 2.5}, "2.5 is not a whole number"),
        ({"bins": "nonsense"}, "'nonsense' is not a number, nor one of the rules auto"),
        ({"bins": [1, 0]}, "1 is followed by 0"),
        ({"bins": [0.0, math.nan]}, "edge 1 is NaN"),
        ({"bins": [1]}, "two numbers or more"),
        ({"bins": [[1, 2]]}, "two numbers or more"),
        ({"bins": ["a", "b"]}, "two numbers or more"),
        ({"range": (2, 1)}, "must not be larger"),
        ({"range": (0, math.inf)}, "not finite"),
        ({"range": (0, math.nan)}, "not finite"),
        ({"range": ("a", "b")}, "not a number"),
        ({"range": (0, 1j)}, "not a number"),
        ({"bins": "fd", "weights": [1.0, 1.0]}, "does not go with weights"),
        ({"bins": "stone", "weights": [1.0, 1.0]}, "does not go with weights"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mlpipe.histogram([0.0, 1.0], **options)


def test_values_and_weights_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="not complex128"):
        mlpipe.histogram([1j])
    with pytest.raises(InputError, match=r"weights have shape \(2,\), values \(1,\)"):
        mlpipe.histogram([1.0], weights=[1.0, 2.0])
    with pytest.raises(InputError, match="weights must be"):
        mlpipe.histogram([1.0], weights=[1j])
    with pytest.raises(InputError, match="cannot be told apart"):
        mlpipe.histogram([1.0, 1.0 + 2e-16], 100)
    with pytest.raises(InputError, match="overflow"):
        mlpipe.histogram([-1.7e308, 1.7e308], 10)
    with pytest.raises(InputError, match="cannot say how many"):
        mlpipe.histogram([*range(1000), 1e300], "fd")
    with pytest.raises(InputError, match="more than memory holds"):
        mlpipe.histogram([*range(1000), 1e15], "fd")


def test_stone_is_refused_for_streams() -> None:
    with pytest.raises(UsageError, match="give another rule"):
        HistogramCounter(np.dtype("f8"), bins="stone", room=1 << 30)


@pytest.mark.parametrize(
    ("bins", "weights"),
    [("auto", None), ("doane", None), *((bins, kind) for bins in (10, 1000, 10**6) for kind in (None, np.dtype("f8")))],
)
def test_too_little_room_names_what_would_do(bins: Any, weights: Any) -> None:
    ends = None if isinstance(bins, str) or bins == 10 else (0, 1)
    with pytest.raises(MemoryCeilingError) as error:
        HistogramCounter(np.dtype("f8"), bins=bins, range=ends, room=100, weights=weights)
    HistogramCounter(np.dtype("f8"), bins=bins, range=ends, room=error.value.needs, weights=weights)
    with pytest.raises(MemoryCeilingError):
        HistogramCounter(np.dtype("f8"), bins=bins, range=ends, room=error.value.needs - 1, weights=weights)


def test_a_rule_that_makes_more_bins_than_fit() -> None:
    with pytest.raises(MemoryCeilingError, match="raise the ceiling, or give a number of bins"):
        counted(np.r_[np.linspace(0, 1, 1000), 1e5], [], 1, bins="fd", room=1 << 20)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("gathered", [0, 100, 8 << 20])
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_quartiles(dtype: str, gathered: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpipe.counting.facts.COLLECTED_BYTES", gathered)
    monkeypatch.setattr("mlpipe.counting.facts.FEW_COLLECTED_BYTES", gathered)
    for size in (1, 2, 3, 4, 5, 1000, 3001):
        values, passes = data(dtype, size, 1e3 if dtype == "f2" else 1e5), 0
        quartiles = Quartiles(values.dtype, Inside(None), 2, small=small)
        found = None
        while found is None:
            for place, part in enumerate(np.array_split(values, 3)):
                quartiles.add(part, place % 2)
            found, passes = quartiles.finish(size), passes + 1
        assert passes <= Quartiles.passes(values.dtype, small=small)
        wide = values.astype(object) if values.dtype.kind in "iu" and size > 1 else values
        wanted = np.percentile(np.array(wide, np.float64), [25, 75])
        np.testing.assert_allclose(found, wanted, rtol=1e-3 if dtype == "f2" else 1e-6)
        assert values.dtype != np.float64 or found == tuple(wanted)


def test_groups_do_not_depend_on_blocks() -> None:
    values = np.arange(3 * GROUP + 10)
    for cuts in ([], [1], [GROUP], [GROUP - 1, GROUP + 1], list(range(0, len(values), 10_007))):
        groups, found = Groups(np.dtype("i8")), []
        for block in np.split(values, cuts):
            found += [group.copy() for (group,) in groups.whole(block)]
        found.append(groups.rest()[0])
        assert [len(group) for group in found] == [GROUP, GROUP, GROUP, 10]
        assert np.concatenate(found).tolist() == values.tolist()


def test_bins_that_scale_badly_are_searched() -> None:
    # In float32, 4 million bins are narrower than what scaling is wrong by.
    bins = uniform_bins(np.dtype("f4"), 4_000_000, np.float32(0), np.float32(1))
    assert bins._count.__name__ == "count_between"
    assert explicit_bins(np.dtype("f8"), [0, 1]).number == 1
    values = np.random.default_rng(7).random(1000).astype(np.float32)
    counts = np.zeros((1, bins.number + 2), np.int64)
    bins.count(values, counts)
    places = np.searchsorted(bins.edges, values, "right") - 1
    assert np.array_equal(np.flatnonzero(counts[0]), np.unique(places))
