"""``hash-features``: categories of any number of values in a fixed number of columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError, UsageError
from mlpipe.keys import key
from mlpipe.link import Array, Run, Spec
from mlpipe.stages.mapped import Mapped, pieces


@dataclass(frozen=True)
class HashFeatures(Mapped):
    """Categories, hashed into a fixed number of columns.

    Each value of a row, taken with its column, adds 1 or -1 to one column of the result (the signed hashing trick), so
    that collisions cancel on average. Hash: Threefry-2x64-20 of (value as 64 bits, column), keyed by the seed; the
    first word modulo --size is the column, an odd second word means -1. The result is float32.

    Example: mlpipe run read examples/data/digits.npy then hash-features --size 32 then write hashed.npy
    """

    kernel_bytes = 8 << 20

    size: int = option(help="Columns of the result.", metavar="N")
    seed: int = option(0, help="Another seed hashes otherwise.", metavar="N")

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"hash-features --size {self.size}: give 1 or more")

    @property
    def name(self) -> str:
        """Its verb."""
        return "hash-features"

    def plan(self, spec: Spec) -> Spec:
        """As many columns as asked for."""
        if spec.dtype.kind not in "biu":
            raise InputError(f"hash-features takes whole numbers, not {spec.dtype.name}; bucketize or cast them first")
        return replace(spec, row_shape=(self.size,), dtype=np.dtype(np.float32))

    def prepare(self, spec: Spec) -> None:
        """Compile."""
        from mlpipe.kernels.features import hash_features

        hash_features(key(0, 0, self.name), np.zeros((1, 1), spec.dtype), np.zeros((1, self.size), np.float32))

    def fill(self, data: Array, out: Array, first: int, run: Run) -> None:
        """Hash every value."""
        from mlpipe.kernels.features import hash_features

        words = key(self.seed, 0, "hash-features")
        rows = np.ascontiguousarray(data).reshape(len(data), math.prod(data.shape[1:]))

        def add(part: slice, _worker: int) -> None:
            hash_features(words, rows[part], out[part])

        run.workers.run(add, pieces(len(data), run.workers.threads))
