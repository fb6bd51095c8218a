"""Nearest neighbours of arrays in memory, by the kernels the command line uses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlpipe.errors import InputError
from mlpipe.link import Array
from mlpipe.measure.host import processors
from mlpipe.readers.array import ArraySource
from mlpipe.stages.defaults import fill_in
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import Pairing
from mlpipe.stages.search import Search, capacity
from mlpipe.stages.shapes import check_rows, output_dtype
from mlpipe.workers import Workers

BLOCK_BYTES = 32 << 20
"""Bytes of data taken at a time: the copies stay small, however large the arrays are."""

BUFFER_BYTES = 256 << 20
"""Of buffers; more queries are taken in turns."""

SMALL = 1 << 20
"""Multiplications below which starting threads costs more than it brings."""


def kneighbors(
    Q: npt.ArrayLike,
    D: npt.ArrayLike | None = None,
    k: int = 10,
    metric: str = "euclidean",
    *,
    largest: bool = False,
    p: float | None = None,
    w: npt.ArrayLike | None = None,
    V: npt.ArrayLike | None = None,
    VI: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike | None = None,
    threads: int | None = None,
) -> tuple[Array, Array]:
    """The k rows of `D` that are nearest to each row of `Q`, exactly.

    Distances are those of `pairwise_distances`, to the bit; the matrix is never made. Of equal distances the rows
    of smaller index come first, so the result is unique, and does not depend on the number of threads.

    Parameters
    ----------
    Q : array_like, shape (m, features) or (m,)
        Queries, of bool, int or float; one-dimensional means one feature.
    D : array_like, shape (n, features) or (n,), optional
        Among which neighbours are looked for. Without it among `Q`, and no row is its own neighbour.
    k : int
        How many, at most n; without `D` at most n − 1.
    metric, p, w, V, VI, dtype
        As for `pairwise_distances`.
    largest : bool
        Look for the largest values, as for ``dot``, of which larger is closer.
    threads : int, optional
        Threads that compute; as many as there are processors for this process when not given.

    Returns
    -------
    distances : ndarray, shape (m, k)
        In order; NaN last.
    indices : ndarray of int64, shape (m, k)
        Rows of `D`.

    Raises
    ------
    UsageError
        For an unknown metric, or a parameter that it does not take.
    InputError
        For shapes or dtypes that do not fit, or a `k` out of range.

    Examples
    --------
    >>> distances, indices = kneighbors([[0.0], [5.0]], [[1.0], [4.0], [-1.0]], k=2)
    >>> distances.tolist(), indices.tolist()
    ([[1.0, 1.0], [1.0, 4.0]], [[0, 2], [1, 0]])
    """
    measure = Measure(metric, p, *(None if value is None else np.asarray(value) for value in (w, V, VI)))
    queries = ArraySource(np.asarray(Q), "Q")
    data = queries if D is None else ArraySource(np.asarray(D), "D")
    sources = [queries] if D is None else [queries, data]
    features = check_rows([*sources])
    most = max(0, len(data.array) - (D is None))
    if not 1 <= k <= most:
        remedy = "give a number from 1 to that" if most else "give data with more rows"
        raise InputError(f"k = {k}: there {'is 1 row' if most == 1 else f'are {most} rows'} to choose from; {remedy}")
    kind = output_dtype([source.array.dtype for source in sources], dtype)
    small = len(queries.array) * len(data.array) * max(features, 1) < SMALL
    with Workers(1 if small else threads or processors()) as workers:
        pairing = Pairing(fill_in(measure, [*sources], features, workers), features, kind)
        return _found(pairing, queries, data, k, workers, largest=largest, alone=D is None)


def _found(
    pairing: Pairing, queries: ArraySource, data: ArraySource, k: int, workers: Workers, *, largest: bool, alone: bool
) -> tuple[Array, Array]:
    """Search for some queries after others, each time through all data."""
    count, features = len(queries.array), max(1, pairing.features)
    distances, indices = np.empty((count, k), pairing.dtype), np.empty((count, k), np.int64)
    per_query = capacity(k) * (8 + pairing.dtype.itemsize) + 3 * features * pairing.compute_dtype.itemsize
    step = max(1, BUFFER_BYTES // per_query)
    block = max(1, BLOCK_BYTES // (features * pairing.compute_dtype.itemsize))
    buffer = pairing.empty_rows(min(block, len(data.array)))
    for start in range(0, count, step):
        rows = pairing.empty_rows(min(step, count - start))
        queries.read_rows(start, rows)
        search = Search(
            pairing, rows, k, workers, len(data.array), largest=largest, own=start if alone else None
        )  # fmt: skip
        for first in range(0, len(data.array), block):
            search.add(_block(pairing, data, first, buffer[: len(data.array) - first]), first)
        stop = start + len(rows)
        distances[start:stop], indices[start:stop] = search.finish()
    return distances, indices


def _block(pairing: Pairing, data: ArraySource, first: int, buffer: Array) -> Array:
    """Rows of data: as they lie in the array when kernels can read them there, else through the buffer."""
    rows: Array = data.array[first : first + len(buffer)].reshape(len(buffer), -1) if data.array.size else buffer
    flags = rows.flags
    if pairing.keeps_rows and rows.dtype == buffer.dtype and flags.c_contiguous and flags.aligned and flags.writeable:
        return rows
    data.read_rows(first, buffer)
    return buffer
