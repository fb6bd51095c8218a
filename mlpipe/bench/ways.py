"""The table of ways to load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlpipe.bench import grain_loader, loaders, mlpipe_loader, torch_loader
from mlpipe.bench.loaders import Shards
from mlpipe.link import Array

Load = Callable[[Shards, int], Iterator[Array]]

GLOBAL, BUFFERED, SHARDS, IN_ORDER = "random", "random within a buffer", "random within files", "as stored"


@dataclass(frozen=True)
class Way:
    """One way to load.

    Parameters
    ----------
    label : str
        For people.
    order : str
        In which rows come.
    load : callable
        Yields the batches of one epoch.
    package : str or None
        What it needs that may not be installed.
    start : callable
        Imports that, ahead of any timing.
    whole : bool
        Whether it holds all rows in memory: twice, while it puts them together.
    """

    label: str
    order: str
    load: Load
    package: str | None = None
    start: Callable[[], Any] = lambda: None
    whole: bool = False


def _torch(workers: int) -> Way:
    return Way(
        f"PyTorch IterableDataset, {workers} workers", BUFFERED,
        lambda shards, epoch: torch_loader.loader(shards, epoch, workers), "torch", torch_loader.start,
    )  # fmt: skip


WAYS = {
    "full-load": Way("full load", GLOBAL, loaders.full_load, whole=True),
    "generator-rows": Way("generator of rows", BUFFERED, loaders.by_row),
    "generator-batches": Way("generator of batches", SHARDS, loaders.by_batch),
    "torch-0": _torch(0),
    "torch-2": _torch(2),
    "grain": Way("Grain MapDataset", GLOBAL, grain_loader.loader, "grain", grain_loader.start),
    "memory-map": Way("memory map", IN_ORDER, loaders.memory_map),
    "memory-map-shuffled": Way("memory map, shuffled", GLOBAL, loaders.memory_map_shuffled),
    "mlpipe": Way("mlpipe, shuffled", GLOBAL, mlpipe_loader.shuffled, start=mlpipe_loader.start),
    "mlpipe-in-order": Way("mlpipe", IN_ORDER, mlpipe_loader.in_order, start=mlpipe_loader.start),
}
