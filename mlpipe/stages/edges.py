"""What is made of a graph: a table of its edges, or a summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpipe.kernels.links import join_parts
from mlpipe.link import Array
from mlpipe.stages.links import Piece

CHUNK = 1 << 16
"""Neighbours that are looked at at once."""

SUMMARY_BYTES = 32
"""For each row: how many neighbours it has, and which part it belongs to; and to look at either as a whole."""

NAMES = ("source", "target", "distance")
"""As networkx and Gephi call them."""


@dataclass
class EdgeTable:
    """Each edge once: two rows, the first the smaller, and their distance.

    Parameters
    ----------
    graph : iterable of Piece
        In order.
    dtype : numpy.dtype
        Of distances.

    Examples
    --------
    >>> piece = Piece(0, np.array([1, 2, 1]), np.array([1, 0, 2, 1]), np.array([0.5, 0.5, 2.0, 2.0]))
    >>> [[column.tolist() for column in piece] for piece in EdgeTable([piece], np.dtype("f8")).pieces]
    [[[0, 1], [1, 2], [0.5, 2.0]]]
    """

    graph: Iterable[Piece]
    dtype: np.dtype[Any]
    names = NAMES
    rows = None

    @property
    def dtypes(self) -> tuple[np.dtype[Any] | None, ...]:
        """Of the columns."""
        return (np.dtype(np.int64), np.dtype(np.int64), self.dtype)

    @property
    def pieces(self) -> Iterator[tuple[Array, ...]]:
        """Columns of some edges after the other."""
        for piece in self.graph:
            yield from _edges(piece)
            del piece  # before the next one is made


def _edges(piece: Piece) -> Iterator[tuple[Array, ...]]:
    """Edges to larger rows."""
    for start, rows in _rows(piece):
        targets = piece.neighbours[start : start + len(rows)]
        once = targets > rows
        yield rows[once], targets[once], piece.distances[start : start + len(rows)][once]


def _rows(piece: Piece) -> Iterator[tuple[int, Array]]:
    """The row that each neighbour belongs to, some at a time, each with where they begin."""
    ends = np.cumsum(piece.counts)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, CHUNK):
        stop = min(start + CHUNK, total)
        low, high = np.searchsorted(ends, [start, stop - 1], "right")
        inside = np.minimum(ends[low : high + 1], stop) - np.maximum((ends - piece.counts)[low : high + 1], start)
        yield start, np.repeat(np.arange(piece.first + low, piece.first + high + 1), inside)


def summary(graph: Iterable[Piece], rows: int) -> dict[str, Any]:
    """How many rows and edges there are, how many neighbours rows have, in how many parts the graph falls.

    Parameters
    ----------
    graph : iterable of Piece
        In order.
    rows : int
        Of all of them.

    Examples
    --------
    >>> piece = Piece(0, np.array([1, 1, 0]), np.array([1, 0]), np.array([0.5, 0.5]))
    >>> facts = summary([piece], 3)
    >>> facts["edges"], facts["parts"], facts["largest_part"], facts["isolated"], facts["degree"]["maximum"]
    (1, 2, 2, 1, 1)
    """
    degrees, parents = np.zeros(rows, np.int64), np.arange(rows)
    shortest, longest = np.inf, -np.inf
    for piece in graph:
        degrees[piece.first : piece.first + len(piece.counts)] = piece.counts
        join_parts(piece.first, piece.counts, piece.neighbours, parents)
        if len(piece.distances):
            shortest = min(shortest, float(piece.distances.min()))
            longest = max(longest, float(piece.distances.max()))
        del piece  # before the next one is made
    links = int(degrees.sum())
    return {
        "rows": rows,
        "edges": links // 2,
        "isolated": int(np.count_nonzero(degrees == 0)),
        "degree": _degrees(degrees) if rows else None,
        **_parts(parents),
        "shortest": shortest if np.isfinite(shortest) else None,
        "longest": longest if np.isfinite(longest) else None,
    }


def _degrees(degrees: Array) -> dict[str, Any]:
    return {
        "minimum": int(degrees.min()),
        "median": float(np.median(degrees)),
        "mean": int(degrees.sum()) / len(degrees),
        "maximum": int(degrees.max()),
    }


def _parts(parents: Array) -> dict[str, Any]:
    """How many parts there are, and rows of the largest."""
    for start in range(0, len(parents), CHUNK):  # a parent is smaller, so that what it belongs to is known by then
        part = parents[start : start + CHUNK]
        while True:
            above = parents[part]
            if (above == part).all():
                break
            part[:] = above
    sizes = np.bincount(parents) if len(parents) else parents
    return {"parts": int(np.count_nonzero(sizes)), "largest_part": int(sizes.max(initial=0))}
