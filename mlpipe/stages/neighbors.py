"""``neighbors``: the nearest rows of a set, as a stage of a chain.

Its declaration is that of the command, too, whose help must cost nothing: NumPy is not imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlpipe.declare import argument, option
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.link import Stage
    from mlpipe.opening import Opening

DEFAULT_K = 10


@dataclass(frozen=True)
class Neighbors:
    """The nearest rows of a set, for every row.

    A row becomes the indices of the k nearest rows of DATA, of equal distances those of smaller index first, and
    carries the distances along as its label. Distances are computed by difference, exact to rounding, and the matrix
    is never made; DATA is held in memory where it fits, else read once for every block of rows. With --labels a row
    becomes what its neighbours vote for, or their mean; with --radius and --count-only how many rows are within R.

    Example: mlpipe run read examples/data/digits.npy then neighbors examples/data/digits.npy --self --k 5 then nothing
    """

    data: tuple[str, ...] = argument(
        (), help="Among which neighbours are looked for: files, directories, patterns in quotes.", metavar="DATA…"
    )
    k: int | None = option(None, help="How many; 10 by default.", metavar="K", short="-k")
    metric: str = option("euclidean", help="As of mlpipe distances.", metavar="METRIC", short="-m")
    p: float | None = option(None, help="Order of minkowski, above 0; 2 by default.", metavar="P")
    weights: str | None = option(None, help="Weight of each feature.", metavar="W.npy")
    variance: str | None = option(None, help="Variances for seuclidean.", metavar="V.npy")
    inverse_covariance: str | None = option(None, help="For mahalanobis.", metavar="VI.npy")
    dtype: str | None = option(
        None, help="float32 or float64, to compute in; by default what the inputs ask for.", metavar="DTYPE"
    )
    largest: bool = option(False, help="Look for the largest values, as for dot, of which larger is closer.")
    self_: bool = option(False, help="Queries are the rows of DATA, in their order: none is its own neighbour.")
    radius: float | None = option(None, help="All rows within this distance, in the place of k.", metavar="R")
    max_neighbors: int | None = option(None, help="With --radius: at most so many, the nearest.", metavar="N")
    count_only: bool = option(False, help="With --radius: only how many there are.")
    labels: str | None = option(
        None, help="Labels of DATA, one a row: hand on what neighbours vote for.", metavar="Y.npy"
    )
    weighted: bool = option(False, help="With --labels: a neighbour counts by 1 / distance.")
    task: Literal["auto", "classify", "regress"] = option(
        "auto", help="With --labels: vote or mean; auto takes the mean where labels are floats."
    )
    outlier_label: int | None = option(
        None, help="With --labels: the class of rows that have no neighbours; else they end the run.", metavar="CLASS"
    )
    give: Literal["indices", "distances"] = option(
        "indices", help="In a chain: what rows become; the other is their label."
    )

    flow = "buffering"

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float32", "float64"):
            raise UsageError(f"neighbors --dtype {self.dtype}: give float32 or float64")
        if self.k is not None and self.k < 1:
            raise UsageError(f"neighbors --k {self.k}: give 1 or more")
        if self.max_neighbors is not None and self.max_neighbors < 1:
            raise UsageError(f"neighbors --max-neighbors {self.max_neighbors}: give 1 or more")
        if self.radius is not None and self.radius != self.radius:
            raise UsageError("neighbors --radius nan: give a number")
        for name in self._contradictions():
            raise UsageError(f"neighbors {name}")

    def _contradictions(self) -> list[str]:
        """What flags have to do with one another."""
        within, votes = self.radius is not None, self.labels is not None
        return [
            message
            for wrong, message in (
                (within and self.k is not None, "--radius and --k: each says how many; give one of them"),
                (within and votes, "--radius and --labels: the k nearest vote; leave one of them out"),
                (not within and self.max_neighbors is not None, "--max-neighbors: goes with --radius; give that, too"),
                (not within and self.count_only, "--count-only: goes with --radius; give that, too"),
                (self.count_only and self.max_neighbors is not None, "--count-only counts all; no --max-neighbors"),
                (not votes and self.weighted, "--weighted: goes with --labels; give that, too"),
                (not votes and self.task != "auto", f"--task {self.task}: goes with --labels; give that, too"),
                (not votes and self.outlier_label is not None, "--outlier-label: goes with --labels; give that, too"),
                (votes and self.give != "indices", f"--give {self.give} and --labels: give one of them"),
                (self.weighted and self.largest, "--weighted and --largest: only distances weigh; give one of them"),
            )
            if wrong
        ]

    @property
    def count(self) -> int:
        """How many neighbours."""
        return DEFAULT_K if self.k is None else self.k

    def open(self, opening: Opening) -> Stage:
        """Open the files: of the rows only headers are read, parameters of the metric whole."""
        from mlpipe.stages.neighbors_opening import chained  # with the metrics and kernels, not needed before

        return chained(self, opening)
