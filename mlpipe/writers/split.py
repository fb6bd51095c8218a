"""``split``: every row into one of several files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from mlpipe.declare import argument, option
from mlpipe.errors import UsageError
from mlpipe.kernels.randoms import uniform
from mlpipe.keys import key
from mlpipe.link import Array, Block, Sink, Spec, Writing
from mlpipe.opening import Opening
from mlpipe.writers.npy import NpySink, open_together
from mlpipe.writers.tiles import npy_header

PIECE_BYTES = 1 << 20
"""Of the copies that are made of rows that go to one file."""

TOLERANCE = 1e-9
"""Of the sum of the fractions."""


@dataclass(frozen=True)
class Split:
    """Every row into one of several .npy files, at random.

    Which one depends on the seed and on the position of the row alone, so that it never changes sides: not from run
    to run, nor when rows are added at the end. So files get about their fraction of the rows, not exactly. All files
    appear, or none. Labels go into files of their own, out-labels.npy beside out.npy.

    Example: mlpipe run read examples/data/digits.npy then split --fractions 0.8,0.2 train.npy test.npy
    """

    paths: tuple[str, ...] = argument(help="As many as there are fractions.", metavar="FILE…")
    fractions: tuple[float, ...] = option(help="Share of the rows in each file; together 1.", metavar="A,B,…")
    seed: int = option(0, help="Another one gives another split.", metavar="N")

    def __post_init__(self) -> None:
        given = ",".join(f"{share:g}" for share in self.fractions)
        if not all(0 < share <= 1 for share in self.fractions) or abs(sum(self.fractions) - 1) > TOLERANCE:
            raise UsageError(f"split --fractions {given}: give numbers above 0 whose sum is 1")
        if len(self.paths) != len(self.fractions):
            raise UsageError(f"split --fractions {given}: {len(self.paths)} files; name one for each fraction")
        if "-" in self.paths:
            raise UsageError("split -: stdout is one array; name files")
        places = [os.path.realpath(path) for path in self.paths]
        for path, place in zip(self.paths, places, strict=True):
            if places.count(place) > 1:
                raise UsageError(f"split: {path} is named twice; give every part a file of its own")

    def open(self, opening: Opening) -> Sink:
        """Nothing is created before the run."""
        for path in self.paths:
            opening.ends(path, "split")
        sinks = [NpySink(path, force=opening.force, inputs=opening.inputs) for path in self.paths]
        return SplitSink(sinks, self.fractions, self.seed)


class SplitSink:
    """Several files that share out the rows and appear together.

    Parameters
    ----------
    sinks : sequence of NpySink
        One for each part.
    fractions : sequence of float
        Which share of the rows each gets.
    seed : int
        What the shares are drawn with.
    """

    sequential = True
    stored = True

    def __init__(self, sinks: Sequence[NpySink], fractions: Sequence[float], seed: int) -> None:
        self._sinks, self._seed = sinks, seed
        self._edges = np.cumsum(fractions)[:-1]

    def check(self, spec: Spec) -> None:
        """Raise OutputError for what can be known to fail, changing nothing."""
        if spec.endless:
            raise UsageError("split: the rows never end, so they cannot be written; put head before it")
        for sink in self._sinks:
            sink.check(_part(spec))

    def offset(self, spec: Spec) -> int:
        """Length of the headers."""
        return len(npy_header(spec))

    def compile(self, spec: Spec) -> None:
        """Load the kernel by no rows."""
        self._sides(0, 0)

    @contextmanager
    def open(self, spec: Spec) -> Iterator[_Splitting]:
        """Start the files; they appear when the context ends without an error."""
        with open_together(self._sinks, _part(spec)) as parts:
            yield _Splitting(parts, self._sides)

    def _sides(self, start: int, rows: int) -> Array:
        """To which part each row goes."""
        drawn = np.empty((rows, 1))
        uniform(key(self._seed, 0, "split"), start, drawn)
        return np.searchsorted(self._edges, drawn[:, 0], side="right")


def _part(spec: Spec) -> Spec:
    """What goes into one file: a number of rows that is not known."""
    return replace(spec, rows=None)


class _Splitting:
    """Files being written."""

    def __init__(self, parts: Sequence[Writing], sides: Callable[[int, int], Array]) -> None:
        self._parts, self._sides = parts, sides
        self._rows = [0] * len(parts)

    def write(self, block: Block) -> None:
        """Send every row to its part."""
        step = max(1, PIECE_BYTES // max(1, block.data[:1].nbytes))
        for start in range(0, len(block.data), step):
            rows = block.data[start : start + step]
            labels = None if block.labels is None else block.labels[start : start + step]
            self._share_out(rows, labels, self._sides(block.start + start, len(rows)))

    def _share_out(self, rows: Array, labels: Array | None, sides: Array) -> None:
        for side, part in enumerate(self._parts):
            chosen = sides == side
            block = Block(self._rows[side], rows[chosen], labels=None if labels is None else labels[chosen])
            if len(block.data):
                part.write(block)
                self._rows[side] += len(block.data)

    def sync(self) -> None:
        """Bring to disk what was stored."""
        for part in self._parts:
            part.sync()
