"""How large the blocks and tiles of a distance matrix are, for the memory there is.

Three numbers: rows of X in a block, rows of Y held at once (packed), columns of an output tile. Y is read
again for every block of X unless it is held whole, so blocks of X get what memory is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlpipe.buffers import PAGE
from mlpipe.errors import MemoryCeilingError
from mlpipe.link import BLOCKS_AHEAD, Room

TILES = 3
"""Output tiles in flight: one being computed, one being written, one between them."""

MANY_TILES = 8
"""Tiles in flight where Y is held and memory is not short: a disk that stalls now and then is waited for less."""

GROUP = 128
"""Columns of a tile come in multiples of this: whole panels, and whole groups of columns that are summed."""

TILE_BYTES = 16 << 20
"""Larger tiles leave the cache before they are written, and gain nothing."""

LEAST_TILES = 8
"""Fewer would leave reading, computing and writing to wait for one another."""

CHUNK_BYTES = 4 << 20
"""Rows of Y read at a time, on their way into panels."""

RUN_BYTES = 16 << 10
"""Bytes of a row of a tile that is narrower than the output: shorter runs cost more calls than they save memory."""

BLOCK_COST = 1 << 18
"""What handling a block of Y takes (0.15 ms), in features read and packed: 4 features, 7000 rows."""

MIRROR_ROWS = 1024
MIRROR_TILE = 2048
"""A transposed tile is written in runs of a block's rows: shorter runs cost more than computing twice."""

