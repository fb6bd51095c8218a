"""What all ways of ``mlpipe neighbors`` are given: its files, open, and what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpipe.cli.carry_out import Request, carry_out
from mlpipe.cli.options import RunFlags
from mlpipe.cli.session import Session

if TYPE_CHECKING:
    from mlpipe.link import Sink, Source, Stage
    from mlpipe.measure.record import Record
    from mlpipe.opening import Opening
    from mlpipe.stages.metrics import Measure
    from mlpipe.stages.neighbors import Neighbors


@dataclass(frozen=True)
class Job:
    """One run of ``mlpipe neighbors``.

    Parameters
    ----------
    verb : Neighbors
        Its options; `self_` says whether queries and data are the same rows.
    flags : RunFlags
        Those that every command has.
    session : Session
        Whether to be quiet.
    opening : Opening
        Told of all files.
    queries, data : Source
        Open; the same object where there is only one.
    measure : Measure
        The metric.
    output : str or None
        As `-o`.
    truth, graph, mutual
        As the flags.
    """

    verb: Neighbors
    flags: RunFlags
    session: Session
    opening: Opening
    queries: Source
    data: Source
    measure: Measure
    output: str | None = None
    truth: str | None = None
    graph: str | None = None
    mutual: bool = False

    @property
    def alone(self) -> bool:
        """Whether neighbours are looked for within one set."""
        return self.queries is self.data

    @property
    def both(self) -> Source | None:
        """What a stage needs to know as `queries`: where rows come from, if it is another source than the data."""
        return None if self.alone else self.queries

    def run(
        self,
        stages: Sequence[Stage],
        sink: Sink,
        result: Callable[[int], dict[str, Any] | None],
        output: str | None = None,
    ) -> Record | None:
        """Carry a chain out, from the queries on.

        Parameters
        ----------
        stages : sequence of Stage
            What is done.
        sink : Sink
            Where results go.
        result : callable
            What the record keeps, for the number of rows that went to the sink; asked after the run.
        output : str, optional
            What the record calls the output, if the sink stores one array.

        Returns
        -------
        Record or None
            None after a dry run.
        """
        from mlpipe.pipeline import Pipeline

        sources = [self.queries] if self.alone else [self.queries, self.data]
        command = ["neighbors", *(source.name for source in sources)]
        request = Request(command, self.flags, [_facts(source) for source in sources], output, self.opening.inputs)
        return carry_out(Pipeline(self.queries, stages, sink), request, self.session, result)


def _facts(source: Source) -> Any:
    spec = source.spec
    return {
        "path": source.name, "bytes": spec.nbytes, "shape": [spec.rows, *spec.row_shape], "dtype": spec.dtype.name,
    }  # fmt: skip
