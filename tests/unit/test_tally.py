"""Counting of 64-bit values, in memory and out of it."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from mlpipe.counting.tally import Tally
from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.kernels.count_tables import sort_by_key
from mlpipe.workers import Workers

DTYPES = ["bool", "i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8"]
MIB = 1 << 20


def drawn(dtype: str, kind: str, rows: int = 100_000) -> np.ndarray:
    """Values of all sorts."""
    random = np.random.default_rng(len(kind))
    kind_of = np.dtype(dtype).kind
    if kind == "bits":
        raw = random.integers(0, 256, rows * np.dtype(dtype).itemsize, np.uint8)
        return (raw & 1).astype(bool) if kind_of == "b" else raw.view(dtype)
    if kind == "one":
        return np.full(rows, 1, dtype)
    if kind == "skew":
        return np.minimum(random.zipf(1.3, rows), 10**6).astype(np.float64).clip(0, 120).astype(dtype)
    if kind == "few":
        few = drawn(dtype, "bits", 50)
        return few[random.integers(0, len(few), rows)]
    if kind == "ends":
        if kind_of == "b":
            return random.integers(0, 2, rows).astype(bool)
        limits = np.finfo(dtype) if kind_of == "f" else np.iinfo(dtype)
        return np.array([limits.min, limits.max, 0], dtype)[random.integers(0, 3, rows)]
    if kind == "clumps":
        clumps = drawn(dtype, "bits", 3)[random.integers(0, 3, rows)]
        if kind_of == "b":
            return clumps
        unsigned = f"u{clumps.itemsize}"
        return (clumps.view(unsigned) ^ random.integers(0, 100, rows).astype(unsigned)).view(dtype)
    return np.sort(random.integers(0, 100, rows)).astype(dtype)


def expected(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # NumPy 2.4 does not sort float16 with many NaN.
    wide = values.astype(np.float32) if values.dtype == np.float16 else values
    unique, often = np.unique(wide, return_counts=True, equal_nan=True)
    return unique.astype(values.dtype), often


def table_of(tally: Tally, pieces, workers: Workers):
    for piece in pieces:
        tally.add(*((piece, workers) if not isinstance(piece, tuple) else (piece[0], workers, piece[1])))
    counted = tally.finish(workers)
    entries = list(counted.by_value())
    values = np.concatenate([e.keys[0] for e in entries]) if entries else np.empty(0)
    counts = np.concatenate([e.counts for e in entries]) if entries else np.empty(0, np.int64)
    assert all(len(e.counts) <= 1 << 16 for e in entries)
    assert counted.distinct == len(values)
    counted.close()
    counted.close()
    return counted, values, counts


def check(values: np.ndarray, tmp_path, *, room=None, threads=1, blocks=3, rows=None):
    with Workers(threads) as workers:
        tally = Tally(values.dtype, room=room, threads=threads, directory=str(tmp_path), rows=rows)
        counted, found, counts = table_of(tally, np.array_split(values, blocks), workers)
    unique, often = expected(values)
    np.testing.assert_array_equal(found, unique)
    np.testing.assert_array_equal(counts, often)
    assert found.dtype == values.dtype
    assert counts.dtype == np.int64
    assert counted.total == len(values)
    if values.dtype.kind == "f":
        assert counted.missing == np.isnan(values).sum()
        assert not np.signbit(found[found == 0]).any()
    else:
        assert counted.missing == 0
    assert not list(tmp_path.iterdir())
    return counted


@pytest.mark.parametrize("kind", ["bits", "one", "skew", "few", "ends", "clumps", "sorted"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_distribution(tmp_path, dtype, kind):
    values = drawn(dtype, kind)
    check(values, tmp_path)
    check(values, tmp_path, threads=2, blocks=7, rows=len(values))
    check(values, tmp_path, threads=2, blocks=5, room=Tally.least(values.dtype, 2))


ENDS = {
    "u8": [0, 1, 2**63 - 1, 2**63, 2**64 - 1],
    "i8": [-(2**63), -1, 0, 2**63 - 1],
    "f8": [-math.inf, -math.nextafter(math.inf, 0), -5e-324, 0.0, -0.0, 5e-324, math.inf, math.nan],
    "u4": [0, 1, 2**32 - 1],
    "i4": [-(2**31), 0, 2**31 - 1],
    "f4": [-math.inf, -0.0, 0.0, math.inf, math.nan],
}


@pytest.mark.parametrize("dtype", ENDS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("room", [None, 4 * MIB, 64 * MIB])
def test_few_values_at_the_ends(tmp_path, dtype, threads, room):
    ends = np.array(ENDS[dtype], dtype)
    for one in ends:
        check(np.array([one]), tmp_path, room=room, threads=threads, blocks=1, rows=1)
        for other in ends:
            check(np.array([one] * 6 + [other]), tmp_path, room=room, threads=threads, blocks=2, rows=20)
    check(np.repeat(ends, 3), tmp_path, room=room, threads=threads, rows=3 * len(ends))
    check(np.tile(ends, 30_000), tmp_path, room=room, threads=threads)


@pytest.mark.parametrize("ends", [[0, 2**64 - 1], [0, 2**63], [1, 2**64 - 1], [2**64 - 1, 2**64 - 2], [0, 1]])
@pytest.mark.parametrize("more", [0, 1, 2, 5, 30])
def test_keys_at_the_ends_are_sorted(ends, more):
    keys = np.array([*ends, *range(2**62, 2**62 + more)], np.uint64)
    counts = np.arange(len(keys))
    found, held = keys.copy(), counts.copy()
    scratch = np.empty(len(keys), np.uint64), np.empty(len(keys), np.int64), np.empty(len(keys) // 2 + 3, np.int64)
    sort_by_key(found, held, *scratch)
    order = np.argsort(keys)
    np.testing.assert_array_equal(found, keys[order])
    np.testing.assert_array_equal(held, counts[order])


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_an_empty_table(tmp_path, dtype):
    with Workers(1) as workers:
        for blocks in ([], [np.empty(0, dtype)]):
            tally = Tally(np.dtype(dtype), room=8 * MIB, threads=1, directory=str(tmp_path))
            counted, values, counts = table_of(tally, blocks, workers)
            assert (counted.distinct, counted.total, counted.missing) == (0, 0, 0)
            assert not len(values)
            assert not len(counts)


def test_nan_payloads_are_one_value(tmp_path):
    for bits, dtype in ((np.uint64, "f8"), (np.uint32, "f4"), (np.uint16, "f2")):
        nan = np.array([np.nan, -np.nan], dtype).view(bits)
        some = np.concatenate([nan, nan | bits(5), np.array([np.inf, -np.inf, 0.0, -0.0], dtype).view(bits)]).view(
            dtype
        )
        counted = check(some.repeat(3), tmp_path)
        assert counted.distinct == 4
        assert counted.missing == 12


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kind", ["bits", "clumps", "skewed", "dense", "ascending", "geometric"])
def test_more_than_fits_goes_to_disk(tmp_path, kind, threads):
    random = np.random.default_rng(3)
    rows = 1_200_000
    values = {
        "bits": lambda: random.integers(-(2**63), 2**63 - 1, rows // 2)[random.integers(0, rows // 2, rows)],
        "clumps": lambda: random.integers(0, 400_000, rows) + random.integers(0, 2, rows) * 2**62,
        "skewed": lambda: random.zipf(1.1, rows),
        "dense": lambda: random.integers(0, 900_000, rows),
        "ascending": lambda: np.arange(rows) * 3_000_017,
        "geometric": lambda: 2 ** random.integers(0, 62, rows) + random.integers(0, 60_000, rows),
    }[kind]()
    counted = check(values, tmp_path, room=Tally.least(values.dtype, threads), threads=threads, blocks=11)
    assert counted.method == "partitions on disk"
    assert counted.spilled_bytes > 0


def test_what_stays_in_memory_is_bounded(tmp_path):
    room = 4 * MIB
    values = np.random.default_rng(0).integers(0, 2**62, 1 << 20)
    with Workers(2) as workers:
        tally = Tally(values.dtype, room=room, threads=2, directory=str(tmp_path), rows=10**9)
        tally.add(values, workers)
        counted = tally.finish(workers)
    assert counted.distinct == len(np.unique(values))
    assert 0 < sum(keys.nbytes + counts.nbytes for keys, counts in counted.held()) < room // 2
    counted.close()


def test_weighted_values_go_to_disk_too(tmp_path):
    random = np.random.default_rng(4)
    values = random.integers(0, 2**60, 200_000)[random.integers(0, 200_000, 600_000)]
    weights = random.standard_normal(600_000) ** 2 * 10.0 ** random.integers(-8, 8, 600_000)
    tables = []
    for threads, room, blocks in ((1, None, 1), (2, None, 5), (1, Tally.least(values.dtype, 1), 7), (2, 5 * MIB, 13)):
        with Workers(threads) as workers:
            tally = Tally(values.dtype, room=room, threads=threads, directory=str(tmp_path), weights=np.dtype("f8"))
            cut = zip(np.array_split(values, blocks), np.array_split(weights, blocks), strict=True)
            tables.append(table_of(tally, cut, workers))
    assert [counted.method for counted, _, _ in tables] == ["partitions"] * 2 + ["partitions on disk"] * 2
    first = tables[0]
    np.testing.assert_array_equal(first[1], np.unique(values))
    for table in tables[1:]:
        assert table[1].tobytes() == first[1].tobytes()
        assert table[2].tobytes() == first[2].tobytes()
        assert table[0].total == first[0].total
    order = np.argsort(values, kind="stable")
    starts = np.searchsorted(values[order], first[1])
    for place in range(0, len(first[1]), 5003):
        mine = weights[order][starts[place] : np.searchsorted(values[order], first[1][place], "right")]
        assert first[2][place] == pytest.approx(math.fsum(mine), rel=1e-15)
    assert first[0].total == pytest.approx(float(sum(map(Fraction, weights.tolist()))), rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_integer_weights_are_exact(tmp_path, dtype):
    values = drawn(dtype, "few", 3000)
    weights = np.random.default_rng(1).integers(0, 2**50, 3000)
    with Workers(2) as workers:
        tally = Tally(values.dtype, room=8 * MIB, threads=2, directory=str(tmp_path), weights=np.dtype(np.int64))
        counted, found, sums = table_of(tally, [(values[:7], weights[:7]), (values[7:], weights[7:])], workers)
    wanted: Counter = Counter()
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        wanted["nan" if value != value else value + 0] += weight
    assert sums.dtype == np.int64
    assert dict(zip(["nan" if v != v else v + 0 for v in found.tolist()], sums.tolist(), strict=True)) == wanted
    assert found.dtype == values.dtype
    assert counted.total == int(weights.sum())
    assert counted.missing == (np.isnan(values).sum() if values.dtype.kind == "f" else 0)


@pytest.mark.parametrize(
    ("weight", "what"),
    [(-1.5, "weight 12 is -1.5; weights must not be negative"), (np.nan, "weight 12 is nan"), (np.inf, "infinite")],
)
def test_a_weight_that_makes_no_sense_is_named(tmp_path, weight, what):
    with Workers(1) as workers:
        tally = Tally(np.dtype(int), room=8 * MIB, threads=1, directory=str(tmp_path), weights=np.dtype(float))
        tally.add(np.arange(10), workers, np.ones(10))
        with pytest.raises(InputError, match=what):
            tally.add(np.arange(10), workers, np.array([1, 2, weight, 4, 5, 6, 7, 8, 9, 10]))
        tally.close()
        tally.close()


def test_integer_weights_that_overflow_are_refused(tmp_path):
    with Workers(1) as workers:
        tally = Tally(np.dtype(int), room=8 * MIB, threads=1, directory=str(tmp_path), weights=np.dtype(int))
        with pytest.raises(InputError, match="sum to more than"):
            tally.add(np.arange(3), workers, np.full(3, 2**62))


def test_too_little_room_names_what_is_needed(tmp_path):
    least = Tally.least(np.dtype("i8"), 2)
    with pytest.raises(MemoryCeilingError) as caught:
        Tally(np.dtype("i8"), room=least - 1, threads=2, directory=str(tmp_path))
    assert caught.value.needs == least


@pytest.mark.parametrize("dtype", ["c8", "S3", "O", "M8[s]"])
def test_other_dtypes_are_refused(tmp_path, dtype):
    with pytest.raises(UsageError, match="cannot be counted"):
        Tally(np.dtype(dtype), room=8 * MIB, threads=1, directory=str(tmp_path))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_range_may_grow_and_outgrow_its_counters(tmp_path, threads):
    random = np.random.default_rng(5)
    short = random.integers(0, 100, 300_000)
    check(short, tmp_path, threads=threads)
    longer = np.concatenate([short, random.integers(-5000, 9000, 300_000)])
    assert check(longer, tmp_path, threads=threads, blocks=9).method == "dense"
    wide = np.concatenate([longer, random.integers(-(2**62), 2**62, 300_000), short])
    counted = check(wide, tmp_path, threads=threads, blocks=9)
    assert (counted.method, counted.why) == ("partitions", "the range became too wide for counters")
    check(wide, tmp_path, threads=threads, blocks=9, room=Tally.least(wide.dtype, threads))


def test_what_is_frequent_may_change(tmp_path):
    random = np.random.default_rng(6)
    spread = random.integers(-(2**62), 2**62, 700_000)
    values = np.concatenate(
        [spread, spread[random.integers(0, 100, 1_500_000)], spread[::-1] + 1, spread[:50].repeat(9000)]
    )
    check(values, tmp_path, blocks=20)
    check(values, tmp_path, blocks=20, threads=2, room=Tally.least(values.dtype, 2))


def test_counters_are_emptied_before_they_overflow(tmp_path, monkeypatch):
    import mlpipe.counting.dense

    monkeypatch.setattr(mlpipe.counting.dense, "FLUSH", 1 << 19)
    random = np.random.default_rng(7)
    check(random.integers(0, 3, 2_000_000), tmp_path, threads=2)
    check(random.integers(0, 3, 2_000_000).astype(np.int8), tmp_path, threads=2)
