"""Near-duplicates far from the origin: relative error against exact arithmetic.

Inputs are what the arrays hold, taken as exact numbers; distances are compared with square roots of exact
integers. Rows are copies of one row near the offset, with a few features moved. In float32 everything lies
on the grid of what float32 holds there, so that the moves are what they are meant to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

import mlpipe
from benchmarks.harness import Goal, Part, Table, two_threads

Array = np.ndarray[Any, Any]
ROOT_BITS = 256
"""Bits of the exact square root that are kept."""


@dataclass(frozen=True)
class Case:
    """Rows that differ in a few features, by about `step` each, near an offset."""

    dtype: str
    offset: float
    step: float
    apart: str
    rows: int = 60
    features: int = 64

    def array(self) -> Array:
        """Two rows in three are moved: one step in two or three features."""
        random = np.random.default_rng(4)
        origin = self.offset * (1 + random.uniform(0, 0.03, self.features))
        moved = np.zeros((self.rows, self.features))
        for row in range(self.rows):
            features = random.integers(0, self.features, row % 3 + 1)
            moved[row, features] = self.step * (row % 3 > 0)
        if self.dtype == "float32":
            return (np.rint(origin / self.step) * self.step + moved).astype(np.float32)
        return origin + moved * random.uniform(0.5, 1.5, moved.shape)


CASES = (
    Case("float32", 1e4, 2.0**-10, "2⁻¹⁰ ≈ 0.98·10⁻³, one ulp"),
    Case("float32", 1e6, 2.0**-4, "2⁻⁴ = 0.0625, one ulp: float32 holds nothing nearer"),
    Case("float64", 1e4, 1e-3, "0.5–1.5·10⁻³"),
    Case("float64", 1e6, 1e-3, "0.5–1.5·10⁻³"),
)


def exact_integers(array: Array) -> tuple[Array, int]:
    """The array as Python integers, and the power of two they are to be divided by."""
    fractions = [[Fraction(value) for value in row] for row in array.tolist()]
    shift = max(value.denominator for row in fractions for value in row).bit_length() - 1
    return np.array([[int(value * 2**shift) for value in row] for row in fractions], dtype=object), shift


def relative_errors(array: Array, distances: Array) -> tuple[float, float]:
    """Largest relative error, and the share of distances between different rows that came out as 0 or NaN."""
    exact, shift = exact_integers(array)
    worst, lost, count = 0.0, 0, 0
    for i in range(len(array)):
        squares = ((exact - exact[i]) ** 2).sum(axis=1)
        for square, value in zip(squares, distances[i].tolist(), strict=True):
            if square == 0:
                continue
            count += 1
            lost += not value > 0
            root = Fraction(math.isqrt(int(square) << ROOT_BITS), 2 ** (ROOT_BITS // 2 + shift))
            worst = max(worst, float(abs(Fraction(value) - root) / root) if math.isfinite(value) else math.inf)
    return worst, lost / count


def _ours(x: Array) -> Array:
    return mlpipe.pairwise_distances(x, x.copy())


def _scipy(x: Array) -> Array:
    from scipy.spatial.distance import cdist

    return cdist(x, x)


def _sklearn(x: Array) -> Array:
    from sklearn.metrics.pairwise import euclidean_distances

    return euclidean_distances(x, x.copy())


def _faiss(x: Array) -> Array:
    """The root is taken in float64, so that all the error is FAISS's; squares below 0 give NaN."""
    import faiss

    with np.errstate(invalid="ignore"):
        return np.sqrt(faiss.pairwise_distances(x, x.copy()).astype(np.float64))


WAYS: dict[str, Callable[[Array], Array]] = {
    "mlpipe": _ours, "scipy cdist": _scipy, "scikit-learn euclidean_distances": _sklearn,
    "FAISS pairwise_distances, root": _faiss,
}  # fmt: skip


def _cell(name: str, array: Array) -> tuple[str, float]:
    if name.startswith("FAISS") and array.dtype != np.float32:
        return "float32 only", math.inf
    worst, lost = relative_errors(array, WAYS[name](array))
    return f"{worst:.1e}" + (f" ({lost:.0%} are 0 or NaN)" if lost else ""), worst


def near_duplicates(goals: list[Goal]) -> Table:
    """Rows a few steps apart at large offsets."""
    rows = []
    for case in CASES:
        array = case.array()
        cells = [_cell(name, array) for name in WAYS]
        rows.append([case.dtype, f"{case.offset:.0e}", case.apart, *(text for text, _ in cells)])
        limit, worst = (1e-6 if case.dtype == "float32" else 1e-12), cells[0][1]
        text = f"points {case.step:.2g} apart at {case.offset:.0e}, {case.dtype}: relative error ≤ {limit:.0e}"
        goals.append(Goal(text, f"{worst:.1e}", worst <= limit))
    note = f"Largest relative error of the euclidean distance; d = {CASES[0].features}, two or three features differ."
    return Table("near-duplicates at large offsets", note, ["type", "offset", "moved by", *WAYS], rows)


def many_features(features: int, goals: list[Goal]) -> Table:
    """Long sums in float32."""
    array = np.random.default_rng(5).standard_normal((6, features), dtype=np.float32)
    cells = [_cell(name, array) for name in WAYS]
    worst = cells[0][1]
    text = f"sums over d = {features:,} features, float32: relative error ≤ 1e-06"
    goals.append(Goal(text, f"{worst:.1e}", worst <= 1e-6))
    note = "Normally distributed rows; largest relative error of the euclidean distance."
    return Table("many features, float32", note, ["features", *WAYS], [[f"{features:,}", *(text for text, _ in cells)]])


def run(quick: bool) -> Part:
    """Every table of exactness."""
    goals: list[Goal] = []
    with two_threads():
        tables = [near_duplicates(goals), many_features(10_000 if quick else 100_000, goals)]
    return Part("exactness", goals, tables)
