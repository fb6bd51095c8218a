"""The order of a global shuffle: one keyed bijection between positions and rows."""

from __future__ import annotations

import functools

import numpy as np

from mlpipe.kernels.order import ROUNDS, invert_table, permute, shuffle_table
from mlpipe.keys import key
from mlpipe.link import Array

TABLE_ROWS = 1 << 16
"""Up to which the order is a table, 256 KiB, drawn uniformly among all orders."""

STREAM = "shuffle"


class Permutation:
    """Which row comes at which position, and back, in any order and without holding anything but a few keys.

    Up to `TABLE_ROWS` rows, one of all n! orders, each equally likely (Fisher and Yates); beyond, the order of a
    Feistel network with eight rounds. The rewrite of a file, the reader that shuffles and the training data set
    all use this one order.

    Parameters
    ----------
    count : int
        How many rows there are.
    seed, epoch : int
        Any integers; every pair of them has an order of its own.
    stream : str
        What the order is for.

    Examples
    --------
    >>> order, rows = Permutation(10, seed=7), np.empty(4, np.int64)
    >>> order.rows(0, 4, rows)
    >>> order.positions_of(rows).tolist()
    [0, 1, 2, 3]
    """

    def __init__(self, count: int, seed: int, epoch: int = 0, stream: str = STREAM) -> None:
        if not 0 <= count < 1 << 62:
            raise ValueError(f"{count} rows cannot be put in order")
        self.count, self.seed, self.epoch, self.stream = count, seed, epoch, stream
        self._keys = key(seed, epoch, stream, words=ROUNDS)
        bits = (max(1, count - 1).bit_length() + 1) // 2
        self._split = (np.uint64(count), np.uint64(bits), np.uint64(-(-count >> bits)))

    def in_epoch(self, epoch: int) -> Permutation:
        """The order of another epoch."""
        return Permutation(self.count, self.seed, epoch, self.stream)

    def rows(self, start: int, stop: int, out: Array) -> None:
        """Fill `out`, int64, with the rows at positions start … stop."""
        self._check(start, stop, out)
        out[:] = np.arange(start, stop)
        self._send(out, backward=False)

    def positions(self, start: int, stop: int, out: Array) -> None:
        """Fill `out`, int64, with the positions of rows start … stop."""
        self._check(start, stop, out)
        out[:] = np.arange(start, stop)
        self._send(out, backward=True)

    def rows_at(self, positions: Array) -> Array:
        """The rows at any positions, int64."""
        values = np.array(positions, np.int64)
        self._send(values, backward=False)
        return values

    def positions_of(self, rows: Array) -> Array:
        """The positions of any rows, int64."""
        values = np.array(rows, np.int64)
        self._send(values, backward=True)
        return values

    def _send(self, values: Array, *, backward: bool) -> None:
        """Replace positions by rows, or rows by positions."""
        if self.count <= TABLE_ROWS:
            values[:] = (self._inverse if backward else self._table)[values]
        else:
            permute(self._keys, *self._split, values.view(np.uint64), backward)

    @functools.cached_property
    def _table(self) -> Array:
        table = np.empty(self.count, np.int32)
        shuffle_table(self._keys[:2], table)
        return table

    @functools.cached_property
    def _inverse(self) -> Array:
        inverse = np.empty(self.count, np.int32)
        invert_table(self._table, inverse)
        return inverse

    def _check(self, start: int, stop: int, out: Array) -> None:
        if not 0 <= start <= stop <= self.count:
            raise IndexError(f"positions {start} to {stop} of {self.count}")
        if out.shape != (stop - start,) or out.dtype != np.int64 or not out.flags.c_contiguous:
            raise ValueError(f"an int64 array of {stop - start} needed, got {out.dtype} {out.shape}")
