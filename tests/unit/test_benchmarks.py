"""What the benchmarks claim about errors, times and goals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import neighbors
from benchmarks.exactness import CASES, relative_errors
from benchmarks.harness import Goal, Part, Race, Table
from benchmarks.metering import Pairs, chains
from benchmarks.results import render
from mlpipe.engine.budget import plan
from mlpipe.engine.local import run as carry_out
from mlpipe.measure.meter import Meter

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


def test_overhead_is_best_against_best_and_pair_against_pair():
    pairs = Pairs(off=[(1.0, 2.0), (2.0, 4.0)], on=[(1.5, 2.2), (2.02, 3.0)])
    assert pairs.overhead(0) == pytest.approx(0.5)
    assert pairs.overhead(1) == pytest.approx(0.1)
    assert pairs.median(0) == pytest.approx((0.5 + 0.01) / 2)


def test_runs_with_the_meter_and_without_give_the_same_rows(tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, np.random.default_rng(1).random((3000, 8), dtype=np.float32))
    for chain in chains(str(path)).values():
        with chain.opened() as pipeline:
            made = plan(pipeline, 1 << 30, 2)
            assert carry_out(made) == carry_out(made, Meter()) == 3000


@pytest.mark.parametrize("case", neighbors.CASES, ids=lambda case: case.name)
def test_neighbours_are_right_by_exact_arithmetic(case):
    values, integers = case.rows()
    assert values.dtype == np.float32
    squares = ((integers[:3, None] - integers[None]) ** 2).sum(axis=2)
    order = np.argsort(squares, axis=1, kind="stable")
    assert neighbors.right(integers, order[:, :5]) == 1
    assert neighbors.right(integers, order[:, 1:6]) < 1
