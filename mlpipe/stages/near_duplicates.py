"""The stage `dedup-near`: rows against those kept before them, block after block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlpipe.buffers import aligned_empty
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.within import mark_later, mark_within
from mlpipe.link import Array, Block, Blocks, Flow, Held, Room, Run, Spec
from mlpipe.opening import Opening
from mlpipe.readers.npy import NpySource
from mlpipe.stages.dedup_near import DedupNear
from mlpipe.stages.defaults import passes
from mlpipe.stages.kept_rows import KeptRows, fill
from mlpipe.stages.metrics import Measure, find
from mlpipe.stages.near_limits import Limits, Sizes, arrange, strip_rows, table_rows
from mlpipe.stages.paired import Incoming
from mlpipe.stages.pairing import Pairing, Panels, Place, Rows
from mlpipe.stages.shapes import check_rows, output_dtype
from mlpipe.stages.streaming import Streaming
from mlpipe.stages.tee import LateFile
from mlpipe.stages.within import Tiles, check_radius, plain, rounded
from mlpipe.workers import Workers
from mlpipe.writers.npy import NpySink
from mlpipe.writers.temporary import check_directory


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
        sizes = Sizes.of(self.parameters.measure(features), features, output, room.threads)
        limits, nbytes = arrange(sizes, spec, room)
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
        self._table = aligned_empty((table_rows(limits.step), limits.step), pairing.dtype)
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


def _compile(output: np.dtype[Any]) -> None:
    """Compile the kernels, or load them from the cache."""
    tile, marks = np.zeros((1, 1), output), np.zeros(1, np.bool_)
    mark_within(tile, output.type(0), False, marks)
    mark_later(tile, 0, output.type(0), False, marks)
