"""The stage `neighbors`: the k nearest rows of a source to every row that comes in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from mlpipe.errors import InputError
from mlpipe.link import Array, Blocks, Held, Labels, Room, Run, Spec
from mlpipe.stages.among_data import DATA, NO_PREPARATION, AmongData
from mlpipe.stages.data_passes import DataPasses, Queries, check_place, warm_rows
from mlpipe.stages.defaults import fill_in, parameter_bytes, passes
from mlpipe.stages.paired import Incoming
from mlpipe.stages.pairing import Pairing
from mlpipe.stages.search import Search
from mlpipe.stages.search_layout import MANY, Sizes, choose_layout
from mlpipe.stages.search_sizes import sizes_of
from mlpipe.stages.shapes import check_rows
from mlpipe.stages.streaming import BUFFERS, Buffers
from mlpipe.workers import Workers

KERNEL_BYTES = 44 << 20
"""What compiling takes, besides what every plan counts for the first kernels (measured: 36 MiB)."""

ROUNDING_BYTES = 36 << 20
"""What compiling takes more where rows are rounded (measured: 33 MiB)."""


@dataclass(frozen=True)
class NearestRows(AmongData):
    """The k nearest rows of a source to every row that comes in.

    What comes out does not depend on how rows come in, on the memory, nor on the threads.

    Parameters
    ----------
    k : int
        How many.
    give : {"indices", "distances"}
        What a row becomes; the other is its label.

    The others are those of `AmongData`.
    """

    k: int = 10
    give: Literal["indices", "distances"] = field(default="indices", kw_only=True)

    def plan(self, spec: Spec) -> Spec:
        """Indices and distances, for every row; labels that rows carry are dropped.

        Raises
        ------
        InputError
            For rows that do not fit, or fewer of them than are wanted.
        """
        self.measure.check_features(check_rows([Incoming(spec), self.data]))
        most = max(0, self.data_rows - self.own)
        if self.k > most:
            rows = f"{most} row{'' if most == 1 else 's'}{' besides the row itself' if self.own else ''}"
            remedy = f"give --k {most} or less" if most else "there is nothing to look among; give data with more rows"
            raise InputError(f"k = {self.k}: {self.data.name} has {rows}; {remedy}")
        if self.own and spec.rows is not None:
            check_place(spec.rows, self.data_rows, self.data.name)
        indices, distances = Labels((self.k,), np.dtype(np.int64)), Labels((self.k,), self.output(spec))
        first, second = (indices, distances) if self.give == "indices" else (distances, indices)
        return replace(spec, row_shape=first.row_shape, dtype=first.dtype, labels=second)

    def sizes(self, spec: Spec, room: Room) -> Sizes:
        """What its layout depends on."""
        output = self.output(spec)
        search = sizes_of(self.measure, self.features, self.data_rows, output.itemsize, self.k, room.threads)
        return Sizes(
            rows=MANY if spec.rows is None else spec.rows,
            data_rows=self.data_rows,
            features=self.features,
            compute_bytes=search.compute_bytes,
            out_bytes=self.k * search.entry_bytes,
            out_rows=max(1, room.block_rows),
            search=search,
            extra=parameter_bytes(self.measure, self.features),
            keeps_rows=self.measure.definition.prepare in NO_PREPARATION,
            kernels=KERNEL_BYTES + (ROUNDING_BYTES if search.rounds else 0) + self.writing,
        )

    def hold(self, spec: Spec, room: Room) -> Held:
        """Blocks of queries such that data are read as seldom as the memory allows."""
        sizes = self.sizes(spec, room)
        layout = choose_layout(sizes, room)
        facts: dict[str, Any] = {
            "metric": self.measure.definition.name,
            "k": self.k,
            "query_rows": layout.query_rows,
            "data_rows_held": self.data_rows if layout.held else min(layout.read_rows, self.data_rows),
            "passes_before": passes(self.measure),
        }
        if spec.rows is not None:
            facts |= {"blocks": layout.blocks(spec.rows), "passes_over_data": layout.passes(spec.rows)}
        out_rows = max(1, min(room.block_rows, layout.query_rows))
        return Held(out_rows, spec.dtype, layout.nbytes(sizes), facts, (layout, spec))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Yield what was found for some queries after others, each time through all data."""
        layout, spec = held.layout
        sources = [self.data] if self.queries is None else [self.queries, self.data]
        measure = fill_in(self.measure, sources, self.features, run.workers)
        pairing = Pairing(measure, self.features, self.output(spec))
        with run.lane.state("compile"):
            pairing.compile()
            compile_search(pairing, run.workers)
        turns = None if spec.rows is None else layout.blocks(spec.rows)
        data = DataPasses(self.data, layout, pairing, run, DATA, turns)
        out = Buffers(run, self.plan(spec), held.block_rows, BUFFERS)
        place = 0
        for rows, share in Queries(blocks, layout.query_rows, pairing).each():
            if self.own:
                check_place(place + len(rows), self.data_rows, self.data.name)
            found = self._search(pairing, rows, place, data, run)
            yield from self._handed_on(found, place, share, out, held.block_rows)
            run.lane.count(rows=len(rows), nbytes=sum(part.nbytes for part in found))
            place += len(rows)
            del found  # before the next search takes its memory

    def _search(
        self, pairing: Pairing, rows: Array, place: int, data: DataPasses, run: Run
    ) -> tuple[Array, Array]:  # fmt: skip
        """Indices and distances of the nearest to some queries, in the order in which they are given."""
        search = Search(
            pairing, rows, self.k, run.workers, self.data_rows, largest=self.largest, own=place if self.own else None
        )
        for part, first in data.each():
            search.add(part, first)
        distances, indices = search.finish()
        return (indices, distances) if self.give == "indices" else (distances, indices)

    def _handed_on(self, found: tuple[Array, Array], place: int, share: float, out: Buffers, size: int) -> Blocks:
        """What was found for some queries, in blocks."""
        first, second = found
        for start in range(0, len(first), size):
            count = min(size, len(first) - start)
            block = out.take(count)
            block.start, block.share = place + start, share * count / len(first)
            block.data[:] = first[start : start + count]
            if block.labels is not None:
                block.labels[:] = second[start : start + count]
            yield block


def compile_search(pairing: Pairing, workers: Workers, queries: int = 1) -> None:
    """Compile the kernels of a search, or load them from the cache, by looking for the nearest of a few rows."""
    search = Search(pairing, warm_rows(pairing, queries), 1, workers, MANY)
    search.add(warm_rows(pairing, queries + 1), 0)
    search.finish()
