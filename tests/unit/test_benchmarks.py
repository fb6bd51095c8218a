"""What the benchmarks claim about errors, times and goals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.exactness import CASES, relative_errors
from benchmarks.harness import Goal, Part, Race, Table
from benchmarks.results import render

TRIANGLE = np.array([[1e6, 1e6], [1e6 + 3, 1e6 + 4]])


def distances(value: float) -> np.ndarray:
    return np.array([[0.0, value], [value, 0.0]])


def test_exact_distances_have_no_error():
    assert relative_errors(TRIANGLE, distances(5.0)) == (0.0, 0.0)


def test_an_error_is_relative_to_the_exact_distance():
    worst, lost = relative_errors(TRIANGLE, distances(5.005))
    assert worst == pytest.approx(1e-3)
    assert lost == 0


@pytest.mark.parametrize(("value", "error"), [(0.0, 1.0), (math.nan, math.inf)])
def test_zero_and_nan_count_as_lost(value, error):
    assert relative_errors(TRIANGLE, distances(value)) == (error, 1.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.dtype}-{case.offset:g}")
def test_rows_are_as_near_and_as_far_out_as_said(case):
    array = case.array()
    assert array.dtype == case.dtype
    assert (array >= case.offset).all()
    apart = np.abs(array[1:].astype(np.float64) - array[0])
    moved = apart[apart > 0]
    assert moved.size
    assert (moved >= 0.49 * case.step).all()
    assert (moved <= 1.51 * case.step).all()
    if case.dtype == "float32":
        assert (moved == case.step).all()


def test_a_race_compares_best_with_best_and_pair_with_pair():
    result = Race(ours=[1.0, 2.0, 4.0], theirs=[8.0, 6.0, 4.0])
    assert result.ratio == 4.0
    assert result.median_ratio == 3.0


def test_results_show_every_goal_and_every_row():
    goals = [Goal("fast", "2.00×", True), Goal("small", "1/2", False)]
    part = Part("startup", goals, [Table("start", "A note.", ["a", "b"], [["1 | 2", "3"]])])
    lines = render([part], quick=False).splitlines()
    assert "| fast | 2.00× | yes | `make bench ARGS=startup` |" in lines
    assert "| small | 1/2 | **no** | `make bench ARGS=startup` |" in lines
    assert r"| 1 \| 2 | 3 |" in lines
