"""What is said of nearest neighbours where they are not written: how far, who most often, and the closest pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlpipe.link import Array, Block, Blocks, Held, Room, Run, Spec
from mlpipe.stages.streaming import Streaming

MOST_SHOWN = 5
"""Rows that are neighbours most often, and pairs."""

QUARTILES = (("minimum", 0.0), ("q25", 0.25), ("median", 0.5), ("q75", 0.75), ("maximum", 1.0))


@dataclass
class Found:
    """What was seen so far.

    Parameters
    ----------
    kth : ndarray, shape (queries,)
        Distance of the k-th neighbour of each.
    counts : ndarray of int64, shape (rows of data,)
        How often each row is a neighbour.
    pairs : list of (float, int, int)
        The closest: what orders them, query, and row of data.
    missing, infinite : int
        NaN among the distances, and infinities.
    """

    kth: Array
    counts: Array
    pairs: list[tuple[float, int, int]] = field(default_factory=list)
    missing: int = 0
    infinite: int = 0


@dataclass(frozen=True)
class Summing(Streaming):
    """Keeps what a summary takes of the neighbours that pass, indices labelled with distances.

    Parameters
    ----------
    data_rows : int
        Rows there are to choose from.
    largest : bool
        Whether larger is closer.
    own : bool
        Whether queries are rows of the data: then each pair counts once.
    """

    data_rows: int
    largest: bool = False
    own: bool = False
    found: list[Found] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What reports call it."""
        return "summary"

    def hold(self, spec: Spec, room: Room) -> Held:
        """A distance for each query, and a count for each row of data.

        Whether they fit is left to the stage before, which takes what is left: it says what both need.
        """
        size = 0 if spec.labels is None else spec.labels.dtype.itemsize
        kept = {"kth distances": int(spec.rows or 0) * (2 * size + 1), "counts": 8 * self.data_rows}
        return Held(room.block_rows, spec.dtype, kept, {}, spec)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Hand on the blocks as they are."""
        spec: Spec = held.layout
        if spec.labels is None:
            raise ValueError("neighbours come with their distances")
        found = Found(np.empty(int(spec.rows or 0), spec.labels.dtype), np.zeros(self.data_rows, np.int64))
        self.found[:] = [found]
        for block in blocks:
            self._take(found, block)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block

    def _take(self, found: Found, block: Block) -> None:
        """Take in some rows."""
        indices, distances = block.data, block.labels
        if distances is None:
            raise ValueError("neighbours come with their distances")
        found.kth[block.start : block.start + len(distances)] = distances[:, -1]
        there = ~np.isnan(distances)
        found.missing += there.size - int(there.sum())
        found.infinite += int(np.isinf(distances).sum())
        np.add.at(found.counts, indices[there], 1)
        found.pairs = self._closest(found, block.start, indices, distances, there)

    def _closest(
        self, found: Found, start: int, indices: Array, distances: Array, there: Array
    ) -> list[tuple[float, int, int]]:
        """The closest pairs, with some more rows; of rows among themselves either may have found the other, or both."""
        keys = -distances if self.largest else distances
        near = there.copy()
        if len(found.pairs) == MOST_SHOWN:
            near &= keys <= found.pairs[-1][0]
        near &= keys <= _least(keys[near], 2 * MOST_SHOWN)
        rows, places = np.nonzero(near)
        key, row, index = keys[near].astype("f8"), rows + start, indices[rows, places]
        if self.own:
            row, index = np.minimum(row, index), np.maximum(row, index)
        first = np.lexsort((index, row, key))
        new = ((float(key[i]), int(row[i]), int(index[i])) for i in first)
        return _distinct(sorted([*found.pairs, *_distinct(new)]))

    def facts(self) -> dict[str, Any]:
        """The summary as plain values."""
        [found] = self.found
        sign = -1.0 if self.largest else 1.0
        return {
            "kth_distance": quantiles(found.kth),
            "missing": found.missing,
            "infinite": found.infinite,
            "most_popular": [{"row": row, "neighbour_of": count} for row, count in most_frequent(found.counts)],
            "closest": [
                {"query": row, "neighbour": index, "distance": plain(sign * key)} for key, row, index in found.pairs
            ],
        }


def _least(keys: Array, most: int) -> float:
    """The last of so many least ones; infinity where there are not more of them."""
    return float(np.partition(keys, most - 1)[most - 1]) if len(keys) > most else np.inf


def _distinct(pairs: Iterable[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """The first few pairs, each once.

    Examples
    --------
    >>> _distinct([(0.5, 1, 2), (0.5, 1, 2), (0.75, 0, 1)])
    [(0.5, 1, 2), (0.75, 0, 1)]
    """
    found: dict[tuple[int, int], float] = {}
    for key, row, index in pairs:
        found.setdefault((row, index), key)
        if len(found) == MOST_SHOWN:
            break
    return [(key, *pair) for pair, key in found.items()]


def most_frequent(counts: Array, piece: int = 1 << 20) -> list[tuple[int, int]]:
    """Places of the largest counts, and these, of equal ones the first; zeros are left out.

    Examples
    --------
    >>> most_frequent(np.array([0, 2, 5, 2]), piece=2)
    [(2, 5), (1, 2), (3, 2)]
    """
    found: list[tuple[int, int]] = []
    for start in range(0, len(counts), piece):
        part = counts[start : start + piece]
        first = np.argsort(-part, kind="stable")[:MOST_SHOWN]
        found += [(start + int(place), int(part[place])) for place in first if part[place]]
        found = sorted(found, key=lambda one: (-one[1], one[0]))[:MOST_SHOWN]
    return found


def quantiles(values: Array) -> dict[str, float | None]:
    """Minimum, quartiles and maximum of what is not NaN, by linear interpolation as NumPy's; None without values.

    Examples
    --------
    >>> quantiles(np.array([3.0, np.nan, 1.0, 2.0, 5.0]))
    {'minimum': 1.0, 'q25': 1.75, 'median': 2.5, 'q75': 3.5, 'maximum': 5.0}
    """
    there = values[~np.isnan(values)]
    there.sort()
    if not len(there):
        return {name: None for name, _ in QUARTILES}
    found = {}
    for name, share in QUARTILES:
        place = share * (len(there) - 1)
        low, high = float(there[int(place)]), float(there[min(int(place) + 1, len(there) - 1)])
        part = place - int(place)
        found[name] = plain(low if part == 0 or low == high else low + part * (high - low))
    return found


def plain(value: float) -> float | None:
    """A number as JSON has it: infinities are null."""
    return value if np.isfinite(value) else None
