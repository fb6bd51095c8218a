"""``mlpipe distances``: distances between all rows of one or two files."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.carry_out import Request, carry_out, check_outputs, holding
from mlpipe.cli.session import Session, session_of
from mlpipe.cli.text import aligned
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.link import Array, Sink
    from mlpipe.measure.record import ArrayFacts, Record
    from mlpipe.readers.files import Fingerprint
    from mlpipe.readers.npy import NpySource
    from mlpipe.stages.pairwise import Pairwise

HINT = "mlpipe neighbors gives the k nearest without the matrix"


def _order(text: str) -> float:
    """Order of `minkowski`."""
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--p {text}: give a number above 0") from None


Metric = Annotated[
    str, typer.Option("-m", "--metric", metavar="METRIC", help="Any of scipy's cdist, dot, haversine, nan_euclidean.")
]
Order = Annotated[
    float | None, typer.Option("--p", metavar="P", parser=_order, help="Order of minkowski, above 0; 2 by default.")
]
Weights = Annotated[Path | None, typer.Option("--weights", metavar="W.npy", help="Weight of each feature.")]
Variance = Annotated[
    Path | None, typer.Option("--variance", metavar="V.npy", help="Variances for seuclidean; else those of the data.")
]
Inverse = Annotated[
    Path | None,
    typer.Option("--inverse-covariance", metavar="VI.npy", help="For mahalanobis; else that of the data."),
]
Condensed = Annotated[
    bool, typer.Option("--condensed", help="Only the upper triangle of X against itself, as scipy's pdist orders it.")
]


@options.running
def distances(
    context: typer.Context,
    x: Annotated[Path, typer.Argument(metavar="X.npy", help="Rows.")],
    y: Annotated[Path | None, typer.Argument(metavar="[Y.npy]", help="Other rows; X itself when left out.")] = None,
    output: options.Output = None,
    metric: Metric = "euclidean",
    p: Order = None,
    weights: Weights = None,
    variance: Variance = None,
    inverse_covariance: Inverse = None,
    dtype: options.Dtype = None,
    condensed: Condensed = False,
    *,
    flags: options.RunFlags,
) -> None:
    """Distance of every row of X to every row of Y, out of core.

    Neither input nor the output has to fit in memory. With -o the matrix is written; without it a summary is
    printed: smallest, mean and largest distance, and the closest pair.

    Example: mlpipe distances X.npy Y.npy --metric cityblock -o D.npy --memory 512MiB
    """
    session = session_of(context)
    if condensed and y is not None:
        raise UsageError("--condensed is for X against itself; leave Y out")
    _refuse_terminal(output)
    check_outputs([("--report", flags.report), ("--output", output), ("--lock", flags.lock)])
    from mlpipe.pipeline import Pipeline
    from mlpipe.stages.metrics import Measure
    from mlpipe.stages.pairwise import Pairwise
    from mlpipe.stages.shapes import check_rows

    with ExitStack() as opened:
        opened.enter_context(holding(flags))
        source, other = _open(x, opened), None if y is None else _open(y, opened)
        files = [one for one in (source, other) if one is not None]
        paths = {"w": weights, "V": variance, "VI": inverse_covariance}
        parameters = {name: _open(path, opened) for name, path in paths.items() if path is not None}
        measure = Measure(metric, p, **_values(parameters, check_rows(files)))
        stage = Pairwise(source, other, measure, dtype, condensed)
        stage.plan(source.spec)
        _say_what_is_assumed(stage, session)
        kept = [file.fingerprint for file in (*files, *parameters.values())]
        sink = _sink(stage, kept, output, flags.force)
        command = ["distances", *(file.path for file in files)]
        request = Request(command, flags, [_facts(file) for file in files], output, kept)
        record = carry_out(Pipeline(source, [stage], sink), request, session, lambda _rows: _result(sink))
        if record is not None:
            _finish(record, stage, output, flags.as_json, session)


def _refuse_terminal(output: str | None) -> None:
    if output == "-" and sys.stdout.isatty():
        raise UsageError("-o - would write binary data to the terminal; redirect it, or name a file")


def _open(path: Path, opened: ExitStack) -> NpySource:
    from mlpipe.readers.npy import NpySource

    if str(path) == "-":
        raise UsageError("distances reads its inputs more than once, which stdin cannot; name a file")
    return opened.enter_context(NpySource(path))


def _values(parameters: dict[str, NpySource], features: int) -> dict[str, Array]:
    """What the files hold, read only if they hold as much as they should."""
    from mlpipe.errors import InputError

    for name, source in parameters.items():
        wanted = (features, features) if name == "VI" else (features,)
        if source.shape != wanted:
            raise InputError(
                f"{source.name} has shape {source.shape}; {name} of {features} features must have {wanted}"
            )
    return {name: source[:] for name, source in parameters.items()}


def _say_what_is_assumed(stage: Pairwise, session: Session) -> None:
    if all(len(source.spec.row_shape) == 0 for source in stage.sources):
        names = " and ".join(source.name for source in stage.sources)
        verb = "is" if len(stage.sources) == 1 else "are"
        session.note(f"{names} {verb} one-dimensional: every element is taken as a row of one feature")


def _sink(stage: Pairwise, kept: list[Fingerprint], output: str | None, force: bool) -> Sink:
    from mlpipe.writers.summary import SummarySink

    if output is None:
        return SummarySink(above=stage.y is None)
    from mlpipe.writers.npy import Layout, NpySink, StreamSink

    layout: Layout = "condensed" if stage.condensed else "matrix"
    if output == "-":
        return StreamSink(sys.stdout, layout=layout, inputs=kept)
    return NpySink(output, force=force, layout=layout, inputs=kept, hint=HINT)


def _facts(source: NpySource) -> ArrayFacts:
    size = source.fingerprint.st_size
    return {"path": source.path, "bytes": size, "shape": list(source.shape), "dtype": source.dtype.name}


def _result(sink: Sink) -> dict[str, Any] | None:
    from mlpipe.writers.summary import SummarySink

    return asdict(sink.summary()) if isinstance(sink, SummarySink) else None


def _finish(record: Record, stage: Pairwise, output: str | None, as_json: bool, session: Session) -> None:
    """Print the summary, or where the output is."""
    spec = stage.plan(stage.x.spec)
    facts = {"shape": [spec.rows, *spec.row_shape], "dtype": spec.dtype.name, "metric": stage.measure.definition.name}
    if record.result is not None:
        facts.update(record.result)
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            typer.echo(aligned(_summary_rows(facts)))
    elif output != "-":
        if as_json:
            typer.echo(json.dumps({**facts, "output": output, "bytes": spec.nbytes}))
        else:
            shape = " x ".join(map(str, facts["shape"]))
            session.note(f"wrote {output}: {shape} {facts['dtype']} {facts['metric']} distances")


def _summary_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    def pair(place: tuple[int, int] | None) -> str:
        return "" if place is None else f"  rows {place[0]} and {place[1]}"

    def value(name: str) -> str:
        return "-" if facts[name] is None else f"{facts[name]:.9g}"

    rows = [
        ("metric", facts["metric"]),
        ("shape", " x ".join(map(str, facts["shape"]))),
        ("dtype", facts["dtype"]),
        ("distances", f"{facts['pairs']:,}"),
        ("smallest", value("minimum") + pair(facts["closest"])),
        ("mean", value("mean")),
        ("largest", value("maximum") + pair(facts["farthest"])),
    ]
    rows.extend((name, f"{facts[name]:,}") for name in ("missing", "infinite") if facts[name])
    return rows
