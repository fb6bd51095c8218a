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
    within : sequence of (str, Spec)
        Verbs that the source is made of, and what each of them makes of the rows; for showing the plan.
    ending : str
        Verb of the sink.
    """

    source: Source
    stages: Sequence[Stage]
    sink: Sink
    within: Sequence[tuple[str, Spec]] = ()
    ending: str = "write"

    @property
    def reading(self) -> str:
        """What messages and reports call the source: the verbs that it is made of."""
        return " + ".join(name for name, _ in self.within) or "read"

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
