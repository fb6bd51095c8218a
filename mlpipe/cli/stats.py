"""``mlpipe stats``: statistics of each column and of all values."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.carry_out import Request, carry_out, check_outputs, holding
from mlpipe.cli.session import Session, session_of
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.link import Source
    from mlpipe.opening import Opening
    from mlpipe.stages.stats import DescribingStage
    from mlpipe.statistics.results import Statistics

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Files, directories, patterns in quotes, or - for stdin."),
]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write .json, .csv, or .npz, which standardize --from reads."),
]
Fractions = Annotated[
    str | None,
    typer.Option("--quantiles", metavar="Q,…", help="Also quantiles, such as 0.01,0.5,0.99; exact, by more passes."),
]
Approx = Annotated[
    bool, typer.Option("--approx", help="Estimate quantiles and distinct values by sketches, in one pass.")
]
Unique = Annotated[bool, typer.Option("--unique", help="Also the number of distinct values, NaN not among them.")]
Covariance = Annotated[
    str | None,
    typer.Option("--covariance", metavar="F.npy", help="Also the covariance of each two columns, pair by pair."),
]
Correlation = Annotated[
    str | None, typer.Option("--correlation", metavar="F.npy", help="Also the correlation of each two columns.")
]
Ddof = Annotated[
    int, typer.Option("--ddof", metavar="N", help="Divide variances by the count less N; a .npz always has N = 0.")
]
Columns = Annotated[str | None, typer.Option("--columns", metavar="COLUMNS", help="Only these, such as 0,3:7,-1.")]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="F.svg", help="Draw histograms of up to 16 columns, as .svg or .png."),
]
TempDir = Annotated[
    str | None, typer.Option("--temp-dir", metavar="DIR", help="Where temporary files go; beside the output.")
]


@options.running
def stats(
    context: typer.Context,
    files: Files = None,
    output: Output = None,
    quantiles: Fractions = None,
    approx: Approx = False,
    unique: Unique = False,
    covariance: Covariance = None,
    correlation: Correlation = None,
    ddof: Ddof = 1,
    columns: Columns = None,
    plot: Plot = None,
    temp_dir: TempDir = None,
    *,
    flags: options.RunFlags,
) -> None:
    """Statistics of each column and of all values, in one pass.

    Number of values, missing, infinite and zeros; minimum, maximum and the rows in which they come first and last;
    sum, mean, variance, standard deviation, skewness and kurtosis. The digits are the same for any memory, threads and
    shards, and right however far values are from zero. Without -o a table is printed.

    Example: mlpipe stats X.npy --quantiles 0.25,0.5,0.75 -o stats.npz
    """
    session = session_of(context)
    named = [("--output", output), ("--covariance", covariance), ("--correlation", correlation), ("--plot", plot)]
    check_outputs([*named, ("--report", flags.report), ("--lock", flags.lock)])
    from mlpipe.opening import Opening
    from mlpipe.registry import make

    given = {"output": output, "quantiles": quantiles or (), "covariance": covariance, "correlation": correlation}
    verb = make("stats", **given, approx=approx, unique=unique, ddof=ddof, temp_dir=temp_dir)
    with ExitStack() as opened:
        opened.enter_context(holding(flags))
        opening = Opening(opened, flags.force)
        source, names = _source(files or [], columns, opening)
        if output is not None:
            opening.place = str(Path(output).parent)
        drawing = _drawing(plot, opening)
        stage = verb.stage(opening, histograms=plot is not None)
        check_once(source, verb, plot)
        request = Request(["stats", source.name], flags, [_facts(source)], None, opening.inputs)
        if not _run(source, stage, request, session):
            return
        result = _named(stage, names)
        if drawing is not None:
            drawing.write(result, source.name)
    outputs = [path for _, path in named if path is not None]
    _show(result, stage, as_json=flags.as_json, outputs=outputs, session=session)


def _source(files: list[str], columns: str | None, opening: Opening) -> tuple[Source, list[str] | None]:
    """What is read, and what its columns are called where they are not all."""
    from mlpipe.readers.columns import PartSource, check_columns, parse_columns, resolve_columns
    from mlpipe.readers.inputs import open_inputs

    source = open_inputs(files, opening)
    if columns is None:
        return source, None
    chosen = parse_columns(columns)
    check_columns(chosen)
    part = PartSource(source, None, chosen)
    return part, [str(one) for one in resolve_columns(chosen, source.spec.row_shape[0], source.name)]


def check_once(source: Source, verb: Any, plot: Path | None) -> None:
    """Raise UsageError for what takes several passes, where rows come only once."""
    if source.seekable:
        return
    if plot is not None:
        raise UsageError(f"--plot reads all rows twice, but {source.name} can be read only once; save it to a file")


def _run(source: Source, stage: DescribingStage, request: Request, session: Session) -> bool:
    """Carry it out; False after a dry run."""
    from mlpipe.pipeline import Pipeline
    from mlpipe.writers.nothing import NothingSink

    pipeline = Pipeline(source, [stage], NothingSink(), [("read", source.spec)], "nothing")
    return carry_out(pipeline, request, session, lambda rows: {"rows": rows}) is not None


def _named(stage: DescribingStage, names: list[str] | None) -> Statistics:
    """The result, with columns called what they are called in the file."""
    result = stage.work.result
    if result is None:
        raise RuntimeError("a run that succeeded has a result")
    if names is not None:
        result = stage.work.result = replace(result, names=names)
    return result


def _facts(source: Source) -> Any:
    spec = source.spec
    shape = [spec.rows, *spec.row_shape]
    return {"path": source.name, "bytes": spec.nbytes, "shape": shape, "dtype": spec.dtype.name}


def _drawing(plot: Path | None, opening: Opening) -> Any:
    """What draws, if that is wanted; what can be known to fail fails now."""
    if plot is None:
        return None
    from mlpipe.report.plot import Drawing

    drawing = Drawing(plot, opening)
    drawing.check()
    return drawing


def _show(result: Statistics, stage: DescribingStage, *, as_json: bool, outputs: list[Any], session: Session) -> None:
    """Print the table, unless it went to a file, and say where the others are."""
    from mlpipe.report.stats import notes, stats_table
    from mlpipe.statistics.files import json_facts

    for note in notes(result):
        session.note(note)
    if as_json:
        typer.echo(json.dumps(json_facts(result)))
    elif stage.verb.output is None:
        if sys.stdout.isatty():
            from mlpipe.report.console import ReportConsole

            ReportConsole().print(stats_table(result, terminal=True))
        else:
            typer.echo(stats_table(result, terminal=False), nl=False)
    for path in outputs:
        session.note(f"wrote {path}")
