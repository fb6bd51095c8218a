"""What every command that runs a chain does: plan it, show the plan or run it, and report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from mlpipe.cli.recording import ReportFile, fingerprint_of, measured
from mlpipe.cli.session import Session
from mlpipe.cli.text import aligned
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.cli.options import RunFlags
    from mlpipe.engine.budget import Plan
    from mlpipe.link import Spec
    from mlpipe.measure.record import ArrayFacts, Record
    from mlpipe.opening import FileIdentity
    from mlpipe.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Request:
    """What a command asks for.

    Parameters
    ----------
    command : list of str
        What the record calls the run.
    flags : RunFlags
        Those that every command of this kind has.
    inputs : list of ArrayFacts
        What the record says of them.
    output : str or None
        Where the output goes; ``-`` for stdout.
    kept : sequence of FileIdentity
        Files that the report must not replace.
    prefetch : int
        As the flag.
    seeds : sequence of int
        Of whatever draws random numbers.
    """

    command: list[str]
    flags: RunFlags
    inputs: list[ArrayFacts] = field(default_factory=list)
    output: str | None = None
    kept: Sequence[FileIdentity] = field(default_factory=list)
    prefetch: int = 1
    seeds: Sequence[int] = ()


def holding(flags: RunFlags) -> AbstractContextManager[None]:
    """What holds the file of `--lock`, to be entered before anything else is opened; a dry run needs none."""
    if flags.lock is None or flags.dry_run:
        return nullcontext()
    from mlpipe.writers.lock_file import locked

    return locked(flags.lock)


def check_outputs(named: Iterable[tuple[str, str | os.PathLike[str] | None]]) -> None:
    """Raise UsageError if two flags, each with its path, name the same file."""
    seen: dict[str, str] = {}
    for what, path in named:
        if path is None or path == "-":
            continue
        other = seen.setdefault(os.path.realpath(path), what)
        if other != what:
            raise UsageError(f"both {other} and {what} name {path}; give them different files")


def carry_out(
    pipeline: Pipeline,
    request: Request,
    session: Session,
    result: Callable[[int], dict[str, Any] | None],
    *,
    planned: Callable[[], None] | None = None,
) -> Record | None:
    """Plan and run a pipeline, with progress, the table afterwards, and the report.

    Parameters
    ----------
    pipeline : Pipeline
        What to run.
    request : Request
        How.
    session : Session
        Whether to be quiet.
    result : callable
        What the record keeps as the result, for the number of rows that went to the sink; asked after the run.
    planned : callable, optional
        Called once the plan stands, before anything is done.

    Returns
    -------
    Record or None
        What was measured; None after `--dry-run`, which prints the plan instead.
    """
    from mlpipe.engine.budget import plan as make_plan
    from mlpipe.engine.fit import check_repeatable, fitted
    from mlpipe.engine.local import run
    from mlpipe.measure.host import processors
    from mlpipe.measure.memory import default_ceiling, keep_heap_trimmed

    keep_heap_trimmed()
    if request.flags.report is not None:
        ReportFile(request.flags.report, force=request.flags.force, kept=request.kept).check()
    plan = make_plan(
        pipeline, request.flags.memory or default_ceiling(), request.flags.threads or processors(), request.prefetch
    )
    check_repeatable(pipeline)
    if planned is not None:
        planned()
    if request.flags.dry_run:
        _show_plan(plan, request.flags.as_json)
        return None
    record = _new_record(plan, request, session)
    with measured(record, request.command[0], session, request.flags, request.kept) as (meter, advance):
        plan = fitted(pipeline, plan, meter, advance)
        rows = run(plan, meter, advance)
        record.result = result(rows)
        if record.output is not None and plan.output.rows is None:
            record.output["shape"][0], record.output["bytes"] = rows, rows * _stored(plan).row_bytes
    return record


def _stored(plan: Plan) -> Spec:
    """What the output holds: what comes out of the last stage, unless the sink adds to it."""
    holds = getattr(plan.pipeline.sink, "holds", None)
    return plan.output if holds is None else holds(plan.output)


def _new_record(plan: Plan, request: Request, session: Session) -> Record:
    from mlpipe.measure.record import Record

    record = Record(
        session.arguments or request.command,
        threads=plan.threads,
        memory_ceiling=plan.ceiling,
        inputs=request.inputs,
        fingerprints=[fingerprint_of(one["path"], request.kept) for one in request.inputs],
        seeds=request.seeds,
        plan=_facts(plan),
    )
    if request.output is not None:
        spec = _stored(plan)
        shape: list[int | None] = [int(spec.rows or 0), *spec.row_shape]
        record.output = {
            "path": request.output, "bytes": int(spec.nbytes or 0), "shape": shape, "dtype": spec.dtype.name,
        }  # fmt: skip
    return record


def _facts(plan: Plan) -> dict[str, Any]:
    """The plan as plain values; that of a chain of verbs says what each of them hands on."""
    if not plan.pipeline.within:
        return plan.describe()
    return {**plan.describe(), "passes_over_source": plan.passes, "links": plan.links()}


def _show_plan(plan: Plan, as_json: bool) -> None:
    from mlpipe.measure.sizes import format_size

    facts = _facts(plan)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    if "links" in facts:
        typer.echo(aligned(_link_rows(facts["links"])) + "\n")
    rows = [
        ("memory ceiling", format_size(plan.ceiling)),
        ("  interpreter and kernels", format_size(plan.base)),
        ("  held", format_size(facts["bytes_held"])),
        ("threads", str(plan.threads)),
    ]
    if "passes_over_source" in facts:
        rows.append(("passes over the source", str(facts["passes_over_source"])))
    for stage in facts["stages"]:
        rows.append(("stage", str(stage["stage"])))
        for name, value in stage.items():
            if name == "bytes_held":
                rows.extend((f"  {what}", format_size(size)) for what, size in value.items())
            elif name != "stage":
                shown = " x ".join(map(str, value)) if isinstance(value, list) else str(value)
                rows.append((f"  {name.replace('_', ' ')}", shown))
    rows.append(("written", _written(plan)))
    typer.echo(aligned(rows))


def _link_rows(links: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line of the plan for each link."""
    from mlpipe.measure.sizes import format_size

    heading = ("link", "rows", "shape of a row", "dtype", "labels", "held")
    return [
        heading,
        *(
            (
                link["link"],
                "not known" if link["rows"] is None else f"{link['rows']:,}",
                " x ".join(map(str, link["shape"])) or "one value",
                link["dtype"],
                link["labels"] or "",
                format_size(link["bytes_held"]) if link["bytes_held"] else "",
            )
            for link in links
        ),
    ]


def _written(plan: Plan) -> str:
    from mlpipe.measure.sizes import format_size

    if not plan.pipeline.sink.stored:
        return "nothing"
    return "not known ahead" if plan.output.nbytes is None else format_size(plan.output.nbytes)
