"""mlpipe's own batches of a directory of ``.npy`` files."""

from __future__ import annotations

from collections.abc import Iterator

from mlpipe.bench.loaders import Shards
from mlpipe.link import Array


def start() -> None:
    """Import what is needed, ahead of any timing."""
    import mlpipe.chain
    import mlpipe.kernels.gather  # noqa: F401 - which loads Numba


def shuffled(shards: Shards, epoch: int) -> Iterator[Array]:
    """Batches in a new random order of all rows."""
    from mlpipe.chain import read

    chain = read(*shards.paths).shuffle(seed=shards.seed, epoch=epoch).batch(shards.batch)
    yield from chain.batches(threads=shards.threads)


def in_order(shards: Shards, epoch: int) -> Iterator[Array]:
    """Batches in the order of the files."""
    from mlpipe.chain import read

    yield from read(*shards.paths).batch(shards.batch).batches(threads=shards.threads)
