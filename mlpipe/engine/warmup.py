"""Compile kernels ahead of time, for images and cron."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from mlpipe.kernels.pairs import LANES
from mlpipe.kernels.tile import CHUNK
from mlpipe.link import Block
from mlpipe.readers.array import ArraySource
from mlpipe.stages.defaults import fill_in
from mlpipe.stages.metrics import DEFINITIONS, Measure, find
from mlpipe.stages.nearest_rows import compile_search
from mlpipe.stages.pairing import Pairing
from mlpipe.stages.rounding import LEAST_QUERIES, can_round
from mlpipe.workers import Workers
from mlpipe.writers.summary import SummarySink

PRECISIONS = ("float32", "float64")


def _nothing(_done: str) -> None:
    """Nobody is told."""


def warm(metrics: Iterable[str] = (), notify: Callable[[str], None] = _nothing) -> int:
    """Compile every kernel of some metrics, of distances and nearest neighbours, or load it from the cache.

    Parameters
    ----------
    metrics : iterable of str
        Names or aliases; all metrics when empty.
    notify : callable
        Told the name of what was just made ready.

    Returns
    -------
    int
        How many variants (metric, weighted or not, precision) are ready.

    Examples
    --------
    >>> warm(["euclidean"], print)
    euclidean float32
    euclidean float64
    weighted euclidean float32
    weighted euclidean float64
    4
    """
    names = [find(name).name for name in metrics] or [definition.name for definition in DEFINITIONS]
    count = 0
    for dtype in PRECISIONS:
        SummarySink().write(Block(0, np.zeros((1, 1), dtype)))
    for name in dict.fromkeys(names):
        for measure, label in _variants(name):
            for dtype in PRECISIONS:
                _compile(measure, dtype)
                notify(f"{label} {dtype}")
                count += 1
    return count


def _variants(name: str) -> list[tuple[Measure, str]]:
    """A metric, and weighted if it can be, on rows of a few features."""
    definition = find(name)
    plain = Measure(name, p=3.0) if name == "minkowski" else Measure(name)
    variants = [(plain, name)]
    if "w" in definition.accepts.split() and replace(plain, w=np.ones(2)).kernel != plain.kernel:
        variants.append((replace(plain, w=np.ones(2)), f"weighted {name}"))
    return variants


def _compile(measure: Measure, dtype: str) -> None:
    rows = np.array([[1.0, 2.0], [2.0, 1.0], [4.0, 1.0], [3.0, 3.0]])
    with Workers(1) as workers:
        filled = fill_in(measure, [ArraySource(rows, "X")], 2, workers)
        pairing = Pairing(filled, 2, dtype)
        pairing.compile()
        compile_search(pairing, workers)
        if can_round(pairing.metric.key, 2):
            for lanes in LANES:
                compile_search(Pairing(filled, lanes * CHUNK, dtype), workers, LEAST_QUERIES)
