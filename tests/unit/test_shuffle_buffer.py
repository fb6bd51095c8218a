"""What a shuffle buffer draws: uniform, and independent for each seed and epoch."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from mlpipe.stages.shuffle import Shuffle
from tests.order import streamed


def order_of(count: int, size: int, seed: int, epoch: int = 0) -> np.ndarray:
    return np.array(streamed(Shuffle(seed=seed, epoch=epoch, buffer_size=size), count, (500,)))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_a_buffer_for_all_rows_makes_all_orders_equally_likely(count: int) -> None:
    trials = 10 * math.factorial(count)
    seen = Counter(tuple(order_of(count, count, seed).tolist()) for seed in range(trials))
    seen.update(tuple(order_of(count, count, 1, epoch).tolist()) for epoch in range(1, trials + 1))
    assert len(seen) == math.factorial(count)
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_order_shows_runs_or_correlations(seed: int) -> None:
    count = 5000
    rows = order_of(count, count, seed)
    assert sorted(rows.tolist()) == list(range(count))
    ascents = int((rows[1:] > rows[:-1]).sum())
    assert abs(ascents - (count - 1) / 2) < 5 * math.sqrt((count + 1) / 12)
    # Runs above and below the median (Wald and Wolfowitz 1940).
    high = rows >= count // 2
    runs = 1 + int((high[1:] != high[:-1]).sum())
    mean = 1 + count / 2
    assert abs(runs - mean) < 5 * math.sqrt((mean - 1) * (mean - 2) / (count - 1))
    for lag in (1, 2, 3, 256, 500):
        assert abs(np.corrcoef(rows[lag:], rows[:-lag])[0, 1]) < 5 / math.sqrt(count - lag)
    assert abs(np.corrcoef(rows, np.arange(count))[0, 1]) < 5 / math.sqrt(count)
    cells = np.bincount(rows[: count // 2] * 50 // count, minlength=50)  # the first half takes rows from everywhere
    assert stats.chisquare(cells).pvalue > 1e-4


@pytest.mark.parametrize("size", [1, 2, 7, 10, 64])
def test_each_row_of_the_buffer_is_the_next_one_equally_often(size: int) -> None:
    count = 20_000
    rows = order_of(count, size, 3)
    # Row r comes into the buffer once r - size + 1 rows have left; from then on, it waits for as many draws as
    # a coin of which one side in `size` counts.
    entered = np.arange(size, count - 60 * size)
    left = np.argsort(rows)[entered]
    waits = left - (entered - size + 1)
    assert waits.min() == 0
    if size == 1:
        assert waits.max() == 0
        return
    most = 4 * size
    seen = np.bincount(np.minimum(waits, most), minlength=most + 1)
    expected = stats.geom.pmf(np.arange(1, most + 1), 1 / size)
    expected = np.append(expected, 1 - expected.sum()) * len(waits)
    assert stats.chisquare(seen, expected).pvalue > 1e-4
    # The first one out is any of those that are held at first.
    first = np.bincount([order_of(size + 1, size, seed)[0] for seed in range(20 * size)], minlength=size)
    assert stats.chisquare(first).pvalue > 1e-4


@pytest.mark.parametrize("size", [100, 3000])
def test_seeds_and_epochs_are_independent(size: int) -> None:
    count = 3000
    shifts = {
        (seed, epoch): order_of(count, size, seed, epoch) - np.arange(count)
        for seed, epoch in itertools.product((0, 1, 42, 43), (0, 1, 2))
    }
    assert not np.array_equal(shifts[42, 1], shifts[43, 0])
    for one, other in itertools.combinations(shifts.values(), 2):
        if size == count:  # the last rows of a small buffer are near the end in every order
            both = one + np.arange(count), other + np.arange(count)
            assert abs(np.corrcoef(*both)[0, 1]) < 5 / math.sqrt(count)
        # Two orders agree by chance in a few places: one of about twice as many as the buffer holds.
        assert int((one == other).sum()) < 12 + count / size
