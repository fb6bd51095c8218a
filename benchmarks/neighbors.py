"""Exact nearest neighbours in memory: mlpipe, FAISS and scikit-learn in one process, same arrays, two threads.

FAISS (`knn`) takes float32 alone and returns squared distances; scikit-learn searches by brute force, and its fit
only looks at the data. Besides: our own metrics against each other, whether the neighbours are right where the data
are translated or nearly equal, and the memory of the command.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mlpipe
from benchmarks.harness import (
    THREADS,
    Goal,
    Part,
    Race,
    Table,
    milliseconds,
    race,
    results_directory,
    times,
    two_threads,
)
from benchmarks.startup import command
from benchmarks.whole_process import measure

Array = np.ndarray[Any, Any]
Found = tuple[Array, Array]
Search = Callable[[Array, Array, int], Found]

WANTED = (1, 10, 100, 1000)
OTHERS = ("cosine", "cityblock")
PAIRS = (3, 8)
NEIGHBORS = 5
"""Of each query, where they are compared with exact arithmetic."""


@dataclass(frozen=True)
class Shape:
    """Queries, rows of data and features."""

    queries: int
    rows: int
    features: int
    least: float = 1.5
    """How many times as fast as FAISS is the goal."""

    def __str__(self) -> str:
        return f"{self.queries} × {self.rows}, d = {self.features}"

    def arrays(self, dtype: str) -> tuple[Array, Array]:
        """Normally distributed rows, always the same."""
        random = np.random.default_rng(2)
        x, y = (random.standard_normal((rows, self.features), dtype=dtype) for rows in (self.queries, self.rows))
        return x, y


SHAPES = (
    Shape(10_000, 5_000, 128),
    Shape(8_000, 8_000, 32),
    Shape(4_000, 4_000, 768),
    Shape(1_000, 100_000, 100, 4),
    Shape(10, 1_000_000, 128),
)
SMALL = (Shape(500, 400, 128), Shape(100, 5_000, 100, 4), Shape(10, 20_000, 128))


def _ours(x: Array, y: Array, k: int, metric: str = "euclidean") -> Found:
    return mlpipe.kneighbors(x, y, k, metric, threads=THREADS)


def _faiss(x: Array, y: Array, k: int) -> Found:
    import faiss

    distances, indices = faiss.knn(x, y, k)
    return distances, indices


def _sklearn(x: Array, y: Array, k: int) -> Found:
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(y).kneighbors(x)
    return distances, indices


PEERS: dict[str, tuple[str, Search]] = {"FAISS": ("FAISS knn", _faiss), "sklearn": ("scikit-learn brute", _sklearn)}
SKLEARN_GOAL = 5.0


def check(peer: Search, x: Array, y: Array, k: int) -> None:
    """Refuse to time two things that do not find the same."""
    few = x[:32]
    ours, theirs = _ours(few, y, k)[0].astype(np.float64), peer(few, y, k)[0].astype(np.float64)
    squares = peer is _faiss
    if not np.allclose(ours**2 if squares else ours, theirs, rtol=1e-3, atol=1e-3):
        raise AssertionError(f"{peer.__name__} and ours differ: the times would mean nothing")


def play(shape: Shape, dtype: str, name: str, k: int, arrays: tuple[Array, Array], goals: list[Goal]) -> list[str]:
    """One race, as a row of a table."""
    title, peer = PEERS[name]
    goal = shape.least if name == "FAISS" else SKLEARN_GOAL
    check(peer, *arrays, k)
    result = race(partial(_ours, *arrays, k), partial(peer, *arrays, k), pairs=PAIRS, budget_s=4.0)
    text = f"neighbours, {shape}, {dtype}, k = {k}: ≥ {goal:g}× {title}"
    goals.append(Goal(text, times(result.ratio), result.ratio >= goal))
    return [
        dtype, str(k), milliseconds(min(result.ours)), title, milliseconds(min(result.theirs)), times(result.ratio),
        times(result.median_ratio), f"≥ {goal:g}×", str(len(result.ours)),
    ]  # fmt: skip


def against_peers(shape: Shape, wanted: tuple[int, ...], goals: list[Goal]) -> Table:
    """Everybody on one shape, in both precisions."""
    rows = []
    for dtype, names in (("float32", ("FAISS", "sklearn")), ("float64", ("sklearn",))):
        arrays = shape.arrays(dtype)
        rows += [play(shape, dtype, name, k, arrays, goals) for k in wanted if k < shape.rows for name in names]
    header = ["type", "k", "ours, ms", "against", "ms", "ratio", "median of pairs", "goal", "pairs"]
    return Table(f"nearest neighbours, {shape}", "Euclidean; best of several.", header, rows)


def other_metrics(shapes: tuple[Shape, ...], wanted: tuple[int, ...], goals: list[Goal]) -> Table:
    """Our other metrics against our own euclidean."""
    rows = []
    for shape in shapes:
        x, y = shape.arrays("float32")
        for metric in OTHERS:
            for k in wanted:
                result = race(partial(_ours, x, y, k, metric), partial(_ours, x, y, k), pairs=PAIRS, budget_s=2.0)
                rows.append(_ratio(shape, metric, k, result, goals))
    header = ["shape", "metric", "k", "ms", "euclidean, ms", "takes"]
    return Table("other metrics beside euclidean", "float32; how many times as long as euclidean.", header, rows)


def _ratio(shape: Shape, metric: str, k: int, result: Race, goals: list[Goal]) -> list[str]:
    longer = 1 / result.ratio
    text = f"neighbours, {shape}, float32, k = {k}: {metric} ≤ 1.3× euclidean"
    goals.append(Goal(text, times(longer), longer <= 1.3))
    cells = [str(shape), metric, str(k), milliseconds(min(result.ours)), milliseconds(min(result.theirs))]
    return [*cells, times(longer)]


@dataclass(frozen=True)
class Case:
    """Data on a grid of float32, so that exact distances are integers in its steps."""

    name: str
    steps: Callable[[np.random.Generator], Array]
    """Rows, as integers."""
    step: float
    offset: float = 0.0

    def rows(self) -> tuple[Array, Array]:
        """The rows as float32, and the integers they are."""
        integers = self.steps(np.random.default_rng(6)) + round(self.offset / self.step)
        values = (integers * self.step).astype(np.float32)
        if not (values.astype(np.float64) == integers * self.step).all():
            raise AssertionError(f"{self.name}: not on the grid")
        return values, integers


def _spread(random: np.random.Generator) -> Array:
    return np.rint(random.standard_normal((600, 64)) * 1024).astype(np.int64)


def _padded(random: np.random.Generator) -> Array:
    integers = np.zeros((600, 128), np.int64)
    integers[:, :4] = np.rint(random.standard_normal((600, 4)) * 64)
    return integers


def _duplicates(random: np.random.Generator) -> Array:
    base = np.rint(random.standard_normal((1, 64)) * 1024).astype(np.int64)
    return base + random.integers(-3, 4, (600, 64)) * (random.random((600, 64)) < 0.1)


CASES = (
    Case("translated by 1e4", _spread, 2.0**-10, 1e4),
    Case("four features, the others padding, translated by 1e4", _padded, 2.0**-10, 1e4),
    Case("near-duplicates", _duplicates, 2.0**-10),
    Case("near-duplicates, translated by 1e4", _duplicates, 2.0**-10, 1e4),
)


def right(integers: Array, indices: Array) -> float:
    """Share of the queries whose neighbours are as near as the nearest are, by exact arithmetic."""
    queries = len(indices)
    squares = ((integers[:queries, None] - integers[None]) ** 2).sum(axis=2)
    nearest = np.sort(squares, axis=1)[:, : indices.shape[1]]
    return float((np.take_along_axis(squares, indices, 1) == nearest).all(axis=1).mean())


def exactness(goals: list[Goal]) -> Table:
    """Who finds the nearest of nearly equal rows."""
    rows = []
    for case in CASES:
        values, integers = case.rows()
        queries = values[:200]
        shares = [right(integers, find(queries, values, NEIGHBORS)[1]) for find in (_ours, _faiss, _sklearn)]
        goals.append(Goal(f"neighbours, {case.name}: all right", f"{shares[0]:.1%}", shares[0] == 1))
        rows.append([case.name, *(f"{share:.1%}" for share in shares)])
    note = f"Share of 200 queries whose {NEIGHBORS} nearest are the nearest by exact arithmetic; float32."
    return Table("neighbours that are right", note, ["data", "mlpipe", "FAISS", "scikit-learn"], rows)


def memory(quick: bool, goals: list[Goal]) -> Table:
    """Peak of the command on a slice of a million queries, among a million rows."""
    queries, count, ceilings = (500, 20_000, ("512MiB",)) if quick else (20_000, 1_000_000, ("512MiB", "1GiB"))
    random, lines = np.random.default_rng(3), []
    with tempfile.TemporaryDirectory(dir=results_directory(quick)) as folder:
        paths = [Path(folder, name) for name in ("Q.npy", "D.npy")]
        for path, size in zip(paths, (queries, count), strict=True):
            np.save(path, random.standard_normal((size, 128), dtype=np.float32))
        for ceiling in ceilings:
            target = Path(folder, f"found-{ceiling}")
            options = ["-k", "10", "--memory", ceiling, "--threads", str(THREADS), "-o", str(target)]
            usage = measure([*command("-q", "neighbors"), *map(str, paths), *options])
            limit = {"512MiB": 512 << 20, "1GiB": 1 << 30}[ceiling]
            text = f"mlpipe neighbors, {queries} of 1 M queries × {count} × 128, --memory {ceiling}: kept"
            goals.append(Goal(text, f"{usage.anonymous >> 20} MiB", usage.anonymous <= limit))
            lines.append([ceiling, f"{usage.anonymous >> 20} MiB", f"{usage.wall:.1f}"])
    note = f"{queries} queries among {count} rows of 128 float32 features, k = 10; peak of anonymous memory."
    return Table("memory of the command", note, ["--memory", "peak", "s"], lines)


def run(quick: bool) -> Part:
    """Everything."""
    shapes, wanted = (SMALL, (1, 10)) if quick else (SHAPES, WANTED)
    goals: list[Goal] = []
    with two_threads():
        tables = [against_peers(shape, wanted, goals) for shape in shapes]
        tables.append(other_metrics(shapes[:2], wanted[:2], goals))
        tables.append(exactness(goals))
    tables.append(memory(quick, goals))
    return Part("neighbors", goals, tables)
