"""A chain: one source, stages, one sink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlpipe.errors import at_link
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
    numbers : sequence of tuple of int
        Which links of a chain of verbs each stage is made of, and at last the sink, from 1; none for other chains.
    """

    source: Source
    stages: Sequence[Stage]
    sink: Sink
    within: Sequence[tuple[str, Spec]] = ()
    ending: str = "write"
    numbers: Sequence[tuple[int, ...]] = ()

    @property
    def reading(self) -> str:
        """What messages and reports call the source: the verbs that it is made of."""
        return " + ".join(name for name, _ in self.within) or "read"

    @property
    def first_link(self) -> str:
        """What messages call the source; empty outside a chain."""
        return link_name([1], self.reading.split(" + ")[0]) if self.numbers else ""

    def link(self, place: int) -> str:
        """What messages call a stage, or the sink after all of them: its links and its verb; empty outside a chain."""
        if place >= len(self.numbers):
            return ""
        name = self.stages[place].name if place < len(self.stages) else self.ending
        return link_name(self.numbers[place], name)

    def specs(self) -> list[Spec]:
        """What flows into the first stage, between stages, and into the sink.

        Raises
        ------
        MlpipeError
            For a stage that cannot follow what comes before it.
        """
        read = self.source.spec
        specs = [replace(read, dtype=read.dtype.newbyteorder("="))]  # which is how sources deliver it
        for place, stage in enumerate(self.stages):
            with at_link(self.link(place), stage.name):
                specs.append(stage.plan(specs[-1]))
        return specs


def link_name(numbers: Sequence[int], name: str) -> str:
    """What messages call links of a chain.

    Examples
    --------
    >>> link_name([2], "clip"), link_name([2, 4], "clip + log1p")
    ('link 2 (clip)', 'links 2, 4 (clip + log1p)')
    """
    return f"link{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} ({name})"
