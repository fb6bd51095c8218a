"""Whatever the shards, their storage and the blocks: the rows that come out, and their bytes, are the same."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpipe

DTYPES = ["?", "i1", "u2", "i8", "f2", "f4", "f8", "c16"]


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array))
    return file.getvalue()


def cut(folder: Path, array: np.ndarray, cuts: list[int], kinds: list[str], suffix: str = "") -> None:
    """Parts of an array in files, each stored in its own way."""
    for place, part in enumerate(np.split(array, sorted(min(one, len(array)) for one in cuts))):
        kind = kinds[place % len(kinds)]
        stored = np.asfortranarray(part) if kind == "F" else part.astype(part.dtype.newbyteorder(kind))
        np.save(folder / f"part-{place}{suffix}.npy", stored)


@settings(max_examples=30)
@given(
    st.integers(0, 60),
    st.lists(st.integers(0, 4), max_size=2),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 60), max_size=12),
    st.lists(st.sampled_from("<>F"), min_size=1, max_size=3),
    st.booleans(),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_there_and_back(
    rows: int,
    row_shape: list[int],
    dtype: str,
    cuts: list[int],
    kinds: list[str],
    labelled: bool,
    per_shard: int,
    batch: int,
) -> None:
    values = np.random.default_rng(rows).integers(0, 100, (rows, *row_shape)).astype(dtype)
    labels = np.arange(rows, dtype="i4")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        cut(folder / "in", values, cuts, kinds)
        if labelled:
            cut(folder / "in", labels, cuts, kinds[::-1], "-labels")
        source = mlpipe.read(folder / "in").batch(batch)
        source.write(folder / "shards", rows_per_shard=per_shard)
        source.write(folder / "one.npy")
        mlpipe.read(folder / "shards").write(folder / "again.npy")
        assert (folder / "one.npy").read_bytes() == (folder / "again.npy").read_bytes() == saved(values)
        if labelled:
            assert (folder / "again-labels.npy").read_bytes() == saved(labels)
        assert len(os.listdir(folder)) == (6 if labelled else 4)
        shards = [path for path in (folder / "shards").glob("*.npy") if "labels" not in path.name]
        assert len(shards) == max(1, -(-rows // per_shard))
