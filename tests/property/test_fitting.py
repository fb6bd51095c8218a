"""Whatever the rows and however they are cut: statistics are exact, and augmentations depend on positions alone."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlpipe.link import Array
from mlpipe.stages.bucketize import Bucketize
from mlpipe.stages.dropout import Dropout
from mlpipe.stages.hash_features import HashFeatures
from mlpipe.stages.learning import Extremes, Moments, Quantiles
from mlpipe.stages.minmax import MinMax
from mlpipe.stages.mixup import MixUp
from mlpipe.stages.noise import Noise
from mlpipe.stages.project import Project
from mlpipe.stages.robust_scale import RobustScale
from mlpipe.stages.standardize import Standardize
from mlpipe.workers import Workers
from tests.passing import passed

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=40)
floats = st.floats(-1e12, 1e12, allow_subnormal=False) | st.just(math.nan)
tables = shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=floats))
sizes = st.lists(st.integers(1, 30), min_size=1, max_size=4)


def present(column: Array) -> list[Fraction]:
    return [Fraction(value) for value in column.tolist() if not math.isnan(value)]


@settings(max_examples=60)
@given(tables, sizes)
def test_moments_and_extremes(rows: Array, cuts: list[int]) -> None:
    moments, extremes = Moments(rows.shape[1]), Extremes(rows.shape[1])
    with Workers(1) as workers:
        for part in np.split(rows, np.cumsum(cuts)):
            moments.add(part, workers)
            extremes.add(part, workers)
    found, ends = moments.finish(), extremes.finish()
    for k, column in enumerate(rows.T):
        exact = present(column)
        assert found["count"][k] == ends["count"][k] == len(exact)
        if not exact:
            assert math.isnan(found["mean"][k])
            assert math.isnan(ends["minimum"][k])
            continue
        mean = sum(exact) / len(exact)
        variance = sum((value - mean) ** 2 for value in exact) / len(exact)
        largest = float(max(map(abs, exact)))
        assert abs(Fraction(found["mean"][k]) - mean) <= Fraction(2.3e-16) * abs(mean) + Fraction(1e-30 * largest)
        assert abs(Fraction(found["variance"][k]) - variance) <= Fraction(5e-16) * variance + Fraction(1e-290)
        assert (ends["minimum"][k], ends["maximum"][k]) == (min(exact), max(exact))


@settings(max_examples=60)
@given(
    shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(width=32, allow_infinity=False))),
    st.floats(0, 1), st.integers(2, 16),
)  # fmt: skip
def test_quantiles(rows: Array, at: float, passes: int) -> None:
    quantiles, found = Quantiles(rows.shape[1], rows.dtype, [at], ["at"], passes), None
    with Workers(1) as workers:
        while found is None:
            quantiles.add(rows, workers)
            found = quantiles.finish()
    for k, column in enumerate(rows.T.astype("f8")):
        values = column[~np.isnan(column)]
        assert found["count"][k] == len(values)
        wanted = np.percentile(values, 100 * at) if len(values) else np.nan
        np.testing.assert_allclose(found["at"][k], wanted, rtol=1e-12, atol=1e-300)


VERBS: list[Any] = [
    Standardize(), MinMax(), RobustScale(), Noise(0.5, seed=3), Dropout(0.3, seed=3), MixUp(0.4, window=7, seed=3),
    Project(components=3), Bucketize((-1.0, 0.0, 5.0)),
]  # fmt: skip


@settings(max_examples=80)
@given(st.sampled_from(VERBS), tables, sizes, st.booleans())
def test_cuts_and_threads_do_not_show(verb: Any, rows: Array, cuts: list[int], known: bool) -> None:
    one, _ = passed(verb, rows)
    two, _ = passed(verb, rows, sizes=cuts, threads=2, known=known)
    assert one.tobytes() == two.tobytes()


@settings(max_examples=30)
@given(hnp.arrays(np.int64, st.tuples(st.integers(0, 30), st.integers(1, 5))), st.integers(1, 20), sizes)
def test_hashed_rows_stand_for_themselves(rows: Array, size: int, cuts: list[int]) -> None:
    made, _ = passed(HashFeatures(size), rows, sizes=cuts)
    again, _ = passed(HashFeatures(size), rows[::-1], threads=2)
    np.testing.assert_array_equal(made, again[::-1])
    assert (np.abs(made).sum(1) <= rows.shape[1]).all()
    assert (np.abs(made).sum(1) % 2 == rows.shape[1] % 2).all()
