"""Parameters that scipy computes from the data, computed by streaming over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mlpipe.errors import InputError
from mlpipe.kernels.rows import add_columns, add_products, add_squares
from mlpipe.link import Array, Source
from mlpipe.stages.metrics import Measure
from mlpipe.workers import Workers

BLOCK_BYTES = 4 << 20
"""Bytes of float64 rows read at a time."""

PRODUCT_ROWS = 16
"""Rows of the covariance matrix that one task adds to."""


def passes(measure: Measure) -> int:
    """Passes over the data before the first distance: two when a parameter has to be computed."""
    name = measure.definition.name
    missing = (name == "seuclidean" and measure.V is None) or (name == "mahalanobis" and measure.VI is None)
    return 2 if missing else 0


def parameter_bytes(measure: Measure, features: int) -> int:
    """Bytes held for parameters of the metric, and while missing ones are computed."""
    matrices = 5 if measure.definition.name == "mahalanobis" else 0
    blocks = max(BLOCK_BYTES, 8 * features) if passes(measure) else 0
    return blocks + 8 * features * (4 + matrices * features)


def fill_in(measure: Measure, sources: list[Source], features: int, workers: Workers) -> Measure:
    """The measure with `V` or `VI` of the rows of all sources together, as scipy stacks X and Y.

    X against itself counts X once, as ``scipy.spatial.distance.pdist`` does.

    Raises
    ------
    InputError
        When there are too few rows, or the covariance matrix is singular.
    """
    measure.check_features(features)
    if not passes(measure):
        return measure
    rows = sum(int(source.spec.rows or 0) for source in sources)
    if measure.definition.name == "seuclidean":
        return replace(measure, V=_variance(sources, features, rows))
    if rows <= features:
        raise InputError(
            f"the covariance of {rows} rows of {features} features is singular: "
            f"mahalanobis needs at least {features + 1} rows, or --inverse-covariance"
        )
    covariance = _covariance(sources, features, rows, workers)
    try:
        return replace(measure, VI=np.linalg.inv(covariance))
    except np.linalg.LinAlgError:
        raise InputError(
            "the covariance matrix is singular: drop constant or dependent features, or give --inverse-covariance"
        ) from None


def _blocks(sources: list[Source], features: int) -> Iterator[Array]:
    count = max(1, BLOCK_BYTES // (8 * max(1, features)))
    buffer = np.empty((count, features))
    for source in sources:
        rows = int(source.spec.rows or 0)
        for start in range(0, rows, count):
            block = buffer[: min(count, rows - start)]
            source.read_rows(start, block.reshape(len(block), *source.spec.row_shape))
            yield block


def _mean(sources: list[Source], features: int, rows: int) -> Array:
    total, lost = np.zeros(features), np.zeros(features)
    for block in _blocks(sources, features):
        add_columns(block, total, lost)
    return (total + lost) / rows if rows else np.full(features, np.nan)


def _variance(sources: list[Source], features: int, rows: int) -> Array:
    mean, total = _mean(sources, features, rows), np.zeros(features)
    for block in _blocks(sources, features):
        add_squares(block, mean, total)
    return total / (rows - 1) if rows > 1 else np.full(features, np.nan)


def _covariance(sources: list[Source], features: int, rows: int, workers: Workers) -> Array:
    mean, total = _mean(sources, features, rows), np.zeros((features, features))
    for block in _blocks(sources, features):

        def add(first: int, _worker: int, block: Array = block) -> None:
            add_products(block, mean, first, min(first + PRODUCT_ROWS, features), total)

        workers.run(add, range(0, features, PRODUCT_ROWS))
    return total / (rows - 1)
