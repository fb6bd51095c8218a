"""How often each integer of a column occurs, in every way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlpipe.bench.distance_tasks import OnDevice, on_device, plain_ways, prange_label
from mlpipe.bench.method import Method
from mlpipe.counting.in_memory import value_counts
from mlpipe.errors import MlpipeError
from mlpipe.kernels import plain, plain_cuda
from mlpipe.link import Array

LARGEST_TABLE = 1 << 24
"""Counters of one table, as plain loops have them for values that lie close together."""


class Count:
    """Counts of values.

    Parameters
    ----------
    values : ndarray of integers or None
        What is counted.
    skipped : str
        Why not, where there are none.
    """

    task = "count"
    tolerance: float | None = 0.0
    reference = "numpy"

    def __init__(self, values: Array | None, skipped: str = "") -> None:
        self.skipped = (skipped or "no values") if values is None else None
        self._values = np.empty(0, np.int64) if values is None else values
        self.rows, self.dtype = len(self._values), self._values.dtype.name
        self.title = "count of each value of a column"
        if not self.rows:
            return
        self._low = int(self._values.min())
        self._size = int(self._values.max()) - self._low + 1
        self.title += f", {self.rows:,} {self.dtype} in a range of {self._size:,}"

    @property
    def close(self) -> bool:
        """Whether values lie close enough together for a table of counters."""
        return self._size <= LARGEST_TABLE

    def methods(self, threads: int, numba_threads: int) -> Iterator[Method]:
        """All ways."""
        values, low = self._values, self._low
        boxed = values.tolist()
        yield Method("python", "pure Python", lambda rows: _python(boxed[:rows]), sampled=True)
        yield Method("numpy", "NumPy unique", lambda rows: np.unique(values[:rows], return_counts=True), sampled=True)
        if self.close:
            yield Method("numpy-bincount", "NumPy bincount", lambda rows: _bincount(values[:rows], low))
        yield from self._numba(numba_threads)
        yield Method(
            "mlpipe", "mlpipe", lambda rows: value_counts(values[:rows], threads=threads), compiled=True, first=None
        )
        if self.close:
            yield from on_device(self._on_device)
        else:
            yield Method("cuda", "CUDA", skipped="values are too far apart for a table of counters")

    def _numba(self, threads: int) -> Iterator[Method]:
        values, low, size = self._values, self._low, self._size
        if not self.close:
            by_dict = plain.scalar(plain.count_by_dict)
            yield Method("numba", "Numba loop, dict", lambda rows: _sorted(*by_dict(values[:rows])), compiled=True)
            reason = f"values span {size:,}: too many for a table in each thread, and Numba's dict has one thread"
            yield Method("numba-parallel", prange_label(threads), skipped=reason)
            return
        for name, label, compile_it in plain_ways(threads):
            if name == "numba-fastmath":  # there is nothing to round
                continue
            parts = 1 if name == "numba" else threads

            compiled = compile_it(plain.count)

            def call(rows: int, run: Any = compiled, parts: int = parts) -> Any:
                return _present(run(values[:rows], low, size, parts).sum(axis=0), low, values.dtype)

            yield Method(name, label, call, compiled=True)

    def _on_device(self, device: plain_cuda.Device) -> OnDevice:
        values, low, size, there = self._values, self._low, self._size, device.put(self._values)

        def call(array: Any) -> Any:
            return _present(device.count(array, low, size), low, values.dtype)

        return lambda _: call(device.put(values)), lambda _: call(there)

    def difference(self, result: Any, rows: int, reference: Any, label: str) -> float:
        """0; raise MlpipeError if any count is another."""
        if isinstance(result, dict):
            result = _sorted(*(np.array(list(part)) for part in (result.keys(), result.values())))
        wanted = reference
        if rows != int(reference[1].sum()):
            wanted = np.unique(self._values[:rows], return_counts=True)
        for name, one, other in zip(("values", "counts"), result, wanted, strict=True):
            if not np.array_equal(one, other):
                raise MlpipeError(f"count, {label}: {name} differ from those of NumPy: {_first(one, other)}")
        return 0.0


def _first(one: Array, other: Array) -> str:
    """The first difference, in words."""
    if len(one) != len(other):
        return f"{len(one):,} distinct, not {len(other):,}"
    place = int(np.flatnonzero(one != other)[0])
    return f"{one[place]} instead of {other[place]} at place {place}"


def _python(values: list[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for value in values:
        if value in counts:
            counts[value] += 1
        else:
            counts[value] = 1
    return counts


def _bincount(values: Array, low: int) -> tuple[Array, Array]:
    shifted = values - values.dtype.type(low) if low >= 0 else values.astype(np.int64) - low
    return _present(np.bincount(shifted), low, values.dtype)


def _present(table: Array, low: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Values that occur, and how often."""
    places = np.flatnonzero(table)
    return (places + low).astype(dtype), table[places]


def _sorted(values: Array, counts: Array) -> tuple[Array, Array]:
    order = np.argsort(values)
    return values[order], counts[order]
