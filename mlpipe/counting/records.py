"""How often each whole row, pair, labelled value or string of fixed width occurs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from mlpipe.counting.entries import WORD, Lane, arrange, least_room
from mlpipe.counting.entry_files import bounds_of
from mlpipe.counting.wide import Wide, WideCounted
from mlpipe.errors import InputError
from mlpipe.kernels.count_records import (
    REAL,
    SIGNED,
    TRUTH,
    WHOLE,
    decode,
    encode,
    load_field,
    mark_missing,
)
from mlpipe.kernels.entry_order import take_bodies
from mlpipe.link import Array
from mlpipe.workers import Workers

MOST_TOTAL = 2**63
"""What 64 bits with a sign do not hold."""

_KINDS = {"u": WHOLE, "S": WHOLE, "U": WHOLE, "i": SIGNED, "f": REAL, "b": TRUTH}


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a record.

    Parameters
    ----------
    dtype : numpy.dtype
        Bool, integers, floats of at most 8 bytes, or strings; in the machine's byte order.
    row_shape : tuple of int
        Of the part in one record; ``()`` for one value.

    Examples
    --------
    >>> Field(np.dtype("f4"), (3,)).row_bytes, Field(np.dtype("f4"), (3,)).words
    (12, 2)
    """

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        kind, size = self.dtype.kind, self.dtype.itemsize
        if kind not in _KINDS or (kind not in "SU" and size > WORD) or not self.dtype.isnative:
            raise ValueError(f"{self.dtype} where bool, integers, floats or strings of this machine are needed")

    @property
    def row_bytes(self) -> int:
        """Bytes in a record."""
        return int(self.dtype.itemsize) * math.prod(self.row_shape)

    @property
    def words(self) -> int:
        """Words that compare as the values do."""
        return -(-self.row_bytes // WORD)

    @property
    def kind(self) -> int:
        """How values are turned into words."""
        return _KINDS[self.dtype.kind]

    @property
    def size(self) -> int:
        """Bytes that are compared together: those of a number, one of bytes, four of text."""
        return {"S": 1, "U": 4}.get(self.dtype.kind, int(self.dtype.itemsize))


class RecordTally:
    """Counts records; see `mlpipe.counting.counted.Counter`.

    Records are the bytes of their fields, one after the other. They are equal when all their values are: -0 equals 0,
    and all NaN are one. Keys come out as one array for each field, ordered by the first one, then the second one and so
    on.

    Parameters
    ----------
    fields : sequence of Field
        What a record is made of.
    room : int
        Bytes that may be held.
    threads : int
        That work side by side.
    directory : str
        For temporary files.
    weights : numpy.dtype, optional
        Of the weights, int64 or float64, if there are any.

    Raises
    ------
    MemoryCeilingError
        If the room is too small.

    Examples
    --------
    >>> rows = np.array([[1, 2], [0, 5], [1, 2]], np.int32)
    >>> tally = RecordTally([Field(rows.dtype, (2,))], room=1 << 20, threads=1, directory=".")
    >>> with Workers(1) as workers:
    ...     tally.add(rows.view(np.uint8), workers)
    ...     counted = tally.finish(workers)
    >>> [(keys[0].tolist(), counts.tolist()) for keys, counts in counted.by_value()]
    [([[0, 5], [1, 2]], [1, 2])]
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        room: int,
        threads: int,
        directory: str,
        weights: np.dtype[Any] | None = None,
    ) -> None:
        self._fields = list(fields)
        self._row_bytes = sum(field.row_bytes for field in fields)
        self._places = list(accumulate((field.words for field in fields), initial=0))[:-1]
        self._firsts = list(accumulate((field.row_bytes for field in fields), initial=0))[:-1]
        self._wide = Wide(arrange(room, threads, _width(fields), weights), directory)
        self._weights = weights
        self._total, self._added, self._missing = 0, 0, [0] * self._wide.layout.lanes

    @staticmethod
    def least(fields: Sequence[Field], threads: int) -> int:
        """Bytes of the smallest room that works."""
        return least_room(_width(fields))

    def add(self, values: Array, workers: Workers, weights: Array | None = None) -> None:
        """Take in records.

        Parameters
        ----------
        values : ndarray of uint8, shape (count, bytes of a record)
            C-contiguous, in the machine's byte order.
        workers : Workers
            Threads that compute.
        weights : ndarray of int64 or float64, shape (count,), optional
            Given always or never.

        Raises
        ------
        InputError
            For a weight that is negative, or no finite number, and for sums that 64 bits do not hold.
        """
        if values.shape[1:] != (self._row_bytes,) or (weights is None) != (self._weights is None):
            raise ValueError(f"records of {self._row_bytes} bytes needed, got an array of shape {values.shape}")
        if weights is not None:
            self._check(weights)
        else:
            self._total += len(values)
        self._added += len(values)
        lanes, size = self._wide.lanes, self._wide.layout.lane_items
        parts = bounds_of(len(values), max(1, min(size, -(-len(values) // len(lanes)))))
        for first in range(0, len(parts), len(lanes)):
            some = parts[first : first + len(lanes)]

            def fill(n: int, _: int, some: list[tuple[int, int]] = some) -> None:
                start, stop = some[n]
                self._fill(lanes[n], n, values[start:stop], None if weights is None else weights[start:stop])

            workers.run(fill, range(len(some)))
            self._wide.take(lanes[: len(some)], workers)

    def finish(self, workers: Workers) -> WideCounted:
        """The table of all that came in."""
        return WideCounted(self._wide, workers, self._total, sum(self._missing), self._present)

    def close(self) -> None:
        """Give back memory and files; harmless when repeated."""
        self._wide.close()

    def _check(self, weights: Array) -> None:
        if weights.dtype.kind == "f":
            wrong = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
        else:
            wrong = np.flatnonzero(weights < 0)
            # Halves of numbers, so many as a block may hold, do not overflow.
            self._total += (int((weights >> 32).sum()) << 32) + int((weights & 0xFFFFFFFF).sum())
        if len(wrong):
            row = self._added + int(wrong[0])
            raise InputError(
                f"weight {weights[wrong[0]]} of row {row}: weights are finite and not negative; clip or drop it"
            )
        if self._total >= MOST_TOTAL:
            raise InputError(f"weights add up to {self._total}, and 64 bits hold {MOST_TOTAL - 1}; give them as floats")

    def _fill(self, lane: Lane, number: int, values: Array, weights: Array | None) -> None:
        """Turn records into words, and order them by shard."""
        width = self._wide.layout.width
        lane.count, lane.lead = len(values), 0
        words = lane.words[: len(values) * width]
        for field, place, first in zip(self._fields, self._places, self._firsts, strict=True):
            if not field.words:
                continue
            alone = field.row_bytes == self._row_bytes == field.words * WORD
            if alone and values.ctypes.data % WORD == 0:
                source = values.reshape(-1).view(np.uint64).reshape(1, -1)
                encode(source, field.kind, field.size, words.reshape(1, -1))
                continue
            out = words.reshape(len(values), width)[:, place : place + field.words]
            load_field(values, first, field.row_bytes, out)
            encode(out, field.kind, field.size, out)
        self._missing[number] += self._count_missing(words.reshape(len(values), width), lane.marks[: len(values)])
        if not self._row_bytes:
            words[:] = 0
        if weights is not None:
            lane.weights = np.ascontiguousarray(weights)
        lane.hash(self._wide.key)
        lane.arrange()

    def _count_missing(self, words: Array, marks: Array) -> int:
        """How many records hold a NaN."""
        places = [(field, place) for field, place in zip(self._fields, self._places, strict=True) if field.kind == REAL]
        if not places:
            return 0
        marks[:] = False
        for field, place in places:
            mark_missing(words, place, field.words, field.size, marks)
        return int(np.count_nonzero(marks))

    def _present(self, heap: Array, entries: Array) -> tuple[Array, ...]:
        """The fields of entries."""
        words = np.empty((len(entries), self._wide.layout.width), np.uint64)
        take_bodies(heap, entries, words)
        keys = []
        for field, place in zip(self._fields, self._places, strict=True):
            part = np.ascontiguousarray(words[:, place : place + field.words])
            decode(part, field.kind, field.size)
            if field.row_bytes:
                part = np.ascontiguousarray(part.view(np.uint8)[:, : field.row_bytes]).reshape(-1).view(field.dtype)
                keys.append(part.reshape(len(entries), *field.row_shape))
            else:
                keys.append(np.empty((len(entries), *field.row_shape), field.dtype))
        return tuple(keys)


def _width(fields: Sequence[Field]) -> int:
    """Words of a record."""
    return max(1, sum(field.words for field in fields))
