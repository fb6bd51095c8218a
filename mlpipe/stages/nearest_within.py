"""The k nearest rows that lie within a radius: padded where they are fewer, or as rows of different lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mlpipe.link import Array, Blocks, Held, Labels, Room, Run, Spec
from mlpipe.stages.data_passes import DataPasses
from mlpipe.stages.nearest_rows import NearestRows
from mlpipe.stages.pairing import Pairing
from mlpipe.stages.streaming import BUFFERS, Streaming
from mlpipe.stages.within import check_radius, within
from mlpipe.writers.sparse import SparseRows

NOBODY = -1
"""Index where there is no neighbour; the distance there is NaN."""


@dataclass(frozen=True)
class NearestWithin(NearestRows):
    """The k nearest rows; those that do not lie within the radius are replaced by index −1 and distance NaN.

    Parameters
    ----------
    radius : float
        How far.
    """

    radius: float = field(default=0.0, kw_only=True)

    def plan(self, spec: Spec) -> Spec:
        """As for the k nearest; raise UsageError for a radius that makes no sense, too."""
        check_radius(self.radius, self.measure)
        return super().plan(spec)

    def _search(self, pairing: Pairing, rows: Array, place: int, data: DataPasses, run: Run) -> tuple[Array, Array]:
        """Indices and distances of the nearest to some queries, in the order in which they are given."""
        found = super()._search(pairing, rows, place, data, run)
        indices, distances = found if self.give == "indices" else found[::-1]
        distances += 0  # -0 becomes 0, as for all within
        outside = ~within(distances, self.radius, largest=self.largest)
        indices[outside], distances[outside] = NOBODY, np.nan
        return found


@dataclass(frozen=True)
class Ragged(Streaming):
    """Makes sparse rows of indices labelled with distances, without those that stand for nobody."""

    @property
    def name(self) -> str:
        """What reports call it."""
        return "cut"

    def plan(self, spec: Spec) -> Spec:
        """Entries, of which the number is not known ahead."""
        if spec.labels is None:
            raise ValueError("neighbours come with their distances")
        return Spec(None, (), spec.labels.dtype, Labels((), spec.dtype))

    def hold(self, spec: Spec, room: Room) -> Held:
        """The entries of blocks that are in flight."""
        entries = BUFFERS * room.block_rows * (spec.row_bytes + (spec.labels.row_bytes if spec.labels else 0))
        return Held(room.block_rows, spec.dtype, {"entries": entries + entries // 12}, {}, None)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Each block as entries; its buffers are given back once these are written, so that not too many wait."""
        entries = 0
        for block in blocks:
            distances = block.labels
            if distances is None:
                raise ValueError("neighbours come with their distances")
            there = block.data != NOBODY
            ends = entries + np.cumsum(there.sum(axis=1))
            indices, values = block.data[there], distances[there]
            run.lane.count(rows=len(ends), nbytes=indices.nbytes + values.nbytes)
            yield SparseRows(
                entries, values, release=partial(block.release), share=block.share, labels=indices, ends=ends
            )
            entries += len(values)
