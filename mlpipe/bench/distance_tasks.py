"""The euclidean distance of a pair of vectors, and of a batch of rows to another, in every way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any

import numpy as np

from mlpipe.api import pairwise_distances
from mlpipe.bench.method import Method
from mlpipe.errors import MlpipeError
from mlpipe.kernels import plain, plain_cuda
from mlpipe.link import Array

OnDevice = tuple[Callable[[int], Any], Callable[[int], Any]]
"""Calls with inputs on the host and on the device."""

NOT_FINITE = "there are NaN or infinities, which fast-math takes lightly"

BLOCK_BYTES = 1 << 20
"""Bytes of differences that NumPy makes at a time: more no longer fit into the second-level cache."""


class Pair:
    """One distance: rows of one array each.

    Parameters
    ----------
    x, y : ndarray, shape (features,)
        Of one dtype.
    """

    task = "pair"
    rows = 1
    skipped: str | None = None
    reference = "numpy"

    def __init__(self, x: Array, y: Array) -> None:
        self._x, self._y = x, y
        self.dtype = x.dtype.name
        self.title = f"euclidean distance of a pair of vectors, {len(x):,} {self.dtype}"
        self.tolerance: float | None = rounding(x.dtype, len(x))

    def methods(self, threads: int, numba_threads: int) -> Iterator[Method]:
        """All ways."""
        x, y = self._x, self._y
        boxed = x.tolist(), y.tolist()
        yield Method("python", "pure Python", lambda _: _python_pair(*boxed))
        yield Method("numpy", "NumPy", lambda _: _numpy_pair(x, y))
        for name, label, compile_it in plain_ways(numba_threads):
            compiled = compile_it(plain.pair)
            skipped = NOT_FINITE if name == "numba-fastmath" and not _finite(x, y) else None
            yield Method(name, label, lambda _, run=compiled: run(x, y), skipped, compiled=True)  # type: ignore[misc]
        rows = x[np.newaxis], y[np.newaxis]
        yield Method("mlpipe", "mlpipe", lambda _: pairwise_distances(*rows, threads=threads)[0, 0], compiled=True)
        yield from on_device(self._on_device)

    def _on_device(self, device: plain_cuda.Device) -> OnDevice:
        x, y, there = self._x, self._y, [device.put(self._x), device.put(self._y)]
        return lambda _: device.pair(device.put(x), device.put(y)), lambda _: device.pair(*there)

    def difference(self, result: Any, rows: int, reference: Any, label: str) -> float:
        """How far off a distance is."""
        one, other = (np.asarray(value, np.float64).reshape(1, 1) for value in (result, reference))
        return compare(one, other, rounding(self._x.dtype, len(self._x)), self._x.dtype, f"{self.task}, {label}")


class Batch:
    """All distances of the rows of two arrays.

    Parameters
    ----------
    x, y : ndarray, shape (rows, features) and (columns, features)
        Of one dtype.
    """

    task = "batch"
    skipped: str | None = None
    reference = "numpy"

    def __init__(self, x: Array, y: Array) -> None:
        self._x, self._y = x, y
        self.rows, self.dtype = len(x), x.dtype.name
        what = f"{len(x):,} x {len(y):,} rows, {x.shape[1]:,} feature{'s' * (x.shape[1] != 1)}, {self.dtype}"
        self.title = f"euclidean distances of a batch, {what}"
        self.tolerance: float | None = rounding(x.dtype, x.shape[1])

    def methods(self, threads: int, numba_threads: int) -> Iterator[Method]:
        """All ways."""
        x, y = self._x, self._y
        boxed = x.tolist(), y.tolist()
        yield Method("python", "pure Python", lambda rows: _python_batch(boxed[0][:rows], boxed[1]), sampled=True)
        yield Method("numpy", "NumPy", lambda rows: _numpy_batch(x[:rows], y), sampled=True)
        for name, label, compile_it in plain_ways(numba_threads):
            compiled = compile_it(plain.batch)
            skipped = NOT_FINITE if name == "numba-fastmath" and not _finite(x, y) else None
            yield Method(name, label, lambda rows, run=compiled: run(x[:rows], y), skipped, compiled=True)  # type: ignore[misc]
        yield Method(
            "mlpipe", "mlpipe", lambda rows: pairwise_distances(x[:rows], y, threads=threads), compiled=True,
            first=None,
        )  # fmt: skip
        yield from on_device(self._on_device)

    def _on_device(self, device: plain_cuda.Device) -> OnDevice:
        x, y, there = self._x, self._y, [device.put(self._x), device.put(self._y)]
        return lambda _: device.batch(device.put(x), device.put(y)), lambda _: device.batch(*there)

    def difference(self, result: Any, rows: int, reference: Any, label: str) -> float:
        """How far off distances are."""
        one, other = (np.asarray(value) for value in (result, reference))
        if one.shape != (rows, len(self._y)):
            raise MlpipeError(f"{self.task}, {label}: {one.shape} distances, but {(rows, len(self._y))} are wanted")
        rows = min(rows, len(other))
        return compare(
            one[:rows], other[:rows], rounding(self._x.dtype, self._x.shape[1]), self._x.dtype, f"{self.task}, {label}"
        )


def plain_ways(threads: int) -> Iterator[tuple[str, str, Any]]:
    """Names, labels and compilers of loops as people write them with Numba."""
    several = prange_label(threads)
    yield "numba", "Numba loop", plain.scalar
    yield "numba-parallel", several, plain.parallel
    yield "numba-fastmath", f"{several}, fast-math", plain.fast


def prange_label(threads: int) -> str:
    """What Numba's parallel target is called.

    Examples
    --------
    >>> prange_label(1), prange_label(2)
    ('Numba prange, 1 thread', 'Numba prange, 2 threads')
    """
    return f"Numba prange, {threads} thread{'s' * (threads != 1)}"


def on_device(prepare: Callable[[plain_cuda.Device], OnDevice]) -> Iterator[Method]:
    """What a GPU does, inputs copied each time and only once; or why there is none to use."""
    reason = plain_cuda.why_not()
    if reason is None:
        try:
            copied, resident = prepare(plain_cuda.Device())
        except Exception as error:  # noqa: BLE001 - drivers and toolkits fail in many ways
            reason = f"the GPU failed: {type(error).__name__}: {error}"
    if reason is not None:
        yield Method("cuda", "CUDA", skipped=" ".join(reason.split()))
        return
    yield Method("cuda", "CUDA, inputs copied each time", copied, compiled=True, first=None)
    yield Method("cuda-resident", "CUDA, inputs on the device", resident, first=None)


def _finite(x: Array, y: Array) -> bool:
    return bool(np.isfinite(x).all() and np.isfinite(y).all())


def rounding(dtype: np.dtype[Any], features: int) -> float:
    """How far results may differ, relative to the larger of them: each addition may be rounded another way.

    Examples
    --------
    >>> rounding(np.dtype("float64"), 100) < 1e-13
    True
    """
    return float(np.finfo(dtype).eps) * (16 + features)


def compare(one: Array, other: Array, tolerance: float, dtype: np.dtype[Any], what: str) -> float:
    """Largest difference relative to the largest value; raise MlpipeError if one is more than rounding.

    Examples
    --------
    >>> compare(np.array([[1.0]]), np.array([[1.0]]), 1e-9, np.dtype("f8"), "batch, NumPy")
    0.0
    >>> compare(np.array([[1.0, 2.5]]), np.array([[1.0, 2.0]]), 1e-9, np.dtype("f8"), "batch, NumPy")
    Traceback (most recent call last):
    mlpipe.errors.MlpipeError: batch, NumPy: distance of rows 0 and 1 is 2.5, but NumPy has 2.0; more than rounding ...
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    least = 4 * sqrt(float(np.finfo(dtype).tiny) * max(1.0, tolerance / float(np.finfo(dtype).eps)))
    same = np.isclose(one, other, rtol=tolerance, atol=least, equal_nan=True)
    if not same.all():
        i, j = np.argwhere(~same)[0].tolist()
        raise MlpipeError(
            f"{what}: distance of rows {i} and {j} is {one[i, j].item()!r}, but NumPy has {other[i, j].item()!r}; "
            f"more than rounding (limit {tolerance:.2g})"
        )
    finite = np.isfinite(one) & np.isfinite(other)
    if not finite.any():
        return 0.0
    scale = float(np.abs(other[finite]).max())
    return float(np.abs(one[finite] - other[finite]).max()) / scale if scale else 0.0


def _python_pair(x: list[float], y: list[float]) -> float:
    total = 0.0
    for one, other in zip(x, y, strict=True):
        difference = one - other
        total += difference * difference
    return sqrt(total)


def _python_batch(x: list[list[float]], y: list[list[float]]) -> list[list[float]]:
    out = []
    for row in x:
        line = []
        for other_row in y:
            total = 0.0
            for one, other in zip(row, other_row, strict=True):
                difference = one - other
                total += difference * difference
            line.append(sqrt(total))
        out.append(line)
    return out


def _numpy_pair(x: Array, y: Array) -> Any:
    difference = x - y
    return np.sqrt(difference @ difference)


def _numpy_batch(x: Array, y: Array) -> Array:
    """By difference, some rows at a time: all at once would make an array of rows × columns × features."""
    out = np.empty((len(x), len(y)), x.dtype)
    step = max(1, BLOCK_BYTES // max(1, y.nbytes))
    for start in range(0, len(x), step):
        difference = x[start : start + step, np.newaxis] - y
        np.sqrt(np.einsum("ijk,ijk->ij", difference, difference), out=out[start : start + step])
    return out
