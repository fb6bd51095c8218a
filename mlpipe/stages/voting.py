"""Neighbours on their way become what they say of the query: the class most have, or the mean of their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.link import BLOCKS_AHEAD, Array, Block, Blocks, Flow, Held, Room, Run, Source, Spec, Stage
from mlpipe.npy_format import check_dtype
from mlpipe.stages.held import check_room
from mlpipe.stages.known import Kind, Known, kind_of, known_bytes, load
from mlpipe.stages.streaming import BUFFERS, Buffers, Parts, Streaming, buffer_bytes

PART_BYTES = 1 << 20
"""Of predictions that are made at once."""

PART_ROWS = 1 << 16

CHUNK_BYTES = 1 << 20
"""Of labels that are read at once."""

KERNEL_BYTES = 3 << 20
"""What compiling takes, besides what a search takes for that (measured: 2 MiB)."""

READING = "read labels"


@dataclass(frozen=True)
class Voting(Streaming):
    """Predicts from neighbours: rows are their indices, labels their distances.

    Parameters
    ----------
    labels : Source
        A label for each row among which neighbours were looked for.
    data : Source
        Those rows.
    weighted : bool
        Whether neighbours count by 1 / distance; those at distance 0, if there are any, alone.
    task : {"auto", "classify", "regress"}
        What is wanted; auto goes by the dtype of the labels.
    outlier : int, optional
        The class of queries that have no neighbours, because all their distances are NaN.
    flag : str
        What messages put before the name of the labels.
    """

    labels: Source
    data: Source
    weighted: bool = False
    task: Literal["auto", "classify", "regress"] = "auto"
    outlier: int | None = None
    flag: str = "--labels "

    @property
    def name(self) -> str:
        """What reports call it."""
        return "vote" if self.kind == "classify" else "mean"

    @property
    def kind(self) -> Kind:
        """What it does."""
        return kind_of(self.labels.spec, self.task)

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """The labels."""
        return {READING: self.labels}

    @property
    def _called(self) -> str:
        return f"{self.flag}{self.labels.name}"

    def plan(self, spec: Spec) -> Spec:
        """A class, or means, for every query.

        Raises
        ------
        InputError
            For labels that do not go with the data, or with the task.
        UsageError
            For a class of outliers that is none.
        """
        labels = self.labels.spec
        check_dtype(labels.dtype, self._called)
        if labels.rows != self.data.spec.rows:
            raise InputError(
                f"{self._called}: {labels.rows} labels, but {self.data.name} has {self.data.spec.rows} rows; "
                "there must be one for each"
            )
        if self.kind == "regress":
            if self.outlier is not None:
                raise UsageError(f"--outlier-label {self.outlier}: means have no classes; without neighbours it is NaN")
            return Spec(spec.rows, labels.row_shape, np.dtype(np.float64), endless=spec.endless)
        if labels.row_shape not in ((), (1,)):
            raise InputError(
                f"{self._called}: shape {(labels.rows, *labels.row_shape)}; classes are one a row, and "
                "--task regress takes the mean of several"
            )
        dtype = labels.dtype.newbyteorder("=")
        check_outlier(self.outlier, dtype)
        return Spec(spec.rows, (), dtype, endless=spec.endless)

    def hold(self, spec: Spec, room: Room) -> Held:
        """All labels, and buffers of predictions."""
        made = self.plan(spec)
        k, labels = int(spec.row_shape[0]), self.labels.spec
        rows = max(1, min(PART_ROWS, PART_BYTES // max(1, made.row_bytes)))
        nbytes = {
            "labels": known_bytes(labels, self.kind, k, room.threads),
            "blocks of labels": (BLOCKS_AHEAD + 2) * self._chunk_rows * max(8, labels.row_bytes),
            "predictions": buffer_bytes(made, rows),
            "kernels": KERNEL_BYTES,
        }
        check_room(sum(nbytes.values()), room, "labels do not fit")
        facts = {"task": self.kind, "weighted": self.weighted}
        return Held(rows, spec.dtype, nbytes, facts, (spec, made, rows))

    @property
    def _chunk_rows(self) -> int:
        row = max(8, self.labels.spec.row_bytes)
        return max(1, min(CHUNK_BYTES // row, int(self.labels.spec.rows or 1)))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Read the labels; then yield predictions, some queries at a time."""
        spec, made, rows = held.layout
        known = load(self._chunks(run), self.labels.spec, self.kind, self._called, self.outlier)
        with run.lane.state("compile"):
            known.compile(spec.labels.dtype)
        buffers = Buffers(run, made, rows, BUFFERS)
        for block in blocks:
            parts = Parts(block)
            for start in range(0, len(block.data), rows):
                part = parts.take(start, min(len(block.data), start + rows))
                yield self._predicted(part, known, buffers, run)
            parts.done()

    def _chunks(self, run: Run) -> Iterator[tuple[int, Array]]:
        """The labels, one block of them after the other."""
        total, step, source = int(self.labels.spec.rows or 0), self._chunk_rows, self.labels
        ranges = ((start, min(total, start + step)) for start in range(0, total, step))
        for block in run.read(source, ranges, source.spec.dtype.newbyteorder("="), READING):
            yield block.start, block.data
            block.release()

    def _predicted(self, part: Block, known: Known, buffers: Buffers, run: Run) -> Block:
        """The predictions of some queries, which are released."""
        if part.labels is None:
            raise TypeError("neighbours come with their distances")
        out = buffers.take(len(part.data))
        alone = known.predict(part.data, part.labels, out.data, run.workers, self.weighted)
        check_votes(None if alone is None else part.start + alone)
        out.start, out.share = part.start, part.share
        run.lane.count(rows=len(out.data), nbytes=out.data.nbytes)
        part.release()
        return out


