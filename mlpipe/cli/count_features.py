"""``mlpipe count-features``: how often each value occurs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.carry_out import Request, carry_out, check_outputs, holding
from mlpipe.cli.session import session_of
from mlpipe.errors import UsageError
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
class Asked:
    """What only the command takes; the rest is the verb's.

    Parameters
    ----------
    files, lines, split
        What is read.
    output
        Where the table goes.
    """

    files: list[str]
    lines: str | None
    split: bool
    output: str | None


@options.running(verb="count-features")
def count_features(
    context: typer.Context,
    files: Files = None,
    lines: Lines = None,
    split: Split = False,
    output: Output = None,
    *,
    verb: CountFeatures,
    flags: options.RunFlags,
) -> None:
    """How often each value occurs, in arrays and texts of any size.

    Without -o the table goes to stdout: with bars on a terminal, else as CSV. All NaN are one value, and -0 equals 0.
    Files of different dtypes count together where one dtype holds the values of both exactly. What does not fit into
    memory goes through temporary files.

    Example: mlpipe count-features X.npy --column 3 --top 20 -o counts.csv
    """
    session = session_of(context)
    asked = Asked(files or [], lines, split, output)
    _check(asked, flags, verb)
    from mlpipe.cli.counted import Delivery
    from mlpipe.opening import Opening
    from mlpipe.writers.tables import check_table

    with ExitStack() as opened:
        opened.enter_context(holding(flags))
        opening = Opening(opened, flags.force)
        source = _source(asked, verb, opening)
        if output not in (None, "-"):
            opening.ends(str(output), "--output")
        noun = "rows" if lines is None else "words" if split else "lines"
        limit = verb.top or (MOST_BINS if {"--bins", "--edges"} & set(verb.given()) else MOST_VALUES)
        delivery = Delivery(source, output, flags.as_json, opening, noun, limit)
        pipeline = _pipeline(asked, source, verb, delivery, opening)
        if output is not None:
            check_table(output, opening)
        request = Request(["count-features", source.name], flags, [_facts(source)], None, opening.inputs)
        record = carry_out(pipeline, request, session, lambda _: delivery.facts)
        if record is not None:
            delivery.finish(session)


def _check(asked: Asked, flags: options.RunFlags, verb: CountFeatures) -> None:
    """Raise UsageError for flags that contradict each other."""
    check_outputs([("--report", flags.report), ("--output", asked.output), ("--lock", flags.lock)])
    if asked.output == "-" and flags.as_json:
        raise UsageError("-o - and --json: the first writes CSV to stdout, the second JSON; give one of them")
    if asked.split and asked.lines is None:
        raise UsageError("--split: only a text has words; give --lines FILE.txt, too")
    if asked.lines is None:
        return
    if asked.files:
        raise UsageError(f"--lines {asked.lines} and {asked.files[0]}: give either a text or arrays")
    no_text = ("--sort", "--top", "--min-count", "--normalize", "--cumulative", "--temp-dir")
    for flag in verb.given():
        if flag not in no_text:
            raise UsageError(f"--lines and {flag}: a text has neither columns nor numbers; give one of them")


def _source(asked: Asked, verb: CountFeatures, opening: Opening) -> Source:
    """What is read."""
    if asked.lines is not None:
        from mlpipe.readers.text import TextSource

        text = opening.files.enter_context(TextSource(asked.lines))
        opening.inputs.append(text.fingerprint)
        return text
    from mlpipe.readers.inputs import open_inputs

    return open_inputs(asked.files, opening, labelled=verb.by == CARRIED, text=True)


def _pipeline(asked: Asked, source: Source, verb: CountFeatures, delivery: Delivery, opening: Opening) -> Pipeline:
    """The chain that the command is."""
    from mlpipe.pipeline import Pipeline
    from mlpipe.readers.text import TextSource
    from mlpipe.stages.counting_lines import CountingLines
    from mlpipe.writers.nothing import NothingSink, TableSink

    sink = NothingSink() if asked.output is None else TableSink()
    if isinstance(source, TextSource):
        directory = verb.temp_dir or opening.temporary
        stage: Any = CountingLines(verb, None, None, directory, delivery, asked.split)
    else:
        stage = verb.stage(opening, delivery)
    delivery.watch(stage.side_sources.values())
    return Pipeline(source, [stage], sink, [("read", source.spec)], "write")


def _facts(source: Source) -> Any:
    spec = source.spec
    shape = [spec.rows, *spec.row_shape]
    return {"path": source.name, "bytes": spec.nbytes, "shape": shape, "dtype": spec.dtype.name}
