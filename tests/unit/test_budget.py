"""Plans keep the ceiling, or say which one would do."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.chain import read
from mlpipe.engine import budget
from mlpipe.engine.budget import BASE_VARIES, KERNEL_BYTES, plan
from mlpipe.errors import InputError, MemoryCeilingError, OutputError
from mlpipe.link import Held, Room, Spec
from mlpipe.measure.sizes import parse_size
from mlpipe.pipeline import Pipeline
from mlpipe.readers.array import ArraySource
from mlpipe.stages.metrics import Measure
from mlpipe.stages.pairwise import Pairwise
from mlpipe.stages.streaming import Streaming
from mlpipe.writers.summary import SummarySink

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=60)
USED = 100 << 20
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _used(monkeypatch):
    """The process uses 100 MiB, whatever it really uses."""
    monkeypatch.setattr(budget, "anonymous_bytes", lambda: USED)


def pipeline(rows: int = 2000, features: int = 50, sink=None, metric: str = "euclidean") -> Pipeline:
    source = ArraySource(np.broadcast_to(np.float32(1), (rows, features)), "X")
    return Pipeline(source, [Pairwise(source, measure=Measure(metric))], sink or SummarySink())


def held(planned) -> int:
    return sum(sum(one.nbytes.values()) for one in planned.held)


@FIXED
@given(st.integers(0, 1 << 31), st.integers(1, 16), st.integers(1, 10**6), st.integers(1, 10**4))
def test_ceiling_is_kept_or_the_one_named_works(ceiling, threads, rows, features):
    job = pipeline(rows, features)
    try:
        planned = plan(job, ceiling, threads)
    except MemoryCeilingError as error:
        needs = error.needs
        assert needs > ceiling
        planned = plan(job, needs, threads)
        ceiling = needs
    assert USED + KERNEL_BYTES + held(planned) <= ceiling
    assert (planned.ceiling, planned.base, planned.threads) == (ceiling, USED + KERNEL_BYTES, threads)


@FIXED
@given(st.integers(1, 16), st.integers(1, 10**5), st.integers(1, 10**4), st.sampled_from(["euclidean", "seuclidean"]))
def test_size_in_the_message_works_as_it_stands(threads, rows, features, metric):
    job = pipeline(rows, features, metric=metric)
    with pytest.raises(MemoryCeilingError) as caught:
        plan(job, 0, threads)
    message = str(caught.value)
    assert "\n" not in message
    size = re.search(r"--memory (\S+)", message)
    assert size is not None
    plan(job, parse_size(size[1]), threads)


def test_message_of_a_ceiling_that_is_too_small():
    with pytest.raises(MemoryCeilingError, match=r"^a memory ceiling of 120 MiB is too small: pairwise") as caught:
        plan(pipeline(), 120 * MIB, 2)
    assert caught.value.exit_code == 7


def test_least_ceiling_leaves_room_for_a_process_that_uses_a_little_more(monkeypatch):
    job = pipeline()
    with pytest.raises(MemoryCeilingError) as caught:
        plan(job, 0, 2)
    monkeypatch.setattr(budget, "anonymous_bytes", lambda: USED + BASE_VARIES)
    plan(job, caught.value.needs, 2)
    monkeypatch.setattr(budget, "anonymous_bytes", lambda: USED + BASE_VARIES + 1)
    with pytest.raises(MemoryCeilingError):
        plan(job, caught.value.needs, 2)


def test_memory_that_is_not_known_counts_as_none(monkeypatch):
    monkeypatch.setattr(budget, "anonymous_bytes", lambda: None)
    assert plan(pipeline(), 200 * MIB, 2).base == KERNEL_BYTES


def test_more_memory_is_used():
    assert held(plan(pipeline(10**6), 200 * MIB, 2)) < held(plan(pipeline(10**6), 400 * MIB, 2))


class Refusing(SummarySink):
    def check(self, spec: Spec) -> None:
        raise OutputError("exists; use --force")


def test_sink_is_asked_before_anything_else():
    with pytest.raises(OutputError, match="exists"):
        plan(pipeline(sink=Refusing()), 0, 2)  # not that the ceiling is too small


def test_shapes_are_checked_before_the_sink_is_asked():
    x, y = ArraySource(np.ones((3, 2)), "X"), ArraySource(np.ones((3, 4)), "Y")
    with pytest.raises(InputError, match="same number of features"):
        plan(Pipeline(x, [Pairwise(x, y)], Refusing()), 0, 2)


def test_stage_is_told_about_the_sink():
    rooms: list[Room] = []

    class Noting(Pairwise):
        def hold(self, spec, room):
            rooms.append(room)
            return super().hold(spec, room)

    class Pipe(SummarySink):
        sequential, stored = True, True

        def offset(self, spec: Spec) -> int:
            return 4096

    source = ArraySource(np.ones((9, 2)), "X")
    plan(Pipeline(source, [Noting(source)], Pipe()), 300 * MIB, 3)
    assert rooms == [Room(300 * MIB - USED - KERNEL_BYTES, 3, sequential=True, stored=True, offset=4096, written=648)]


def test_stages_share_what_there_is():
    class Passing(Pairwise):
        """Twice the same stage: only the planning matters."""

        def plan(self, spec: Spec) -> Spec:
            return spec

    source = ArraySource(np.ones((10**4, 50)), "X")
    stages = [Passing(source), Passing(source)]
    one = plan(Pipeline(source, stages[:1], SummarySink()), 400 * MIB, 2)
    two = plan(Pipeline(source, stages, SummarySink()), 400 * MIB, 2)
    assert USED + KERNEL_BYTES + held(two) <= 400 * MIB
    assert [sum(each.nbytes.values()) <= (400 * MIB - one.base) // 2 for each in two.held] == [True, True]
    with pytest.raises(MemoryCeilingError) as caught:
        plan(Pipeline(source, stages, SummarySink()), 0, 2)
    plan(Pipeline(source, stages, SummarySink()), caught.value.needs, 2)


def test_describe_is_plain_and_complete():
    planned = plan(pipeline(2000, 50), 300 * MIB, 2)
    facts = planned.describe()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["memory_ceiling"] == 300 * MIB
    assert facts["memory_base"] == USED + KERNEL_BYTES
    assert facts["bytes_held"] == held(planned) == sum(facts["stages"][0]["bytes_held"].values())
    assert facts["bytes_written"] == planned.output.nbytes == 2000 * 2000 * 4
    assert facts["threads"] == 2
    assert [stage["stage"] for stage in facts["stages"]] == ["pairwise"]
    assert {"block_rows", "blocks", "tile", "tiles", "passes_over_y"} <= facts["stages"][0].keys()


def test_more_than_the_ceiling_named_is_never_too_little():
    """Blocks grow with the memory, and so does what stages hold for them."""
    chain = read("examples/data/digits.npy").robust_scale().standardize().mixup(alpha=0.4)
    with chain.pairwise("examples/data/digits.npy").opened() as job:
        with pytest.raises(MemoryCeilingError) as caught:
            plan(job, USED, 2)
        for more in range(0, 200 * MIB, 7 * MIB):
            assert plan(job, caught.value.needs + more, 2).ceiling == caught.value.needs + more


CHAINS = [
    lambda chain: chain.standardize(),
    lambda chain: chain.minmax().standardize().shuffle(buffer_size=100),
    lambda chain: chain.batch(50).standardize().shuffle().dedup(),
    lambda chain: chain.robust_scale().tail(rows=200).clip(min=0),
]


@pytest.mark.parametrize("make", CHAINS)
def test_what_all_links_hold_together_fits(make):
    """The ceiling that is named does for all of them, and with less nothing is planned."""
    with make(read("examples/data/digits.npy")).opened() as job:
        with pytest.raises(MemoryCeilingError) as caught:
            plan(job, 0, 2)
        named = {caught.value.needs}
        for ceiling in (*range(USED, caught.value.needs, 3 * MIB), caught.value.needs):
            try:
                planned = plan(job, ceiling, 2)
            except MemoryCeilingError as error:
                named.add(error.needs)
            else:
                assert planned.base + planned.read_bytes + held(planned) <= ceiling
        assert planned.ceiling == caught.value.needs
        assert max(named) <= caught.value.needs + MIB


class Holding(Streaming):
    """Holds as much as it says, and streams or not."""

    def __init__(self, nbytes: int, flow: str) -> None:
        object.__setattr__(self, "nbytes", nbytes)
        object.__setattr__(self, "kind", flow)

    @property
    def flow(self):
        return self.kind

    def hold(self, spec, room):
        if self.nbytes > room.nbytes:
            raise MemoryCeilingError("does not fit", needs=self.nbytes)
        return Held(room.block_rows, spec.dtype, {"all": self.nbytes}, {}, None)


@pytest.mark.parametrize("sizes", [(70, 30, 5), (5, 30, 70), (0, 1, 300), (40, 0, 0)])
def test_ceiling_that_is_named_does_for_what_streams_and_for_the_rest(sizes):
    first, second, rest = (size * MIB for size in sizes)
    stages = [Holding(first, "streaming"), Holding(rest, "buffering"), Holding(second, "streaming")]
    job = Pipeline(ArraySource(np.zeros((10, 2)), "X"), stages, SummarySink())
    with pytest.raises(MemoryCeilingError) as raised:
        plan(job, 20 * MIB, 2)
    planned = plan(job, raised.value.needs, 2)
    assert held(planned) == sum(sizes) * MIB
