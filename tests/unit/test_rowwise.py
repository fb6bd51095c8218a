"""Row-wise stages: what they accept, what they plan, and what the generated loop does with constants and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mlpipe.errors import InputError, UsageError
from mlpipe.kernels import fused
from mlpipe.kernels.steps import Map, RowNumber, RowReduce, Steps
from mlpipe.link import Labels, Room, Spec
from mlpipe.stages.abs import Abs
from mlpipe.stages.batch import Batch
from mlpipe.stages.binarize import Binarize
from mlpipe.stages.cast import Cast
from mlpipe.stages.clip import Clip
from mlpipe.stages.fill_nan import FillNan
from mlpipe.stages.log1p import Log1p
from mlpipe.stages.normalize import Normalize
from mlpipe.stages.power import Power
from mlpipe.stages.rowwise import Fused, RowWise, fuse
from mlpipe.stages.select import Select
from mlpipe.stages.sqrt import Sqrt
from tests.rowwise import transformed


def spec(dtype: str = "f4", shape: tuple[int, ...] = (4,)) -> Spec:
    return Spec(10, shape, np.dtype(dtype))


@dataclass(frozen=True)
class Plain(RowWise):
    """Steps as a test gives them."""

    given: Sequence[Any] = ()
    dtype: str = "f8"

    def plan(self, spec: Spec) -> Spec:
        return replace(spec, dtype=np.dtype(self.dtype))

    def steps(self, spec: Spec) -> Steps:
        return self.given


# What verbs accept.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clip(), "clip: give --min, --max or both"),
        (lambda: Clip(min=float("nan")), "clip --min nan"),
        (lambda: Clip(min=2, max=1), "clip --min 2 --max 1"),
        (lambda: Power(float("inf")), "power --exponent inf: give a finite number"),
        (lambda: Binarize(float("nan")), "binarize --threshold nan"),
        (lambda: Select(("1", "x")), "--columns x"),
        (lambda: Clip(0.2, 0.8).plan(spec("i4")), "clip: no int32 lies between --min 0.2 and --max 0.8"),
        (lambda: Clip(min=300).plan(spec("u1")), "clip: no uint8 lies between --min 300 and"),
        (lambda: Clip(max=-1).plan(spec("?")), "clip: no bool lies between"),
    ],
)
def test_values_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("stage", "given", "message"),
    [
        (Normalize(), spec(shape=()), r"normalize: rows have shape \(\); it takes rows of one dimension"),
        (Normalize(), spec(shape=(2, 3)), r"normalize: rows have shape \(2, 3\)"),
        (Select(("0",)), spec(shape=(2, 3)), r"select: rows have shape \(2, 3\)"),
        (Select(("7",)), spec(), "--columns 7: select has 4 columns"),
    ],
)
def test_rows_that_do_not_fit(stage: RowWise, given: Spec, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stage.plan(given)


@pytest.mark.parametrize(
    ("stage", "floats", "integers"),
    [
        (Clip(0, 1), "f2", "i2"),
        (Abs(), "f2", "i2"),
        (FillNan(), "f2", "i2"),
        (Binarize(), "f2", "i2"),
        (Log1p(), "f2", "f8"),
        (Sqrt(), "f2", "f8"),
        (Power(2), "f2", "f8"),
        (Normalize(), "f2", "f8"),
        (Cast("uint8"), "u1", "u1"),
    ],
)
def test_planned_dtypes(stage: RowWise, floats: str, integers: str) -> None:
    assert stage.plan(spec(">f2")) == spec(floats)
    assert stage.plan(spec(">i2")) == spec(integers)


def test_bounds_of_integers_are_rounded_inwards() -> None:
    x = np.arange(-5, 6, dtype="i1")
    assert transformed([Clip(-1.5, 2.5)], x).tolist() == np.clip(x, -1, 2).tolist()
    assert transformed([Clip(-1e9, 1e9)], x).tolist() == x.tolist()
    x = np.array([0, 2**63, 2**64 - 1], "u8")
    assert transformed([Clip(min=1, max=2.0**63)], x).tolist() == [1, 2**63, 2**63]


# What is fused, and what it holds.


def test_neighbours_are_fused() -> None:
    stages = fuse([Abs(), Sqrt(), Batch(3), Log1p()])
    assert [stage.name for stage in stages] == ["abs + sqrt", "batch", "log1p"]


def test_blocks_are_held_only_where_the_result_needs_a_place() -> None:
    room = Room(1 << 20, 2, block_rows=100)
    assert "blocks" not in Fused((Clip(0, 1), Log1p())).hold(spec(), room).nbytes
    assert (
        "blocks"
        not in Fused((Cast("float16", saturate=True), Cast("float32", saturate=True))).hold(spec(), room).nbytes
    )
    labelled = replace(spec(), labels=Labels((), np.dtype("i8")))
    assert Fused((Cast("float64"),)).hold(labelled, room).nbytes["blocks"] == 3 * 100 * (4 * 8 + 8)
    assert Fused((Cast("float32"),)).hold(spec(), room).nbytes["blocks"] == 3 * 100 * 16
    assert Fused((Select(("3", "2", "1", "0")),)).hold(spec(), room).nbytes["blocks"] == 3 * 100 * 16


# What the loop does.


@pytest.mark.parametrize("columns", [1, 3, 100, 600])
def test_constants_of_columns(columns: int) -> None:
    x = np.random.default_rng(0).normal(size=(1030, columns)).astype("f4")
    mean, scale = np.arange(columns) / 7, 1 + np.arange(columns) / 3
    stage = Plain([Map("(v - mean) * scale", {"mean": mean, "scale": scale})], "f4")
    expected = (x - mean.astype("f4")) * scale.astype("f4")
    for threads in (1, 2):
        assert transformed([stage], x, threads=threads).tobytes() == expected.tobytes()


def test_constants_come_after_a_choice_of_columns() -> None:
    x = np.arange(12.0).reshape(3, 4)
    before, after = (
        Plain([Map("v + c", {"c": np.arange(4) * 100})]),
        Plain([Map("v + c", {"c": np.array([0.25, 0.5])})]),
    )
    expected = (x + np.arange(4) * 100)[:, [3, 1]] + [0.25, 0.5]
    np.testing.assert_array_equal(transformed([before, Select(("3", "1")), after], x), expected)


def test_many_constants_and_numbers_of_rows() -> None:
    x = np.random.default_rng(0).normal(size=(9, 21))
    stages = [Plain([Map("(v - a) * b", {"a": np.full(21, n / 3), "b": np.full(21, 1.5)})]) for n in range(8)]
    centre = Plain(
        [
            RowReduce("total", "v * w", "sum", {"w": np.ones(21)}),
            RowReduce("top", "v", "max"),
            RowNumber("mean", "total / 21.0"),
            Map("(v - mean) / (top - mean)"),
        ]
    )
    expected = x
    for n in range(8):
        expected = (expected - n / 3) * 1.5
    mean = expected.mean(axis=1, keepdims=True)
    expected = (expected - mean) / (expected.max(axis=1, keepdims=True) - mean)
    np.testing.assert_allclose(transformed([*stages, centre], x), expected, rtol=1e-12)


def test_positions_are_those_in_the_input() -> None:
    x = np.zeros((100, 7))
    stage = Plain([Map("float64(row) * ten + float64(column)", {"ten": 10.0})])
    expected = np.arange(100)[:, None] * 10.0 + np.arange(7)
    np.testing.assert_array_equal(transformed([stage], x, block_rows=13, threads=2), expected)
    np.testing.assert_array_equal(transformed([Select(("5", "1")), stage], x), expected[:, :2])


@pytest.mark.parametrize("source", ["__import__", "v + nothing", "open(v)", "v.real", "(v).real"])
def test_text_with_names_of_no_step(source: str) -> None:
    with pytest.raises((ValueError, NameError), match="not defined"):
        fused.write([([Map(source)], np.dtype("f4"))], np.dtype("f4"), 3, in_place=True)


def test_constants_of_the_wrong_length() -> None:
    with pytest.raises(ValueError, match=r"constant 'c' has shape \(2,\) where rows have 3 values"):
        fused.write([([Map("v + c", {"c": np.ones(2)})], np.dtype("f4"))], np.dtype("f4"), 3, in_place=True)


def test_other_constants_share_the_compiled_loop() -> None:
    x = np.ones((2, 3))
    for value in (1.0, 2.0, 3.0):
        stage = Plain([Map("v * c + one", {"c": value, "one": 1.0})])
        assert transformed([stage], x)[0, 0] == value + 1
    program = fused.write([(stage.given, np.dtype("f8"))], np.dtype("f8"), 3, in_place=True)
    assert len(program.function().signatures) == 1


def test_stages_without_steps_hand_rows_on() -> None:
    x = np.arange(6, dtype="i4")
    assert transformed([FillNan(3.0)], x).tobytes() == x.tobytes()


def test_refused_value_in_the_middle_of_a_chain() -> None:
    x = np.arange(2000.0).reshape(500, 4)
    x[301, 2] = np.nan
    chain = [Clip(0, 1000), Cast("float32"), Cast("uint16"), Cast("uint8", saturate=True)]
    with pytest.raises(InputError, match=r"^cast: row 301 holds nan; uint16 cannot hold that"):
        transformed(chain, x, block_rows=50, threads=2)
    with pytest.raises(InputError, match=r"^cast: row 64 holds 256.0; uint8 cannot hold that"):
        transformed([Cast("float32"), Cast("uint8")], x, threads=2)


def test_dtypes_that_are_no_numbers() -> None:
    with pytest.raises(InputError, match="abs \\+ sqrt: rows of complex64"):
        Fused((Abs(), Sqrt())).plan(spec("c8"))


@pytest.mark.parametrize("columns", [2, 40, 3000])
def test_scratch_is_within_what_was_planned(columns: int) -> None:
    for dtype in ("f2", "f4", "f8"):
        stages = (Abs(), Normalize("l2"), Log1p(), Normalize("l1"))
        given = spec(dtype, (columns,))
        specs = [given, *([given] * len(stages))]
        steps = [(stage.steps(one), one.dtype) for stage, one in zip(stages, specs, strict=False)]
        program = fused.write(steps, given.dtype, columns, in_place=True)
        needs = sum(kind.itemsize * length for kind, length in program.scratch)
        planned = Fused(stages).hold(given, Room(1 << 20, 1, block_rows=100)).nbytes["rows"]
        assert needs <= planned


def test_blocks_that_may_not_be_written_to_are_copied() -> None:
    from mlpipe.link import Block
    from mlpipe.measure.meter import Lane
    from mlpipe.workers import Workers
    from tests.rowwise import Bench

    whole = np.arange(-12.0, 12.0).reshape(4, 6)
    whole.flags.writeable = False
    stage = Fused((Abs(),))
    held = stage.hold(spec("f8", (3,)), Room(1 << 20, 1, block_rows=4))
    for data in (whole[:, ::2], whole[:2, :3], whole.reshape(8, 3)):
        with Workers(1) as workers, Lane("test") as lane:
            (made,) = stage.apply(iter([Block(0, data)]), held, Bench(workers, lane))
        np.testing.assert_array_equal(made.data, abs(data))
    assert whole[0, 0] == -12
