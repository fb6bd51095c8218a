"""Distances in memory: mlpipe, FAISS, scikit-learn and SciPy in one process, on the same arrays, two threads.

Each allocates its output as its API does; where it also takes one to fill, that is shown apart. SciPy has no
threads. FAISS returns squared distances, so both our euclidean and our sqeuclidean run against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import mlpipe
from benchmarks import bound
from benchmarks.harness import THREADS, Goal, Part, Race, Table, milliseconds, race, times, two_threads

Array = np.ndarray[Any, Any]
Compute = Callable[[Array, Array], Array]

METRICS = ("cityblock", "chebyshev", "canberra", "braycurtis", "hamming")
HEADER = ["ours", "ms", "against", "ms", "ratio", "median of pairs", "goal", "at most", "pairs"]
FAST, SLOW = (5, 20), (3, 5)
"""At least and at most so many pairs: against FAISS and BLAS, and against scikit-learn and SciPy."""


@dataclass(frozen=True)
class Shape:
    """Rows of X, rows of Y and features, of one type."""

    m: int
    n: int
    d: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.m} × {self.n}, d = {self.d}, {self.dtype}"

    def arrays(self) -> tuple[Array, Array]:
        """Normally distributed rows, always the same."""
        random = np.random.default_rng(2)
        x, y = (random.standard_normal((rows, self.d), dtype=self.dtype) for rows in (self.m, self.n))
        return x, y

    def least(self, metric: str) -> float:
        """Time below which the arithmetic cannot go."""
        return bound.least_seconds(metric, self.dtype == "float64", self.m, self.n, self.d)

    def limit(self, metric: str) -> str:
        """The same in words."""
        return f"{metric} {milliseconds(self.least(metric))} ms"


@dataclass(frozen=True)
class Match:
    """Which of our metrics against which peer, with the goal for the ratio where there is one."""

    name: str
    peer: Compute
    goal: float | None = None
    metric: str = "euclidean"
    pairs: tuple[int, int] = SLOW
    squares: bool = False
    """The peer returns squared distances."""
    out: bool = False
    """Both fill an array that is there already."""
    same: bool = True
    """The peer is to compute the same distances, which is checked."""

    def ours(self, x: Array, y: Array, out: Array | None = None) -> Array:
        """Our side of it."""
        return mlpipe.pairwise_distances(x, y, self.metric, out=out, threads=THREADS)


def _faiss(x: Array, y: Array) -> Array:
    import faiss

    return faiss.pairwise_distances(x, y)


def _faiss_root(x: Array, y: Array) -> Array:
    """What a user of FAISS writes to get the distance itself."""
    squares = _faiss(x, y)
    np.maximum(squares, 0, out=squares)
    return np.sqrt(squares, out=squares)


def _faiss_out(out: Array) -> Compute:
    """What ``faiss.pairwise_distances`` does, into an array that is there already."""
    import faiss

    def compute(x: Array, y: Array) -> Array:
        pointers = [faiss.swig_ptr(array) for array in (x, y, out)]
        faiss.pairwise_L2sqr(x.shape[1], len(x), pointers[0], len(y), pointers[1], pointers[2])
        return out

    return compute


def _sklearn(x: Array, y: Array) -> Array:
    from sklearn.metrics.pairwise import euclidean_distances

    return euclidean_distances(x, y)


def _sklearn_jobs(x: Array, y: Array) -> Array:
    from sklearn.metrics import pairwise_distances

    return pairwise_distances(x, y, metric="euclidean", n_jobs=THREADS)


def _scipy(metric: str, out: Array | None = None) -> Compute:
    from scipy.spatial.distance import cdist

    return partial(cdist, metric=metric, out=out)


def _blas(x: Array, y: Array) -> Array:
    return x @ y.T


def euclidean_matches(shape: Shape, wanted: dict[str, float]) -> list[Match]:
    """Whom euclidean distances run against: everyone who has them for this type."""
    out = np.empty((shape.m, shape.n), shape.dtype)
    matches = []
    if "faiss" in wanted:
        name = "FAISS pairwise_distances (squares)"
        matches += [
            Match(name, _faiss, wanted["faiss"], pairs=FAST, squares=True),
            Match(name, _faiss, None, "sqeuclidean", pairs=FAST, squares=True),
            Match("FAISS, then np.sqrt", _faiss_root, pairs=FAST),
            Match("FAISS pairwise_L2sqr", _faiss_out(out), None, "sqeuclidean", FAST, out=True, same=False),
        ]
    if "sklearn" in wanted:
        matches.append(Match("scikit-learn euclidean_distances", _sklearn, wanted["sklearn"]))
        matches.append(Match(f"scikit-learn pairwise_distances, n_jobs={THREADS}", _sklearn_jobs, wanted["sklearn"]))
    if "scipy" in wanted:
        matches.append(Match("scipy cdist", _scipy("euclidean"), wanted["scipy"]))
        if shape.dtype == "float64":
            matches.append(Match("scipy cdist", _scipy("euclidean", out), out=True, same=False))
    return [*matches, Match("BLAS X @ Y.T alone", _blas, pairs=FAST, same=False)]


def check(match: Match, x: Array, y: Array) -> None:
    """Refuse to time two things that do not compute the same."""
    few = x[:64]
    ours, theirs = match.ours(few, y), match.peer(few, y)
    if match.squares and match.metric == "euclidean":
        ours = np.square(ours, dtype=np.float64)
    tolerance = 1e-9 if ours.dtype == theirs.dtype == np.float64 and x.dtype == np.float64 else 1e-3
    if not np.allclose(ours, theirs, rtol=tolerance, atol=tolerance):
        raise AssertionError(f"{match.name} and ours differ: the times would mean nothing")


def play(shape: Shape, match: Match, x: Array, y: Array, goals: list[Goal]) -> list[str]:
    """One race, as a row of a table."""
    out = np.empty((shape.m, shape.n), shape.dtype) if match.out else None
    if match.same:
        check(match, x, y)
    result = race(lambda: match.ours(x, y, out), lambda: match.peer(x, y), pairs=match.pairs)
    if match.goal is not None:
        text = f"{match.metric}, {shape}: ≥ {match.goal:g}× {match.name}"
        goals.append(Goal(text, times(result.ratio), result.ratio >= match.goal))
    return _row(shape, match, result)


def _row(shape: Shape, match: Match, result: Race) -> list[str]:
    suffix = ", out=" if match.out else ""
    goal = "" if match.goal is None else f"≥ {match.goal:g}×"
    return [
        f"{match.metric}{suffix}", milliseconds(min(result.ours)),
        f"{match.name}{suffix}", milliseconds(min(result.theirs)),
        times(result.ratio), times(result.median_ratio), goal,
        times(min(result.theirs) / shape.least(match.metric)), str(len(result.ours)),
    ]  # fmt: skip


def euclidean(shape: Shape, wanted: dict[str, float], goals: list[Goal]) -> Table:
    """Euclidean distances of one shape."""
    x, y = shape.arrays()
    rows = [play(shape, match, x, y, goals) for match in euclidean_matches(shape, wanted)]
    return Table(f"euclidean, {shape}", f"Arithmetic bound: {shape.limit('euclidean')}.", HEADER, rows)


def other_metrics(shape: Shape, goals: list[Goal]) -> Table:
    """The metrics that nobody computes with BLAS, against scipy."""
    rows = []
    for metric in METRICS:
        x, y = shape.arrays()
        if metric == "hamming":  # few values, so that some features agree
            x, y = (np.rint(2 * array).astype(shape.dtype) for array in (x, y))
        rows.append(play(shape, Match("scipy cdist", _scipy(metric), 20, metric), x, y, goals))
    limits = ", ".join(shape.limit(metric) for metric in METRICS)
    return Table(f"other metrics, {shape}", f"Arithmetic bounds: {limits}.", HEADER, rows)


def rates() -> Table:
    """What the bounds are computed from."""
    note = (
        f"Pairs of features (10⁹) a second that {THREADS} threads get through if nothing is loaded or stored: the "
        "arithmetic of our kernels, in registers; dot is what a matrix product does. “At most” below is the ratio "
        "these rates allow: the peer's time over the arithmetic bound."
    )
    metrics = ("dot", "euclidean", *METRICS)
    rows = [
        [dtype, *(f"{bound.rate(metric, dtype == 'float64') / 1e9:.1f}" for metric in metrics)]
        for dtype in ("float32", "float64")
    ]
    return Table("what the processor can do", note, ["type", *metrics], rows)


def run(quick: bool) -> Part:
    """Every race of the goals for kernels."""
    part = 4 if quick else 1
    goals: list[Goal] = []
    tables = [rates()]
    shapes: tuple[tuple[int, int, int, str, dict[str, float]], ...] = (
        (10000, 5000, 128, "float32", {"faiss": 2, "sklearn": 7, "scipy": 40}),
        (4000, 4000, 768, "float32", {"faiss": 1.7}),
        (8000, 8000, 32, "float32", {"faiss": 1.7}),
        (10000, 5000, 128, "float64", {"sklearn": 3, "scipy": 15}),
    )
    with two_threads():
        for m, n, d, dtype, wanted in shapes:
            tables.append(euclidean(Shape(m // part, n // part, d, dtype), wanted, goals))
        squares = [Shape(4000 // part, 4000 // part, 128, dtype) for dtype in ("float32", "float64")]
        tables += [other_metrics(shape, goals) for shape in squares]
    return Part("kernels", goals, tables)
