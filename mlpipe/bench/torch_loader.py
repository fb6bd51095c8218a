"""PyTorch's IterableDataset behind its DataLoader; the one file that imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlpipe.bench.loaders import Shards, buffered, rows_of
from mlpipe.link import Array


def start() -> None:
    """Import what is needed, ahead of any timing."""
    import torch.utils.data  # noqa: F401


def loader(shards: Shards, epoch: int, workers: int) -> Iterator[Array]:
    """Rows through a shuffle buffer, collected into batches by PyTorch; each worker has its part of the files."""
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    class Rows(IterableDataset[Any]):  # type: ignore[misc]
        def __iter__(self) -> Iterator[Any]:
            info = get_worker_info()
            paths = shards.paths if info is None else shards.paths[info.id :: info.num_workers]
            return buffered(map(_native, rows_of(paths)), shards.buffer, shards.random(epoch))

    for batch in DataLoader(Rows(), batch_size=shards.batch, num_workers=workers):
        yield batch.numpy()


def _native(row: Array) -> Array:
    """A copy that PyTorch takes: it refuses what is read-only or of the other byte order."""
    return row.astype(row.dtype.newbyteorder("="))
