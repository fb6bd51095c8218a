"""``pairwise``: distances to the rows of a file, as a stage of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe.declare import argument, option
from mlpipe.errors import InputError, UsageError
from mlpipe.link import Array, Stage
from mlpipe.opening import Opening
from mlpipe.readers.npy import NpySource

if TYPE_CHECKING:
    from mlpipe.stages.metrics import Measure

_NEEDED = {"seuclidean": ("V", "--variance"), "mahalanobis": ("VI", "--inverse-covariance")}


@dataclass(frozen=True)
class PairwiseVerb:
    """Distances of every row to all rows of a file.

    A row becomes as many numbers as the file has rows, computed as mlpipe distances does: by difference, exact to
    rounding. The file is read as often as the memory asks for. seuclidean needs --variance and mahalanobis
    --inverse-covariance, since rows come one after the other and cannot be asked for either first.

    Example: mlpipe run read examples/data/digits.npy then pairwise examples/data/digits.npy then head then nothing
    """

    file: str = argument(help="The other rows.", metavar="Y.npy")
    metric: str = option("euclidean", help="As of mlpipe distances.", metavar="METRIC", short="-m")
    p: float | None = option(None, help="Order of minkowski, above 0; 2 by default.", metavar="P")
    weights: str | None = option(None, help="Weight of each feature.", metavar="W.npy")
    variance: str | None = option(None, help="Variances for seuclidean.", metavar="V.npy")
    inverse_covariance: str | None = option(None, help="For mahalanobis.", metavar="VI.npy")
    dtype: str | None = option(None, help="float32 or float64; by default what the inputs ask for.", metavar="DTYPE")

    flow = "buffering"

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float32", "float64"):
            raise UsageError(f"pairwise --dtype {self.dtype}: give float32 or float64")

    def open(self, opening: Opening) -> Stage:
        """Open the files: of the rows only the header is read, parameters of the metric whole."""
        from mlpipe.stages.paired import Paired  # with the metrics and their kernels, not needed before
        from mlpipe.stages.shapes import check_rows

        other = _opened(self.file, opening)
        return Paired(other, self._measure(check_rows([other]), opening), self.dtype)

    def _measure(self, features: int, opening: Opening) -> Measure:
        """The metric with its parameters."""
        from mlpipe.stages.metrics import Measure, find

        paths = {"w": self.weights, "V": self.variance, "VI": self.inverse_covariance}
        name = find(self.metric).name
        needs, flag = _NEEDED.get(name, ("", ""))
        if needs and paths[needs] is None:
            raise UsageError(f"pairwise --metric {name}: give {flag}; rows on their way cannot be asked for it")
        values = {key: _parameter(key, path, features, opening) for key, path in paths.items() if path is not None}
        return Measure(self.metric, self.p, **values)


def _opened(path: str, opening: Opening) -> NpySource:
    source = opening.files.enter_context(NpySource(path))
    opening.inputs.append(source.fingerprint)
    return source


def _parameter(name: str, path: str, features: int, opening: Opening) -> Array:
    """What a file holds, read only if it holds as much as it should."""
    source = _opened(path, opening)
    wanted = (features, features) if name == "VI" else (features,)
    if source.shape != wanted:
        raise InputError(f"{source.name} has shape {source.shape}; {name} of {features} features must have {wanted}")
    return source[:]
