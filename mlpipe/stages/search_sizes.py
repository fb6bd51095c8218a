"""How much memory a `mlpipe.stages.search.Search` takes: what it allocates is added up here, and nowhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlpipe.kernels.bytewise import MOST_FEATURES, QUAD, ROWS, WIDTH, available
from mlpipe.kernels.metrics import METRICS
from mlpipe.kernels.tile import panel_width
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import scratch_shapes
from mlpipe.stages.rounding import KINDS, TASK_QUERIES
from mlpipe.stages.rounding import ROOM as NEAR_ROOM
from mlpipe.stages.search import LEAST_GROUP, TILE_COLUMNS, TILE_ROWS, capacity, chunk_rows

SORTED_BYTES = 33
"""Of scratch, for each entry of a query's buffers that are put in order at the end: keys and places, twice over."""


@dataclass(frozen=True, slots=True)
class SearchSizes:
    """What it depends on.

    Parameters
    ----------
    features, prepared : int
        Of a row, as it comes and as it is compared.
    compute_bytes, output_bytes : int
        Of a value of a row, and of a distance.
    width : int
        Queries of a panel.
    k : int
        How many are wanted.
    threads : int
        Who computes.
    scratch : int
        Bytes that the distances take, for each thread.
    projects : bool
        Whether preparing rows makes other ones.
    rounds : bool
        Whether rows may be rounded.
    """

    features: int
    prepared: int
    compute_bytes: int
    output_bytes: int
    width: int
    k: int
    threads: int
    scratch: int = 0
    projects: bool = False
    rounds: bool = False

    @property
    def entry_bytes(self) -> int:
        """Bytes of a distance and of the index that goes with it."""
        return self.output_bytes + 8

    @property
    def _rounded_row(self) -> int:
        """Bytes of a rounded row, and of what is known of it."""
        return self.prepared + QUAD + 4 + 8 if self.rounds else 0

    def per_query(self, more: int = 0) -> int:
        """Bytes for each query of many, and `more`."""
        return self._query_bytes() + (capacity(self.k) + self.k) * self.entry_bytes + more

    def _query_bytes(self) -> int:
        """Bytes for each query but for its buffer and its results."""
        projected = self.prepared * self.compute_bytes if self.projects else 0
        return projected + 4 * self.compute_bytes + self._rounded_row + 24 * bool(self.rounds) + 16

    def nbytes(self, queries: int, data_rows: int) -> int:
        """Bytes of a search for so many queries that takes so many rows of data at a time, the queries not among them.

        Never less for more queries.
        """
        # Of few queries every thread has buffers; the last block may be one of few.
        few = self.threads * min(queries, 2 * self.threads * LEAST_GROUP)
        buffers = max(queries, few) * (capacity(self.k) * self.entry_bytes + 8 + self.output_bytes)
        results = queries * self.k * self.entry_bytes
        return queries * self._query_bytes() + buffers + results + self._of_threads() + data_rows * self._data_row()

    def _data_row(self) -> int:
        """Bytes of what is made of a row of data."""
        projected = self.prepared * self.compute_bytes if self.projects else 0
        return projected + 2 * self.compute_bytes + 2 * self._rounded_row + (16 if self.rounds else 0)

    def _of_threads(self) -> int:
        """Bytes that all threads take, whatever the number of rows."""
        rows = chunk_rows(self.prepared * self.compute_bytes, self.width)
        panels = rows * (self.prepared + 1) * self.compute_bytes
        tile = (TILE_ROWS + 1) * (min(rows, TILE_COLUMNS) + self.width + 64) * self.output_bytes
        sorting = self.threads * capacity(self.k) * SORTED_BYTES + (32 << 10)
        near = 0
        if self.rounds:
            room = max(NEAR_ROOM, 4 * self.k) + WIDTH
            near = (TASK_QUERIES + ROWS) * (8 * room + 8) + 8 * (room + NEAR_ROOM)
        projected = 2 * 8 * 16 * self.features if self.projects else 0
        return self.threads * (panels + tile + sorting + near + self.scratch + 8 * capacity(self.k) + projected)


def sizes_of(measure: Measure, features: int, data_rows: int, output_bytes: int, k: int, threads: int) -> SearchSizes:
    """What a search takes for a metric, as far as it is known before the run.

    Parameters
    ----------
    measure : Measure
        The metric.
    features, data_rows : int
        Shape of the data.
    output_bytes : int
        Of a distance.
    k : int
        How many are wanted.
    threads : int
        Who computes.
    """
    metric = METRICS[measure.kernel]
    compute = 8 if metric.double else output_bytes
    width, prepared = panel_width(metric, compute), measure.prepared_features(features)
    rounds = metric.key in KINDS and available() and prepared <= MOST_FEATURES
    return SearchSizes(
        features=features,
        prepared=prepared,
        compute_bytes=compute,
        output_bytes=output_bytes,
        width=width,
        k=k,
        threads=threads,
        scratch=sum(8 * math.prod(shape) for shape in scratch_shapes(metric, prepared, width)),
        projects=measure.definition.prepare == "projection",
        rounds=rounds and k * (100 + prepared // 4) <= data_rows,
    )
