"""Predictions from nearest neighbours of arrays in memory, by the kernels the command line uses."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlpipe.link import Array, Spec
from mlpipe.measure.host import processors
from mlpipe.nearest import kneighbors
from mlpipe.readers.array import ArraySource
from mlpipe.stages.known import load
from mlpipe.stages.metrics import find
from mlpipe.stages.voting import Voting, check_votes, check_weighing
from mlpipe.workers import Workers


def kneighbors_predict(
    Q: npt.ArrayLike,
    D: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    k: int = 10,
    metric: str = "euclidean",
    *,
    weighted: bool = False,
    task: Literal["auto", "classify", "regress"] = "auto",
    outlier_label: int | None = None,
    threads: int | None = None,
    **how: Any,
) -> Array:
    """What the k nearest rows of `D` say of each row of `Q`: the class most of them have, or the mean of their values.

    Of classes with equal votes the smallest one wins. Neighbours at a distance of NaN have no vote.

    Parameters
    ----------
    Q, D, k, metric
        As for `kneighbors`; without `D` (None) rows of `Q` are predicted from the others.
    labels : array_like, shape (n,) or (n, …)
        A class for each row of `D`, bool or whole numbers; or values, of which means are taken.
    weighted : bool
        Whether neighbours count by 1 / distance; those at distance 0, if there are any, alone.
    task : {"auto", "classify", "regress"}
        By default floats are values, of which means are taken, and all else are classes.
    outlier_label : int, optional
        The class of queries whose distances are all NaN. Their means are NaN.
    threads : int, optional
        Threads that compute; as many as there are processors for this process when not given.
    **how
        Further parameters of `kneighbors`.

    Returns
    -------
    ndarray, shape (m,) or (m, …)
        Classes, of the dtype of `labels`; or means, float64.

    Raises
    ------
    UsageError, InputError
        As for `kneighbors`; and for labels that do not fit, or a query without neighbours and no `outlier_label`.

    Examples
    --------
    >>> D, labels = [[0.0], [1.0], [5.0], [6.0]], [3, 3, 7, 7]
    >>> kneighbors_predict([[0.4], [5.1]], D, labels, k=3).tolist()
    [3, 7]
    >>> kneighbors_predict([[0.4], [5.1]], D, [0.5, 1.5, 4.0, 5.0], k=2).tolist()
    [1.0, 4.5]
    """
    if weighted:
        check_weighing(find(metric).name, largest=bool(how.get("largest")))
    known = np.asarray(labels)
    source, data = ArraySource(known, "labels"), ArraySource(np.asarray(Q if D is None else D), "D")
    voting = Voting(source, data, weighted, task, outlier_label, flag="")
    made = voting.plan(Spec(len(np.asarray(Q)), (k,), np.dtype(np.int64)))
    distances, indices = kneighbors(Q, D, k, metric, threads=threads, **how)
    known = np.ascontiguousarray(known, known.dtype.newbyteorder("="))
    out = np.empty((len(indices), *made.row_shape), made.dtype)
    held = load([(0, known)], source.spec, voting.kind, source.name, outlier_label)
    with Workers(threads or processors()) as workers:
        check_votes(held.predict(indices, distances, out, workers, weighted))
    return out
