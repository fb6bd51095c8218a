"""The stage through the engine: every layout gives the same bytes, and every end is a clean one."""

from __future__ import annotations

import os
import signal
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.api import pairwise_distances
from mlpipe.buffers import WAKE
from mlpipe.engine.budget import Plan
from mlpipe.engine.local import run
from mlpipe.errors import InputError, Interrupted, OutputError
from mlpipe.link import Block, Held, Room, Spec
from mlpipe.measure.meter import Meter
from mlpipe.pipeline import Pipeline
from mlpipe.readers.array import ArraySource
from mlpipe.stages.layout import GROUP, Layout
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairwise import Pairwise

pytestmark = pytest.mark.timeout(120)
FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=40)
OFFSET = 128
PAGE = 4096
PLENTY = 1 << 40


class Kept:
    """A sink that keeps the matrix, and says how it was written."""

    def __init__(self, shape: tuple[int, int], dtype, sequential: bool = False, stored: bool = True) -> None:
        self.sequential, self.stored = sequential, stored
        self.values = np.full(shape, -1, dtype)
        self.writes = np.zeros(shape, int)
        self.tiles: list[tuple[int, int, int, int]] = []
        self.end = "not opened"

    def check(self, spec: Spec) -> None:
        pass

    def offset(self, spec: Spec) -> int:
        return OFFSET

    def compile(self, spec: Spec) -> None:
        pass

    @contextmanager
    def open(self, spec: Spec):
        self.end = "open"
        try:
            yield self
            self.commit()
        except BaseException:
            self.end = "discarded"
            raise
        self.end = "committed"

    def commit(self) -> None:
        pass

    def sync(self) -> None:
        pass

    def write(self, block: Block) -> None:
        assert block.data.flags.c_contiguous
        assert block.data.flags.aligned
        rows, columns = block.data.shape
        place = (slice(block.start, block.start + rows), slice(block.column, block.column + columns))
        self.values[place] = block.data
        self.writes[place] += 1
        self.tiles.append((block.start, block.column, rows, columns))
        if columns == self.values.shape[1]:
            place = OFFSET + block.start * columns * block.data.itemsize
            assert (block.data.ctypes.data - place) % PAGE == 0  # lies as it will in the file


def planned(stage: Pairwise, sink, layout: Layout | None = None, threads: int = 2, room: int = PLENTY) -> Plan:
    """A plan, with the layout that the stage would choose or another."""
    spec = stage.x.spec
    held: Held = stage.hold(spec, Room(room, threads, sink.sequential, sink.stored, sink.offset(spec)))
    if layout is not None:
        nbytes = layout.nbytes(held.layout[1], threads)
        held = replace(held, block_rows=layout.block_rows, layout=(layout, *held.layout[1:]), nbytes=nbytes)
    return Plan(
        Pipeline(stage.x, [stage], sink),
        [spec, stage.plan(spec)],
        [held],
        PLENTY,
        0,
        threads,
        held.block_rows,
        held.dtype,
    )


def carried_out(stage: Pairwise, layout: Layout | None = None, threads: int = 2, **kind: bool) -> Kept:
    """The sink after a run; shares have added up to one, and all lanes to their lifetimes."""
    sink = Kept((stage.x.spec.rows, stage.columns), stage.output, **kind)
    shares: list[float] = []
    meter = Meter()
    run(planned(stage, sink, layout, threads), meter, shares.append)
    assert sink.end == "committed"
    assert sum(shares) == pytest.approx(1) or sink.values.size == 0
    assert min(shares, default=0) >= 0
    assert names_of_threads() == []
    lanes = {lane.name: lane for lane in meter.lanes}
    assert list(lanes) == ["read", "read Y", "pairwise", "write"]
    assert all(sum(lane.totals_ns.values()) == lane.lifetime_ns for lane in lanes.values())
    assert lanes["read"].rows == stage.x.spec.rows
    if stage.columns:
        assert lanes["pairwise"].rows == lanes["write"].rows == stage.x.spec.rows
    return sink


def names_of_threads() -> list[str]:
    """Threads of ours that are left. A worker that was being started may need a moment to see that all is over."""
    for _ in range(1000):
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("mlpipe")]
        if not any(name.startswith("mlpipe-worker") for name in names):
            break
        time.sleep(0.01)
    return names


@cache
def rows(count: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, count, features]).random((count, features))


