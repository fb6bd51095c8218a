"""``mlpipe neighbors``: the nearest rows of a set, for every row of another."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlpipe.cli import options
from mlpipe.cli.carry_out import check_outputs, holding
from mlpipe.cli.session import Session, session_of
from mlpipe.errors import UsageError
from mlpipe.stages.neighbors import Neighbors

if TYPE_CHECKING:
    from mlpipe.cli.neighbors_job import Job
    from mlpipe.link import Source
    from mlpipe.opening import Opening

Rows = Annotated[
    str, typer.Argument(metavar="QUERIES", help="Rows: a file, a directory, a pattern in quotes, or - for stdin.")
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="OUT", help="Write a directory of arrays, or .npz, or .csv; - is CSV on stdout."
    ),
]
Truth = Annotated[
    str | None, typer.Option("--truth", metavar="T.npy", help="With --labels: what is right, to count hits.")
]
Graph = Annotated[
    Literal["csr", "edges"] | None,
    typer.Option("--graph", help="Write who is whose neighbour as a symmetric graph: CSR, or a list of edges."),
]
Mutual = Annotated[
    bool, typer.Option("--mutual", help="With --graph: only edges between rows that are neighbours both ways.")
]


@options.running(verb="neighbors")
def neighbors(
    context: typer.Context,
    queries: Rows,
    verb: Neighbors,
    output: Output = None,
    truth: Truth = None,
    graph: Graph = None,
    mutual: Mutual = False,
    *,
    flags: options.RunFlags,
) -> None:
    """The k nearest rows of DATA to every row of QUERIES, exactly, out of core.

    Neither side has to fit in memory, and the matrix is never made. QUERIES alone: among themselves, and no row is its
    own neighbour. Of equal distances the smaller index comes first. With -o DIR indices.npy and distances.npy are
    written; without it a summary is printed: how far the k-th neighbour is, who is neighbour most often, the closest
    pairs.

    Example: mlpipe neighbors Q.npy D.npy -k 10 --metric cosine -o nearest --memory 512MiB
    """
    session = session_of(context)
    _check(verb, queries, truth, graph, mutual)
    check_outputs([("--report", flags.report), ("--output", output), ("--lock", flags.lock)])
    from mlpipe.opening import Opening

    with ExitStack() as opened:
        opened.enter_context(holding(flags))
        job = _job(verb, flags, queries, Opening(opened, flags.force), session)
        _carry_out(replace(job, output=output, truth=truth, graph=graph, mutual=mutual))


def _check(verb: Neighbors, queries: str, truth: str | None, graph: str | None, mutual: bool) -> None:
    """Raise UsageError for flags that contradict each other."""
    if verb.self_ and verb.data:
        raise UsageError(f"--self: neighbours are looked for among the rows of {queries}; leave {verb.data[0]} out")
    if queries == "-" and not verb.data:
        raise UsageError("-: rows among which neighbours are looked for may be read more than once; name a file")
    if truth is not None and verb.labels is None:
        raise UsageError("--truth: goes with --labels; give that, too")
    if graph is not None and verb.labels is not None:
        raise UsageError("--graph and --labels: give one of them")
    if graph is not None and verb.data:
        raise UsageError(f"--graph: a graph is of one set of rows; leave {verb.data[0]} out")
    if mutual and graph is None:
        raise UsageError("--mutual: goes with --graph; give that, too")


def _job(verb: Neighbors, flags: options.RunFlags, path: str, opening: Opening, session: Session) -> Job:
    """Open everything."""
    from mlpipe.cli.neighbors_job import Job
    from mlpipe.readers.inputs import open_inputs
    from mlpipe.stages.neighbors_opening import opened_data, opened_measure
    from mlpipe.stages.shapes import check_rows

    alone = not verb.data
    queries = open_inputs([path], opening)
    data = queries if alone else opened_data(verb.data, opening)
    features = check_rows([queries] if alone else [queries, data])
    measure = opened_measure(verb, features, opening, complete=not queries.seekable)
    _say_what_is_assumed([queries] if alone else [queries, data], session)
    return Job(replace(verb, self_=alone), flags, session, opening, queries, data, measure)


def _say_what_is_assumed(sources: list[Source], session: Session) -> None:
    if all(len(source.spec.row_shape) == 0 for source in sources):
        names = " and ".join(source.name for source in sources)
        verb = "is" if len(sources) == 1 else "are"
        session.note(f"{names} {verb} one-dimensional: every element is taken as a row of one feature")


def _carry_out(job: Job) -> None:
    """Do what was asked for."""
    if job.graph is not None:
        from mlpipe.cli.neighbors_graph import graph as way
    elif job.verb.labels is not None:
        from mlpipe.cli.neighbors_labels import labels as way
    elif job.verb.radius is not None:
        from mlpipe.cli.neighbors_radius import radius as way
    else:
        from mlpipe.cli.neighbors_nearest import nearest as way
    way(job)
