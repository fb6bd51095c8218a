"""A chain: one source, stages, one sink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlpipe.link import Sink, Source, Spec, Stage


@dataclass(frozen=True)
class Pipeline:
    """Rows from a source, through stages, into a sink.

    Parameters
    ----------
    source : Source
        Where rows come from.
    stages : sequence of Stage
        What is done to them, in order.
    sink : Sink
        Where they go.
    """

    source: Source
    stages: Sequence[Stage]
    sink: Sink

    def specs(self) -> list[Spec]:
        """What flows into the first stage, between stages, and into the sink.

        Raises
        ------
        MlpipeError
            For a stage that cannot follow what comes before it.
        """
        read = self.source.spec
        specs = [replace(read, dtype=read.dtype.newbyteorder("="))]  # which is how sources deliver it
        for stage in self.stages:
            specs.append(stage.plan(specs[-1]))
        return specs
