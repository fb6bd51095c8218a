"""Bounded keepers of what goes on: durations, timelines, samples, bytes in flight."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.buffers import Pool, aligned_empty
from mlpipe.measure.batches import Durations
from mlpipe.measure.facts import STATES
from mlpipe.measure.in_flight import InFlight
from mlpipe.measure.meter import Lane
from mlpipe.measure.samples import MOST, Sample, Samples
from mlpipe.measure.timeline import STEPS, Timeline, step_for

FIXED = settings(derandomize=True, deadline=None, database=None)


@FIXED
@given(st.lists(st.integers(0, 10**14), min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_those_of_all_but_for_the_last_digits(values, fraction):
    times = Durations()
    for value in values:
        times.add(value)
    exact = sorted(values)[max(1, math.ceil(fraction * len(values))) - 1]
    assert abs(times.quantile(fraction) - exact) <= 0.008 * exact
    assert (times.count, times.longest) == (len(values), max(values))


def test_durations_stay_small_and_none_is_none():
    times = Durations()
    assert times.quantile(0.5) is None
    for value in np.random.default_rng(1).integers(0, 2**50, 100_000, endpoint=True).tolist():
        times.add(value)
    assert len(times._counts) < 3800


def naive_shares(origin: int, changes: list[tuple[int, str]], end: int, wall: int) -> tuple[int, dict[str, np.ndarray]]:
    """Shares by adding up every nanosecond's interval."""
    step = step_for(wall)
    steps = -(-wall // step)
    shares = {state: np.zeros(steps) for state in STATES}
    for (start, state), (stop, _) in zip(changes, [*changes[1:], (end, "")], strict=True):
        for place in range(steps):
            low, high = origin + place * step, origin + (place + 1) * step
            shares[state][place] += max(0, min(stop, high) - max(start, low)) / step
    return step, shares


@FIXED
@given(
    st.integers(0, 400_000_000),
    st.lists(st.tuples(st.integers(0, 300_000_000), st.sampled_from(STATES)), min_size=1, max_size=12),
    st.integers(0, 900_000_000),
)
def test_timelines_are_those_of_every_interval(late, spans, after):
    origin = 7
    now = origin + late
    line, totals, changes, since = Timeline(origin, now), {}, [], now
    for length, state in spans:
        changes.append((since, state))
        now = since + length
        if now >= line.edge:
            line.pass_edges(now, state, totals, since)
        totals[state] = totals.get(state, 0) + length
        since = now
    wall = now - origin + after
    if not wall:
        return
    step, wanted = naive_shares(origin, changes, now, wall)
    found = line.facts(totals, wall, step)
    assert found["step_s"] == step / 1e9
    for state in STATES:
        assert len(found[state]) == len(wanted[state]) <= STEPS
        np.testing.assert_allclose(found[state], wanted[state], atol=1e-4)


def test_a_long_wait_takes_no_longer_than_its_steps():
    line = Timeline(0, 0)
    line.pass_edges(10**16, "wait_in", {}, 0)  # four months
    assert len(line._marks) < STEPS
    assert line.edge > 10**16


def test_samples_keep_every_peak():
    samples = Samples()
    heights = np.random.default_rng(2).integers(0, 10**6, 5 * MOST).tolist()
    for second, height in enumerate(heights):
        samples.add(Sample(second, (height, None, height, height), height, {"read": height % 7}))
    facts = samples.facts()
    assert len(facts["t_s"]) == len(facts["rss"]) <= MOST
    assert facts["t_s"] == sorted(facts["t_s"])
    assert facts["t_s"][-1] == len(heights) - 1
    assert max(facts["anonymous"]) == max(facts["in_flight"]) == max(heights)
    assert set(facts["file_backed"]) == {None}
    assert max(facts["queues"]["read"]) == 6


def test_queues_that_come_late_were_empty_before():
    samples = Samples()
    samples.add(Sample(0.0, (1, 1, 1, 1), 0, {}))
    samples.add(Sample(1.0, (1, 1, 1, 1), 0, {"write": 2}))
    assert samples.facts()["queues"] == {"write": [0, 2]}


def test_bytes_in_flight_are_counted_by_all_threads():
    whole = InFlight()
    parts = [InFlight(whole) for _ in range(4)]

    def work(part: InFlight) -> None:
        for _ in range(2000):
            part.add(3)
            part.add(-3)
        part.add(5)

    threads = [threading.Thread(target=work, args=(part,)) for part in parts for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (whole.now, [part.now for part in parts]) == (40, [10] * 4)
    assert 40 <= whole.peak <= 8 * 8


@pytest.mark.parametrize("reuse", [True, False])
def test_a_pool_tells_what_is_in_use(reuse):
    held, lane = InFlight(), Lane("stage")
    pool = Pool(2, lambda: aligned_empty((4,), "f8"), reuse=reuse, in_flight=held)
    one, other = pool.take(lane), pool.take(lane)
    assert held.now == 64
    pool.give(one)
    assert (held.now, held.peak) == (32, 64)
    pool.close()
    pool.give(other)
    assert held.now == 0
