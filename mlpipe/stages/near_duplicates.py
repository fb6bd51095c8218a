"""The stage `dedup-near`: rows against those kept before them, block after block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.kernels.metrics import METRICS
from mlpipe.kernels.tile import panel_width
from mlpipe.kernels.within import mark_later, mark_within
from mlpipe.link import Array, Block, Blocks, Flow, Held, Room, Run, Spec
from mlpipe.opening import Opening
from mlpipe.readers.npy import NpySource
from mlpipe.stages.dedup_near import DedupNear
from mlpipe.stages.defaults import parameter_bytes, passes
from mlpipe.stages.kept_rows import KeptRows, fill
from mlpipe.stages.metrics import Measure, find
from mlpipe.stages.paired import Incoming
from mlpipe.stages.pairing import PROJECTED_ROWS, Pairing, Panels, Place, Rows, scratch_shapes
from mlpipe.stages.shapes import check_rows, output_dtype
from mlpipe.stages.streaming import Streaming
from mlpipe.stages.tee import LateFile
from mlpipe.stages.within import TILE_COLUMNS, TILE_ROWS, Tiles, check_radius, plain, rounded
from mlpipe.workers import Workers
from mlpipe.writers.npy import NpySink
from mlpipe.writers.temporary import check_directory

STEP_ROWS = 1024
"""Rows that meet those kept before at once: so many distances among themselves cost little."""

STEP_BYTES = 4 << 20
"""Of such rows."""

LEAST_STEP = 32
"""With fewer, most of the time would go into handling them."""

STRIP_ROWS = 128
"""Rows that one task compares; those that are dropped are left out of what follows."""

PIECE_BYTES = 4 << 20
"""Of rows kept, packed together, and read from the temporary file together."""

BLOCK_ROWS = 256
"""Rows whose distances to earlier ones of the same step are computed at once."""


def opened(verb: DedupNear, opening: Opening) -> NearDuplicates:
    """The stage for a verb: only headers are read."""
    Measure(verb.metric, verb.p)  # tells of the metric before any file is opened
    name = find(verb.metric).name
    paths = {"w": verb.weights, "V": verb.variance, "VI": verb.inverse_covariance}
    check_radius(verb.radius, Measure(verb.metric, verb.p))
    files = {key: opening.files.enter_context(NpySource(path)) for key, path in paths.items() if path is not None}
    opening.inputs += [source.fingerprint for source in files.values()]
    if passes(Measure(verb.metric)) and not files:
        flag = "--variance" if name == "seuclidean" else "--inverse-covariance"
        raise UsageError(f"dedup-near --metric {name}: give {flag}; rows on their way cannot be asked for it")
    late = None
    if verb.indices is not None:
        opening.writes(verb.indices, "dedup-near --indices")
        late = LateFile(NpySink(verb.indices, force=opening.force, inputs=opening.inputs), opening.files)
    return NearDuplicates(verb, verb.temp_dir or opening.temporary, _Parameters(verb, files), late)


_INDICES = Spec(None, (), np.dtype(np.int64))


class _Parameters:
    """The metric with its parameters, which are read once it is known how many features there are."""

    def __init__(self, verb: DedupNear, files: dict[str, NpySource]) -> None:
        self._verb, self._files = verb, files
        self._measure: Measure | None = None

    def measure(self, features: int) -> Measure:
        """Read them, if they are as many as they should be."""
        if self._measure is None:
            for name, source in self._files.items():
                wanted = (features, features) if name == "VI" else (features,)
                if source.shape != wanted:
                    raise InputError(
                        f"{source.name} has shape {source.shape}; {name} of {features} features must have {wanted}"
                    )
            values = {name: source[:] for name, source in self._files.items()}
            self._measure = Measure(self._verb.metric, self._verb.p, **values)
        self._measure.check_features(features)
        return self._measure


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be held.

    Parameters
    ----------
    step : int
        Rows compared at once.
    piece : int
        Rows kept in one piece.
    capacity : int
        Rows kept in memory.
    """

    step: int
    piece: int
    capacity: int


