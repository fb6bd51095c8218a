"""From files through tiny tiles: the same bytes as all at once in memory, each of them exactly once."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mlpipe
from mlpipe.engine.budget import Plan
from mlpipe.engine.local import run
from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Block, Room, Sink, Spec
from mlpipe.pipeline import Pipeline
from mlpipe.readers.npy import NpySource
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairwise import Pairwise
from mlpipe.writers.npy import NpySink
from mlpipe.writers.summary import SummarySink
from tests import naive
from tests.property.data import fits, parameters, raw, rows

COUNTS = (0, 1, 2, 17, 64, 65, 130, 257)
every_metric = pytest.mark.parametrize("metric", naive.METRICS)
extras = st.sampled_from((0, 1, 1000, 20_000, 300_000, 1 << 24))
seeds = st.integers(0, 1000)


class Collected:
    """A sink that keeps a matrix, how often each entry came, and the blocks it came in."""

    stored = True

    def __init__(self, side: int | None = None, sequential: bool = False) -> None:
        self.side, self.sequential = side, sequential
        self.values = self.times = np.empty((0, 0))
        self.blocks: list[tuple[int, int, tuple[int, ...]]] = []

    def check(self, spec: Spec) -> None:
        """Nothing can fail."""

    def compile(self, spec: Spec) -> None:
        """There is nothing to compile."""

    @contextmanager
    def open(self, spec: Spec) -> Iterator[Collected]:
        shape = (spec.rows, *spec.row_shape) if self.side is None else (self.side, self.side)
        self.values, self.times = np.zeros(shape, spec.dtype), np.zeros(shape, int)
        yield self

    def write(self, block: Block) -> None:
        count, width = block.data.shape
        here = slice(block.start, block.start + count), slice(block.column, block.column + width)
        assert self.values[here].shape == block.data.shape
        again = self.times[here] > 0
        assert raw(self.values[here][again]) == raw(block.data[again])
        self.values[here] = block.data
        self.times[here] += 1
        self.blocks.append((block.start, block.column, block.data.shape))

    def sync(self) -> None:
        """Nothing is on any disk."""


@dataclass
class Files:
    """X and Y on disk, and what is to be computed from them."""

    x: Path
    y: Path | None
    metric: str
    given: dict[str, Any]
    condensed: bool = False

    def run(self, sink: Sink, extra: int, threads: int = 1) -> dict[str, Any]:
        """Carry it out with `extra` bytes more than the least; return what was planned."""
        with ExitStack() as opened:
            x = opened.enter_context(NpySource(self.x))
            y = None if self.y is None else opened.enter_context(NpySource(self.y))
            stage = Pairwise(x, y, Measure(self.metric, **self.given), condensed=self.condensed)
            pipeline = Pipeline(x, [stage], sink)
            specs = pipeline.specs()
            try:
                least = sum(stage.hold(x.spec, Room(0, threads, sink.sequential, sink.stored)).nbytes.values())
            except MemoryCeilingError as error:
                least = error.needs
            room = Room(least + extra, threads, sink.sequential, sink.stored)
            held = stage.hold(x.spec, room)
            assert sum(held.nbytes.values()) <= room.nbytes
            run(Plan(pipeline, specs, [held], 0, 0, threads, held.block_rows, held.dtype))
            return held.facts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiles")


def save(path: Path, values: np.ndarray, seed: int) -> Path:
    """Write rows in one of several dtypes and orders, chosen by `seed`."""
    dtype = ("<f4", ">f8", "<f8", ">f4")[seed % 4]
    np.save(path, np.asfortranarray(values.astype(dtype)) if seed % 3 == 0 else values.astype(dtype))
    return path


@every_metric
@settings(max_examples=6)
@given(
    counts=st.tuples(st.sampled_from(COUNTS), st.sampled_from(COUNTS)),
    features=st.sampled_from((1, 3, 33)),
    extra=extras,
    threads=st.sampled_from((1, 2, 3)),
    sequential=st.booleans(),
    seed=seeds,
)
@example(counts=(257, 130), features=33, extra=1000, threads=2, sequential=False, seed=0)
@example(counts=(17, 65), features=1030, extra=0, threads=2, sequential=True, seed=1)
def test_two_files(
    metric: str,
    folder: Path,
    counts: tuple[int, int],
    features: int,
    extra: int,
    threads: int,
    sequential: bool,
    seed: int,
) -> None:
    features = fits(metric, features, counts[0] * counts[1])
    given_ = parameters(metric, features, seed, seed % 2 == 0)
    x, y = (
        save(folder / name, rows(metric, count, features, seed + k), seed + k)
        for k, (name, count) in enumerate(zip(("x.npy", "y.npy"), counts, strict=True))
    )
    sink = Collected(sequential=sequential)
    Files(x, y, metric, given_).run(sink, extra, threads)
    assert (sink.times == 1).all()
    assert raw(sink.values) == raw(mlpipe.pairwise_distances(np.load(x), np.load(y), metric, **given_))
    if sequential:
        ends = [0, *(start + shape[0] for start, _, shape in sink.blocks)]
        assert [start for start, _, _ in sink.blocks] == ends[:-1]
        assert all(column == 0 and shape[1] == counts[1] for _, column, shape in sink.blocks)


@every_metric
@settings(max_examples=6)
@given(
    count=st.sampled_from(COUNTS),
    features=st.sampled_from((1, 3, 33)),
    extra=extras,
    threads=st.sampled_from((1, 2, 3)),
    kind=st.sampled_from(("matrix", "condensed", "sequential")),
    seed=seeds,
)
@example(count=257, features=33, extra=1000, threads=2, kind="matrix", seed=0)
@example(count=65, features=1030, extra=0, threads=2, kind="condensed", seed=1)
def test_one_file_against_itself(
    metric: str, folder: Path, count: int, features: int, extra: int, threads: int, kind: str, seed: int
) -> None:
    features = fits(metric, features, count**2)
    given_ = parameters(metric, features, seed, seed % 2 == 0)
    x = save(folder / "x.npy", rows(metric, count, features, seed), seed)
    condensed = kind == "condensed"
    sink = Collected(count if condensed else None, kind == "sequential")
    Files(x, None, metric, given_, condensed).run(sink, extra, threads)
    expected = mlpipe.pairwise_distances(np.load(x), metric=metric, **given_)
    above = np.triu_indices(count, 1) if condensed else np.indices((count, count)).reshape(2, -1)
    assert (sink.times[tuple(above)] == 1).all()
    assert raw(sink.values[tuple(above)]) == raw(expected[tuple(above)])


@pytest.mark.parametrize("metric", ["minkowski", "euclidean"])
@pytest.mark.parametrize("extra", [8 << 20, 90 << 20, 1 << 28])
def test_tiles_mirrored_across_the_diagonal(metric: str, extra: int, folder: Path) -> None:
    """Where a distance is dear it is computed once and written twice; that takes more than a thousand rows."""
    features = 1030 if metric == "euclidean" else 3
    given_ = {"p": 3.0} if metric == "minkowski" else {}
    x = save(folder / "x.npy", rows(metric, 2100, features, 1), 4)
    sink = Collected()
    facts = Files(x, None, metric, given_).run(sink, extra, 2)
    assert (facts["pairs_computed"] == "once, mirrored") == (extra >= 90 << 20)
    assert (sink.times >= 1).all()
    assert sink.values.tobytes() == sink.values.T.tobytes()
    assert raw(sink.values) == raw(mlpipe.pairwise_distances(np.load(x), metric=metric, **given_))


@pytest.mark.parametrize("metric", ["mahalanobis", "seuclidean"])
def test_parameters_from_the_data_do_not_depend_on_tiles(metric: str, folder: Path) -> None:
    x, y = save(folder / "x.npy", rows(metric, 130, 17, 1), 1), save(folder / "y.npy", rows(metric, 65, 17, 2), 2)
    for other in (None, y):
        expected = mlpipe.pairwise_distances(np.load(x), None if other is None else np.load(other), metric)
        for extra in (0, 20_000, 1 << 24):
            sink = Collected()
            Files(x, other, metric, {}).run(sink, extra, 2)
            assert raw(sink.values) == raw(expected)


@settings(max_examples=20)
@given(
    metric=st.sampled_from(("euclidean", "chebyshev", "cosine", "hamming", "dice", "braycurtis")),
    counts=st.tuples(st.sampled_from(COUNTS), st.sampled_from((None, *COUNTS))),
    extra=extras,
    seed=seeds,
)
@example(metric="hamming", counts=(257, None), extra=0, seed=0)
@example(metric="euclidean", counts=(257, 130), extra=1000, seed=2)
def test_summary(folder: Path, metric: str, counts: tuple[int, int | None], extra: int, seed: int) -> None:
    x = save(folder / "x.npy", rows(metric, counts[0], 5, seed), seed)
    y = None if counts[1] is None else save(folder / "y.npy", rows(metric, counts[1], 5, seed + 1), seed + 1)
    sink = SummarySink(above=y is None)
    Files(x, y, metric, {}).run(sink, extra, 2)
    matrix = mlpipe.pairwise_distances(np.load(x), None if y is None else np.load(y), metric)
    places = [(i, j) for i in range(matrix.shape[0]) for j in range(i + 1 if y is None else 0, matrix.shape[1])]
    numbers = {place: float(matrix[place]) for place in places if not np.isnan(matrix[place])}
    finite = [Fraction(value) for value in numbers.values() if np.isfinite(value)]
    summary = sink.summary()
    assert summary.shape == matrix.shape
    assert (summary.pairs, summary.missing) == (len(places), len(places) - len(numbers))
    assert summary.infinite == len(numbers) - len(finite)
    if finite:
        assert summary.mean is not None
        # Sums of 64 columns are rounded, what they add up to is not.
        assert abs(Fraction(summary.mean) - sum(finite) / len(finite)) <= 64 * Fraction(2) ** -52 * max(
            map(abs, finite)
        )
    else:
        assert summary.mean is None
    for value, place, extreme in (
        (summary.minimum, summary.closest, min),
        (summary.maximum, summary.farthest, max),
    ):
        if not numbers:
            assert (value, place) == (None, None)
            continue
        assert value == extreme(numbers.values())
        assert place == next(at for at in places if numbers.get(at) == value)


def saved(array: np.ndarray) -> bytes:
    """The bytes numpy would save."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@settings(max_examples=15)
