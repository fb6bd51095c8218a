"""A global shuffle of rows that need not fit into memory: buckets of positions in a temporary file, in two passes.

The first pass appends each row, with its position, to the bucket of its position; the second takes one bucket after
the other into memory and puts its rows in order. Both read and write runs of bytes, never single rows. Since the order
is a bijection, it is known beforehand how many rows each bucket gets, so that all lie in one file of known size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from mlpipe.errors import MemoryCeilingError, UsageError
from mlpipe.kernels.scatter import scatter
from mlpipe.link import Block, Blocks, Flow, Held, Room, Run, Spec
from mlpipe.stages.permutation import Permutation
from mlpipe.stages.records import LEAST_WRITE, Division, Part, Piece, Reader, Records, Spool, as_bytes, pieces_of
from mlpipe.stages.streaming import Buffers, Parts, Streaming, buffer_bytes
from mlpipe.writers.temporary import TemporaryFile, check_directory

LEAST_BYTES = 4 << 20
"""With less, there would be many passes; it takes rows of any number."""

PIECE_BYTES = 1 << 20
"""Bytes worked on at once."""

IN_FLIGHT = 2
"""Buckets in memory: one being filled, one on its way out."""


@dataclass(frozen=True)
class ExternalShuffle(Streaming):
    """All rows in the order of a `Permutation`, whatever memory there is; the bytes do not depend on it.

    Parameters
    ----------
    seed, epoch : int
        Of the permutation.
    temp_dir : str, optional
        Where there is room for all rows once; the current directory if not given.
    output : str, optional
        Where the output goes, which takes room of the same disk, perhaps.
    """

    seed: int
    epoch: int = 0
    temp_dir: str | None = None
    output: str | None = None

    @property
    def name(self) -> str:
        """Its verb."""
        return "shuffle"

    @property
    def flow(self) -> Flow:
        """Sees all rows before the first comes out."""
        return "fitting"

    @property
    def shuffled(self) -> tuple[int, int]:
        """Seed and epoch, for a repeat that follows and shuffles anew."""
        return self.seed, self.epoch

    @property
    def directory(self) -> str:
        """Where temporary files are."""
        return self.temp_dir or "."

    def plan(self, spec: Spec) -> Spec:
        """The same rows, of which there must be an end."""
        if spec.endless:
            raise UsageError("shuffle needs all rows, but they never stop coming; shuffle --buffer-size N does not")
        return spec

    def hold(self, spec: Spec, room: Room) -> Held:
        """All rows if they fit, else buckets and the buffers through which they are filled."""
        if spec.rows is None:
            check_directory(self.directory)
            _arrange(spec, 1 << 62, room)
            facts: dict[str, Any] = {"temporary_files": self.directory}
            return Held(room.block_rows, spec.dtype, {"rows": room.nbytes}, facts, (spec, room))
        layout, facts = _arrange(spec, spec.rows, room), {}
        if layout.buckets > 1:
            size = spec.rows * layout.records.nbytes
            check_directory(self.directory, size, self.output, room.written)
            facts = {"buckets": layout.buckets, "temporary_bytes": size, "temporary_files": self.directory}
        return Held(room.block_rows, spec.dtype, layout.nbytes, facts, (spec, room))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Blocks in the new order, once all rows have come."""
        spec, room = held.layout
        with ExitStack() as files:
            rows, parts = spec.rows, _released(blocks)
            if rows is None:
                piece_rows = Records.of(spec, 1, PIECE_BYTES).piece_rows
                spool = files.enter_context(Spool(self.directory, spec, piece_rows))
                for part in parts:
                    spool.append(*part)
                rows, parts = spool.rows, spool.parts()
            if rows:
                layout = _arrange(spec, rows, room)
                order = Permutation(rows, self.seed, self.epoch)
                shuffling = _Shuffling(self.directory, layout, room.block_rows, run)
                pieces = pieces_of(parts, layout.records.piece_rows, order.positions)
                yield from shuffling.ordered(0, rows, pieces)


def _released(blocks: Blocks) -> Iterator[Part]:
    """Rows and labels of blocks, which are released when the next ones are asked for."""
    for block in blocks:
        yield block.data, block.labels
        block.release()