def against_itself(count: int, features: int = 3, metric: str = "euclidean", **options) -> Pairwise:
    source = ArraySource(rows(count, features), "X")
    return Pairwise(source, measure=Measure(metric, **options))


def against_another(
    count: int, others: int, features: int = 3, metric: str = "euclidean", dtype=None, **options
) -> Pairwise:
    x, y = ArraySource(rows(count, features), "X"), ArraySource(rows(others, features, 1), "Y")
    return Pairwise(x, y, Measure(metric, **options), dtype)


def expected(stage: Pairwise) -> np.ndarray:
    measure = stage.measure
    given = {name: getattr(measure, name) for name in ("p", "w", "V", "VI")}
    y = None if stage.y is None else stage.y.array
    return pairwise_distances(stage.x.array, y, measure.metric, dtype=stage.dtype, **given)


MEASURES = [
    {},
    {"dtype": "f4"},
    {"metric": "minkowski", "p": 3.0, "dtype": "f4"},
    {"metric": "correlation"},
    {"metric": "mahalanobis", "features": 5},
    {"metric": "seuclidean", "features": 2},
    {"features": 1100, "dtype": "f4"},
]
WHERE_Y_IS = {
    "held": lambda columns: Layout(16, columns, min(GROUP, columns)),
    "held, whole rows": lambda columns: Layout(16, columns, columns),
    "streamed": lambda columns: Layout(48, GROUP, GROUP),
    "streamed, wide": lambda columns: Layout(33, 2 * GROUP, GROUP),
    "streamed, one row at a time": lambda columns: Layout(1, GROUP, GROUP),
    "streamed, whole rows": lambda columns: Layout(16, GROUP, columns),
}


# Same bytes.


@pytest.mark.parametrize("options", MEASURES, ids=lambda options: " ".join(map(str, options.values())) or "euclidean")
@pytest.mark.parametrize("where", WHERE_Y_IS)
def test_layouts_of_two_sources(where, options):
    stage = against_another(50, 300, **options)
    sink = carried_out(stage, WHERE_Y_IS[where](300))
    assert sink.values.tobytes() == expected(stage).tobytes()
    assert (sink.writes == 1).all()


@pytest.mark.parametrize("metric", ["euclidean", "mahalanobis", "seuclidean", "correlation"])
@pytest.mark.parametrize("where", WHERE_Y_IS)
def test_layouts_of_one_source(where, metric):
    stage = against_itself(200, metric=metric)
    sink = carried_out(stage, WHERE_Y_IS[where](200))
    assert sink.values.tobytes() == expected(stage).tobytes()
    assert (sink.writes == 1).all()


@pytest.mark.parametrize("where", ["held, whole rows", "streamed, whole rows"])
def test_sequential_sink_gets_whole_rows_in_order(where):
    stage = against_another(100, 130)
    sink = carried_out(stage, WHERE_Y_IS[where](130), sequential=True)
    assert sink.values.tobytes() == expected(stage).tobytes()
    assert [start for start, *_ in sink.tiles] == list(range(0, 100, 16))
    assert {(column, columns) for _, column, _, columns in sink.tiles} == {(0, 130)}


@pytest.mark.parametrize("metric", ["euclidean", "dice", "mahalanobis"])
@pytest.mark.parametrize(
    "layout",
    [
        Layout(16, 300, GROUP),
        Layout(48, 300, 2 * GROUP),
        Layout(64, GROUP, GROUP),
        Layout(80, 2 * GROUP, GROUP),
        Layout(300, 300, 300),
    ],
)
def test_mirrored(layout, metric):
    stage = against_itself(300, metric=metric)
    sink = carried_out(stage, replace(layout, upper=True, mirror=True))
    assert sink.values.tobytes() == expected(stage).tobytes()
    assert (sink.writes >= 1).all()


@pytest.mark.parametrize("where", WHERE_Y_IS)
def test_upper_triangle(where):
    stage = against_itself(300)
    sink = carried_out(stage, replace(WHERE_Y_IS[where](300), upper=True), stored=False)
    above = np.triu_indices(300, 1)
    assert sink.values[above].tobytes() == expected(stage)[above].tobytes()
    assert (sink.writes[above] == 1).all()
    if "whole rows" not in where:
        assert sink.writes.sum() < 0.8 * sink.writes.size  # what lies below is not handed on
    for _, column, _, columns in sink.tiles:  # sums over groups of columns know no tiles
        assert column % GROUP == 0
        assert (column + columns) % GROUP == 0 or column + columns == 300


