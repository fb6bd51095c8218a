"""The parts of the comparisons: timing, plain loops, ways to load, fits, tables."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist

from mlpipe.bench import child, distance_tasks, kernels, loaders, loading, mlpipe_loader, timing
from mlpipe.bench.count_task import LARGEST_TABLE, Count
from mlpipe.bench.data import made_up, of_files
from mlpipe.bench.distance_tasks import Batch, Pair, compare, rounding
from mlpipe.bench.loaders import Shards
from mlpipe.bench.scaling import growth, ladder, thread_ladder
from mlpipe.bench.timing import timed
from mlpipe.errors import InputError, MemoryCeilingError, MlpipeError
from mlpipe.kernels import plain
from mlpipe.kernels.plain_cuda import SIMULATOR, why_not

# Timing


class Clock:
    """A clock that moves when work is done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[int] = []

    def perf_counter(self) -> float:
        return self.now

    def work(self, a_row: float, once: float = 0.0, fixed: float = 0.0) -> Callable[[int], int]:
        """Takes so long for a row, and once for compiling."""

        def call(rows: int) -> int:
            self.now += a_row * rows + fixed + (0.0 if self.calls else once)
            self.calls.append(rows)
            return rows

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(timing, "time", found)
    return found


def test_all_rows_where_they_fit_into_the_budget(clock: Clock) -> None:
    found = timed(clock.work(0.001), 1000, repeat=3, budget=10.0)
    assert (found.rows, found.extrapolated, found.result, found.loops) == (1000, False, 1000, 1)
    assert found.samples == pytest.approx([1.0] * 3)
    assert found.compile_s is None


def test_fewer_samples_where_there_is_no_time_for_all(clock: Clock) -> None:
    assert len(timed(clock.work(0.002), 1000, repeat=9, budget=5.0).samples) == 3


def test_a_sample_of_the_rows_where_all_take_longer_than_the_budget(clock: Clock) -> None:
    found = timed(clock.work(0.01), 1000, repeat=5, budget=2.0)
    assert found.extrapolated
    assert 20 <= found.rows <= 40
    assert (found.best, found.median) == pytest.approx((10.0, 10.0))
    assert clock.now < 6
    clock.calls.clear()
    whole = timed(clock.work(0.01), 1000, repeat=5, budget=2.0, sampled=False)
    assert (whole.rows, whole.extrapolated, len(whole.samples)) == (1000, False, 1)


def test_compiling_is_apart(clock: Clock) -> None:
    found = timed(clock.work(0.01, once=3.0), 100, repeat=2, budget=10.0, compiled=True)
    assert found.compile_s == pytest.approx(3.0)
    assert found.samples == pytest.approx([1.0, 1.0])


def test_short_calls_are_repeated_in_a_loop(clock: Clock) -> None:
    found = timed(clock.work(0.0, fixed=1e-5), 1, repeat=2, budget=1.0)
    assert found.loops == 100
    assert found.best == pytest.approx(1e-5)


# Plain loops


@pytest.fixture(scope="module")
def loops() -> dict[str, dict[str, Callable[..., Any]]]:
    """Plain loops, compiled; `mlpipe bench kernels` compares all of them."""
    distances = {"pair": plain.pair, "batch": plain.batch}
    counts = {"count": plain.count, "count_by_dict": plain.count_by_dict}
    return {
        "scalar": {name: plain.scalar(function) for name, function in {**distances, **counts}.items()},
        "parallel": {name: plain.parallel(function) for name, function in distances.items()},
    }


NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 1.0, 1e-9, math.nan, math.inf, -math.inf])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.data())
def test_every_way_to_compute_gives_the_same_distances(
    loops: dict[str, dict[str, Callable[..., Any]]], m: int, n: int, d: int, data: st.DataObject
) -> None:
    x, y = (data.draw(arrays.arrays(np.float64, (rows, d), elements=NUMBERS)) for rows in (m, n))
    with np.errstate(invalid="ignore"):
        wanted = cdist(x, y)
        batch, pair = Batch(x, y), Pair(x[0], y[-1])
        for problem, answer in ((batch, wanted), (pair, wanted[0, -1])):
            for method in problem.methods(2, 2):
                if method.skipped is None and not method.name.startswith("numba"):
                    problem.difference(method.call(problem.rows), problem.rows, answer, method.label)
        for ways in loops.values():
            batch.difference(ways["batch"](x, y), m, wanted, "Numba")
            pair.difference(ways["pair"](x[0], y[-1]), 1, wanted[0, -1], "Numba")


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        arrays.arrays(np.int64, st.integers(1, 80), elements=st.integers(-50, 50)),
        arrays.arrays(np.int64, st.integers(1, 20), elements=st.integers(-(2**62), 2**62)),
    ),
    st.integers(1, 5),
)
def test_every_way_to_count_gives_the_same_counts(
    loops: dict[str, dict[str, Callable[..., Any]]], values: np.ndarray[Any, Any], parts: int
) -> None:
    wanted = sorted(Counter(values.tolist()).items())
    reference = tuple(np.array(part) for part in zip(*wanted, strict=True))
    problem = Count(values)
    for method in problem.methods(2, 2):
        if method.skipped is None and not method.name.startswith("numba"):
            problem.difference(method.call(len(values)), len(values), reference, method.label)
    keys, counts = loops["scalar"]["count_by_dict"](values)
    assert sorted(zip(keys.tolist(), counts.tolist(), strict=True)) == wanted
    low, size = int(values.min()), int(values.max()) - int(values.min()) + 1
    assert problem.close == (size <= LARGEST_TABLE)
    if problem.close:
        table = loops["scalar"]["count"](values, low, size, parts).sum(axis=0)
        assert [(low + place, number) for place, number in enumerate(table.tolist()) if number] == wanted


def test_a_count_that_leaves_values_out_is_noticed() -> None:
    values = np.array([1, 1, 2, 3, 3, 3])
    problem = Count(values)
    short = np.unique(values[:5], return_counts=True)
    with pytest.raises(MlpipeError, match="count, mine: counts differ from those of NumPy: 2 instead of 3 at place 2"):
        problem.difference(short, 6, np.unique(values, return_counts=True), "mine")
    assert problem.difference(short, 5, np.unique(values, return_counts=True), "mine") == 0.0


def test_values_far_apart_are_counted_without_tables() -> None:
    methods = {one.name: one for one in Count(np.array([5, -(2**40), 5])).methods(2, 2)}
    assert "numpy-bincount" not in methods
    assert "too many for a table" in str(methods["numba-parallel"].skipped)
    assert methods["cuda"].skipped is not None


def test_rounding_is_no_error_and_more_is() -> None:
    x = np.random.default_rng(0).normal(size=(5, 300)).astype("f4")
    exact = cdist(x.astype("f8"), x.astype("f8"))
    limit = rounding(x.dtype, 300)
    assert 0 < compare(exact.astype("f4"), exact, limit, x.dtype, "batch, x") < limit
    wrong = exact.copy()
    wrong[3, 1] *= 1 + 3 * limit
    with pytest.raises(MlpipeError, match=r"batch, x: distance of rows 3 and 1 is .*, but NumPy has .*; more than"):
        compare(wrong, exact, limit, x.dtype, "batch, x")
    with pytest.raises(MlpipeError, match="but NumPy has nan"):
        compare(np.ones((1, 1)), np.full((1, 1), np.nan), limit, x.dtype, "batch, x")


