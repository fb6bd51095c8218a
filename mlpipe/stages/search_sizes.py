"""How much memory a `mlpipe.stages.search.Search` takes: what it allocates is added up here, and nowhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlpipe.kernels.bytewise import WIDTH
from mlpipe.kernels.metrics import METRICS
from mlpipe.kernels.pairs import folded_width
from mlpipe.kernels.tile import panel_width
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairing import scratch_shapes
from mlpipe.stages.rounding import bytes_of, can_round, few_wanted, panels_of_chunk, piece_rows
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
        return bytes_of(self.prepared) + 4 + 8 if self.rounds else 0

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
        return queries * self._query_bytes() + buffers + results + self._of_threads() + self._data_bytes(data_rows)

    def _data_bytes(self, rows: int) -> int:
        """Bytes of what is made of rows of data."""
        projected = self.prepared * self.compute_bytes if self.projects else 0
        made = rows * (projected + 2 * self.compute_bytes)
        if self.rounds:
            piece = min(rows, piece_rows(self.prepared, self.compute_bytes)) + WIDTH
            made += piece * (2 * self._rounded_row + folded_width(self.prepared) * self.compute_bytes + 16)
        return made

    def _of_threads(self) -> int:
        """Bytes that all threads take, whatever the number of rows."""
        rows = chunk_rows(self.prepared * self.compute_bytes, self.width)
        panels = rows * (self.prepared + 1) * self.compute_bytes
        tile = (TILE_ROWS + 1) * (min(rows, TILE_COLUMNS) + self.width + 64) * self.output_bytes
        sorting = self.threads * capacity(self.k) * SORTED_BYTES + (32 << 10)
        near = 0
        if self.rounds:
            rows = panels_of_chunk(self.prepared) * WIDTH
            near = 40 * rows + 3 * folded_width(self.prepared) * self.compute_bytes + 8 * capacity(self.k) + 4096
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
    rounds = can_round(metric.key, prepared) and few_wanted(k, prepared, data_rows)
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
        rounds=rounds,
    )
