"""``mlpipe count-features``: how often each value occurs."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.carry_out import Request, carry_out, check_outputs, holding
from mlpipe.cli.chain import joined, typer_parameter
from mlpipe.cli.session import session_of
from mlpipe.declare import parameters
from mlpipe.errors import UsageError
from mlpipe.registry import make
from mlpipe.stages.count_features import CARRIED, CountFeatures

if TYPE_CHECKING:
    from mlpipe.cli.counted import Delivery
    from mlpipe.link import Source
    from mlpipe.opening import Opening
    from mlpipe.pipeline import Pipeline

MOST_VALUES, MOST_BINS = 20, 100
"""Rows that a terminal shows, unless --top asks for others."""

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Files, directories, patterns in quotes, or - for stdin."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="Write .csv, .json, .npz, .npy or .parquet; - is CSV on stdout."
    ),
]
Lines = Annotated[
    str | None, typer.Option("--lines", metavar="FILE.txt", help="Count the lines of a text; - is stdin.")
]
Split = Annotated[bool, typer.Option("--split", help="With --lines: count words, not lines.")]


@dataclass(frozen=True, slots=True)
class Flags:
    """What only the command takes; the rest is the verb's.

    Parameters
    ----------
    files, lines, split
        What is read.
    output, force, dry_run, as_json, memory, threads, progress, report, lock
        As for every command.
    """

    files: list[str]
    lines: str | None
    split: bool
    output: str | None
    force: bool
    dry_run: bool
    as_json: bool
    memory: int | None
    threads: int | None
    progress: Any
    report: Path | None
    lock: Path | None


def _declared(
    context: typer.Context,
    files: Files = None,
    lines: Lines = None,
    split: Split = False,
    output: Output = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    memory: options.Memory = None,
    threads: options.Threads = None,
    progress: options.Progress = "auto",
    report: options.Report = None,
    lock: options.Lock = None,
) -> None:
    """Only declares them."""


def count_features(context: typer.Context, **values: Any) -> None:
    """How often each value occurs, in arrays and texts of any size.

    Without -o the table goes to stdout: with bars on a terminal, else as CSV. All NaN are one value, and -0 equals 0.
    Files of different dtypes count together where one dtype holds the values of both exactly. What does not fit into
    memory goes through temporary files.

    Example: mlpipe count-features X.npy --column 3 --top 20 -o counts.csv
    """
    session = session_of(context)
    own = {one.name for one in parameters(CountFeatures)}
    verb = make("count-features", **joined(CountFeatures, {name: values[name] for name in own}))
    flags = Flags(**{name: value for name, value in values.items() if name not in own})
    _check(flags, verb)
    from mlpipe.cli.counted import Delivery
    from mlpipe.opening import Opening
    from mlpipe.writers.tables import check_table

    with ExitStack() as opened:
        opened.enter_context(holding(flags.lock, dry_run=flags.dry_run))
        opening = Opening(opened, flags.force)
        source = _source(flags, verb, opening)
        if flags.output not in (None, "-"):
            opening.ends(str(flags.output), "--output")
        noun = "rows" if flags.lines is None else "words" if flags.split else "lines"
        limit = verb.top or (MOST_BINS if {"--bins", "--edges"} & set(verb.given()) else MOST_VALUES)
        delivery = Delivery(source, flags.output, flags.as_json, opening, noun, limit)
        pipeline = _pipeline(flags, source, verb, delivery, opening)
        if flags.output is not None:
            check_table(flags.output, opening)
        request = Request(
            ["count-features", source.name], flags.memory, flags.threads, flags.progress, flags.report, flags.dry_run,
            flags.as_json, flags.force, [_facts(source)], None, opening.inputs,
        )  # fmt: skip
        record = carry_out(pipeline, request, session, lambda _: delivery.facts)
        if record is not None:
            delivery.finish(session)


def _check(flags: Flags, verb: CountFeatures) -> None:
    """Raise UsageError for flags that contradict each other."""
    check_outputs([("--report", flags.report), ("--output", flags.output), ("--lock", flags.lock)])
    if flags.output == "-" and flags.as_json:
        raise UsageError("-o - and --json: the first writes CSV to stdout, the second JSON; give one of them")
    if flags.split and flags.lines is None:
        raise UsageError("--split: only a text has words; give --lines FILE.txt, too")
    if flags.lines is None:
        return
    if flags.files:
        raise UsageError(f"--lines {flags.lines} and {flags.files[0]}: give either a text or arrays")
    no_text = ("--sort", "--top", "--min-count", "--normalize", "--cumulative", "--temp-dir")
    for flag in verb.given():
        if flag not in no_text:
            raise UsageError(f"--lines and {flag}: a text has neither columns nor numbers; give one of them")


def _source(flags: Flags, verb: CountFeatures, opening: Opening) -> Source:
    """What is read."""
    if flags.lines is not None:
        from mlpipe.readers.text import TextSource

        text = opening.files.enter_context(TextSource(flags.lines))
        opening.inputs.append(text.fingerprint)
        return text
    from mlpipe.readers.inputs import open_inputs

    return open_inputs(flags.files or [], opening, labelled=verb.by == CARRIED, text=True)


def _pipeline(flags: Flags, source: Source, verb: CountFeatures, delivery: Delivery, opening: Opening) -> Pipeline:
    """The chain that the command is."""
    from mlpipe.cli.counted import TableSink
    from mlpipe.pipeline import Pipeline
    from mlpipe.readers.text import TextSource
    from mlpipe.stages.counting_lines import CountingLines
    from mlpipe.writers.nothing import NothingSink

    sink = NothingSink() if flags.output is None else TableSink()
    if isinstance(source, TextSource):
        directory = verb.temp_dir or opening.temporary
        stage: Any = CountingLines(verb, None, None, directory, delivery, flags.split)
    else:
        stage = verb.stage(opening, delivery)
    delivery.watch(stage.side_sources.values())
    return Pipeline(source, [stage], sink, [("read", source.spec)], "write")


def _facts(source: Source) -> Any:
    spec = source.spec
    shape = [spec.rows, *spec.row_shape]
    return {"path": source.name, "bytes": spec.nbytes, "shape": shape, "dtype": spec.dtype.name}


def _signature() -> inspect.Signature:
    """The command's own flags, and then the verb's, from its declaration."""
    own = inspect.signature(_declared, eval_str=True)
    verb = [typer_parameter(one) for one in parameters(CountFeatures)]
    kinds = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own.parameters.values()]
    first, rest = kinds[:4], kinds[4:]
    return inspect.Signature([*first, *verb, *rest])


count_features.__signature__ = _signature()  # type: ignore[attr-defined]
count_features.__annotations__ = {
    name: one.annotation for name, one in inspect.signature(count_features).parameters.items()
}
