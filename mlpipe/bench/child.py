"""One way to load, in a process of its own: takes a request as JSON on stdin, answers with JSON on stdout."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlpipe.bench.loaders import Shards
from mlpipe.bench.ways import WAYS
from mlpipe.link import Array
from mlpipe.measure.memory import anonymous_bytes, release_free_memory


def checksum(batch: Array) -> int:
    """Sum of a batch's bytes, taken as integers as wide as divide a row, so that the order of rows does not matter.

    Integers of four bytes and more wrap around; to add up sums, take them modulo `modulus`.

    Examples
    --------
    >>> rows = np.arange(12, dtype="f4").reshape(3, 4)
    >>> checksum(rows) == checksum(rows[::-1]) == (checksum(rows[:1]) + checksum(rows[1:])) % modulus(16)
    True
    """
    if not batch.size:
        return 0
    batch = np.ascontiguousarray(batch, batch.dtype.newbyteorder("="))
    width = _width(batch.nbytes // len(batch))
    words = np.ndarray(batch.nbytes // width, np.dtype(f"u{width}"), batch.data)
    return int(words.sum(dtype=f"u{width}" if width >= 4 else "u8"))


def modulus(row_bytes: int) -> int:
    """What sums of rows of that size wrap around at."""
    return 1 << (32 if _width(row_bytes) == 4 else 64)


def _width(row_bytes: int) -> int:
    return next(width for width in (8, 4, 2, 1) if row_bytes % width == 0)


def drop_cached(paths: list[str]) -> None:
    """Ask the system to forget what it keeps of files, so that they are read from the disk again."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # what is not written yet cannot be forgotten
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def epochs(
    load: Callable[[Shards, int], Iterator[Array]], shards: Shards, count: int, budget: float, cold: bool
) -> dict[str, Any]:
    """Go through epochs, reading every byte of every batch once; stop when the budget is used up."""
    found: dict[str, Any] = {"rows": 0, "checksum": 0, "epochs_s": [], "first_batch_s": None, "complete": True}
    spent, wrap = 0.0, modulus(shards.row_bytes)
    first_rows, first_seconds = 0, 0.0
    for epoch in range(count):
        if cold:
            drop_cached(shards.paths)
        began = time.perf_counter()
        for place, batch in enumerate(load(shards, epoch)):
            if place == 0:
                waited = time.perf_counter() - began
                found["first_batch_s"] = waited if epoch == 0 else found["first_batch_s"]
                first_rows, first_seconds = first_rows + len(batch), first_seconds + waited
            found["rows"] += len(batch)
            found["checksum"] = (found["checksum"] + checksum(batch)) % wrap
            if spent + time.perf_counter() - began > budget:
                break
        seconds = time.perf_counter() - began
        spent += seconds
        found["epochs_s"].append(seconds)
        if spent > budget and found["rows"] < shards.rows * count:
            found["complete"] = False
            break
    found["seconds"] = spent
    later = found["rows"] - first_rows
    found["later_rows_per_s"] = later / (spent - first_seconds) if later else None
    return found


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out a request."""
    way = WAYS[request["method"]]
    began = time.perf_counter()
    way.start()
    imported = time.perf_counter() - began
    release_free_memory()
    kernels, read, start = _kernels(), _read_bytes(), anonymous_bytes()
    shards = Shards(**request["shards"])
    found = epochs(way.load, shards, request["epochs"], request["budget"], request["cold"])
    return {
        **found,
        "import_s": imported,
        "anonymous_start": start,
        "read_bytes": _read_bytes() - read,
        "compiled": _kernels() - kernels,
    }


def _kernels() -> int:
    """Compiled kernels that are kept."""
    if "mlpipe.kernels._jit" not in sys.modules:
        return 0
    from mlpipe.kernels._jit import cache_state

    return int(cache_state()["entries"])


def _read_bytes() -> int:
    """Bytes that this process, and its children that have ended, have had read from the disk."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_inblock for use in uses) * 512


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))
