"""Distances between arrays in memory, by the kernels the command line uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlpipe.errors import InputError
from mlpipe.link import Array
from mlpipe.measure.host import processors
from mlpipe.readers.array import ArraySource
from mlpipe.stages.defaults import fill_in
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import Pairing, Place, Rows
from mlpipe.stages.shapes import check_rows, output_dtype
from mlpipe.workers import Workers

BLOCK_BYTES = 32 << 20
"""Bytes of X, and of Y, prepared at a time: the copies stay small, however large the arrays are."""

MIRRORED_FEATURES = 24
"""From here on computing a distance twice takes longer than writing it twice (6000 rows: 8 features 11 ms
against 15 ms mirrored, 32 features 21 against 20, 128 features 61 against 41)."""

SMALL = 1 << 20
"""Multiplications below which starting threads costs more than it brings."""


def pairwise_distances(
    X: npt.ArrayLike,
    Y: npt.ArrayLike | None = None,
    metric: str = "euclidean",
    *,
    p: float | None = None,
    w: npt.ArrayLike | None = None,
    V: npt.ArrayLike | None = None,
    VI: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Distance of every row of `X` to every row of `Y`.

    Euclidean and its kin are computed by difference, so near-duplicates far from the origin come out
    right to rounding. The result does not depend on the number of threads.

    Parameters
    ----------
    X : array_like, shape (m, features) or (m,)
        Rows of bool, int or float; one-dimensional means one feature.
    Y : array_like, shape (n, features) or (n,), optional
        Other rows; `X` against itself when not given: symmetric to the bit.
    metric : str
        A name or alias of ``scipy.spatial.distance.cdist``, ``dot``, ``haversine`` or ``nan_euclidean``.
    p : float, optional
        Order of ``minkowski``; 2 when not given.
    w : array_like, shape (features,), optional
        Weights of the features.
    V : array_like, shape (features,), optional
        Variances for ``seuclidean``; of the rows of X and Y when not given.
    VI : array_like, shape (features, features), optional
        Inverse covariance for ``mahalanobis``; of the rows of X and Y when not given.
    dtype : dtype, optional
        float32 or float64, of the computation and the result; when not given, float32 if all inputs are
        float16 or float32, else float64.
    out : ndarray, shape (m, n), optional
        Where the result goes, of that dtype.
    threads : int, optional
        Threads that compute; as many as there are processors for this process when not given.

    Returns
    -------
    ndarray, shape (m, n)
        The distances; `out` if it was given.

    Raises
    ------
    UsageError
        For an unknown metric, or a parameter that it does not take.
    InputError
        For shapes or dtypes that do not fit.

    Examples
    --------
    >>> pairwise_distances([[0.0, 0.0], [3.0, 4.0]])
    array([[0., 5.],
           [5., 0.]])
    """
    measure = Measure(metric, p, *(None if value is None else np.asarray(value) for value in (w, V, VI)))
    x = ArraySource(np.asarray(X), "X")
    y = x if Y is None else ArraySource(np.asarray(Y), "Y")
    sources = [x] if Y is None else [x, y]
    features = check_rows([*sources])
    dtype = output_dtype([source.array.dtype for source in sources], dtype)
    shape = (len(x.array), len(y.array))
    result = _result(out, shape, dtype, [source.array for source in sources])
    small = shape[0] * shape[1] * max(features, 1) < SMALL
    with Workers(1 if small else threads or processors()) as workers:
        measure = fill_in(measure, [*sources], features, workers)
        pairing = Pairing(measure, features, dtype)
        if 0 not in shape:
            _fill(result, pairing, x, None if Y is None else y, workers)
    if out is not None and out is not result:
        np.copyto(out, result)
        return out
    return result


def _result(out: Array | None, shape: tuple[int, int], dtype: np.dtype[Any], inputs: list[Array]) -> Array:
    """`out` when kernels can write to it as it is while they read the inputs, else a new array."""
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype:
        raise InputError(f"out has shape {out.shape} and dtype {out.dtype}, the result {shape} and {dtype}")
    if not out.flags.writeable:
        raise InputError("out is read-only")
    fit = out.flags.c_contiguous and out.flags.aligned and not any(np.may_share_memory(out, x) for x in inputs)
    return out if fit else np.empty(shape, dtype)


def _fill(result: Array, pairing: Pairing, x: ArraySource, y: ArraySource | None, workers: Workers) -> None:
    other = x if y is None else y
    mirrored = y is None and (pairing.features >= MIRRORED_FEATURES or pairing.metric.double)
    block = max(1, BLOCK_BYTES // (pairing.compute_dtype.itemsize * max(1, pairing.features)))
    columns = min(len(other.array), -(-block // pairing.width) * pairing.width)
    scratch = pairing.scratch(workers.threads)
    panels = pairing.empty_panels(columns)
    buffer = pairing.empty_rows(min(block, max(len(x.array), len(other.array))))
    for y_start in range(0, len(other.array), columns):
        panels.columns = 0
        for start in range(y_start, min(y_start + columns, len(other.array)), len(buffer)):
            rows = buffer[: min(len(buffer), y_start + columns - start, len(other.array) - start)]
            other.read_rows(start, rows)
            pairing.add(panels, rows, workers)
        for start in range(0, len(x.array), block):
            prepared = _rows(pairing, x, start, buffer[: len(x.array) - start], workers)
            mirror = Place(result, y_start, start) if mirrored else None
            diagonal = start - y_start if mirrored else None
            pairing.tile(workers, scratch, prepared, panels, Place(result, start, y_start), mirror, diagonal=diagonal)


def _rows(pairing: Pairing, x: ArraySource, start: int, buffer: Array, workers: Workers) -> Rows:
    """Rows of X: as they lie in the array when kernels can read them there, else through the buffer."""
    rows = x.array[start : start + len(buffer)].reshape(len(buffer), -1) if x.array.size else buffer
    flags = rows.flags
    direct = pairing.keeps_rows and rows.dtype == buffer.dtype and flags.c_contiguous and flags.aligned
    if direct and flags.writeable:
        return pairing.prepare(rows, workers)
    x.read_rows(start, buffer)
    return pairing.prepare(buffer, workers)
