"""``sample``: some rows, chosen at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.link import Array, Block, Blocks, Flow, Held, Room, Run, Source, Spec
from mlpipe.stages.held import HeldRows, check_room, held_bytes, own_rows
from mlpipe.stages.streaming import Streaming
from mlpipe.stages.views import SampledSource

if TYPE_CHECKING:
    from mlpipe.stages.sampling import Sampling

SPARE = 8
"""A held sample has room for one row more in so many, and is cut back when that is full."""


@dataclass(frozen=True)
class Sample(Streaming):
    """Some rows, chosen at random, in their order.

    Give --fraction or --rows: of a fraction each row is taken with that probability, else there are exactly so many.
    The same seed takes the same rows, and the rows of a smaller sample are in every larger one. Right after a source
    that can seek, the other rows are not read. With --rows, where it is not known ahead how many rows come, as many
    as asked for are held in memory.

    Example: mlpipe run read examples/data/digits.npy then sample --fraction 0.1 --seed 7 then nothing
    """

    fraction: float | None = option(None, help="Probability that a row is taken, 0 to 1.", metavar="F")
    rows: int | None = option(None, help="How many are taken.", metavar="N")
    seed: int = option(0, help="Any whole number.", metavar="N")

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.rows is None):
            raise UsageError("sample: give --fraction F or --rows N, one of them")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise UsageError(f"sample --fraction {self.fraction}: give 0 to 1")
        if self.rows is not None and self.rows < 0:
            raise UsageError(f"sample --rows {self.rows}: give 0 or more")

    @property
    def flow(self) -> Flow:
        """Holds rows where their number is not known ahead."""
        return "buffering"

    def view(self, source: Source) -> Source | None:
        """The same as a source, if its rows have an end."""
        self.plan(source.spec)
        if source.spec.rows is None:
            return None
        return SampledSource(source, self._sampling(source.spec.rows))

    def plan(self, spec: Spec) -> Spec:
        """So many rows; of a fraction it is not known how many."""
        if self.rows is None:
            return replace(spec, rows=None)
        if spec.endless:
            raise UsageError(f"sample --rows {self.rows}: these rows never stop coming; use --fraction")
        return replace(spec, rows=None if spec.rows is None else min(spec.rows, self.rows))

    def hold(self, spec: Spec, room: Room) -> Held:
        """Nothing, unless it is not known how many rows come."""
        if self.rows is None or spec.rows is not None:
            return Held(room.block_rows, spec.dtype, {}, {}, spec)
        nbytes = held_bytes(spec, _capacity(self.rows))
        check_room(nbytes, room, f"sample --rows {self.rows} holds them all")
        return Held(room.block_rows, spec.dtype, {"sample": nbytes}, {}, spec)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Rows of each block that are in the sample, moved together within the block."""
        from mlpipe.stages.sampling import chosen, count_ranks, fraction_ranks, rank_key

        spec: Spec = held.layout
        words = rank_key(self.seed)
        if self.rows is not None and spec.rows is None:
            made = _Reservoir(self.rows, spec, words).sample(blocks, max(1, held.block_rows))
        else:
            limit = (
                fraction_ranks(self.fraction or 0)
                if self.rows is None
                else count_ranks(words, self.rows, spec.rows or 0)
            )
            made = _kept(blocks, lambda start, stop: chosen(words, limit, start, stop))
        place = 0
        for block in made:
            block.start = place
            place += len(block.data)
            run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block

    def _sampling(self, total: int) -> Sampling:
        """Which of `total` rows."""
        from mlpipe.stages.sampling import Sampling, count_ranks, fraction_ranks, rank_key

        words = rank_key(self.seed)
        limit = count_ranks(words, self.rows, total) if self.rows is not None else fraction_ranks(self.fraction or 0)
        return Sampling(words, limit, total)


def _capacity(rows: int) -> int:
    return rows + max(1024, rows // SPARE)


def _kept(blocks: Blocks, choose: Callable[[int, int], Array]) -> Blocks:
    """Blocks with only the chosen rows; the share of those without any goes to the next."""
    from mlpipe.kernels.gather import compact

    seen, share = 0, 0.0
    for block in blocks:
        kept = np.flatnonzero(choose(seen, seen + len(block.data)))
        seen += len(block.data)
        share += block.share
        if not len(kept):
            block.release()
            continue
        if len(kept) < len(block.data):
            for rows in own_rows(block):
                compact(rows, kept)
            block.data = block.data[: len(kept)]
            block.labels = None if block.labels is None else block.labels[: len(kept)]
        block.share, share = share, 0.0
        yield block


class _Reservoir:
    """The rows of lowest rank so far, in the order in which they came.

    Parameters
    ----------
    rows : int
        How many are wanted.
    spec : Spec
        Of the rows.
    words : ndarray of uint64
        Key of the ranks.
    """

    def __init__(self, rows: int, spec: Spec, words: Array) -> None:
        self._rows, self._words = rows, words
        self._held = HeldRows(spec, _capacity(rows))
        self._ranks = np.empty(_capacity(rows), np.uint64)
        self._last = np.uint64(2**64 - 1)
        self._filled = 0

    def sample(self, blocks: Blocks, block_rows: int) -> Blocks:
        """Take all blocks, and hand on the sample."""
        from mlpipe.stages.sampling import rank_rows

        seen = 0
        for block in blocks:
            self._take(block, rank_rows(self._words, seen, seen + len(block.data)))
            seen += len(block.data)
            block.release()
        self._cut()
        for start in range(0, self._filled, block_rows):
            stop = min(self._filled, start + block_rows)
            yield self._held.block(start, stop, (stop - start) / self._filled)

    def _take(self, block: Block, ranks: Array) -> None:
        """Hold those rows of a block that may be in the sample."""
        rows = np.flatnonzero(ranks <= self._last)
        while len(rows):
            part, rows = np.split(rows, [len(self._ranks) - self._filled])
            stop = self._filled + len(part)
            self._held.take(self._filled, block, part)
            self._ranks[self._filled : stop] = ranks[part]
            self._filled = stop
            if stop == len(self._ranks):
                self._cut()
                rows = rows[ranks[rows] <= self._last]

    def _cut(self) -> None:
        """Hold no more rows than are wanted."""
        from mlpipe.kernels.gather import compact

        if self._filled <= self._rows:
            return
        ranks = self._ranks[: self._filled]
        kept = np.argsort(ranks)[: self._rows]
        kept.sort()
        for part in (*self._held.arrays(), self._ranks.reshape(-1, 1)):
            compact(part, kept)
        self._filled = self._rows
        if self._rows:
            self._last = self._ranks[: self._rows].max()
