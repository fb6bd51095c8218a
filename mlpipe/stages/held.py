"""Rows that a stage holds in memory of its own, labels included."""

from __future__ import annotations

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Array, Block, Room, Spec


class HeldRows:
    """Memory for a number of rows and their labels, as values and as bytes.

    Parameters
    ----------
    spec : Spec
        Of the rows.
    count : int
        How many fit.
    """

    def __init__(self, spec: Spec, count: int) -> None:
        self.data = aligned_empty((count, *spec.row_shape), spec.dtype.newbyteorder("="))
        self.labels = None if spec.labels is None else aligned_empty((count, *spec.labels.row_shape), spec.labels.dtype)

    def put(self, at: int, block: Block, start: int, stop: int) -> None:
        """Copy rows start … stop of a block to row `at` and those after it."""
        self.data[at : at + stop - start] = block.data[start:stop]
        if self.labels is not None and block.labels is not None:
            self.labels[at : at + stop - start] = block.labels[start:stop]

    def take(self, at: int, block: Block, rows: Array) -> None:
        """Copy some rows of a block to row `at` and those after it."""
        np.take(block.data, rows, axis=0, out=self.data[at : at + len(rows)], mode="clip")
        if self.labels is not None and block.labels is not None:
            np.take(block.labels, rows, axis=0, out=self.labels[at : at + len(rows)], mode="clip")

    def block(self, start: int, stop: int, share: float = 0.0) -> Block:
        """Rows start … stop as a block, whose memory is that of the rows."""
        labels = None if self.labels is None else self.labels[start:stop]
        return Block(0, self.data[start:stop], share=share, labels=labels)

    def arrays(self) -> list[Array]:
        """Rows and labels as bytes, one row of bytes each."""
        return [as_bytes(part) for part in (self.data, self.labels) if part is not None]


def held_bytes(spec: Spec, rows: int) -> int:
    """Bytes of `HeldRows`."""
    return rows * (spec.row_bytes + (spec.labels.row_bytes if spec.labels else 0))


def check_room(nbytes: int, room: Room, why: str) -> None:
    """Raise MemoryCeilingError unless so much fits."""
    if nbytes > room.nbytes:
        raise MemoryCeilingError(why, needs=nbytes)


def as_bytes(rows: Array) -> Array:
    """The bytes of rows, one row of them each; the memory is the same.

    Examples
    --------
    >>> as_bytes(np.zeros((3, 2), "f4")).shape, as_bytes(np.zeros((3, 0))).shape
    ((3, 8), (3, 0))
    """
    if not rows.size:
        return np.empty((len(rows), 0), np.uint8)
    return rows.reshape(len(rows), -1).view(np.uint8)


def own_rows(block: Block) -> list[Array]:
    """Rows and labels of a block as bytes, to be changed in place; copied first where they do not lie in one piece."""
    block.data = np.ascontiguousarray(block.data)
    block.labels = None if block.labels is None else np.ascontiguousarray(block.labels)
    return [as_bytes(part) for part in (block.data, block.labels) if part is not None]
