"""Row-wise stages against NumPy, for every dtype and odd shapes; fused and not, in any blocks, the same bytes."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.errors import InputError
from mlpipe.kernels.steps import real, working
from mlpipe.stages.abs import Abs
from mlpipe.stages.binarize import Binarize
from mlpipe.stages.cast import Cast
from mlpipe.stages.clip import Clip
from mlpipe.stages.fill_nan import FillNan
from mlpipe.stages.log1p import Log1p
from mlpipe.stages.normalize import Normalize
from mlpipe.stages.power import Power
from mlpipe.stages.rowwise import RowWise
from mlpipe.stages.select import Select
from mlpipe.stages.sqrt import Sqrt
from tests.rowwise import transformed

DTYPES = ["?", "i1", "i8", "u2", "u8", "f2", "f4", "f8"]
SHAPES = [(5,), (0, 3), (3, 0), (1, 1), (7, 3), (40, 129), (4, 3, 5)]


def rows(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Values of all sizes, with the limits of the dtype, NaN, infinities and signed zeros among them."""
    kind, random = np.dtype(dtype), np.random.default_rng(seed)
    if kind.kind == "f":
        facts = np.finfo(kind)
        odd = [0.0, -0.0, np.nan, np.inf, -np.inf, facts.max, facts.min, facts.tiny, facts.smallest_subnormal, -1, 1]
        with np.errstate(over="ignore"):
            found = (random.normal(size=shape) * np.exp(random.normal(size=shape) * 3)).astype(kind)
    elif kind.kind == "b":
        return random.random(shape) < 0.5
    else:
        odd = [np.iinfo(kind).min, np.iinfo(kind).max, 0, 1]
        found = random.integers(0, 100, shape).astype(kind)
    places = random.random(shape) < 0.3
    found[places] = random.choice(np.array(odd, kind), places.sum())
    return found