@dataclass(slots=True)
class Seen:
    """What a run came to.

    Parameters
    ----------
    rows, kept : int
        Rows that came, and those that went on.
    stored_bytes : int
        Of rows kept that went through the temporary file.
    """

    rows: int = 0
    kept: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True)
class NearDuplicates(Streaming):
    """Rows that lie within the radius of none that was kept before.

    Parameters
    ----------
    verb : DedupNear
        What is asked for.
    directory : str
        For the temporary file.
    parameters : _Parameters
        Of the metric.
    indices : LateFile, optional
        Gets the positions of rows kept.

    Attributes
    ----------
    seen : Seen
        What the latest run came to so far.
    """

    verb: DedupNear
    directory: str
    parameters: _Parameters = field(repr=False)
    indices: LateFile | None = None
    seen: Seen = field(default_factory=Seen, repr=False)

    @property
    def name(self) -> str:
        """Its verb."""
        return "dedup-near"

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return find(self.verb.metric).name

    @property
    def flow(self) -> Flow:
        """Holds the rows kept, as long as there is room."""
        return "buffering"

    def plan(self, spec: Spec) -> Spec:
        """Some of the rows, of which there must be an end."""
        if spec.endless:
            raise UsageError("dedup-near remembers all rows that it keeps, but they never stop coming; put head before")
        self.parameters.measure(check_rows([Incoming(spec)]))
        if self.indices is not None:
            self.indices.sink.check(_INDICES)
        return replace(spec, rows=None)

    def hold(self, spec: Spec, room: Room) -> Held:
        """As many of the rows kept as fit, and the steps in which others are compared with them."""
        features = check_rows([Incoming(spec)])
        output = output_dtype([spec.dtype], self.verb.dtype)
        sizes = _Sizes.of(self.parameters.measure(features), features, output, room.threads)
        limits, nbytes = _arrange(sizes, spec, room)
        facts: dict[str, Any] = {"metric": self.metric, "radius": plain(self.verb.radius)}
        if spec.rows is None or limits.capacity < spec.rows:
            check_directory(self.directory)
            facts |= {"rows_in_memory": limits.capacity, "temporary_files": self.directory}
        return Held(room.block_rows, spec.dtype, nbytes, facts, (limits, output, features))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Blocks without the rows that are near to one kept before."""
        kept = self._kept(blocks, held, run)
        writing = None if self.indices is None else self.indices.start(_INDICES)
        if self.indices is None or writing is None:
            return (block for block, _ in kept)
        late, place = self.indices, 0

        def noted() -> Blocks:
            nonlocal place
            for block, rows in kept:
                writing.write(Block(place, rows))
                place += len(rows)
                yield block

        written = noted()

        def rest() -> None:
            for block in written:
                block.release()
            late.finish(writing)

        run.at_end(rest)
        return written

    def _kept(self, blocks: Blocks, held: Held, run: Run) -> Iterator[tuple[Block, Array]]:
        """Blocks of rows kept, and their positions among those that came."""
        limits, output, features = held.layout
        pairing = Pairing(self.parameters.measure(features), features, output)
        with run.lane.state("compile"):
            pairing.compile()
            _compile(output)
        seen, share = self.seen, 0.0
        seen.rows = seen.kept = 0
        with closing(KeptRows(pairing, limits.capacity, limits.piece, self.directory)) as kept:
            step = _Step(pairing, kept, limits, self.verb, run.workers)
            for block in blocks:
                first = seen.rows
                seen.rows, share = first + len(block.data), share + block.share
                rows = first + step.compress(block)
                seen.stored_bytes = kept.stored_bytes
                if not len(rows):
                    block.release()
                    continue
                block.start, block.share = seen.kept, share
                seen.kept, share = seen.kept + len(rows), 0.0
                run.lane.count(rows=len(rows), nbytes=block.data.nbytes)
                yield block, rows


class _Step:
    """Compares a few rows at a time, first with those kept before, then with one another.

    Parameters
    ----------
    pairing : Pairing
        The metric.
    kept : KeptRows
        Rows kept before; gets those that are kept now.
    limits : Limits
        How many at a time.
    verb : DedupNear
        How near is near.
    workers : Workers
        Who computes.
    """

    def __init__(self, pairing: Pairing, kept: KeptRows, limits: Limits, verb: DedupNear, workers: Workers) -> None:
        self._pairing, self._kept, self._workers, self._tiles = pairing, kept, workers, Tiles(pairing, workers)
        self._radius, self._largest = rounded(verb.radius, pairing.dtype), verb.largest
        self._raw = pairing.empty_rows(limits.step)
        self._panels = pairing.empty_panels(limits.step)
        self._panels.values[:] = 0
        self._table = aligned_empty((min(BLOCK_ROWS, limits.step), limits.step), pairing.dtype)
        self._strip = strip_rows(limits.step, workers.threads)

    def compress(self, block: Block) -> Array:
        """Leave only the rows that are kept in a block; return their positions in it."""
        flat, step = block.data.reshape(len(block.data), self._pairing.features), len(self._raw)
        rows = np.concatenate([
            np.empty(0, np.int64),
            *(start + self._some(flat[start : start + step]) for start in range(0, len(flat), step)),
        ])  # fmt: skip
        if len(rows) < len(flat):
            block.data[: len(rows)] = block.data[rows]
            block.data = block.data[: len(rows)]
            if block.labels is not None:
                block.labels[: len(rows)] = block.labels[rows]
                block.labels = block.labels[: len(rows)]
        return rows

    def _some(self, rows: Array) -> Array:
        """Which of a few rows are kept."""
        raw = self._raw[: len(rows)]
        with np.errstate(over="ignore"):
            raw[:] = rows
        prepared, dropped = self._pairing.prepare(raw, self._workers), np.zeros(len(rows), np.bool_)
        self._meet(prepared, dropped, self._kept.in_memory())
        for panels in self._kept.on_disk():
            if dropped.all():
                break
            self._meet(prepared, dropped, [panels])
        left = np.flatnonzero(~dropped)
        rest = _taken(prepared, left)
        new = ~self._among_themselves(rest)
        self._kept.add(_taken(rest, np.flatnonzero(new)))
        return left[new]

    def _meet(self, rows: Rows, dropped: Array, kept: list[Panels]) -> None:
        """Drop rows that lie within the radius of any that was kept."""

        def run(start: int, worker: int) -> None:
            places = start + np.flatnonzero(~dropped[start : start + self._strip])
            mine, marks = _taken(rows, places), np.zeros(len(places), np.bool_)
            for panels, left, right in self._groups(kept):
                if not len(places):
                    return
                tile = self._tiles.tile(mine, 0, len(places), panels, left, right, worker)
                mark_within(tile, self._radius, self._largest, marks)
                dropped[places[marks]] = True
                if 4 * np.count_nonzero(marks) >= len(marks):
                    rest = np.flatnonzero(~marks)
                    places, mine, marks = places[rest], _taken(mine, rest), np.zeros(len(rest), np.bool_)

        self._workers.run(run, range(0, len(dropped), self._strip) if kept else ())

    def _groups(self, kept: list[Panels]) -> Iterator[tuple[Panels, int, int]]:
        """Panels of a tile after others."""
        wide = max(1, self._tiles.columns // self._pairing.width)
        for panels in kept:
            for left in range(0, panels.count, wide):
                yield panels, left, min(left + wide, panels.count)

    def _among_themselves(self, rows: Rows) -> Array:
        """Which rows lie within the radius of an earlier one that does not itself."""
        dropped, width = np.zeros(len(rows.values), np.bool_), self._pairing.width
        self._panels.columns = 0
        fill(self._panels, rows)
        for start in range(0, len(dropped), len(self._table)):
            stop = min(len(dropped), start + len(self._table))
            some = Rows(rows.values[start:stop], rows.status[start:stop])
            self._pairing.tile(
                self._workers, self._tiles.scratch, some, self._panels, Place(self._table), stop_panel=-(-stop // width)
            )
            mark_later(self._table[: stop - start], start, self._radius, self._largest, dropped)
        return dropped


def _taken(rows: Rows, places: Array) -> Rows:
    """Some of the rows, all of them without a copy."""
    return rows if len(places) == len(rows.values) else Rows(rows.values[places], rows.status[places])


def strip_rows(step: int, threads: int) -> int:
    """Rows of a task: some for every thread."""
    return max(16, min(STRIP_ROWS, -(-step // (2 * threads))))


def _compile(output: np.dtype[Any]) -> None:
    """Compile the kernels, or load them from the cache."""
    tile, marks = np.zeros((1, 1), output), np.zeros(1, np.bool_)
    mark_within(tile, output.type(0), False, marks)
    mark_later(tile, 0, output.type(0), False, marks)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What the memory depends on: bytes of a row as it comes, prepared, and of what threads take."""

    raw: int
    prepared: int
    projected: bool
    output: int
    width: int
    fixed: int

    @classmethod
    def of(cls, measure: Measure, features: int, output: np.dtype[Any], threads: int) -> _Sizes:
        """For a metric, a number of features and a number of threads."""
        metric, count = METRICS[measure.kernel], measure.prepared_features(features)
        compute = measure.compute_dtype(output).itemsize
        width, projected = panel_width(metric, compute), measure.definition.prepare == "projection"
        scratch = sum(8 * math.prod(shape) for shape in scratch_shapes(metric, count, width))
        tile = TILE_ROWS * (TILE_COLUMNS + width) * output.itemsize
        projecting = 16 * PROJECTED_ROWS * features if projected else 0
        strips = STRIP_ROWS * ((count + 1) * compute + 32)
        fixed = threads * (scratch + tile + projecting + 2 * strips) + parameter_bytes(measure, features)
        return cls(features * compute, (count + 1) * compute, projected, output.itemsize, width, fixed)

    def step_bytes(self, step: int) -> int:
        """Bytes held for rows that are compared at once: raw, prepared, those left, those kept, and packed."""
        padded = -(-step // self.width) * self.width
        table = min(BLOCK_ROWS, step) * step * self.output
        return step * (self.raw + (3 + self.projected) * self.prepared + 64) + padded * self.prepared + table


def _arrange(sizes: _Sizes, spec: Spec, room: Room) -> tuple[Limits, dict[str, int]]:
    """Share out the memory: all rows, if they fit, else as many as do, and two pieces of the others."""
    rows = math.inf if spec.rows is None else spec.rows
    fixed = sizes.fixed + room.block_rows * (spec.row_bytes + (spec.labels.row_bytes if spec.labels else 0))
    most = max(1, min(STEP_ROWS, room.block_rows, STEP_BYTES // max(1, sizes.raw)))
    piece = max(1, min(PIECE_BYTES, room.nbytes // 8) // (sizes.prepared * sizes.width)) * sizes.width
    fewest = min(most, LEAST_STEP)
    steps = [*(most >> shift for shift in range(0, most.bit_length(), 2) if most >> shift > fewest), fewest]
    for step, piece_rows in [*((step, piece) for step in steps), (fewest, sizes.width)]:
        scratch = fixed + sizes.step_bytes(step)
        left, one, through = room.nbytes - scratch, piece_rows * sizes.prepared, 2 * piece_rows * sizes.prepared
        if rows <= left // one * piece_rows:
            pieces = -(-int(rows) // piece_rows)
            return Limits(step, piece_rows, pieces * piece_rows), {"rows": pieces * one, "scratch": scratch}
        if left >= through:
            pieces = (left - through) // one
            held = {"rows": pieces * one, "file": through, "scratch": scratch}
            return Limits(step, piece_rows, pieces * piece_rows), held
    least = fixed + sizes.step_bytes(fewest) + 2 * sizes.width * sizes.prepared
    raise MemoryCeilingError("rows to compare with do not fit", needs=least)
