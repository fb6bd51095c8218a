"""What is known of the rows that neighbours are looked for among: their classes or values, held to be looked up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.errors import InputError
from mlpipe.kernels.votes import mean, vote, vote_among_many
from mlpipe.link import Array, Spec
from mlpipe.workers import Workers

Kind = Literal["classify", "regress"]

FEW = 1 << 16
"""Classes that are counted one by one: those whose smallest and largest differ by less."""

TASK_VOTES = 1 << 15
"""Votes that a thread counts at a time."""

SIGN = -(1 << 63)
_EXACT = 1 << 53


class Known(Protocol):
    """Classes or values of rows."""

    def compile(self, distances: np.dtype[Any]) -> None:
        """Compile or load the kernels."""

    def predict(self, indices: Array, distances: Array, out: Array, workers: Workers, weighted: bool) -> int | None:
        """Fill `out`, a row for each query; return the first query that has no neighbours and needs some, if any."""


def kind_of(labels: Spec, task: str) -> Kind:
    """What is asked for: classes where labels are bool or int, means where they are floats; or what `task` says."""
    if task in ("classify", "regress"):
        return "classify" if task == "classify" else "regress"
    return "regress" if labels.dtype.kind == "f" else "classify"


def held_dtype(labels: Spec, kind: Kind) -> np.dtype[Any]:
    """In which labels are held.

    Examples
    --------
    >>> held_dtype(Spec(9, (), np.dtype("?")), "classify"), held_dtype(Spec(9, (), np.dtype("i4")), "regress")
    (dtype('uint8'), dtype('float64'))
    """
    dtype = labels.dtype
    if kind == "regress":
        return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)
    if dtype.itemsize <= 2 and dtype.kind != "f":
        return np.dtype(f"u{dtype.itemsize}")
    return np.dtype(np.int32 if dtype.kind == "i" and dtype.itemsize == 4 else np.int64)


def known_bytes(labels: Spec, kind: Kind, k: int, threads: int) -> int:
    """Bytes of what `load` makes, and of what predicting with it takes."""
    held = int(labels.rows or 0) * math.prod(labels.row_shape) * held_dtype(labels, kind).itemsize
    return held + threads * (8 * FEW + 24 * table_size(k) if kind == "classify" else 0)


def table_size(k: int) -> int:
    """Slots of a table in which the classes of k neighbours are counted.

    Examples
    --------
    >>> table_size(1), table_size(10)
    (4, 32)
    """
    return 1 << (2 * k).bit_length()


def load(chunks: Iterable[tuple[int, Array]], labels: Spec, kind: Kind, name: str, outlier: Any = None) -> Known:
    """Hold labels.

    Parameters
    ----------
    chunks : iterable of (int, ndarray)
        All of them in order, each with its first row.
    labels : Spec
        What they are.
    kind : {"classify", "regress"}
        What they are for.
    name : str
        What messages call them.
    outlier : int, optional
        The class of queries without neighbours.

    Raises
    ------
    InputError
        For NaN, and for classes that are no whole numbers.
    """
    held = aligned_empty((int(labels.rows or 0), math.prod(labels.row_shape)), held_dtype(labels, kind))
    if kind == "regress":
        for start, chunk in chunks:
            check_known(chunk, start, name)
            held[start : start + len(chunk)] = chunk.reshape(len(chunk), -1)
        return Values(held)
    return _classes(chunks, held.reshape(-1), labels.dtype.newbyteorder("="), name, outlier)


def check_known(chunk: Array, start: int, name: str) -> None:
    """Raise InputError for NaN."""
    if chunk.dtype.kind == "f" and (missing := np.isnan(chunk)).any():
        row = start + int(np.argwhere(missing)[0, 0])
        raise InputError(f"{name}: row {row} is NaN; every row needs a label, so leave such rows out of both files")


def as_integers(chunk: Array, start: int, name: str) -> Array:
    """Classes as int64, in the same order; those of uint64 with their first bit turned.

    Raises
    ------
    InputError
        For floats that are not whole.
    """
    if chunk.dtype == np.uint64:
        turned: Array = chunk.view(np.int64) ^ np.int64(SIGN)
        return turned
    if chunk.dtype.kind == "f":
        check_known(chunk, start, name)
        wide = chunk.astype(np.float64)
        odd = ~((wide == np.rint(wide)) & (np.abs(wide) <= _EXACT))
        if odd.any():
            row = int(np.argmax(odd))
            raise InputError(
                f"{name}: row {start + row} is {chunk[row]}, and classes are whole numbers; --task regress takes the "
                "mean of floats"
            )
    return chunk.astype(np.int64)


def as_labels(integers: Array, dtype: np.dtype[Any], out: Array) -> None:
    """What `as_integers` made these of."""
    np.copyto(out, (integers ^ np.int64(SIGN)).view(np.uint64) if dtype == np.uint64 else integers, casting="unsafe")


def plain_labels(integers: Array, dtype: np.dtype[Any]) -> list[Any]:
    """As `as_labels`, as a list."""
    out = np.empty(len(integers), dtype)
    as_labels(integers, dtype, out)
    found: list[Any] = out.tolist()
    return found


def _classes(chunks: Iterable[tuple[int, Array]], held: Array, dtype: np.dtype[Any], name: str, outlier: Any) -> Known:
    """Classes, numbered from the smallest where that makes few of them."""
    base = int(np.iinfo(dtype).min) if dtype.kind == "i" and dtype.itemsize <= 2 else 0
    low, high = 1 << 63, -(1 << 63)
    for start, chunk in chunks:
        values = as_integers(chunk.reshape(-1), start, name)
        low, high = min(low, int(values.min())), max(high, int(values.max()))
        held[start : start + len(chunk)] = values - base
    fallback = None if outlier is None else np.array([outlier], dtype)
    if held.dtype.kind == "u":
        return FewClasses(held, base, dtype, fallback)
    if high - low >= FEW:
        return ManyClasses(held, dtype, fallback)
    # Numbers of one byte, or two, take the place of the first bytes: what is read was not written over yet.
    codes = held.view(np.uint8 if high - low < 256 else np.uint16)[: len(held)]
    for first in range(0, len(held), FEW):
        codes[first : first + FEW] = held[first : first + FEW].astype(np.int64) - low
    return FewClasses(codes, low, dtype, fallback)


def _parts(indices: Array) -> Iterator[slice]:
    """Queries that a thread takes at a time."""
    step = max(1, TASK_VOTES // max(1, indices.shape[1]))
    return (slice(start, start + step) for start in range(0, len(indices), step))


@dataclass
class FewClasses:
    """Classes by number.

    Parameters
    ----------
    codes : ndarray of uint8 or uint16, shape (rows,)
        The number of each.
    low : int
        What number 0 is.
    dtype : numpy.dtype
        Of the labels.
    fallback : ndarray or None
        The class of a query without neighbours.
    """

    codes: Array
    low: int
    dtype: np.dtype[Any]
    fallback: Array | None

    def compile(self, distances: np.dtype[Any]) -> None:
        """Compile or load the kernel."""
        nothing = np.empty((0, 1), np.int64)
        vote(nothing, nothing.astype(distances), self.codes, False, np.zeros(1), np.empty(0, np.int64))

    def predict(self, indices: Array, distances: Array, out: Array, workers: Workers, weighted: bool) -> int | None:
        """Fill `out` with classes."""
        scratch = [np.zeros(1 << (8 * self.codes.itemsize)) for _ in range(workers.threads)]
        missing: list[int] = []

        def run(part: slice, worker: int) -> None:
            found = np.empty(len(indices[part]), np.int64)
            vote(indices[part], distances[part], self.codes, weighted, scratch[worker], found)
            as_labels(found + self.low, self.dtype, out[part])
            _replace(found < 0, self.fallback, out[part], part.start, missing)

        workers.run(run, _parts(indices))
        return min(missing) if missing else None


@dataclass
class ManyClasses:
    """Classes as they are.

    Parameters
    ----------
    labels : ndarray of int32 or int64, shape (rows,)
        As of `as_integers`.
    dtype, fallback
        As for `FewClasses`.
    """

    labels: Array
    dtype: np.dtype[Any]
    fallback: Array | None

    def compile(self, distances: np.dtype[Any]) -> None:
        """Compile or load the kernel."""
        nothing, one = np.empty((0, 1), np.int64), np.empty(1, np.int64)
        won, there = np.empty(0, np.int64), np.empty(0, np.bool_)
        vote_among_many(
            nothing, nothing.astype(distances), self.labels, False, one, one, np.empty(1), won, there
        )  # fmt: skip

    def predict(self, indices: Array, distances: Array, out: Array, workers: Workers, weighted: bool) -> int | None:
        """Fill `out` with classes."""
        size = table_size(indices.shape[1])
        scratch = [(np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)) for _ in range(workers.threads)]
        missing: list[int] = []

        def run(part: slice, worker: int) -> None:
            won, there = np.empty(len(indices[part]), np.int64), np.empty(len(indices[part]), np.bool_)
            vote_among_many(indices[part], distances[part], self.labels, weighted, *scratch[worker], won, there)
            as_labels(won, self.dtype, out[part])
            _replace(~there, self.fallback, out[part], part.start, missing)

        workers.run(run, _parts(indices))
        return min(missing) if missing else None


def _replace(none: Array, fallback: Array | None, out: Array, start: int, missing: list[int]) -> None:
    """Give queries without votes the class for them, or note the first of them."""
    if fallback is not None:
        out[none] = fallback
    elif none.any():
        missing.append(start + int(np.argmax(none)))


@dataclass
class Values:
    """Values, of which means are taken.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (rows, outputs)
        Of each row.
    """

    values: Array

    def compile(self, distances: np.dtype[Any]) -> None:
        """Compile or load the kernel."""
        nothing = np.empty((0, 1), np.int64)
        mean(nothing, nothing.astype(distances), self.values, False, np.empty((0, self.values.shape[1])))

    def predict(self, indices: Array, distances: Array, out: Array, workers: Workers, weighted: bool) -> int | None:
        """Fill `out` with means; NaN where there are no neighbours."""
        flat = out.reshape(len(out), -1)

        def run(part: slice, _worker: int) -> None:
            mean(indices[part], distances[part], self.values, weighted, flat[part])

        workers.run(run, _parts(indices))
        return None
