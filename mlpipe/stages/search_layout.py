"""How many queries are looked after at once, and what is held of the data, for the memory there is.

Data are read again for every block of queries unless they are held, so blocks of queries get what memory is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import BLOCKS_AHEAD, Room
from mlpipe.stages.search_sizes import SearchSizes
from mlpipe.stages.streaming import BUFFERS

READ_BYTES = 8 << 20
"""Of a block of data on its way into memory where they are held."""

STEP_BYTES = 32 << 20
"""Of the data that a search looks through at once: what it makes of them stays small, however many they are."""

LEAST_STEP = 256 << 10
"""Smaller blocks of data would cost more calls than the memory is worth; so would fewer queries than take as much."""

FEWEST = 64
"""Queries of the smallest block, unless so many take more than that."""

BLOCK_BYTES = 32 << 20
"""Of a block of queries where data are held: more would only keep results waiting."""

LEAST_QUERIES = 1024
"""With fewer at once, data that are held would cost more than reading them again does."""

BLOCK_COST = 1 << 18
"""What handling a block of data takes, in bytes read and looked through."""

MANY = 1 << 40
"""Stands for the number of queries where it is not known."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the layout depends on.

    Parameters
    ----------
    rows, data_rows : int
        Queries, and rows of data.
    features : int
        Of a row.
    compute_bytes : int
        Of one value.
    out_bytes : int
        Of one row of results.
    out_rows : int
        Rows of a block of results.
    search : SearchSizes
        What a search takes.
    extra : int
        Bytes held besides: parameters of the metric, scratch.
    keeps_rows : bool
        Whether a search leaves the data as they are.
    kernels : int
        Bytes that compiling takes, where no run before has done that, besides what every plan counts.
    """

    rows: int
    data_rows: int
    features: int
    compute_bytes: int
    out_bytes: int
    out_rows: int
    search: SearchSizes
    extra: int = 0
    keeps_rows: bool = True
    kernels: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of queries or data, one at least."""
        return max(1, self.features * self.compute_bytes)


@dataclass(frozen=True, slots=True)
class Layout:
    """Blocks.

    Parameters
    ----------
    query_rows : int
        Queries looked after at once.
    read_rows : int
        Rows of data read at a time.
    step_rows : int
        Rows of data looked through at a time.
    held : bool
        Whether data are held.
    """

    query_rows: int
    read_rows: int
    step_rows: int
    held: bool

    def blocks(self, rows: int) -> int:
        """Blocks of queries."""
        return -(-rows // self.query_rows)

    def passes(self, rows: int) -> int:
        """How often data are read."""
        return min(1, rows) if self.held else self.blocks(rows)

    def nbytes(self, sizes: Sizes) -> dict[str, int]:
        """Bytes held, by what for."""
        search = sizes.search
        return {
            "queries": self.query_rows * sizes.row_bytes,
            "search": search.nbytes(self.query_rows, self.step_rows),
            "data": sizes.data_rows * sizes.row_bytes if self.held else 0,
            "data blocks": (BLOCKS_AHEAD * self.read_rows + self._copied(sizes)) * sizes.row_bytes,
            "results": BUFFERS * min(sizes.out_rows, self.query_rows) * sizes.out_bytes,
            "parameters": sizes.extra,
            "kernels": sizes.kernels,
        }

    def _copied(self, sizes: Sizes) -> int:
        return self.step_rows if self.held and not sizes.keeps_rows else 0


def choose_layout(sizes: Sizes, room: Room) -> Layout:
    """The layout that reads data least often within the room.

    Few queries are looked after all at once, while data go by. Of many, data are held for one block after the other
    if they fit beside blocks worth having.

    Raises
    ------
    MemoryCeilingError
        When not even the smallest fits; `needs` says what would.
    """
    best, least = None, math.inf
    for layout, fewest in _candidates(sizes):
        queries = _fitting_queries(layout, sizes, room.nbytes)
        if queries < fewest:
            continue
        found = Layout(queries, layout.read_rows, layout.step_rows, layout.held)
        if found.held:
            return found
        cost = found.passes(sizes.rows) * (1 + BLOCK_COST / (found.read_rows * sizes.row_bytes))
        if cost < least:
            best, least = found, cost
    if best is None:
        smallest = _smallest(sizes)
        raise MemoryCeilingError("no layout fits", needs=sum(smallest.nbytes(sizes).values()))
    return best


def _rows(sizes: Sizes, nbytes: int) -> int:
    """Rows of data that take so many bytes, one at least."""
    return max(1, min(sizes.data_rows, nbytes // sizes.row_bytes))


def _smallest(sizes: Sizes) -> Layout:
    """The layout below which nothing is tried."""
    some = max(1, min(FEWEST, LEAST_STEP // sizes.search.per_query(sizes.row_bytes)))
    rows = _rows(sizes, LEAST_STEP)
    return Layout(max(1, min(sizes.rows, some)), rows, rows, held=False)


def _candidates(sizes: Sizes) -> Iterator[tuple[Layout, int]]:
    """Layouts with the most queries worth having, best first, each with the fewest."""
    every, some = max(1, sizes.rows), max(1, min(sizes.rows, LEAST_QUERIES))
    block = min(every, max(LEAST_QUERIES, BLOCK_BYTES // sizes.search.per_query(sizes.row_bytes)))
    if every > block:
        for step in (STEP_BYTES, READ_BYTES, LEAST_STEP):
            yield Layout(block, _rows(sizes, min(READ_BYTES, step)), _rows(sizes, step), held=True), some
    size = STEP_BYTES
    while size >= LEAST_STEP:
        rows = _rows(sizes, size)
        yield Layout(every, rows, rows, held=False), _smallest(sizes).query_rows
        size //= 2


def _fitting_queries(layout: Layout, sizes: Sizes, nbytes: int) -> int:
    """Queries of a block that fit, at most those of the layout; 0 when none do."""

    def fits(queries: int) -> bool:
        found = Layout(queries, layout.read_rows, layout.step_rows, layout.held)
        return sum(found.nbytes(sizes).values()) <= nbytes

    if fits(layout.query_rows):
        return layout.query_rows
    low, high = 0, layout.query_rows
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low // 64 * 64 if low >= 64 else low
