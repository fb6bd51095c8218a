"""The metrics by name: aliases, parameters, and what each makes of them.

Adding a metric is a line of `DEFINITIONS` and, when it is a new kind of sum, a line of
`mlpipe.kernels.metrics`.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.metrics import METRICS
from mlpipe.link import Array


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric as users know it.

    Parameters
    ----------
    name : str
        Its name, and `aliases` its other ones, as in scipy.
    summary : str
        One line for listings.
    kernel : str
        Key in `mlpipe.kernels.metrics.METRICS`.
    prepare : str
        What is done to every row first; see `mlpipe.stages.pairing`.
    accepts : str
        Which of the parameters ``p``, ``w``, ``V``, ``VI`` it takes, space-separated.
    zero_to_itself : bool
        Whether a row is at distance zero from itself.
    features : int or None
        The one number of features that it is defined for.
    """

    name: str
    summary: str
    kernel: str
    aliases: tuple[str, ...] = ()
    prepare: str = ""
    accepts: str = "w"
    zero_to_itself: bool = True
    features: int | None = None


DEFINITIONS = (
    Definition("braycurtis", "sum |x-y| / sum |x+y|", "braycurtis"),
    Definition("canberra", "sum of |x-y| / (|x|+|y|)", "canberra"),
    Definition("chebyshev", "largest |x-y|", "chebyshev", ("chebychev", "cheby", "cheb", "ch")),
    Definition("cityblock", "sum |x-y|", "cityblock", ("cblock", "cb", "c")),
    Definition("correlation", "1 - correlation of the rows", "unit", ("co",), "centred"),
    Definition("cosine", "1 - cosine of the angle", "unit", ("cos",), "unit"),
    Definition("dice", "differing / (2 shared + differing)", "dice"),
    Definition("dot", "inner product: larger is closer", "dot", accepts="", zero_to_itself=False),
    Definition("euclidean", "root of the sum of squared differences", "euclidean", ("euclid", "eu", "e")),
    Definition("hamming", "share of features that differ", "hamming", ("matching", "hamm", "ha", "h")),
    Definition(
        "haversine", "great circle between (latitude, longitude), radians", "haversine", (), "cosine", "", features=2
    ),
    Definition("jaccard", "differing / those non-zero in either", "jaccard", ("jacc", "ja", "j"), "truth"),
    Definition("jensenshannon", "root of the Jensen-Shannon divergence", "jensenshannon", ("js",), "proportions", ""),
    Definition("mahalanobis", "root of (x-y)' VI (x-y)", "mahalanobis", ("mahal", "mah"), "projection", "VI"),
    Definition("minkowski", "p-th root of the sum of |x-y|^p", "minkowski", ("mi", "m", "pnorm"), accepts="p w"),
    Definition("nan_euclidean", "euclidean over what is present in both, scaled up", "nan_euclidean", accepts=""),
    Definition("rogerstanimoto", "2 differing / (all + differing)", "rogerstanimoto", (), "truth"),
    Definition("russellrao", "1 - shared / all", "russellrao", (), "truth", zero_to_itself=False),
    Definition("seuclidean", "euclidean with variance 1 per feature", "euclidean+w", ("se", "s"), accepts="V"),
    Definition("sokalsneath", "2 differing / (2 differing + shared)", "sokalsneath", (), "truth"),
    Definition("sqeuclidean", "sum of squared differences", "sqeuclidean", ("sqeuclid", "sqe")),
    Definition("yule", "2 R / (shared · neither + R), R = x only · y only", "yule+w", (), "truth"),
)

_BY_NAME = {name: definition for definition in DEFINITIONS for name in (definition.name, *definition.aliases)}


def find(name: str) -> Definition:
    """Definition of a metric by name or alias, whatever the case.

    Raises
    ------
    UsageError
        For an unknown name; the message holds the nearest one.

    Examples
    --------
    >>> find("Cheby").name
    'chebyshev'
    """
    definition = _BY_NAME.get(name.lower())
    if definition is None:
        near = difflib.get_close_matches(name.lower(), _BY_NAME, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(d.name for d in DEFINITIONS)}"
        raise UsageError(f"unknown metric {name!r}: {hint}")
    return definition


@dataclass(frozen=True, eq=False)
class Measure:
    """A metric with its parameters, checked as far as they can be without the data.

    Parameters
    ----------
    metric : str
        Name or alias.
    p : float, optional
        Order of `minkowski`, above 0; 2 when not given.
    w : array_like, shape (features,), optional
        Weight of each feature, not negative.
    V : array_like, shape (features,), optional
        Variances for `seuclidean`; of the data when not given.
    VI : array_like, shape (features, features), optional
        Inverse covariance for `mahalanobis`; of the data when not given.

    Examples
    --------
    >>> Measure("minkowski", p=1).kernel
    'cityblock'
    """

    metric: str = "euclidean"
    p: float | None = None
    w: Array | None = None
    V: Array | None = None
    VI: Array | None = None

    def __post_init__(self) -> None:
        definition = find(self.metric)
        for name in ("p", "w", "V", "VI"):
            if getattr(self, name) is not None and name not in definition.accepts.split():
                takes = definition.accepts.replace(" ", " and ") or "no parameter"
                raise UsageError(f"metric {definition.name} takes {takes}, not {name}")
        if self.p is not None and not self.p > 0:
            raise UsageError(f"p must be above 0, not {self.p}")
        for name, dimensions in (("w", 1), ("V", 1), ("VI", 2)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _parameter(name, value, dimensions))
        if self.w is not None and not bool(np.isfinite(self.w).all() and (self.w >= 0).all()):
            wrong = int((~np.isfinite(self.w) | (self.w < 0)).argmax())
            raise InputError(f"w must be finite and not negative: w[{wrong}] is {self.w[wrong]}")

    @property
    def definition(self) -> Definition:
        """What the metric is."""
        return find(self.metric)

    @property
    def kernel(self) -> str:
        """Key of the kernel that computes it, special cases of `minkowski` included."""
        kernel = self.definition.kernel
        if kernel == "minkowski":
            special = {1.0: "cityblock", 2.0: "euclidean", math.inf: "chebyshev"}
            kernel = special.get(2.0 if self.p is None else float(self.p), kernel)
        weighted = self.w is not None and kernel != "unit" and not kernel.endswith("+w")
        return f"{kernel}+w" if weighted else kernel

    def compute_dtype(self, output: np.dtype[Any]) -> np.dtype[Any]:
        """In which rows are prepared and paired: float64 where float32 would cancel."""
        return np.dtype(np.float64) if METRICS[self.kernel].double else output

    def prepared_features(self, features: int) -> int:
        """Numbers that a prepared row has: projected ones come in two parts."""
        return 2 * features if self.definition.prepare == "projection" else features

    def check_features(self, features: int) -> None:
        """Raise InputError when the metric or a parameter wants another number of features."""
        name, wanted = self.definition.name, self.definition.features
        if wanted is not None and features != wanted:
            raise InputError(f"metric {name} takes rows of {wanted} features, not {features}")
        for parameter in ("w", "V", "VI"):
            value = getattr(self, parameter)
            if value is not None and set(value.shape) != {features}:
                raise InputError(f"{parameter} has shape {value.shape}, which does not fit rows of {features} features")


def _parameter(name: str, value: Array, dimensions: int) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.ndim != dimensions:
        raise InputError(f"{name} must be a {dimensions}-D array of numbers, not {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float64)
