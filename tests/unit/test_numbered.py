"""CSV with numbers of rows: chunks of a block make no difference."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from mlpipe.link import Block, Labels, Spec
from mlpipe.opening import Opening
from mlpipe.writers.numbered import PairsSink
from mlpipe.writers.rows import CHUNK_CELLS


@pytest.mark.parametrize("k", [1, 3])
def test_pairs_of_blocks_longer_than_a_chunk(k: int, tmp_path: Path) -> None:
    rows = CHUNK_CELLS // 2 // k + 5  # a row is cut in two
    random = np.random.default_rng(k)
    indices, distances = random.integers(0, 99, (2 * rows, k)), random.integers(0, 9, (2 * rows, k)) / 2
    spec = Spec(2 * rows, (k,), np.dtype("i8"), Labels((k,), np.dtype("f8")))
    path = tmp_path / "near.csv"
    with PairsSink(str(path), ("query", "neighbour", "distance"), Opening(ExitStack())).open(spec) as writing:
        for start in (0, rows):
            stop = start + rows
            writing.write(Block(start, indices[start:stop], labels=distances[start:stop]))
    found = np.loadtxt(path, delimiter=",", skiprows=1)
    wanted = [np.repeat(np.arange(2 * rows), k), indices.ravel(), distances.ravel()]
    np.testing.assert_array_equal(found, np.column_stack(wanted))