@given(
    counts=st.tuples(st.sampled_from(COUNTS), st.sampled_from((None, *COUNTS))),
    condensed=st.booleans(),
    extra=extras,
    seed=seeds,
)
@example(counts=(257, None), condensed=True, extra=1000, seed=0)
@example(counts=(130, 257), condensed=False, extra=1000, seed=3)
def test_the_file_is_what_numpy_saves(
    folder: Path, counts: tuple[int, int | None], condensed: bool, extra: int, seed: int
) -> None:
    x = save(folder / "x.npy", rows("canberra", counts[0], 5, seed), seed)
    y = None if counts[1] is None else save(folder / "y.npy", rows("canberra", counts[1], 5, seed + 1), seed + 1)
    condensed = condensed and y is None
    sink = NpySink(folder / "d.npy", force=True, layout="condensed" if condensed else "matrix")
    Files(x, y, "canberra", {}, condensed).run(sink, extra, 2)
    expected = mlpipe.pairwise_distances(np.load(x), None if y is None else np.load(y), "canberra")
    if condensed:
        expected = expected[np.triu_indices(counts[0], 1)]
    assert (folder / "d.npy").read_bytes() == saved(expected)


def mlpipe_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own: a ceiling is one on a whole process."""
    return subprocess.run([sys.executable, "-m", "mlpipe", "-q", *arguments], cwd=cwd, capture_output=True, check=False)


@pytest.mark.parametrize("arguments", [("X.npy", "Y.npy"), ("X.npy", "--condensed", "-m", "cosine")])
def test_the_smallest_ceiling_that_works_gives_the_same_bytes(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    X, Y = rows("euclidean", 700, 33, 1).astype("f4"), rows("euclidean", 300, 33, 2).astype("f4")
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", np.asfortranarray(Y))
    refused = mlpipe_command("distances", *arguments, "-o", "small.npy", "--memory", "1MiB", cwd=tmp_path)
    assert refused.returncode == 7
    assert not (tmp_path / "small.npy").exists()
    match = re.search(rb"use --memory (\S+) or more", refused.stderr)
    assert match
    least = match.group(1).decode()
    done = mlpipe_command("distances", *arguments, "-f", "-o", "small.npy", "--memory", least, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if "--condensed" in arguments:
        expected = mlpipe.pairwise_distances(X, metric="cosine")[np.triu_indices(len(X), 1)]
    else:
        expected = mlpipe.pairwise_distances(X, Y)
    assert (tmp_path / "small.npy").read_bytes() == saved(expected)
