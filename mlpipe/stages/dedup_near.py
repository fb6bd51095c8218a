"""``dedup-near``: rows that lie near none that is kept.

Its declaration is that of the command, too, whose help must cost nothing: NumPy is not imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe.declare import option
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.link import Stage
    from mlpipe.opening import Opening


@dataclass(frozen=True)
class DedupNear:
    """Rows that do not lie within a radius of an earlier row that is kept.

    Rows are taken in their order: the first is kept, and each further one unless it is within --radius of a kept one.
    So rows that are dropped drop no others, and any two that are kept are farther apart than the radius. Distances
    are computed by difference, exact to rounding; NaN is never within. Rows stay as they are, and keep their labels.
    Rows kept are held in memory while they fit, and then in a temporary file. Every row is compared with those kept
    until it is dropped: as many distances as rows come in, times rows kept, at most.

    seuclidean needs --variance and mahalanobis --inverse-covariance, since rows come one after the other.

    Example: mlpipe run read examples/data/digits.npy then dedup-near --radius 20 then nothing
    """

    radius: float = option(help="Rows at this distance are within, too.", metavar="R")
    metric: str = option("euclidean", help="As of mlpipe distances.", metavar="METRIC", short="-m")
    p: float | None = option(None, help="Order of minkowski, above 0; 2 by default.", metavar="P")
    weights: str | None = option(None, help="Weight of each feature.", metavar="W.npy")
    variance: str | None = option(None, help="Variances for seuclidean.", metavar="V.npy")
    inverse_covariance: str | None = option(None, help="For mahalanobis.", metavar="VI.npy")
    dtype: str | None = option(
        None, help="float32 or float64, to compute in; by default what the rows ask for.", metavar="DTYPE"
    )
    largest: bool = option(False, help="Drop rows of which a value is at least R, as for dot: larger is closer.")
    indices: str | None = option(None, help="Also write which rows are kept, as int64.", metavar="I.npy")
    temp_dir: str | None = option(None, help="Where temporary files go; by default beside the output.", metavar="DIR")

    flow = "buffering"

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float32", "float64"):
            raise UsageError(f"dedup-near --dtype {self.dtype}: give float32 or float64")
        if self.radius != self.radius:
            raise UsageError("dedup-near --radius nan: give a number")
        if self.indices == "-":
            raise UsageError("dedup-near --indices -: stdout is for the end of the chain; name a file")

    def open(self, opening: Opening) -> Stage:
        """Open the files of parameters; nothing is created before the run."""
        from mlpipe.stages.near_duplicates import opened  # with the metrics and kernels, not needed before

        return opened(self, opening)
