"""What stages have in common that look for neighbours among the rows of a source of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlpipe.link import Flow, Source, Spec
from mlpipe.stages.metrics import Measure
from mlpipe.stages.shapes import check_rows, output_dtype
from mlpipe.stages.streaming import Streaming

DATA = "read data"
"""What reports call the link that reads the data."""

NO_PREPARATION = ("", "cosine")
"""Metrics for which rows are compared as they are."""


@dataclass(frozen=True)
class AmongData(Streaming):
    """A stage that compares every row that comes in with those of a source.

    Parameters
    ----------
    data : Source
        Among whose rows neighbours are looked for.
    measure : Measure
        The metric; with all parameters it needs, unless `queries` are given.
    dtype : dtype, optional
        float32 or float64, to compute in.
    largest : bool
        Look for the largest values.
    own : bool
        The rows that come in are those of `data`, in their order, and none is its own neighbour.
    queries : Source, optional
        Where the rows come from, unchanged; parameters that the metric lacks are computed of them and the data.
    writing : int
        Bytes that compiling takes for what writes the results.
    """

    data: Source
    measure: Measure = field(default_factory=Measure, kw_only=True)
    dtype: Any = field(default=None, kw_only=True)
    largest: bool = field(default=False, kw_only=True)
    own: bool = field(default=False, kw_only=True)
    queries: Source | None = field(default=None, kw_only=True)
    writing: int = field(default=0, kw_only=True)

    @property
    def name(self) -> str:
        """Its verb."""
        return "neighbors"

    @property
    def flow(self) -> Flow:
        """Holds the data, or what of them the memory takes."""
        return "buffering"

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """The data."""
        return {DATA: self.data}

    @property
    def data_rows(self) -> int:
        """Rows there are to choose from, a row itself included."""
        return int(self.data.spec.rows or 0)

    @property
    def features(self) -> int:
        """Features of a row."""
        return check_rows([self.data])

    def output(self, spec: Spec) -> np.dtype[Any]:
        """Type of the distances, for what comes in."""
        return output_dtype([spec.dtype, self.data.spec.dtype], self.dtype)
