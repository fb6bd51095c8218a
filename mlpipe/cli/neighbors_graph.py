"""``mlpipe neighbors --graph``: who is whose neighbour, as a symmetric graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

from mlpipe.cli.text import aligned
from mlpipe.errors import UsageError
from mlpipe.measure.host import processors
from mlpipe.stages.edges import NAMES, SUMMARY_BYTES, EdgeTable, summary
from mlpipe.stages.graph import Graphing
from mlpipe.stages.neighbors_opening import nearest_of
from mlpipe.writers.nothing import NothingSink, TableSink
from mlpipe.writers.tables import check_table, form_of, write_table, writing_bytes

if TYPE_CHECKING:
    import numpy as np

    from mlpipe.cli.neighbors_job import Job
    from mlpipe.link import Run
    from mlpipe.stages.links import Piece
    from mlpipe.stages.nearest_rows import NearestRows

FILES_BYTES = 4 << 20
"""What writing arrays takes."""

TABLES = (".csv", ".json", ".parquet")

Way = Callable[["Iterator[Piece]", "Run"], dict[str, Any]]


def graph(job: Job) -> None:
    """Make the graph, and write it or say what it is like."""
    if job.verb.radius is not None:
        raise UsageError("--graph and --radius: a graph is of the k nearest; give one of them")
    if job.verb.give != "indices":
        raise UsageError("--give: it is for chains; leave it out")
    nearest = nearest_of(job.verb, job.data, job.measure)
    dtype = nearest.output(job.queries.spec)
    way, beside, row_beside = _way(job, dtype)
    facts = {
        "rows": nearest.data_rows,
        "k": nearest.k,
        "metric": nearest.measure.definition.name,
        "dtype": dtype.name,
        "mutual": job.mutual,
    }

    def deliver(pieces: Iterator[Piece], run: Run) -> None:
        job.queries.check_unchanged()
        facts.update(way(pieces, run))

    stage = Graphing(job.mutual, job.opening.temporary, deliver, beside, row_beside)
    sink = NothingSink() if job.output is None else TableSink()
    if job.run([nearest, stage], sink, lambda _: facts) is not None:
        _say(job, facts, nearest)


def _way(job: Job, dtype: np.dtype[Any]) -> tuple[Way, int, int]:
    """What is done with the graph, the memory it takes, and that for each row."""
    rows, path = int(job.data.spec.rows or 0), job.output
    if path is None:
        return (lambda pieces, _run: summary(pieces, rows)), 4 << 20, SUMMARY_BYTES
    if path == "-" and job.flags.as_json:
        raise UsageError("-o - and --json: the first writes CSV to stdout, the second JSON; give one of them")
    if path != "-":
        job.opening.ends(path.rstrip("/") or path, "--output")
    if job.graph == "edges":
        return _edges(job, path, dtype)
    return _csr(job, path, dtype), FILES_BYTES, 0


def _edges(job: Job, path: str, dtype: np.dtype[Any]) -> tuple[Way, int, int]:
    """As a table of edges."""
    form = form_of(path)
    if form == ".npy":
        raise UsageError(f"-o {path}: edges are of several dtypes; give a .csv, .parquet, .npz or .json, or - for CSV")
    check_table(path, job.opening, NAMES)

    def write(pieces: Iterator[Piece], run: Run) -> dict[str, Any]:
        made = EdgeTable(pieces, dtype)
        count = write_table(made, path, job.opening, workers=run.workers, label="edges")
        return {"edges": count}

    return write, writing_bytes(form, job.flags.threads or processors()) + FILES_BYTES, 0


def _csr(job: Job, path: str, dtype: np.dtype[Any]) -> Way:
    """As a sparse matrix."""
    from mlpipe.link import Spec
    from mlpipe.writers.sparse import CsrSink

    if path == "-" or path[path.rfind(".") :].lower() in TABLES:
        raise UsageError(f"-o {path}: --graph csr makes arrays; give a directory or a .npz, or --graph edges")
    sink = CsrSink(path, int(job.data.spec.rows or 0), job.opening)
    sink.check(Spec(None, (), dtype))

    def write(pieces: Iterator[Piece], _run: Run) -> dict[str, Any]:
        stored = 0
        with sink.opened(dtype) as writing:
            for piece in pieces:
                writing.append(piece.counts.cumsum() + stored, piece.neighbours, piece.distances)
                stored += len(piece.neighbours)
                del piece  # before the next one is made
        return {"edges": stored // 2, "stored": stored}

    return write


def _say(job: Job, facts: dict[str, Any], nearest: NearestRows) -> None:
    """Say what was found, and where it is."""
    if job.flags.as_json:
        typer.echo(json.dumps(facts if job.output is None else {**facts, "output": job.output}))
    elif job.output is None:
        typer.echo(aligned(_lines(facts, nearest)))
    elif job.output != "-":
        kind = "mutual " if job.mutual else ""
        job.session.note(
            f"wrote {job.output}: {facts['edges']:,} edges of {facts['rows']:,} rows and their {facts['k']} "
            f"{kind}neighbours, {facts['dtype']} {facts['metric']}"
        )


def _lines(facts: dict[str, Any], nearest: NearestRows) -> list[tuple[str, str]]:
    """The summary as lines."""

    def value(number: float | None) -> str:
        return "-" if number is None else f"{number:.9g}"

    rows = [
        ("metric", facts["metric"]),
        ("rows", f"{facts['rows']:,}"),
        ("neighbours", f"{facts['k']}{', both ways' if facts['mutual'] else ''}"),
        ("edges", f"{facts['edges']:,}"),
        ("edges of a row", ""),
        *((f"  {name}", f"{number:,.6g}") for name, number in (facts["degree"] or {}).items()),
        ("parts", f"{facts['parts']:,}, the largest of {facts['largest_part']:,} rows"),
        ("shortest", value(facts["shortest"])),
        ("longest", value(facts["longest"])),
    ]
    return [*rows, ("without edges", f"{facts['isolated']:,}")] if facts["isolated"] else rows
