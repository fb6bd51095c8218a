"""What looking for all rows within a radius takes: queries and data as for the nearest, and room for what is found."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Room
from mlpipe.stages.search_layout import Layout, Sizes, choose_layout
from mlpipe.stages.search_sizes import SearchSizes
from mlpipe.stages.within import LEAST_HITS, TILE_COLUMNS, TILE_ROWS, hit_bytes

HITS_BYTES = 256 << 20
"""For what is found, at most: with more, it would only wait longer for being written."""


@dataclass(frozen=True, slots=True)
class WithinSizes(SearchSizes):
    """What counting or collecting takes, besides the hits: panels of the queries, and counts of each of them.

    Parameters
    ----------
    again : bool
        Whether data may have to be read again, into memory of their own.
    """

    again: bool = False

    def per_query(self, more: int = 0) -> int:
        """Bytes for each query of many, and `more`."""
        return self._each() + more

    def _each(self) -> int:
        """Bytes for each query: packed, maybe projected, with what is known of it; counts, and where hits end."""
        row = self.prepared * self.compute_bytes
        return row * (2 if self.projects else 1) + 3 * self.compute_bytes + 8 * (self.threads + 4)

    def nbytes(self, queries: int, data_rows: int) -> int:
        """Bytes for so many queries, and so many rows of data at a time, the queries not among them."""
        padded = -(-queries // self.width) * self.width
        projected = self.prepared * self.compute_bytes if self.projects else 0
        tile = TILE_ROWS * (TILE_COLUMNS + self.width) * self.output_bytes + 4 * (TILE_COLUMNS + self.width)
        threads = self.threads * (tile + self.scratch + (256 * self.features if self.projects else 0))
        again = self.features * self.compute_bytes if self.again else 0
        return padded * self._each() + threads + data_rows * (projected + again + 2 * self.compute_bytes)


def choose_radius_layout(sizes: Sizes, room: Room, *, collect: bool) -> tuple[Layout, int, dict[str, int]]:
    """The layout that reads data least often, with half of the room for what is found, or less where that is not left.

    Parameters
    ----------
    sizes : Sizes
        What it depends on.
    room : Room
        What there is.
    collect : bool
        Whether hits are collected; else they are only counted.

    Returns
    -------
    layout : Layout
        Of queries and data.
    hits : int
        That each thread has room for.
    nbytes : dict of str to int
        Bytes held, by what for.

    Raises
    ------
    MemoryCeilingError
        When not even the smallest fits; `needs` says what would.
    """
    one = room.threads * hit_bytes(sizes.search.output_bytes)
    hits = min(HITS_BYTES, room.nbytes // 2) // one
    while True:
        hits = max(LEAST_HITS, min(hits, sizes.rows * sizes.data_rows + TILE_COLUMNS)) if collect else 0
        try:
            layout = choose_layout(sizes, replace(room, nbytes=room.nbytes - hits * one))
        except MemoryCeilingError as error:
            if hits <= LEAST_HITS:
                raise MemoryCeilingError(str(error), needs=error.needs + hits * one) from None
            hits //= 4
        else:
            return layout, hits, {**layout.nbytes(sizes), "found": hits * one}