def check_votes(query: int | None) -> None:
    """Raise InputError for a query that nobody votes for."""
    if query is not None:
        raise InputError(
            f"query {query} has no neighbours: all its distances are NaN; give --outlier-label CLASS for such queries, "
            "or leave them out"
        )


def check_weighing(metric: str, *, largest: bool) -> None:
    """Raise UsageError for what is no distance, and cannot weigh."""
    if largest:
        raise UsageError("--weighted and --largest: only distances weigh; give one of them")
    if metric == "dot":
        raise UsageError("--weighted --metric dot: a product is no distance; leave --weighted out")


def check_outlier(outlier: int | None, dtype: np.dtype[Any]) -> None:
    """Raise UsageError for a class that a dtype does not hold.

    Examples
    --------
    >>> check_outlier(-1, np.dtype("i1"))
    >>> check_outlier(-1, np.dtype("u1"))
    Traceback (most recent call last):
    mlpipe.errors.UsageError: --outlier-label -1: labels are uint8; give 0 to 255
    """
    if outlier is None or dtype.kind == "f":
        return
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if not low <= outlier <= high:
        raise UsageError(f"--outlier-label {outlier}: labels are {dtype}; give {low} to {high}")


@dataclass(frozen=True)
class Predicting(Streaming):
    """A search and what is made of its neighbours, as one stage: what a verb of a chain has to be.

    Parameters
    ----------
    search : Stage
        Hands on indices, with their distances.
    voting : Voting
        What is made of them.
    """

    search: Stage
    voting: Voting

    @property
    def name(self) -> str:
        """The verb of the search."""
        return self.search.name

    @property
    def flow(self) -> Flow:
        """As the search."""
        return self.search.flow

    @property
    def chooses(self) -> bool:
        """As the search."""
        return self.search.chooses

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """Those of both."""
        return {**self.search.side_sources, **self.voting.side_sources}

    def plan(self, spec: Spec) -> Spec:
        """What is predicted."""
        return self.voting.plan(self.search.plan(spec))

    def hold(self, spec: Spec, room: Room) -> Held:
        """The labels; what is left is for the search."""
        votes = self.voting.hold(self.search.plan(spec), replace(room, nbytes=1 << 62))
        taken = sum(votes.nbytes.values())
        try:
            found = self.search.hold(spec, replace(room, nbytes=max(0, room.nbytes - taken), sequential=True))
        except MemoryCeilingError as error:
            raise MemoryCeilingError(str(error), needs=error.needs + taken) from None
        check_room(sum(found.nbytes.values()) + taken, room, "labels do not fit")
        facts = {**found.facts, **votes.facts}
        rows = found.block_rows if self.chooses else min(votes.block_rows, found.block_rows or votes.block_rows)
        return Held(rows, found.dtype, {**found.nbytes, **votes.nbytes}, facts, (found, votes))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Search, and predict."""
        found, votes = held.layout
        yield from self.voting.apply(self.search.apply(blocks, found, run), votes, run)