def test_a_gpu_computes_the_same_in_the_simulator() -> None:
    # The simulator alone: its times are never shown, so `why_not` has to be got out of the way.
    code = (
        "from mlpipe.kernels import plain, plain_cuda\n"
        "assert 'simulator' in plain_cuda.why_not()\n"
        "plain_cuda.why_not = plain.start_compiler = lambda: None\n"
        "from mlpipe.bench import count_task, data, distance_tasks, kernels\n"
        "distance_tasks.plain_ways = count_task.plain_ways = lambda threads: iter(())\n"
        "made = data.made_up(3, 17, 5, None, 70, 9)\n"
        "found = kernels.compare_kernels(made, kernels.Settings(1, 1, 1e-9), {})\n"
        "for task in found['tasks']:\n"
        "    times = {one['method']: one['best_s'] for one in task['methods']}\n"
        "    assert times['cuda'] > 0 and times['cuda-resident'] > 0, task\n"
        "plain_cuda.Device.put = lambda self, array: 1 / 0\n"
        "[task] = kernels.compare_kernels(made, kernels.Settings(1, 1, 1e-9, ['pair']), {})['tasks']\n"
        "assert task['methods'][-1]['skipped'] == 'the GPU failed: ZeroDivisionError: division by zero', task\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, SIMULATOR: "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_gpu_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def put(self, array: Any) -> Any:
            return array

        def pair(self, x: Any, y: Any) -> float:
            raise RuntimeError("out of\nluck")

    monkeypatch.setattr(distance_tasks.plain_cuda, "why_not", lambda: None)
    monkeypatch.setattr(distance_tasks.plain_cuda, "Device", Device)
    monkeypatch.setattr(distance_tasks, "plain_ways", lambda threads: iter(()))
    monkeypatch.setattr(plain, "start_compiler", lambda: None)
    [task] = kernels.compare_kernels(made_up(2, 2, 2, None, 2, 2), kernels.Settings(1, 1, 1e-9, ["pair"]), {})["tasks"]
    assert [one["skipped"] for one in task["methods"][-2:]] == ["the GPU failed: RuntimeError: out of luck"] * 2


def test_fast_math_is_not_asked_about_nan() -> None:
    x = np.array([[1.0, np.nan], [0.0, 2.0]])
    for problem in (Batch(x, x), Pair(x[1], x[0])):
        methods = {one.name: one for one in problem.methods(2, 2)}
        assert "fast-math takes lightly" in str(methods["numba-fastmath"].skipped)
        assert methods["numba-parallel"].skipped is None


def test_times_of_the_simulator_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIMULATOR, "1")
    assert "the simulator say nothing of a GPU" in str(why_not())


# Ways to load

