"""``mlpipe run``: a chain of verbs."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.carry_out import Request, carry_out
from mlpipe.cli.chain import parse_links, split_links
from mlpipe.cli.session import Session, session_of
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.measure.record import Record

Links = Annotated[
    list[str] | None,
    typer.Argument(metavar="SOURCE … [then STAGE …]… [then SINK …]", help="Verbs and their options; see mlpipe verbs."),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="Take the chain from a config.")]
SaveConfig = Annotated[
    Path | None, typer.Option("--save-config", metavar="FILE.toml", help="Also write the chain as a config.")
]
SETTINGS = {"allow_interspersed_args": False}
"""What follows the first link belongs to the chain, flags included."""


def run(
    context: typer.Context,
    links: Links = None,
    config: Config = None,
    save_config: SaveConfig = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    memory: options.Memory = None,
    threads: options.Threads = None,
    progress: options.Progress = "auto",
    report: options.Report = None,
) -> None:
    """Read rows, pass them through stages, write them.

    Links of the chain are separated by the word then; flags of the run come before the first. Each verb has its own
    help: mlpipe run shuffle --help. All verbs: mlpipe verbs.

    Example: mlpipe run read X.npy then head --rows 1000 then write head.npy
    """
    session = session_of(context)
    flags: dict[str, Any] = {}
    if config is not None:
        if links:
            raise UsageError("--config holds the chain; give no links beside it")
        from mlpipe.cli.config import load

        flags, verbs = load(config)
        memory = memory or _memory(flags)
        threads = threads or flags.get("threads")
        force = force or bool(flags.get("force"))
    else:
        if not links:
            raise UsageError("a chain needs a source, such as: mlpipe run read X.npy then head then write Y.npy")
        verbs = parse_links(split_links(links))
    from mlpipe.chain import assemble, check_order
    from mlpipe.opening import Opening

    check_order(verbs)
    verbs = _with_sink(verbs)
    given = {"memory": memory, "threads": threads, "force": force or None}
    if save_config is not None:
        _save(save_config, verbs, {key: value for key, value in given.items() if value is not None}, force)
    with ExitStack() as files:
        opening = Opening(files, force)
        pipeline = assemble(verbs, opening)
        command = ["run", *_names(verbs)]
        request = Request(
            command, memory, threads, progress, report, dry_run, as_json, force, _facts(pipeline),
            _output(verbs), list(opening.inputs),
        )  # fmt: skip
        record = carry_out(pipeline, request, session, lambda: _result(pipeline))
        if record is not None:
            _finish(record, as_json, session)


def _memory(flags: dict[str, Any]) -> int | None:
    from mlpipe.measure.sizes import parse_size

    return parse_size(str(flags["memory"])) if "memory" in flags else None


def _with_sink(verbs: list[Any]) -> list[Any]:
    """The chain, ended by stdout where it has no sink."""
    from mlpipe.chain import make
    from mlpipe.verbs import name_of, table

    if table()[name_of(verbs[-1])].kind == "sink":
        return verbs
    if sys.stdout.isatty():
        raise UsageError("the chain has no sink; end it with 'then write FILE', or 'then nothing' to only measure it")
    return [*verbs, make("write", "-")]


def _names(verbs: list[Any]) -> list[str]:
    from mlpipe.verbs import name_of

    return [name_of(verb) for verb in verbs]


def _output(verbs: list[Any]) -> str | None:
    return getattr(verbs[-1], "path", None)


def _save(path: Path, verbs: list[Any], flags: dict[str, Any], force: bool) -> None:
    from mlpipe.cli.config import dump
    from mlpipe.writers.atomic import AtomicFile

    content = dump(verbs, flags).encode()
    with AtomicFile(path, size=len(content), force=force) as file:
        file.pwrite(content, 0)


def _facts(pipeline: Any) -> list[Any]:
    spec = pipeline.source.spec
    shape = [spec.rows, *spec.row_shape]
    return [{"path": pipeline.source.name, "bytes": spec.nbytes, "shape": shape, "dtype": spec.dtype.name}]


def _result(pipeline: Any) -> dict[str, Any]:
    """What the sink says it got."""
    return {"rows": getattr(pipeline.sink, "rows", None) or pipeline.specs()[-1].rows}


def _finish(record: Record, as_json: bool, session: Session) -> None:
    """Say what was done."""
    output: dict[str, Any] = dict(record.output or {})
    facts = {**(record.result or {}), **output}
    if as_json and output.get("path") != "-":
        typer.echo(json.dumps(facts))
    elif output:
        shape = " x ".join(map(str, output["shape"]))
        session.note(f"wrote {output['path']}: {shape} {output['dtype']}")
    else:
        session.note(f"{facts['rows']:,} rows went through")
