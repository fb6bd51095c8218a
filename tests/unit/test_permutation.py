from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlpipe.keys import key
from mlpipe.stages import permutation
from mlpipe.stages.permutation import TABLE_ROWS, Permutation
from tests.unit.test_randoms import threefry

MASK = 2**64 - 1


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders of few rows, too, come from the network."""
    monkeypatch.setattr(permutation, "TABLE_ROWS", 0)


def order_of(count: int, seed: int, epoch: int = 0, start: int = 0, stop: int | None = None) -> np.ndarray:
    stop = count if stop is None else stop
    out = np.empty(stop - start, np.int64)
    Permutation(count, seed, epoch).rows(start, stop, out)
    return out


def fisher_yates(count: int, seed: int) -> list[int]:
    k0, k1 = (int(word) for word in key(seed, 0, "shuffle", words=8)[:2])
    table = list(range(count))
    for i in range(count - 1, 0, -1):
        j = threefry((k0, k1), i, 0)[0] * (i + 1) >> 64
        table[i], table[j] = table[j], table[i]
    return table


def mix(value: int, k: int) -> int:
    word = (value * 0x9E3779B97F4A7C15 + k) & MASK
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & MASK
    return word ^ word >> 31


def feistel(count: int, position: int, seed: int) -> int:
    keys = [int(word) for word in key(seed, 0, "shuffle", words=8)]
    bits = ((count - 1).bit_length() + 1) // 2
    lefts = math.ceil(count / 2**bits)
    while True:
        left, right = divmod(position, 2**bits)
        for one, other in zip(keys[::2], keys[1::2], strict=True):
            left = (left + (mix(right, one) * lefts >> 64)) % lefts
            right = (right + mix(left, other)) % 2**bits
        position = left * 2**bits + right
        if position < count:
            return position


@pytest.mark.parametrize("count", [0, 1, 2, 10, 1000])
def test_few_rows_are_shuffled_by_fisher_and_yates(count: int) -> None:
    assert order_of(count, 5).tolist() == fisher_yates(count, 5)


@pytest.mark.parametrize("count", [TABLE_ROWS + 1, 10**6 + 3, 2**32, 10**12 + 1])
def test_many_rows_go_through_the_network(count: int) -> None:
    for start in (0, 12345, count - 20):
        expected = [feistel(count, position, 5) for position in range(start, start + 20)]
        assert order_of(count, 5, start=start, stop=start + 20).tolist() == expected


def test_orders_stay_what_they_are() -> None:
    # Files that were shuffled, and runs that are resumed, rely on it.
    assert order_of(10, 42).tolist() == [8, 6, 7, 1, 2, 4, 3, 5, 0, 9]
    assert order_of(10**9, 42, 1, 10**6, 10**6 + 3).tolist() == [569701640, 846039495, 859243240]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3000), st.integers(), st.integers(), st.booleans(), st.data())
def test_every_row_comes_once_and_positions_lead_back(
    count: int, seed: int, epoch: int, table: bool, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permutation, "TABLE_ROWS", TABLE_ROWS if table else 0)
        order = Permutation(count, seed, epoch)
        rows, positions = np.empty(count, np.int64), np.empty(count, np.int64)
        order.rows(0, count, rows)
        order.positions(0, count, positions)
        assert sorted(rows.tolist()) == list(range(count))
        np.testing.assert_array_equal(positions[rows], np.arange(count))
        start = data.draw(st.integers(0, count))
        stop = data.draw(st.integers(start, count))
        part = np.empty(stop - start, np.int64)
        order.rows(start, stop, part)
        np.testing.assert_array_equal(part, rows[start:stop])
        order.positions(start, stop, part)
        np.testing.assert_array_equal(part, positions[start:stop])
        np.testing.assert_array_equal(order.rows_at(positions), np.arange(count))
        np.testing.assert_array_equal(order.positions_of(rows), np.arange(count))


@pytest.mark.parametrize("count", [TABLE_ROWS, TABLE_ROWS + 1, 100_003])
def test_large_orders_are_bijections(count: int) -> None:
    rows = order_of(count, 3)
    assert np.bincount(rows, minlength=count).max() == 1
    assert Permutation(count, 3).positions_of(rows).tolist() == list(range(count))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_all_orders_of_few_rows_are_equally_likely(count: int) -> None:
    trials = 20 * math.factorial(count)
    seen = Counter(tuple(order_of(count, seed).tolist()) for seed in range(trials))
    seen.update(tuple(order_of(count, 1, epoch).tolist()) for epoch in range(trials))
    assert len(seen) == math.factorial(count)
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("count", [5, 13, 64, 100])
def test_the_network_sends_every_position_everywhere_equally_often(count: int) -> None:
    orders = np.array([order_of(count, seed) for seed in range(60 * count)])
    for position in (0, 1, count // 2, count - 1):
        assert stats.chisquare(np.bincount(orders[:, position], minlength=count)).pvalue > 1e-4
    # What follows a row is any other row equally often, too.
    steps = np.bincount((orders[:, 1] - orders[:, 0]) % count, minlength=count)
    assert steps[0] == 0
    assert stats.chisquare(steps[1:]).pvalue > 1e-4


@pytest.mark.parametrize("count", [1000, TABLE_ROWS, TABLE_ROWS + 1, 200_003])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_order_shows_runs_or_correlations(count: int, seed: int) -> None:
    rows = order_of(count, seed)
    ascents = int((rows[1:] > rows[:-1]).sum())
    assert abs(ascents - (count - 1) / 2) < 5 * math.sqrt((count + 1) / 12)
    # Runs above and below the median (Wald and Wolfowitz 1940).
    high = rows >= count // 2
    runs = 1 + int((high[1:] != high[:-1]).sum())
    above, below = int(high.sum()), int((~high).sum())
    mean = 1 + 2 * above * below / count
    assert abs(runs - mean) < 5 * math.sqrt((mean - 1) * (mean - 2) / (count - 1))
    for lag in (1, 2, 3, 256, 500):
        assert abs(np.corrcoef(rows[lag:], rows[:-lag])[0, 1]) < 5 / math.sqrt(count - lag)
    assert abs(np.corrcoef(rows, np.arange(count))[0, 1]) < 5 / math.sqrt(count)
    cells = np.bincount(rows[: count // 2] * 50 // count, minlength=50)  # the first half takes rows from everywhere
    assert stats.chisquare(cells).pvalue > 1e-4


@pytest.mark.parametrize("count", [3000, TABLE_ROWS + 1])
def test_seeds_and_epochs_are_independent(count: int) -> None:
    orders = {(seed, epoch): order_of(count, seed, epoch) for seed in (0, 1, 42, 43) for epoch in (0, 1, 2)}
    assert not np.array_equal(orders[42, 1], orders[43, 0])
    for one, other in itertools.combinations(orders.values(), 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(count)
        assert int((one == other).sum()) < 12  # Poisson with mean 1
    first = Permutation(count, 42)
    assert first.in_epoch(1).rows_at(np.arange(count)).tolist() == orders[42, 1].tolist()


def test_wrong_requests_are_refused() -> None:
    order = Permutation(5, 1)
    with pytest.raises(IndexError, match="positions 3 to 6 of 5"):
        order.rows(3, 6, np.empty(3, np.int64))
    with pytest.raises(ValueError, match="an int64 array of 2 needed"):
        order.rows(0, 2, np.empty(2, np.int32))
    with pytest.raises(ValueError, match="cannot be put in order"):
        Permutation(-1, 0)
