"""A sink that keeps no rows: it sums up how many neighbours queries have."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlpipe.link import Array, Block
from mlpipe.writers.nothing import NothingSink

MOST_SHOWN = 5
"""Queries with the most neighbours that are named."""


class CrowdingSink(NothingSink):
    """How many neighbours there are in all, how many queries have how many, and which have the most.

    Parameters
    ----------
    most : int, optional
        At which number counting stops.

    Examples
    --------
    >>> sink = CrowdingSink()
    >>> sink.write(Block(0, np.array([3, 0, 5])))
    >>> facts = sink.facts()
    >>> facts["pairs"], facts["most_crowded"][0]
    (8, {'query': 2, 'neighbours': 5})
    >>> facts["distribution"]
    [{'from': 0, 'to': 0, 'queries': 1}, {'from': 2, 'to': 3, 'queries': 1}, {'from': 4, 'to': 7, 'queries': 1}]
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self._most, self._pairs, self._queries = most, 0, 0
        self._bits = np.zeros(65, np.int64)  # queries by the length of their count in binary
        self._lowest: int | None = None
        self._top = np.empty((0, 2), np.int64)

    def write(self, block: Block) -> None:
        """Take in some counts."""
        super().write(block)
        counts = block.data if self._most is None else np.minimum(block.data, self._most)
        if not len(counts):
            return
        self._pairs, self._queries = self._pairs + int(counts.sum()), self._queries + len(counts)
        self._bits += np.bincount(np.frexp(counts.astype(np.float64))[1], minlength=65)
        lowest = int(counts.min())
        self._lowest = lowest if self._lowest is None else min(lowest, self._lowest)
        self._top = _most(
            np.concatenate([self._top, _most(np.stack([counts, block.start + np.arange(len(counts))], 1))])
        )

    def facts(self) -> dict[str, Any]:
        """What was seen, as plain values."""
        mean = self._pairs / self._queries if self._queries else None
        return {
            "pairs": self._pairs,
            "minimum": self._lowest,
            "mean": mean,
            "maximum": int(self._top[0, 0]) if len(self._top) else None,
            "distribution": [
                {"from": 1 << bits - 1 if bits else 0, "to": (1 << bits) - 1, "queries": int(self._bits[bits])}
                for bits in np.flatnonzero(self._bits).tolist()
            ],
            "most_crowded": [{"query": query, "neighbours": count} for count, query in self._top.tolist() if count],
        }


def _most(rows: Array) -> Array:
    """Of counts and queries those of the largest counts; of equal ones the first queries."""
    some: Array = rows[np.lexsort((rows[:, 1], -rows[:, 0]))[:MOST_SHOWN]]
    return some
