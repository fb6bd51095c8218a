"""Neighbours within a radius, of arrays in memory, by the kernels the command line uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from mlpipe.errors import InputError
from mlpipe.link import Array
from mlpipe.measure.host import processors
from mlpipe.readers.array import ArraySource
from mlpipe.stages.defaults import fill_in
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import Pairing, Rows
from mlpipe.stages.search import Search, capacity
from mlpipe.stages.shapes import check_rows, output_dtype
from mlpipe.stages.within import (
    LEAST_HITS,
    Collecting,
    Counting,
    Found,
    Tiles,
    check_radius,
    empty_buffers,
    empty_sorted,
    hit_bytes,
    within,
)
from mlpipe.workers import Workers

BLOCK_BYTES = 32 << 20
"""Bytes of data taken at a time: the copies stay small, however large the arrays are."""

QUERY_BYTES = 64 << 20
"""Of queries taken at a time."""

BUFFER_BYTES = 256 << 20
"""Of hits on their way; where there are more, the data are gone through again."""

SMALL = 1 << 20
"""Multiplications below which starting threads costs more than it brings."""

Csr = tuple[Array, Array, Array]


@overload
def radius_neighbors(
    Q: npt.ArrayLike,
    D: npt.ArrayLike | None = None,
    radius: float = 1.0,
    metric: str = "euclidean",
    *,
    max_neighbors: int | None = None,
    count_only: Literal[False] = False,
    largest: bool = False,
    p: float | None = None,
    w: npt.ArrayLike | None = None,
    V: npt.ArrayLike | None = None,
    VI: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike | None = None,
    threads: int | None = None,
) -> Csr: ...
@overload
def radius_neighbors(
    Q: npt.ArrayLike,
    D: npt.ArrayLike | None = None,
    radius: float = 1.0,
    metric: str = "euclidean",
    *,
    max_neighbors: int | None = None,
    count_only: Literal[True],
    largest: bool = False,
    p: float | None = None,
    w: npt.ArrayLike | None = None,
    V: npt.ArrayLike | None = None,
    VI: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike | None = None,
    threads: int | None = None,
) -> Array: ...
@overload
def radius_neighbors(
    Q: npt.ArrayLike,
    D: npt.ArrayLike | None = None,
    radius: float = 1.0,
    metric: str = "euclidean",
    *,
    max_neighbors: int | None = None,
    count_only: bool,
    largest: bool = False,
    p: float | None = None,
    w: npt.ArrayLike | None = None,
    V: npt.ArrayLike | None = None,
    VI: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike | None = None,
    threads: int | None = None,
) -> Csr | Array: ...
def radius_neighbors(
    Q: npt.ArrayLike,
    D: npt.ArrayLike | None = None,
    radius: float = 1.0,
    metric: str = "euclidean",
    *,
    max_neighbors: int | None = None,
    count_only: bool = False,
    largest: bool = False,
    p: float | None = None,
    w: npt.ArrayLike | None = None,
    V: npt.ArrayLike | None = None,
    VI: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike | None = None,
    threads: int | None = None,
) -> Csr | Array:
    """All rows of `D` within a radius of each row of `Q`, exactly.

    Distances are those of `pairwise_distances`, to the bit; the matrix is never made. The neighbours of row i of `Q`
    are ``indices[indptr[i]:indptr[i + 1]]``, in the order of their distance, equal ones in that of their index. The
    result is unique, and does not depend on the number of threads.

    Parameters
    ----------
    Q : array_like, shape (m, features) or (m,)
        Queries, of bool, int or float; one-dimensional means one feature.
    D : array_like, shape (n, features) or (n,), optional
        Among which neighbours are looked for. Without it among `Q`, and no row is its own neighbour.
    radius : float
        Rows at this distance are within, too; it is rounded to the precision of the distances, as NumPy does in
        ``distances <= radius``. NaN is never within.
    metric, p, w, V, VI, dtype
        As for `pairwise_distances`.
    max_neighbors : int, optional
        At most so many for each query: the nearest.
    count_only : bool
        Only say how many there are of each query.
    largest : bool
        Rows within are those of at least this value, as for ``dot``, of which larger is closer; the largest come first.
    threads : int, optional
        Threads that compute; as many as there are processors for this process when not given.

    Returns
    -------
    indptr : ndarray of int64, shape (m + 1,)
        Where the neighbours of each query begin, and where the last ones end.
    indices : ndarray of int64
        Rows of `D`.
    distances : ndarray
        Of the same pairs. ``scipy.sparse.csr_array((distances, indices, indptr), (m, n))`` is the sparse matrix.
        With `count_only` there is one array alone, of int64, shape (m,).

    Raises
    ------
    UsageError
        For an unknown metric, a parameter that it does not take, or a radius that is NaN or below 0.
    InputError
        For shapes or dtypes that do not fit, or `max_neighbors` below 1.

    Examples
    --------
    >>> indptr, indices, distances = radius_neighbors([[0.0], [9.0]], [[3.0], [1.0], [-1.0], [7.0]], radius=2)
    >>> indptr.tolist(), indices.tolist(), distances.tolist()
    ([0, 2, 3], [1, 2, 3], [1.0, 1.0, 2.0])
    """
    measure = Measure(metric, p, *(None if value is None else np.asarray(value) for value in (w, V, VI)))
    check_radius(radius, measure)
    if max_neighbors is not None and max_neighbors < 1:
        raise InputError(f"max_neighbors = {max_neighbors}: give 1 or more")
    queries = ArraySource(np.asarray(Q), "Q")
    data = queries if D is None else ArraySource(np.asarray(D), "D")
    sources = [queries] if D is None else [queries, data]
    features = check_rows([*sources])
    kind = output_dtype([source.array.dtype for source in sources], dtype)
    small = len(queries.array) * len(data.array) * max(features, 1) < SMALL
    with Workers(1 if small else threads or processors()) as workers:
        pairing = Pairing(fill_in(measure, [*sources], features, workers), features, kind)
        search = _Radius(pairing, queries, data, radius, workers, largest, D is None)
        if count_only:
            counts = search.counts()
            return counts if max_neighbors is None else np.minimum(counts, max_neighbors)
        most = len(data.array) - (D is None)
        return search.all() if max_neighbors is None or most < 1 else search.nearest(min(max_neighbors, most))


@dataclass(frozen=True, slots=True)
class _Radius:
    """One call: some queries after others, each time through all data."""

    pairing: Pairing
    queries: ArraySource
    data: ArraySource
    radius: float
    workers: Workers
    largest: bool
    alone: bool

    def counts(self) -> Array:
        """How many rows are within of each query."""
        tiles, found = Tiles(self.pairing, self.workers), [np.empty(0, np.int64)]
        for start, rows in self._queries(QUERY_BYTES):
            panels = self.pairing.empty_panels(len(rows))
            self.pairing.add(panels, rows, self.workers)
            counting = Counting(tiles, panels, self.radius, largest=self.largest, own=start if self.alone else None)
            self._through(counting.add)
            found.append(counting.finish())
        return np.concatenate(found)

    def all(self) -> Csr:
        """All rows within."""
        tiles, found = Tiles(self.pairing, self.workers), list[Found]()
        indptr = np.zeros(len(self.queries.array) + 1, np.int64)
        threads, kind = self.workers.threads, self.pairing.dtype
        pairs = len(self.queries.array) * len(self.data.array)
        room = max(LEAST_HITS, min(pairs + tiles.columns, BUFFER_BYTES // (hit_bytes(kind.itemsize) * threads)))
        buffers = empty_buffers(threads, room, kind)
        for start, rows in self._queries(QUERY_BYTES):
            panels = self.pairing.empty_panels(len(rows))
            self.pairing.add(panels, rows, self.workers)
            own = start if self.alone else None
            collecting = Collecting(tiles, panels, self.radius, buffers, largest=self.largest, own=own)
            while not collecting.done:
                collecting.begin()
                self._through(collecting.add)
                one = collecting.finish(lambda hits: empty_sorted(hits, kind))
                first = 1 + start + one.first
                indptr[first : first + len(one.bounds) - 1] += np.diff(one.bounds)
                found.append(one)
        np.cumsum(indptr, out=indptr)
        return (
            indptr,
            np.concatenate([np.empty(0, np.int64), *(one.indices for one in found)]),
            np.concatenate([np.empty(0, kind), *(one.distances for one in found)]),
        )

    def nearest(self, k: int) -> Csr:
        """The k nearest rows, without those that are not within."""
        per_query = capacity(k) * (8 + self.pairing.dtype.itemsize)
        indptr = np.zeros(len(self.queries.array) + 1, np.int64)
        indices, distances = [np.empty(0, np.int64)], [np.empty(0, self.pairing.dtype)]
        for start, rows in self._queries(BUFFER_BYTES, per_query):
            own = start if self.alone else None
            search = Search(
                self.pairing, rows, k, self.workers, len(self.data.array), largest=self.largest, own=own
            )  # fmt: skip
            self._through_raw(search.add)
            values, places = search.finish()
            inside = within(values, self.radius, largest=self.largest)
            indptr[1 + start : 1 + start + len(values)] = inside.sum(axis=1)
            indices.append(places[inside])
            distances.append(values[inside] + 0)  # -0 becomes 0
        np.cumsum(indptr, out=indptr)
        return indptr, np.concatenate(indices), np.concatenate(distances)

    def _queries(self, nbytes: int, per_query: int = 0) -> Iterator[tuple[int, Array]]:
        """Some queries after others, in the precision of the computation."""
        per_query += 3 * max(1, self.pairing.features) * self.pairing.compute_dtype.itemsize
        count, step = len(self.queries.array), max(1, nbytes // per_query)
        for start in range(0, count, step):
            rows = self.pairing.empty_rows(min(step, count - start))
            self.queries.read_rows(start, rows.reshape(len(rows), *self.queries.spec.row_shape))
            yield start, rows

    def _through(self, add: Callable[[Rows, int], None]) -> None:
        """Hand all data to somebody, prepared."""
        self._through_raw(lambda rows, first: add(self.pairing.prepare(rows, self.workers), first))

    def _through_raw(self, add: Callable[[Array, int], None]) -> None:
        """Hand all data to somebody, in the precision of the computation; the rows may be overwritten."""
        row = max(1, self.pairing.features) * self.pairing.compute_dtype.itemsize
        count, block = len(self.data.array), max(1, BLOCK_BYTES // row)
        buffer = self.pairing.empty_rows(min(block, count))
        for first in range(0, count, block):
            rows = buffer[: count - first]
            self.data.read_rows(first, rows.reshape(len(rows), *self.data.spec.row_shape))
            add(rows, first)
