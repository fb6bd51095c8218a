"""Let stages learn: those that have to see all rows before the first one comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from mlpipe.engine.budget import Plan
from mlpipe.engine.budget import plan as make_plan
from mlpipe.engine.local import iterate
from mlpipe.errors import UsageError, at_link
from mlpipe.link import Blocks, Flow, Held, Room, Run, Spec, Stage
from mlpipe.measure.meter import NULL_METER, Meter
from mlpipe.pipeline import Pipeline
from mlpipe.stages.streaming import Streaming
from mlpipe.writers.nothing import NothingSink


class Fits(Protocol):
    """A stage whose flow is "fitting"; what `fit` returns may still be: then it wants another pass."""

    def fit(self, blocks: Blocks, held: Held, run: Run) -> Stage:
        """Learn from all rows."""


def _nothing(_share: float) -> None:
    """No progress is shown."""


def fitted(
    pipeline: Pipeline, planned: Plan, meter: Meter = NULL_METER, advance: Callable[[float], None] = _nothing
) -> Plan:
    """Plan a pipeline anew once every stage in it has learned what it needs.

    For each of them in order, rows go from the source through the stages before it, as often as it asks for.

    Parameters
    ----------
    pipeline : Pipeline
        As it was planned.
    planned : Plan
        Of the same; returned as it is when nothing has to be learned.
    meter : Meter
        What measures the passes.
    advance : callable
        Told which share of a pass was completed.

    Raises
    ------
    UsageError
        When the source cannot be read more than once.
    """
    check_repeatable(pipeline)
    stages, kernels = list(pipeline.stages), _kernel_bytes(planned)
    if not kernels:
        return planned
    for place in range(len(stages)):
        while _fits(stages[place]):
            stages[place] = _learn(replace(pipeline, stages=stages[: place + 1]), planned, meter, advance)
        if stages[place] is not pipeline.stages[place]:  # its kernels stay
            planned = replace(planned, base=planned.base + kernels.pop(0))
    return _plan_like(replace(pipeline, stages=stages), planned)


def _kernel_bytes(planned: Plan) -> list[int]:
    """What the kernels take of each stage that has to learn."""
    held = zip(planned.pipeline.stages, planned.held, strict=True)
    return [one.nbytes.get("kernels", 0) for stage, one in held if _fits(stage)]


def _fits(stage: Stage) -> bool:
    return stage.flow == "fitting" and hasattr(stage, "fit")


def check_repeatable(pipeline: Pipeline) -> None:
    """Raise UsageError for a stage that has to learn from a source that can be read only once."""
    learning = [place for place, stage in enumerate(pipeline.stages) if _fits(stage)]
    if learning and not pipeline.source.seekable:
        link = pipeline.link(learning[0])
        stage = pipeline.stages[learning[0]]
        what = f"{link}:" if link else stage.name
        instead = getattr(stage, "instead", "give --from STATS.npz, or read a file")
        raise UsageError(
            f"{what} reads all rows before the first one comes out, but {pipeline.source.name} can be "
            f"read only once; {instead}"
        )


def _plan_like(pipeline: Pipeline, planned: Plan) -> Plan:
    """A plan with the ceiling of another, and the same idea of what the process takes besides."""
    return make_plan(pipeline, planned.ceiling, planned.threads, planned.blocks_ahead - 1, planned.base)


def _learn(pipeline: Pipeline, planned: Plan, meter: Meter, advance: Callable[[float], None]) -> Stage:
    """One pass for the last stage of a pipeline."""
    *before, stage = pipeline.stages
    learning = _Pass(stage, advance, pipeline.link(len(before)))
    plan = _plan_like(replace(pipeline, stages=[*before, learning], sink=NothingSink()), planned)
    for _ in iterate(plan, meter, keep=False):
        pass
    return learning.result[0]


@dataclass(frozen=True)
class _Pass(Streaming):
    """A stage that feeds another one, and hands on nothing."""

    stage: Stage
    advance: Callable[[float], None]
    link: str
    result: list[Stage] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What is learned."""
        return f"{self.stage.name} (learning)"

    @property
    def flow(self) -> Flow:
        """That of the stage: it gets the memory that is left."""
        return self.stage.flow

    def plan(self, spec: Spec) -> Spec:
        """No rows come out."""
        self.stage.plan(spec)
        return replace(spec, rows=0)

    def hold(self, spec: Spec, room: Room) -> Held:
        """What learning takes."""
        return self.stage.hold(spec, room)

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Learn."""
        with at_link(self.link, self.stage.name):
            self.result.append(cast("Fits", self.stage).fit(self._told(blocks), held, run))
        yield from ()

    def _told(self, blocks: Blocks) -> Blocks:
        """Blocks, told as they are asked for: by then the stage has seen the one before."""
        for block in blocks:
            share = block.share
            yield block
            self.advance(share)
