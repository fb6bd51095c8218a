"""``mlpipe dedup-near``: rows that do not lie near an earlier one that is kept."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.carry_out import Request, carry_out, check_outputs, holding
from mlpipe.cli.session import Session, session_of
from mlpipe.cli.text import aligned
from mlpipe.stages.dedup_near import DedupNear

if TYPE_CHECKING:
    from mlpipe.stages.near_duplicates import NearDuplicates

Files = Annotated[
    list[str], typer.Argument(metavar="FILE…", help="Files, directories, patterns in quotes, or - for stdin.")
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="Write the rows kept: a .npy file, DIR/ for shards, - for stdout."
    ),
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="Y.npy", help="Labels of the rows; those beside files in a directory go along."),
]


@options.running(verb="dedup-near")
def dedup_near(
    context: typer.Context,
    files: Files,
    verb: DedupNear,
    output: Output = None,
    labels: Labels = None,
    *,
    flags: options.RunFlags,
) -> None:
    """Rows that do not lie within a radius of an earlier row that is kept, exactly.

    Rows are taken in order: the first is kept, and each further one unless it is within --radius of a kept one, as for
    cleaning embeddings of near-duplicates. Any two rows kept are farther apart than the radius. Labels go along, into a
    file of their own. Without -o only a summary is printed.

    Example: mlpipe dedup-near X.npy --radius 0.1 --metric cosine -o kept.npy --indices which.npy
    """
    session = session_of(context)
    check_outputs([
        ("--report", flags.report), ("--output", output), ("--indices", verb.indices), ("--lock", flags.lock)
    ])  # fmt: skip
    from mlpipe.opening import Opening
    from mlpipe.pipeline import Pipeline
    from mlpipe.registry import make

    with ExitStack() as opened:
        opened.enter_context(holding(flags))
        opening = Opening(opened, flags.force)
        source = make("read", *files, labels=labels).open(opening)
        sink = (make("nothing") if output is None else make("write", output)).open(opening)
        stage: Any = verb.open(opening)
        spec = source.spec
        facts: Any = {
            "path": source.name, "bytes": spec.nbytes, "shape": [spec.rows, *spec.row_shape], "dtype": spec.dtype.name,
        }  # fmt: skip
        pipeline = Pipeline(source, [stage], sink, [("read", spec)], "write" if output is not None else "nothing")
        request = Request(["dedup-near", source.name], flags, [facts], output, opening.inputs)
        record = carry_out(pipeline, request, session, lambda _: _result(stage))
    if record is not None and record.result is not None:  # all files are there
        _show(record.result, verb, output, flags, session)


def _result(stage: NearDuplicates) -> dict[str, Any]:
    from mlpipe.stages.within import plain

    seen = stage.seen
    return {
        "rows": seen.rows, "kept": seen.kept, "dropped": seen.rows - seen.kept, "radius": plain(stage.verb.radius),
        "metric": stage.metric, "spilled_bytes": seen.stored_bytes,
    }  # fmt: skip


def _show(
    result: dict[str, Any], verb: DedupNear, output: str | None, flags: options.RunFlags, session: Session
) -> None:
    """Say how many rows are kept, and where they are."""
    outputs = {"output": output, "indices": verb.indices}
    facts = {**result, **{name: path for name, path in outputs.items() if path is not None}}
    if output == "-":
        return
    if flags.as_json:
        typer.echo(json.dumps(facts))
    elif output is not None:
        session.note(f"wrote {output}: {facts['kept']:,} of {facts['rows']:,} rows")
    else:
        names = ("metric", "radius", "rows", "kept", "dropped")
        typer.echo(aligned([(name, _shown({**facts, "radius": verb.radius}[name])) for name in names]))


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.9g}" if isinstance(value, float) else str(value)