def same(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal, NaN where NaN, with the same signs of zero."""
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    if got.dtype.kind == "f":
        zero = expected == 0
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


def in_working(function: Any, x: np.ndarray) -> np.ndarray:
    """A function of NumPy in the dtype in which a stage computes, rounded to that of its result."""
    with np.errstate(all="ignore"):
        return function(x.astype(working(x.dtype))).astype(real(x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_stages(dtype: str) -> None:
    for shape in SHAPES:
        x = rows(dtype, shape)
        same(transformed([Abs()], x), np.abs(x))
        same(transformed([Sqrt()], x), in_working(np.sqrt, x))
        same(transformed([Binarize(2.5)], x), (x > 2.5).astype(x.dtype))
        same(transformed([Power(2.0)], x), in_working(np.square, x))
        filled = np.where(x != x, x.dtype.type(7), x) if x.dtype.kind == "f" else x
        same(transformed([FillNan(7.0)], x), filled)
        low, high = (1, 60) if x.dtype.kind in "fiu" else (0, 1)
        same(transformed([Clip(low, high)], x), np.clip(x, low, high).astype(x.dtype))
        same(transformed([Clip(min=low)], x), np.maximum(x, x.dtype.type(low)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions(dtype: str) -> None:
    for shape in SHAPES:
        x = rows(dtype, shape)
        eps = np.finfo(real(x.dtype)).eps
        np.testing.assert_allclose(transformed([Log1p()], x), in_working(np.log1p, x), rtol=2 * eps)
        exponents = (1.7,) if dtype not in ("f4", "f8") else (1.7, -0.3, 3.0, 0.0)
        for p in exponents:
            with np.errstate(all="ignore"):
                expected = np.power(x.astype(np.float64), p).astype(real(x.dtype))
            np.testing.assert_allclose(transformed([Power(p)], x), expected, rtol=2 * eps)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_normalize(dtype: str, norm: str) -> None:
    order = {"l1": 1, "l2": 2, "max": np.inf}[norm]
    for shape in ((0, 3), (3, 0), (1, 1), (7, 3), (9, 16), (40, 129)):
        x = rows(dtype, shape)
        if x.dtype.kind == "f":
            x = np.where(np.isfinite(x), x, x.dtype.type(1))
            x[::5] *= np.finfo(x.dtype).tiny  # tiny norms, and zeros
        with np.errstate(all="ignore"):
            wide = x.astype(np.longdouble)
            size = np.linalg.norm(wide, order, axis=1, keepdims=True) if shape[1] else np.zeros((shape[0], 1))
            expected = (wide / np.where(size == 0, 1, size)).astype(real(x.dtype))
        got = transformed([Normalize(norm)], x)
        facts = np.finfo(got.dtype)
        np.testing.assert_allclose(got, expected, rtol=3 * facts.eps, atol=2 * facts.smallest_subnormal)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_normalize_of_what_is_not_finite(dtype: str, norm: str) -> None:
    x = np.array([[1, np.nan, 2], [0, 0, 0], [np.inf, 1, -3], [-0.0, 0, 0]], dtype)
    got = transformed([Normalize(norm)], x)
    assert np.isnan(got[0]).all()
    same(got[[1, 3]], x[[1, 3]])
    assert np.isnan(got[2, 0])
    assert got[2, 1:].tolist() == [0, 0]


def cast_by_hand(x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Saturating, with exact integers."""
    if dtype.kind == "b":
        return x != 0
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return x.astype(dtype)
    limits = np.iinfo(dtype)

    def one(value: Any) -> int:
        if value != value:
            return 0
        if abs(float(value)) == np.inf:
            return limits.max if value > 0 else limits.min
        return max(limits.min, min(limits.max, int(value)))

    return np.array([one(value) for value in x.ravel().tolist()], dtype).reshape(x.shape)


def holds(x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Which values a dtype can hold, by exact integers."""
    if dtype.kind == "b":
        return np.ones(x.shape, bool)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.isfinite(x.astype(dtype)) | ~np.isfinite(x.astype(np.float64))
    limits = np.iinfo(dtype)
    fits = [np.isfinite(value) and limits.min <= int(value) <= limits.max for value in x.ravel().tolist()]
    return np.array(fits, bool).reshape(x.shape)


CASTS = """
    ? i1, ? f2, i1 u8, u2 i1, u2 f2, i8 u1, i8 u8, i8 ?, i8 f2, u8 i8, u8 f8, f2 f4, f2 u8,
    f4 ?, f4 f2, f4 i2, f4 u4, f4 i8, f4 u8, f8 f2, f8 f4, f8 u1, f8 i4, f8 i8, f8 u8
"""


@pytest.mark.parametrize(("old", "new"), [pair.split() for pair in CASTS.split(",")])
def test_cast(old: str, new: str) -> None:
    x, dtype = rows(old, (60, 5), seed=7), np.dtype(new)
    new = dtype.name
    same(transformed([Cast(new, saturate=True)], x), cast_by_hand(x, dtype))
    fits = holds(x, dtype)
    kept = x[fits.all(axis=1)]
    same(transformed([Cast(new)], kept), cast_by_hand(kept, dtype))
    if not fits.all():
        row = int((~fits).any(axis=1).argmax())
        with pytest.raises(InputError, match=rf"cast: row {row} holds .*; {new} cannot hold that.*--saturate"):
            transformed([Cast(new)], x, block_rows=7, threads=2)


@pytest.mark.parametrize("columns", [("0", "2:4", "-1"), ("1:3",), ("3:3",), ("::",), ("4", "4", "0")])
def test_select(columns: tuple[str, ...]) -> None:
    if columns == ("::",):
        columns = (":",)
    x = rows("f4", (9, 5))
    chosen = [0, 2, 3, 4] if len(columns) == 3 and columns[0] == "0" else None
    chosen = chosen or {("1:3",): [1, 2], ("3:3",): [], (":",): list(range(5))}.get(columns, [4, 4, 0])
    same(transformed([Select(columns)], x), x[:, chosen])
    size = transformed([Normalize("max"), Select(columns), Normalize("l1")], x)
    apart = transformed([Normalize("max"), Select(columns), Normalize("l1")], x, fused=False)
    assert size.tobytes() == apart.tobytes()


STAGES: list[RowWise] = [
    Clip(-2.0, 50.0),
    Log1p(),
    Normalize(),
    Normalize("max"),
    Abs(),
    Sqrt(),
    Power(1.3),
    Binarize(0.5),
    FillNan(2.0),
    Cast("float32"),
    Cast("float16", saturate=True),
    Cast("int8", saturate=True),
    Cast("float64"),
]
CHAINS = [
    [Clip(0.0, 10.0), Log1p(), Normalize(), Cast("float16")],
    [Cast("float32", saturate=True), Normalize(), Select((":2", "0")), Log1p(), Normalize("l1"), Cast("float64")],
    [FillNan(1.0), Cast("float16", saturate=True), Sqrt(), Log1p(), Cast("float64"), Power(0.3)],
    [Select(("1:3",)), Select(("1", "0")), Abs(), Cast("uint8", saturate=True), Clip(3, 9), Cast("float32")],
]


@settings(max_examples=8, deadline=None)
@given(
    data=st.data(),
    dtype=st.sampled_from(["f2", ">f8"]),
    chain=st.sampled_from(CHAINS),
    block_rows=st.integers(1, 70),
    threads=st.integers(1, 3),
)
def test_fused_or_not_and_any_blocks(
    data: Any, dtype: str, chain: list[RowWise], block_rows: int, threads: int
) -> None:
    shape = (data.draw(st.integers(0, 60)), data.draw(st.integers(4, 40)))
    x = data.draw(hnp.arrays(dtype, shape, fill=st.nothing()) if shape[0] < 3 else st.just(rows(dtype, shape)))
    with np.errstate(over="ignore"):
        whole = transformed(chain, x)
    assert transformed(chain, x, block_rows=block_rows, threads=threads).tobytes() == whole.tobytes()
    assert transformed(chain, x, block_rows=block_rows, fused=False).tobytes() == whole.tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_chains_at_random(seed: int) -> None:
    random = np.random.default_rng(seed)
    chain = [STAGES[place] for place in random.integers(0, len(STAGES), 5)]
    x = rows("f4", (50, 33), seed)
    whole = transformed(chain, x)
    assert transformed(chain, x, fused=False).tobytes() == whole.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_joined_rows(threads: int) -> None:
    # Large enough to be cut for threads; narrow enough for rows to be joined, with and without a remainder.
    for shape in ((300_001,), (100_003, 3)):
        x = rows("f4", shape)
        expected = in_working(np.log1p, np.clip(x, 0, 9))
        np.testing.assert_allclose(transformed([Clip(0, 9), Log1p()], x, threads=threads), expected, rtol=1e-6)


def test_labels_and_shares_go_with_the_rows() -> None:
    x, labels = rows("f4", (23, 6)), np.arange(46).reshape(23, 2)
    transformed([Abs()], x, block_rows=5, labels=labels)
    transformed([Abs(), Cast("float64")], x, block_rows=5, labels=labels)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_norms_beyond_the_range_of_the_dtype(norm: str) -> None:
    order = {"l1": 1, "l2": 2, "max": np.inf}[norm]
    for dtype in ("f2", "f4", "f8"):
        facts, part = np.finfo(dtype), np.random.default_rng(3).uniform(0.1, 1, (60, 40))
        sizes = np.linspace(facts.minexp - 3, facts.maxexp - 0.01, 60)[:, None]
        x = np.ldexp(part * np.exp2(sizes % 1), np.floor(sizes).astype(int)).astype(dtype)
        wide = x.astype(np.float64) if dtype != "f8" else part
        if dtype == "f8":
            x, wide = x[4:], wide[4:]  # subnormal values have other proportions
        expected = wide / np.linalg.norm(wide, order, axis=1, keepdims=True)
        np.testing.assert_allclose(transformed([Normalize(norm)], x), expected.astype(dtype), rtol=4 * facts.eps)
