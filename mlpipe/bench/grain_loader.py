"""Grain's MapDataset; the one file that imports grain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlpipe.bench.loaders import Shards
from mlpipe.link import Array


class Rows:
    """Memory maps as what Grain calls a random-access source."""

    def __init__(self, paths: list[str]) -> None:
        self._maps = [np.load(path, mmap_mode="r") for path in paths]
        self._bounds = np.cumsum([0, *map(len, self._maps)])

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def __getitem__(self, row: int) -> Any:
        place = int(np.searchsorted(self._bounds, row, side="right")) - 1
        return np.array(self._maps[place][row - self._bounds[place]])


def start() -> None:
    """Import what is needed, ahead of any timing."""
    import grain  # noqa: F401


def loader(shards: Shards, epoch: int) -> Iterator[Array]:
    """Rows in a random order of all, read by Grain's threads."""
    import grain

    rows: Any = Rows(shards.paths)
    shuffled = grain.MapDataset.source(rows).shuffle(seed=shards.seed + epoch)
    yield from shuffled.batch(shards.batch).to_iter_dataset()
