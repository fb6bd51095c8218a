"""One run of `pairwise`: blocks of X and of Y in, tiles out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlpipe.buffers import PAGE, Pool, aligned_empty
from mlpipe.link import Array, Block, Blocks, Run
from mlpipe.stages.layout import GROUP, Layout, Sizes
from mlpipe.stages.pairing import Pairing, Place, Rows, Scratch


def _held_whole(layout: Layout, sizes: Sizes) -> bool:
    return layout.y_rows >= sizes.columns


def _y_starts(layout: Layout, sizes: Sizes, x_start: int) -> range:
    """First rows of the blocks of Y that a block of X meets."""
    first = x_start // layout.y_rows * layout.y_rows if layout.upper else 0
    return range(first, sizes.columns, layout.y_rows)


def y_ranges(layout: Layout, sizes: Sizes) -> Iterator[tuple[int, int]]:
    """Rows of Y in the order in which they are packed."""
    chunk = layout.chunk_rows(sizes)
    for x_start in range(0, 1 if _held_whole(layout, sizes) else sizes.rows, layout.block_rows):
        for start in _y_starts(layout, sizes, x_start):
            stop = min(start + layout.y_rows, sizes.columns)
            for first in range(start, stop, chunk):
                yield first, min(first + chunk, stop)


class Tiling:
    """One run of the stage: the panels, the pools and the loops."""

    def __init__(
        self, dtype: np.dtype[Any], layout: Layout, sizes: Sizes, offset: int, pairing: Pairing, run: Run
    ) -> None:
        self.dtype, self.layout, self.sizes, self.offset = dtype, layout, sizes, offset
        self.pairing, self.run = pairing, run
        size = layout.block_rows * layout.tile_columns * dtype.itemsize + PAGE
        self.pool = run.pool(layout.tiles, lambda: aligned_empty((size,), np.uint8))
        self.mirrors = run.pool(layout.tiles, lambda: aligned_empty((size,), np.uint8))
        self.scratch: list[Scratch] = pairing.scratch(run.workers.threads)
        self.panels = pairing.empty_panels(layout.y_rows)

    def all(self, blocks: Blocks, y_blocks: Blocks) -> Blocks:
        """Tiles of all blocks of X, in order."""
        if _held_whole(self.layout, self.sizes):
            self._pack(y_blocks, 0)
        for block in blocks:
            x = self.pairing.prepare(block.data.reshape(len(block.data), self.pairing.features), self.run.workers)
            yield from self._tiles_of(block.start, x, y_blocks)
            block.release()

    def _pack(self, y_blocks: Blocks, start: int) -> None:
        """Fill the panels with rows start … of Y."""
        self.panels.columns = 0
        wanted = min(self.layout.y_rows, self.sizes.columns - start)
        while self.panels.columns < wanted:
            block = next(y_blocks)
            rows = block.data.reshape(len(block.data), self.pairing.features)
            self.pairing.add(self.panels, rows, self.run.workers)
            block.release()

    def _tiles_of(self, x_start: int, x: Rows, y_blocks: Blocks) -> Blocks:
        """Tiles of one block of X, over all blocks of Y."""
        buffer = self.pool.take(self.run.lane) if self.layout.whole_rows else None
        whole_row = None if buffer is None else self._view(buffer, len(x.values), self.sizes.columns, x_start)
        passed = 0
        for y_start in _y_starts(self.layout, self.sizes, x_start):
            if not _held_whole(self.layout, self.sizes):
                self._pack(y_blocks, y_start)
            if whole_row is not None:
                self._tile(x_start, x, y_start, Place(whole_row, 0, y_start), None, range(self.panels.count))
                continue
            for tile in self._tiles_of_panels(x_start, x, y_start):
                if tile.start == x_start:  # not a mirrored one
                    end = tile.column + tile.data.shape[1]
                    passed, tile.share = end, self._share(len(x.values), end - passed)
                yield tile
        if whole_row is not None and buffer is not None:
            tile = self._block(x_start, whole_row, 0, buffer, self.pool)
            tile.share = self._share(len(x.values), self.sizes.columns)
            yield tile
        self.run.lane.count(rows=len(x.values), nbytes=len(x.values) * self.sizes.columns * self.sizes.output_bytes)

    def _share(self, rows: int, columns: int) -> float:
        return rows * columns / (self.sizes.rows * self.sizes.columns)

    def _tiles_of_panels(self, x_start: int, x: Rows, y_start: int) -> Blocks:
        """Tiles of one block of X and the rows of Y that are held, mirrored ones after their originals."""
        layout, width, count = self.layout, self.pairing.width, len(x.values)
        per_tile = -(-layout.tile_columns // width)
        first = max(0, x_start - y_start) // GROUP * GROUP // width if layout.upper else 0
        for start in range(first, self.panels.count, per_tile):
            stop = min(start + per_tile, self.panels.count)
            left, right = start * width, min(stop * width, self.panels.columns)
            buffer = self.pool.take(self.run.lane)
            data = self._view(buffer, count, right - left, x_start)
            below = max(x_start + count, y_start + left)  # what lies above is in the tile itself
            mirror, also = None, None
            if layout.mirror and below < y_start + right:
                mirror = self.mirrors.take(self.run.lane)
                also = Place(self._view(mirror, right - left, count, below), -left)
            self._tile(x_start, x, y_start, Place(data, 0, -left), also, range(start, stop))
            yield self._block(x_start, data, y_start + left, buffer, self.pool)
            if mirror is not None and also is not None:
                yield self._block(below, also.array[below - y_start - left :], x_start, mirror, self.mirrors)

    def _tile(self, x_start: int, x: Rows, y_start: int, into: Place, also: Place | None, panels: range) -> None:
        # Tiles that are mirrored are computed whole where they meet the diagonal: both halves are handed on.
        diagonal = x_start - y_start if self.layout.upper and not self.layout.mirror else None
        self.pairing.tile(
            self.run.workers, self.scratch, x, self.panels, into, also,
            diagonal=diagonal, first_panel=panels.start, stop_panel=panels.stop,
        )  # fmt: skip

    def _view(self, buffer: Array, rows: int, columns: int, start: int) -> Array:
        """Part of a buffer as a tile; whole rows lie in their memory page as they will in the file's."""
        place = self.offset + start * columns * self.dtype.itemsize
        shift = (place - buffer.ctypes.data) % PAGE
        size = rows * columns * self.dtype.itemsize
        return buffer[shift : shift + size].view(self.dtype).reshape(rows, columns)

    def _block(self, start: int, data: Array, column: int, buffer: Array, pool: Pool) -> Block:
        return Block(start, data, column, release=lambda: pool.give(buffer), share=0.0)