MIRROR_FEATURES = 1024
"""From here on a distance costs more than writing it in a second place does. 12000 × 12000 to a file, mirrored and
not: 1.8 and 0.8 s of 64 features, 1.9 and 1.2 s of 256, 2.3 and 2.3 s of 768."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the layout depends on.

    Parameters
    ----------
    rows, columns, features : int
        Of the matrix, and of a row.
    compute_bytes, output_bytes : int
        Of one element.
    width : int
        Rows of Y in a panel.
    scratch : int
        Bytes each thread needs.
    extra : int
        Bytes held besides: parameters of the metric.
    copies : int
        Further blocks of X that preparing them takes.
    same : bool
        X against itself.
    condensed : bool
        Only what lies above the diagonal is handed on.
    costly : bool
        Each distance costs far more than writing it.
    """

    rows: int
    columns: int
    features: int
    compute_bytes: int
    output_bytes: int
    width: int
    scratch: int = 0
    extra: int = 0
    copies: int = 0
    same: bool = False
    condensed: bool = False
    costly: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Blocks and tiles.

    Parameters
    ----------
    block_rows : int
        Rows of X in a block, and of a tile.
    y_rows : int
        Rows of Y held at once.
    tile_columns : int
        Columns of a tile.
    upper : bool
        Tiles wholly below the diagonal are not computed.
    mirror : bool
        Their transposes are handed on as well.
    tiles : int
        Tiles in flight.
    """

    block_rows: int
    y_rows: int
    tile_columns: int
    upper: bool = False
    mirror: bool = False
    tiles: int = TILES

    @property
    def whole_rows(self) -> bool:
        """Whether a tile collects the columns of all blocks of Y before it is handed on."""
        return self.tile_columns > self.y_rows

    def chunk_rows(self, sizes: Sizes) -> int:
        """Rows of Y read at a time."""
        row = max(1, sizes.features * sizes.compute_bytes)
        return max(1, min(self.y_rows, CHUNK_BYTES // row))

    def nbytes(self, sizes: Sizes, threads: int) -> dict[str, int]:
        """Bytes held, by what for."""
        row = (sizes.features + 1) * sizes.compute_bytes
        tile = self.block_rows * self.tile_columns * sizes.output_bytes + PAGE
        chunks = BLOCKS_AHEAD + sizes.copies
        return {
            "X blocks": (BLOCKS_AHEAD + sizes.copies) * self.block_rows * row,
            "Y panels": _up(self.y_rows, sizes.width) * row,
            "Y blocks": chunks * self.chunk_rows(sizes) * row,
            "tiles": self.tiles * tile * (2 if self.mirror else 1),
            "scratch": threads * sizes.scratch + sizes.extra,
        }


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def choose_layout(sizes: Sizes, room: Room) -> Layout:
    """The layout that reads Y least often within the room.

    Raises
    ------
    MemoryCeilingError
        When not even the smallest fits; `needs` says what would.

    Examples
    --------
    >>> sizes = Sizes(rows=10_000, columns=5_000, features=128, compute_bytes=4, output_bytes=4, width=64)
    >>> choose_layout(sizes, Room(256 << 20, threads=2))
    Layout(block_rows=832, y_rows=5000, tile_columns=5000, upper=False, mirror=False, tiles=8)
    """
    for layout, least in _candidates(sizes, room):
        rows = _fitting_rows(layout, sizes, room)
        if rows >= min(least, max(1, sizes.rows)):
            return replace(layout, block_rows=rows)
    smallest = _smallest(sizes, room)
    raise MemoryCeilingError("no layout fits", needs=sum(smallest.nbytes(sizes, room.threads).values()))


def _candidates(sizes: Sizes, room: Room) -> Iterator[tuple[Layout, int]]:
    """Layouts with the most rows worth having, best first, each with the least rows worth having."""
    every = max(1, sizes.columns)
    free = max(0, room.nbytes - room.threads * sizes.scratch - sizes.extra)
    tile_bytes = min(TILE_BYTES, free // (2 * MANY_TILES))
    upper = sizes.same and (sizes.condensed or not room.stored)
    row = (sizes.features + 1) * sizes.compute_bytes
    some = min(every, max(GROUP, free // 4 // row // GROUP * GROUP))
    square = sizes.same and room.stored and not (room.sequential or sizes.condensed)
    if square and (sizes.costly or sizes.features >= MIRROR_FEATURES) and every > MIRROR_ROWS:
        for y_rows in (every, some):
            columns = min(MIRROR_TILE, y_rows, every)
            yield Layout(MIRROR_TILE, y_rows, columns, upper=True, mirror=True), MIRROR_ROWS
    fitting = min(tile_bytes // (every * sizes.output_bytes), _up(-(-sizes.rows // LEAST_TILES), GROUP))
    if fitting >= GROUP or room.sequential:
        yield Layout(max(GROUP, fitting), every, every, upper, tiles=MANY_TILES), GROUP
    else:
        columns = max(GROUP, tile_bytes // (256 * sizes.output_bytes) // GROUP * GROUP)
        yield Layout(256, every, min(columns, every), upper, tiles=MANY_TILES), GROUP
    yield _streamed(sizes, room, some, upper), 1


def _streamed(sizes: Sizes, room: Room, most: int, upper: bool) -> Layout:
    """The layout that goes through Y soonest, of those that hold at most so many rows of it.

    More rows of Y at once leave less room for rows of X, so Y is read more often; fewer take more blocks a pass.
    """
    every, overhead = max(1, sizes.columns), BLOCK_COST // (sizes.features + 32)
    best, least = _smallest(sizes, room), math.inf
    y_rows = most
    while True:
        columns = every if room.sequential else min(y_rows, max(GROUP, RUN_BYTES // sizes.output_bytes))
        layout = Layout(max(1, sizes.rows), y_rows, columns, upper)
        rows = _fitting_rows(layout, sizes, room)
        cost = -(-sizes.rows // rows) * (1 + overhead / y_rows) if rows else math.inf
        if cost < least:
            best, least = layout, cost
        if y_rows <= GROUP:
            return best
        y_rows = max(GROUP, y_rows // 4 // GROUP * GROUP)


def _smallest(sizes: Sizes, room: Room) -> Layout:
    every = max(1, sizes.columns)
    upper = sizes.same and (sizes.condensed or not room.stored)
    return Layout(1, min(GROUP, every), every if room.sequential else min(GROUP, every), upper)


def _fitting_rows(layout: Layout, sizes: Sizes, room: Room) -> int:
    """Rows of a block that fit, at most those of the layout and of X; 0 when none do."""
    none = sum(replace(layout, block_rows=0).nbytes(sizes, room.threads).values())
    one = sum(replace(layout, block_rows=1).nbytes(sizes, room.threads).values()) - none
    rows = min(layout.block_rows, max(1, sizes.rows), max(0, room.nbytes - none) // max(1, one))
    return rows // 16 * 16 if rows >= 16 and rows < sizes.rows else rows