@dataclass(frozen=True, slots=True)
class _Layout:
    """How much is held of what.

    Parameters
    ----------
    spec : Spec
        Of the rows.
    records : Records
        How they lie in files.
    bucket_rows : int
        Rows put in order at once.
    buffers_bytes : int
        For the buffers through which buckets are filled.
    nbytes : dict of str to int
        All that is held.
    """

    spec: Spec
    records: Records
    rows: int
    bucket_rows: int
    buffers_bytes: int
    nbytes: dict[str, int]

    @property
    def buckets(self) -> int:
        """How many there are; one needs no file."""
        return -(-self.rows // self.bucket_rows)

    def width(self, count: int) -> int:
        """Rows of a part when so many are divided: whole buckets, and no more parts than there are buffers for."""
        parts = max(2, self.buffers_bytes // max(self.records.nbytes, LEAST_WRITE))
        return self.bucket_rows * -(-count // (self.bucket_rows * parts))


def _arrange(spec: Spec, rows: int, room: Room) -> _Layout:
    """Share out the memory: everything at once if it fits, else half for two buckets and half for buffers."""
    records = Records.of(spec, rows, min(PIECE_BYTES, room.nbytes // (8 * room.threads)))
    scratch = room.threads * records.scratch_bytes
    row_bytes = max(1, buffer_bytes(spec, 1, 1))
    if rows * row_bytes + scratch <= room.nbytes:
        return _Layout(spec, records, rows, max(1, rows), 0, {"rows": rows * row_bytes, "scratch": scratch})
    half = (room.nbytes - scratch) // 2
    if room.nbytes < LEAST_BYTES or half < 2 * records.nbytes:
        raise MemoryCeilingError("buckets of rows do not fit", needs=_least(spec, rows, rows * row_bytes, room.threads))
    bucket_rows = half // (IN_FLIGHT * row_bytes)
    held = {"buckets": IN_FLIGHT * bucket_rows * row_bytes, "buffers": half, "scratch": scratch}
    return _Layout(spec, records, rows, bucket_rows, half, held)


def _least(spec: Spec, rows: int, nbytes: int, threads: int) -> int:
    """Bytes with which `_arrange` gets by, an eighth of them scratch, unless that is more for single rows."""
    one = Records.of(spec, rows, 0)
    scratch = threads * one.scratch_bytes
    return min(max(LEAST_BYTES, 5 * one.nbytes + scratch), nbytes + nbytes // 7 + 8 + scratch)


class _Shuffling:
    """One shuffle under way."""

    def __init__(self, directory: str, layout: _Layout, block_rows: int, run: Run) -> None:
        self._directory, self._layout, self._records = directory, layout, layout.records
        self._block_rows, self._run = max(1, block_rows), run
        count = IN_FLIGHT if layout.buckets > 1 else 1
        self._buckets = Buffers(run, layout.spec, layout.bucket_rows, count)

    def ordered(self, first: int, count: int, pieces: Iterator[Piece]) -> Blocks:
        """Blocks of the positions from `first` on, of which `pieces` are all rows.

        What does not fit into a bucket is divided, through a file, into as many parts as there are buffers for.
        """
        if count <= self._layout.bucket_rows:
            yield from self._cut(self._filled(first, count, pieces))
            return
        width, size = self._layout.width(count), self._records.nbytes
        with TemporaryFile(self._directory, count * size) as file:
            Division(file, self._records, first, count, width, self._layout.buffers_bytes).divide(pieces)
            for start in range(0, count, width):
                stop = min(start + width, count)
                # The first part lies last, so that what was read can be cut off: it need never reach the disk.
                rest = (count - stop) * size
                if stop - start <= self._layout.bucket_rows:
                    yield from self._cut(self._read(file, rest, first + start, stop - start))
                else:
                    yield from self.ordered(first + start, stop - start, self._records.read(file, rest, stop - start))
                file.truncate(rest)

    def _filled(self, first: int, count: int, pieces: Iterator[Piece]) -> Block:
        """A bucket of rows that come one piece after the other, in order."""
        bucket = self._bucket(first, count)
        put = self._putting(bucket)
        for piece in pieces:
            put(piece)
        return bucket

    def _read(self, file: TemporaryFile, offset: int, first: int, count: int) -> Block:
        """A bucket of rows that lie in a file, in order; every thread takes some."""
        bucket = self._bucket(first, count)
        put, records = self._putting(bucket), self._records
        readers = [Reader(records, min(count, records.piece_rows)) for _ in range(self._run.workers.threads)]

        def read(start: int, worker: int) -> None:
            stop = min(start + records.piece_rows, count)
            put(readers[worker].read(file, offset + start * records.nbytes, stop - start))

        self._run.workers.run(read, range(0, count, records.piece_rows))
        return bucket

    def _bucket(self, first: int, count: int) -> Block:
        """A bucket to be filled."""
        bucket = self._buckets.take(count)
        bucket.start, bucket.share = first, count / self._layout.rows
        return bucket

    def _putting(self, bucket: Block) -> Callable[[Piece], None]:
        """What puts rows at their places in a bucket."""
        first, count, labelled = bucket.start, len(bucket.data), self._records.label_bytes > 0
        rows, labels = as_bytes(bucket.data, count), as_bytes(bucket.labels, count)

        def put(piece: Piece) -> None:
            targets = piece.positions - first
            scatter(piece.rows, targets, rows)
            if labelled:
                scatter(piece.labels, targets, labels)

        return put

    def _cut(self, bucket: Block) -> Blocks:
        """A bucket in blocks of the usual size."""
        parts = Parts(bucket)
        for start in range(0, len(bucket.data), self._block_rows):
            block = parts.take(start, min(start + self._block_rows, len(bucket.data)))
            self._run.lane.count(rows=len(block.data), nbytes=block.data.nbytes)
            yield block
        parts.done()