WAYS: list[Callable[[Shards, int], Iterator[Any]]] = [
    loaders.full_load, loaders.by_row, loaders.by_batch, loaders.memory_map, loaders.memory_map_shuffled,
    mlpipe_loader.shuffled, mlpipe_loader.in_order,
]  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([("f4", (3,)), (">i2", (5,)), ("u1", ()), ("f8", (2, 2))]),
)
def test_every_way_to_load_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], batch: int, buffer: int, kind: tuple[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    dtype, shape = kind
    paths, total, random = [], sum(sizes), np.random.default_rng(1)
    for number, size in enumerate(sizes):
        paths.append(str(folder / f"{number}.npy"))
        np.save(paths[-1], random.integers(0, 200, (size, *shape)).astype(dtype))
    whole = np.concatenate([np.load(path) for path in paths])
    shards = Shards(paths, total, whole.nbytes // total, batch, buffer, 7, 1)
    wanted = sorted(map(bytes, whole.astype(whole.dtype.newbyteorder("="))))
    wrap = child.modulus(shards.row_bytes)
    for way in WAYS:
        sums = set()
        for epoch in range(2):
            batches = [np.asarray(one) for one in way(shards, epoch)]
            rows = np.concatenate(batches)
            assert sorted(map(bytes, rows.astype(rows.dtype.newbyteorder("=")))) == wanted, way
            assert max(map(len, batches)) <= batch
            sums.add(sum(map(child.checksum, batches)) % wrap)
        assert sums == {child.checksum(whole) % wrap}, way


def test_a_way_is_stopped_when_its_budget_is_used_up(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((100, 4)))
    shards = Shards([str(tmp_path / "a.npy")], 100, 32, 10, 5, 0, 1)
    found = child.epochs(loaders.memory_map, shards, 3, 1e-9, cold=False)
    assert (found["complete"], found["rows"], len(found["epochs_s"])) == (False, 10, 1)
    found = child.epochs(loaders.memory_map, shards, 3, 60.0, cold=True)
    assert (found["complete"], found["rows"], len(found["epochs_s"])) == (True, 300, 3)
    assert found["checksum"] == 3 * 100 * 4 * int(np.float64(1).view("u8")) % 2**64


def test_a_process_that_fails_says_why() -> None:
    assert loading._ask({"method": "no-such-way"}, 30.0) == {"failed": "KeyError: 'no-such-way'"}
    assert loading._why(-9, "") == "ended by SIGKILL, out of memory perhaps"
    assert loading._why(-11, "") == "ended by SIGSEGV"
    assert loading._why(3, "") == "exit code 3"


def test_a_process_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["/bin/sh", "-c", "sleep 60"]
    real = subprocess.Popen
    monkeypatch.setattr(loading.subprocess, "Popen", lambda _, **how: real(command, **how))
    assert loading._ask({}, 0.2) == {"failed": "no answer after 0 s"}


def test_ways_that_load_something_else_are_an_error() -> None:
    def one(label: str, rows: int, checksum: int, complete: bool = True) -> Any:
        return {"label": label, "rows": rows, "checksum": checksum, "complete": complete}

    loading._check([one("a", 6, 1), one("b", 3, 9, complete=False), one("c", 6, 1)], 6)
    with pytest.raises(MlpipeError, match="b loaded 5 rows, but there are 6"):
        loading._check([one("a", 6, 1), one("b", 5, 1)], 6)
    with pytest.raises(MlpipeError, match="b loaded other values than a: checksum 2, not 1"):
        loading._check([one("a", 6, 1), one("b", 6, 2)], 6)


# Growth


@given(st.floats(-2, 4), st.floats(1e-6, 10), st.lists(st.integers(1, 10**6), min_size=2, max_size=8, unique=True))
def test_the_power_of_a_power_is_found(power: float, factor: float, values: list[int]) -> None:
    exponent, error = growth(values, [factor * value**power for value in values])
    assert exponent == pytest.approx(power, abs=1e-6)
    assert error is None if len(values) == 2 else error == pytest.approx(0, abs=1e-6)


def test_the_error_of_a_fit_is_that_of_least_squares() -> None:
    from scipy.stats import linregress

    values, seconds = [1, 2, 4, 8, 16], [1.0, 2.5, 3.7, 9.0, 14.0]
    fit = linregress(np.log(values), np.log(seconds))
    assert growth(values, seconds) == pytest.approx((fit.slope, fit.stderr))


@given(st.integers(1, 10**9))
def test_sizes_ascend_to_the_largest(largest: int) -> None:
    for sizes in (ladder(largest), thread_ladder(min(largest, 5000))):
        assert sizes == sorted(set(sizes))
        assert sizes[0] >= 1
    assert ladder(largest)[-1] == largest


# Data


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpipe.bench import data

    monkeypatch.setattr(data, "available_bytes", lambda: 10**6)
    with pytest.raises(MemoryCeilingError, match=r"comparing takes .* and 977 KiB are free; give fewer --rows"):
        data.made_up(1000, 1000, 4, None, 10, 10)


def test_values_whose_squares_overflow_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.array([[1e25, 1.0], [np.inf, np.nan]], "f4"))
    with pytest.raises(InputError, match=r"X.npy: values up to 1e\+25, whose squares overflow in float32"):
        of_files([str(tmp_path / "X.npy")], 5, 5, None, 5, 0)
    assert of_files([str(tmp_path / "X.npy")], 5, 5, "float64", 5, 0).x.dtype == np.float64


@pytest.mark.parametrize(
    ("dtype", "values", "found"),
    [
        ("?", [True, False], [1, 0]),
        (">i2", [3, -4], [3, -4]),
        ("u8", [7, 2**63 - 1], [7, 2**63 - 1]),
        ("i1", [-128, 5], [-128, 5]),
    ],
)
def test_the_column_that_is_counted(tmp_path: Path, dtype: str, values: list[int], found: list[int]) -> None:
    rows = np.zeros((2, 3), dtype)
    rows[:, 1] = values
    np.save(tmp_path / "X.npy", rows)
    data = of_files([str(tmp_path / "X.npy")], 5, 5, None, 5, -2)
    assert data.values is not None
    assert data.values.tolist() == found
    assert data.values.dtype.isnative
    problem = Count(data.values)
    assert problem.skipped is None
    reference = np.unique(data.values, return_counts=True)
    for method in problem.methods(1, 1):
        if method.skipped is None and not method.name.startswith("numba"):
            assert problem.difference(method.call(2), 2, reference, method.label) == 0
    json.dumps(data.inputs)


@pytest.mark.parametrize(
    ("values", "reason"),
    [(np.array([1, 2**63], "u8"), "X.npy holds values of 2⁶³ and more"), (np.ones(2, "f2"), "X.npy holds float16")],
)
def test_a_column_that_cannot_be_counted(tmp_path: Path, values: np.ndarray[Any, Any], reason: str) -> None:
    np.save(tmp_path / "X.npy", values)
    data = of_files([str(tmp_path / "X.npy")], 5, 5, None, 5, 0)
    assert data.values is None
    assert reason in str(Count(data.values, data.no_values).skipped)