def test_what_lies_below_the_diagonal_is_not_computed(monkeypatch):
    computed = []
    from mlpipe.stages import pairing

    kernel = pairing.distances

    def spy(*arguments):
        start, stop, first, last = arguments[3], arguments[4], arguments[7], arguments[8]
        computed.append((stop - start) * (last - first) * arguments[5].shape[2])
        return kernel(*arguments)

    monkeypatch.setattr(pairing, "distances", spy)
    carried_out(against_itself(600), Layout(64, 600, GROUP, upper=True), stored=False)
    assert sum(computed) < 0.7 * 600 * 600


@st.composite
def layouts(draw: st.DrawFn, count: int, columns: int, same: bool) -> Layout:
    """Any that can be carried out."""
    groups = st.integers(1, columns // GROUP + 1).map(lambda number: GROUP * number)
    y_rows = min(draw(groups), columns)
    tile = draw(st.sampled_from([columns, min(draw(groups), y_rows)]))
    mirror = same and tile <= y_rows and draw(st.booleans())
    return Layout(draw(st.integers(1, count)), y_rows, tile, mirror or (same and draw(st.booleans())), mirror)


@FIXED
@given(st.data(), st.integers(1, 150), st.integers(1, 330), st.booleans(), st.integers(1, 3))
def test_any_layout(data, count, columns, same, threads):
    columns = count if same else columns
    stage = against_itself(count) if same else against_another(count, columns)
    layout = data.draw(layouts(count, columns, same))
    sink = carried_out(stage, layout, threads)
    part = np.triu_indices(count, 1) if layout.upper and not layout.mirror else ...
    assert sink.values[part].tobytes() == expected(stage)[part].tobytes()
    assert (sink.writes[part] >= 1).all()


@FIXED
@given(st.integers(0, 3 << 20), st.booleans(), st.booleans(), st.booleans())
def test_whatever_the_room(extra, same, sequential, condensed):
    stage = against_itself(200, 40) if same else against_another(150, 220, 40)
    stage = replace(stage, condensed=same and condensed)
    sink = Kept((stage.x.spec.rows, stage.columns), stage.output, sequential)
    least = 400_000  # one row at a time
    run(planned(stage, sink, room=least + extra))
    part = np.triu_indices(200, 1) if stage.condensed else ...
    assert sink.values[part].tobytes() == expected(stage)[part].tobytes()


@pytest.mark.parametrize(("count", "columns"), [(0, 5), (5, 0), (0, 0), (1, 1), (1, 200), (200, 1)])
def test_few_rows_or_none(count, columns):
    stage = against_another(count, columns)
    assert carried_out(stage).values.tobytes() == expected(stage).tobytes()


@pytest.mark.parametrize("count", [0, 1])
def test_itself_with_few_rows_or_none(count):
    assert carried_out(against_itself(count)).values.tolist() == [[0.0]][:count]


def test_rows_without_features():
    assert carried_out(against_another(3, 4, 0)).values.tolist() == [[0.0] * 4] * 3


def test_one_dimensional_sources():
    x, y = ArraySource(np.array([1.0, 2.0]), "X"), ArraySource(np.array([5, 7, 9], "i2"), "Y")
    assert carried_out(Pairwise(x, y)).values.tolist() == [[4, 6, 8], [3, 5, 7]]


# What the plan says.


def test_plan_of_the_output():
    stage = against_another(5, 7, dtype="f4")
    assert stage.plan(stage.x.spec) == Spec(5, (7,), np.dtype("f4"))
    square = against_itself(5)
    assert replace(square, condensed=True).plan(square.x.spec) == Spec(10, (), np.dtype("f8"))


def test_facts():
    stage = against_another(50, 300)
    facts = stage.hold(stage.x.spec, Room(1 << 30, 2)).facts
    assert facts["passes_over_y"] == 1
    assert facts["y_rows_held"] == 300
    assert facts["blocks"] * facts["block_rows"] >= 50
    assert facts["pairs_computed"] == "all"
    defaults = against_itself(50, metric="seuclidean")
    assert defaults.hold(defaults.x.spec, Room(1 << 30, 2)).facts["passes_before"] == 2


def test_wrong_features_are_refused_by_the_plan():
    stage = Pairwise(ArraySource(rows(3, 2), "X"), ArraySource(rows(3, 4), "Y"))
    with pytest.raises(InputError, match=r"X \(3, 2\) and Y \(3, 4\)"):
        stage.plan(stage.x.spec)


@pytest.mark.parametrize(
    "stage",
    [
        against_another(3000, 2500, 100),
        against_another(3000, 2500, 100, metric="correlation", dtype="f4"),
        against_itself(2000, 100),
        against_itself(1500, 20, metric="mahalanobis"),
        against_itself(1100, 3, metric="minkowski", p=3.0),
        against_another(400, 300, 3000, dtype="f4"),
        against_another(60, 50, 5000, dtype="f4", metric="seuclidean"),
        against_another(300, 200, 150, metric="mahalanobis"),
        against_another(300, 200, 150, metric="mahalanobis", VI=np.tri(150)),
    ],
    ids=lambda stage: f"{stage.measure.metric} {stage.columns} {stage.features}",
)
@pytest.mark.parametrize("room", [11 << 20, 20 << 20])
def test_memory_stays_within_what_the_plan_says(stage, room):
    class Dropped(Kept):
        def write(self, block: Block) -> None:
            self.tiles.append((0, 0, 0, 0))
            if len(self.tiles) < 50:
                time.sleep(0.002)  # a slow disk: everything that may pile up does

    sink = Dropped((0, 0), stage.output)
    plan = planned(stage, sink, room=room)
    run(plan)  # so that nothing is imported or compiled below
    tracemalloc.start()
    try:
        run(plan)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(plan.held[0].nbytes.values()) <= room
    assert peak <= sum(plan.held[0].nbytes.values()) + (256 << 10)


# Ends that are not the usual one.


class Failing(ArraySource):
    """A source whose reads go wrong from the n-th on."""

    def __init__(self, array: np.ndarray, name: str, after: int) -> None:
        super().__init__(array, name)
        self.left = after

    def read_rows(self, start: int, out: np.ndarray) -> None:
        if self.left == 0:
            raise InputError(f"{self.name}: truncated while reading")
        self.left -= 1
        super().read_rows(start, out)


@pytest.mark.parametrize("metric", ["euclidean", "seuclidean"])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
@pytest.mark.parametrize("which", ["X", "Y"])
@pytest.mark.parametrize("where", ["held", "streamed"])
def test_source_that_fails(where, which, after, metric):
    x, y = (
        Failing(rows(200, 3), name, after) if name == which else ArraySource(rows(200, 3), name) for name in ("X", "Y")
    )
    sink = Kept((200, 200), "f8")
    layout = Layout(16, 200, GROUP) if where == "held" else Layout(16, GROUP, GROUP)
    plan = planned(Pairwise(x, y, Measure(metric)), sink, layout)
    if where == "held" and which == "Y" and after > (2 if metric == "seuclidean" else 0):
        run(plan)  # it is read once: there is nothing to fail
        assert sink.end == "committed"
        return
    with pytest.raises(InputError, match=f"^{which}: truncated"):
        run(plan)
    assert sink.end in ("discarded", "not opened")
    assert names_of_threads() == []


class Faulty(Kept):
    """A sink in which something goes wrong at some step."""

    def __init__(self, shape, dtype, step: str, error: BaseException) -> None:
        super().__init__(shape, dtype)
        self._step, self._error = step, error

    def _at(self, step: str) -> None:
        if step == self._step:
            raise self._error

    def compile(self, spec: Spec) -> None:
        self._at("compile")

    @contextmanager
    def open(self, spec: Spec):
        self._at("open")
        with super().open(spec) as writing:
            yield writing

    def write(self, block: Block) -> None:
        self._at("first write" if not self.tiles else "later write" if len(self.tiles) == 7 else "")
        super().write(block)

    def sync(self) -> None:
        self._at("sync")

    def commit(self) -> None:
        self._at("commit")


STEPS = ["compile", "open", "first write", "later write", "sync", "commit"]


@pytest.mark.parametrize("error", [OutputError("disk full"), MemoryError("no memory"), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("step", STEPS)
def test_sink_that_fails(step, error):
    sink = Faulty((200, 200), "f8", step, error)
    with pytest.raises(type(error)) as caught:
        run(planned(against_itself(200), sink, Layout(16, GROUP, GROUP)))
    assert caught.value is error
    assert sink.end == ("not opened" if step in ("compile", "open") else "discarded")
    assert names_of_threads() == []


def test_input_that_changed_discards_the_output():
    class Changed(ArraySource):
        def check_unchanged(self) -> None:
            raise InputError(f"{self.name} changed while it was read")

    stage = Pairwise(ArraySource(rows(20, 3), "X"), Changed(rows(20, 3), "Y"))
    sink = Kept((20, 20), "f8")
    with pytest.raises(InputError, match="Y changed"):
        run(planned(stage, sink))
    assert sink.end == "discarded"


def test_progress_that_fails():
    sink = Kept((20, 20), "f8")

    def advance(_share: float) -> None:
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"):
        run(planned(against_itself(20), sink), advance=advance)
    assert sink.end == "discarded"
    assert names_of_threads() == []


def test_stage_that_fails(monkeypatch):
    from mlpipe.stages.pairing import Pairing

    def broken(*_arguments, **_keywords):
        raise MemoryError("no room for a tile")

    monkeypatch.setattr(Pairing, "tile", broken)
    sink = Kept((200, 200), "f8")
    with pytest.raises(MemoryError, match="no room"):
        run(planned(against_itself(200), sink, Layout(16, GROUP, GROUP)))
    assert sink.end in ("discarded", "not opened")
    assert names_of_threads() == []


def test_pool_that_cannot_be_filled(monkeypatch):
    from mlpipe.engine import reader

    def refuse(*_arguments):
        raise MemoryError("no room for a block")

    monkeypatch.setattr(reader, "aligned_empty", refuse)
    with pytest.raises(MemoryError, match="no room"):
        run(planned(against_itself(20), Kept((20, 20), "f8")))
    assert names_of_threads() == []


@pytest.fixture
def signalled(monkeypatch):
    """SIGTERM raises in the main thread, as the command line has it."""

    def interrupt(signum: int, _frame: object) -> None:
        signal.signal(signum, signal.SIG_IGN)
        raise Interrupted(signum)

    old = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, old)


def send() -> None:
    """The signal arrives while this thread is busy for another while."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(4 * WAKE)


@pytest.mark.parametrize("after", [0, 1, 2, 7])
@pytest.mark.parametrize("which", ["X", "Y"])
@pytest.mark.parametrize("metric", ["euclidean", "seuclidean"])
def test_signal_while_reading(which, after, metric, signalled):
    class Signalling(Failing):
        def read_rows(self, start: int, out: np.ndarray) -> None:
            if self.left == 0:
                send()
            self.left -= 1
            ArraySource.read_rows(self, start, out)

    x, y = (
        Signalling(rows(200, 3), name, after) if name == which else ArraySource(rows(200, 3), name)
        for name in ("X", "Y")
    )
    sink = Kept((200, 200), "f8")
    with pytest.raises(Interrupted) as caught:
        run(planned(Pairwise(x, y, Measure(metric)), sink, Layout(8, GROUP, GROUP)))
    assert caught.value.exit_code == 143
    assert sink.end in ("discarded", "not opened")
    assert names_of_threads() == []


@pytest.mark.parametrize("step", STEPS)
def test_signal_while_writing(step, signalled):
    class Signalling(Faulty):
        def _at(self, step: str) -> None:
            if step == self._step:
                send()

    sink = Signalling((200, 200), "f8", step, SystemExit())
    with pytest.raises(Interrupted):
        run(planned(against_itself(200), sink, Layout(16, GROUP, GROUP)))
    assert sink.end == "discarded" or step == "commit"  # what is on its way to being complete is completed
    assert names_of_threads() == []


@pytest.mark.parametrize("call", [1, 2, 9])
@pytest.mark.parametrize("threads", [1, 2])
def test_signal_while_computing(call, threads, signalled, monkeypatch):
    from mlpipe.stages.pairing import Pairing

    calls = 0
    tile = Pairing.tile

    def counted(self, *arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == call:
            send()
        return tile(self, *arguments, **keywords)

    monkeypatch.setattr(Pairing, "tile", counted)
    sink = Kept((200, 200), "f8")
    with pytest.raises(Interrupted):
        run(planned(against_itself(200), sink, Layout(16, GROUP, GROUP), threads))
    assert sink.end in ("discarded", "not opened")
    assert names_of_threads() == []


def test_run_can_follow_a_run_that_failed():
    stage = against_itself(100)
    with pytest.raises(OutputError):
        run(planned(stage, Faulty((100, 100), "f8", "first write", OutputError("full"))))
    assert carried_out(stage).values.tobytes() == expected(stage).tobytes()
