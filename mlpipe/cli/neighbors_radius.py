"""``mlpipe neighbors --radius``: all rows within a radius, where they go, or what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from mlpipe.cli.text import aligned
from mlpipe.errors import UsageError
from mlpipe.stages.nearest_within import Ragged
from mlpipe.stages.neighbors_opening import within_of
from mlpipe.stages.radius_rows import RadiusRows
from mlpipe.stages.within import plain

if TYPE_CHECKING:
    from mlpipe.cli.neighbors_job import Job
    from mlpipe.link import Sink

COUNTS = ("query", "count")

TEXT_BYTES = 24 << 20
"""What compiling takes for writing text, besides what every plan counts (measured: 21 MiB)."""


def radius(job: Job) -> None:
    """Find them, and write them or say what they are like."""
    if job.verb.give != "indices":
        raise UsageError("--give: both are written; it is for chains")
    if job.output == "-" and job.flags.as_json:
        raise UsageError("-o - and --json: the first writes CSV to stdout, the second JSON; give one of them")
    if job.output is None:
        _summarise(job)
    elif job.verb.count_only:
        _count(job, job.output)
    else:
        _write(job, job.output)


def _counting(job: Job) -> RadiusRows:
    """The stage that counts."""
    verb, text = job.verb, job.output is not None and not job.output.lower().endswith(".npy")
    return RadiusRows(
        job.data, _radius(job), measure=job.measure, dtype=verb.dtype, largest=verb.largest, own=job.alone,
        queries=job.both, count_only=True, writing=TEXT_BYTES if text else 0,
    )  # fmt: skip


def _radius(job: Job) -> float:
    return float(job.verb.radius or 0)


def _facts(job: Job, stage: Any, rows: int | None) -> dict[str, Any]:
    return {
        "queries": job.queries.spec.rows if rows is None else rows,
        "data": stage.data_rows,
        "radius": plain(_radius(job)),
        "metric": stage.measure.definition.name,
        "dtype": stage.output(job.queries.spec).name,
    }


def _write(job: Job, path: str) -> None:
    """All neighbours into a file or files."""
    from mlpipe.writers.forms import arrays_form
    from mlpipe.writers.sparse import CsrSink

    stage = within_of(job.verb, job.data, job.measure, job.both)
    if arrays_form(path, "three") == "csv":
        stage = replace(stage, writing=TEXT_BYTES)
    sink = CsrSink(path, int(job.data.spec.rows or 0), job.opening)
    if path != "-":
        job.opening.ends(path.rstrip("/") or path, "--output")
    stages = [stage] if isinstance(stage, RadiusRows) else [stage, Ragged()]
    record = job.run(stages, sink, lambda _: {**_facts(job, stage, sink.rows), "pairs": sink.entries})
    if record is not None and record.result is not None:
        _say_where(job, path, record.result, f"{sink.entries:,} neighbours of {sink.rows:,} queries")


def _count(job: Job, path: str) -> None:
    """Only counts, into a file."""
    stage, sink = _counting(job), _counts_sink(job, path)
    record = job.run([stage], sink, lambda rows: _facts(job, stage, rows), None if path == "-" else path)
    if record is not None and record.result is not None:
        _say_where(job, path, record.result, f"counts of {record.result['queries']:,} queries")


def _counts_sink(job: Job, path: str) -> Sink:
    from mlpipe.writers.npy import NpySink
    from mlpipe.writers.numbered import NumberedSink

    ending = path[path.rfind(".") :].lower() if "." in path else ""
    if path != "-":
        job.opening.ends(path.rstrip("/") or path, "--output")
    if path == "-" or ending == ".csv":
        return NumberedSink(path, COUNTS, job.opening)
    if ending != ".npy":
        raise UsageError(f"-o {path}: counts are one array; give a .npy, a .csv or -")
    return NpySink(path, force=job.flags.force, inputs=job.opening.inputs)


def _say_where(job: Job, path: str, facts: dict[str, Any], what: str) -> None:
    if path == "-":
        return
    if job.flags.as_json:
        typer.echo(json.dumps({**facts, "output": path}))
    else:
        job.session.note(f"wrote {path}: {what} within {_radius(job):g} by {facts['metric']}")


def _summarise(job: Job) -> None:
    """Print how many neighbours there are."""
    from mlpipe.writers.crowding import CrowdingSink

    stage, sink = _counting(job), CrowdingSink(job.verb.max_neighbors)
    record = job.run([stage], sink, lambda rows: {**_facts(job, stage, rows), **sink.facts()})
    if record is None or record.result is None:
        return
    if job.flags.as_json:
        typer.echo(json.dumps(record.result))
    else:
        typer.echo(aligned(_lines(record.result, _radius(job))))


def _lines(facts: dict[str, Any], within: float) -> list[tuple[str, str]]:
    """The summary as lines."""

    def value(number: Any) -> str:
        return "-" if number is None else f"{number:,.9g}" if isinstance(number, float) else f"{number:,}"

    def span(one: dict[str, int]) -> str:
        return f"  {one['from']:,}" if one["from"] == one["to"] else f"  {one['from']:,} to {one['to']:,}"

    return [
        ("metric", facts["metric"]),
        ("radius", f"{within:.9g}"),
        *((name, value(facts[name])) for name in ("queries", "data")),
        ("dtype", facts["dtype"]),
        ("neighbours in all", value(facts["pairs"])),
        ("of a query", ""),
        *((f"  {name}", value(facts[name])) for name in ("minimum", "mean", "maximum")),
        ("queries by neighbours", ""),
        *((span(one), value(one["queries"])) for one in facts["distribution"]),
        ("most crowded", ""),
        *((f"  query {one['query']}", value(one["neighbours"])) for one in facts["most_crowded"]),
    ]
