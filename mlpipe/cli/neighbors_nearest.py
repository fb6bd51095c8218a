"""``mlpipe neighbors`` for the k nearest: where they go, or what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from mlpipe.cli.carry_out import check_outputs
from mlpipe.cli.text import aligned
from mlpipe.errors import UsageError
from mlpipe.stages.neighbors_opening import nearest_of
from mlpipe.writers.nothing import NothingSink

if TYPE_CHECKING:
    from mlpipe.cli.neighbors_job import Job
    from mlpipe.link import Sink
    from mlpipe.stages.nearest_rows import NearestRows

ARRAYS = ("indices", "distances")
COLUMNS = ("query", "neighbour", "distance")

TEXT_BYTES = 24 << 20
"""What compiling takes for writing text, besides what every plan counts (measured: 21 MiB)."""


def nearest(job: Job) -> None:
    """Find them, and write them or say what they are like."""
    if job.verb.give != "indices":
        raise UsageError("--give: both are written; it is for chains")
    stage = nearest_of(job.verb, job.data, job.measure, job.both)
    if job.output is not None and (job.output == "-" or job.output.lower().endswith(".csv")):
        stage = replace(stage, writing=TEXT_BYTES)
    facts = _facts(job, stage)
    if job.output is None:
        _summarise(job, stage, facts)
    elif job.run([stage], _sink(job, job.output), lambda _: {**facts, "output": job.output}) is not None:
        _say_where(job, job.output, facts)


def _facts(job: Job, stage: NearestRows) -> dict[str, Any]:
    """What is known before the run; what cannot work is refused."""
    spec = stage.plan(job.queries.spec)
    assert spec.labels is not None  # noqa: S101 - distances
    return {
        "queries": spec.rows,
        "data": stage.data_rows,
        "k": stage.k,
        "metric": stage.measure.definition.name,
        "dtype": spec.labels.dtype.name,
    }


def _sink(job: Job, path: str) -> Sink:
    """Where neighbours are written, as the name says."""
    from mlpipe.writers.arrays import ArraysSink, NpzSink
    from mlpipe.writers.forms import arrays_form
    from mlpipe.writers.numbered import PairsSink

    if path == "-" and job.flags.as_json:
        raise UsageError("-o - and --json: the first writes CSV to stdout, the second JSON; give one of them")
    if path == "-":
        return PairsSink(path, COLUMNS, job.opening)
    if not path:
        raise UsageError("-o '': no name for an output; give a directory, a .npz, .csv or -")
    job.opening.ends(path.rstrip("/") or path, "--output")
    form = arrays_form(path, "two")
    if form == "npz":
        return NpzSink(path, ARRAYS, job.opening)
    if form == "csv":
        return PairsSink(path, COLUMNS, job.opening)
    for name in ARRAYS:
        check_outputs([("--report", job.flags.report), ("--lock", job.flags.lock), ("-o", f"{path}/{name}.npy")])
    return ArraysSink(path, ARRAYS, force=job.flags.force, inputs=job.opening.inputs)


def _say_where(job: Job, path: str, facts: dict[str, Any]) -> None:
    if path == "-":
        return
    if job.flags.as_json:
        typer.echo(json.dumps({**facts, "output": path}))
    else:
        what = f"{facts['queries']} x {facts['k']} {facts['dtype']} {facts['metric']}"
        job.session.note(f"wrote {path}: {what} neighbours")


def _summarise(job: Job, stage: NearestRows, facts: dict[str, Any]) -> None:
    """Print a summary."""
    from mlpipe.stages.neighbors_summary import Summing

    summing = Summing(stage.data_rows, stage.largest, job.alone)
    record = job.run([stage, summing], NothingSink(), lambda _: {**facts, **summing.facts()})
    if record is None:
        return
    if job.flags.as_json:
        typer.echo(json.dumps(record.result))
    else:
        typer.echo(aligned(_lines(record.result or {}, stage)))


def _lines(facts: dict[str, Any], stage: NearestRows) -> list[tuple[str, str]]:
    """The summary as lines."""

    def value(number: float | None) -> str:
        return "-" if number is None else f"{number:.9g}"

    spread = facts["kth_distance"]
    rows = [
        ("metric", facts["metric"]),
        ("queries", f"{facts['queries']:,}"),
        ("data", f"{facts['data']:,}"),
        ("dtype", facts["dtype"]),
        (f"distance of neighbour {facts['k']}", ""),
        *((f"  {name}", value(spread[name])) for name in spread),
        ("most popular", ""),
        *((f"  row {one['row']}", f"neighbour of {one['neighbour_of']:,}") for one in facts["most_popular"]),
        ("closest" if not stage.largest else "largest", ""),
        *((f"  {one['query']} and {one['neighbour']}", value(one["distance"])) for one in facts["closest"]),
    ]
    rows.extend((name, f"{facts[name]:,}") for name in ("missing", "infinite") if facts[name])
    return rows
