"""``mlpipe run``: a chain of verbs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.carry_out import Request, carry_out, holding
from mlpipe.cli.chain import parse_links, split_links
from mlpipe.cli.complete import ChainCommand, complete_link
from mlpipe.cli.session import Session, session_of
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.config import Config
    from mlpipe.measure.record import Record
    from mlpipe.opening import FileIdentity
    from mlpipe.pipeline import Pipeline

SETTINGS = {"allow_interspersed_args": False}
"""What follows the first link belongs to the chain, flags included."""

COMMAND = ChainCommand
"""Completes options inside the chain."""

RUN_KEYS: dict[str, tuple[type, ...]] = {
    "memory": (int, str), "threads": (int,), "prefetch": (int,), "progress": (str,), "force": (bool,), "report": (str,),
    "lock": (str,),
}  # fmt: skip
"""Flags that a config may hold under ``[run]``, and the types of their values there."""

_WANTED = {int: "a whole number", str: "text", bool: "true or false"}


def _use_config(context: typer.Context, path: Path | None) -> Any:
    """Load the config; its flags become defaults, which flags and variables win over."""
    if path is None or context.resilient_parsing:
        return None
    from mlpipe.config import load

    config = load(path)
    _check_flags(f"{path}: [run]", config.flags)
    context.default_map = {key: value if isinstance(value, bool) else str(value) for key, value in config.flags.items()}
    return config


def _check_flags(where: str, flags: dict[str, Any]) -> None:
    """Raise UsageError for a key that is no flag of a run, or a value of another type."""
    from mlpipe.declare import MOST, nearest, shown

    for key, value in flags.items():
        if key not in RUN_KEYS:
            raise UsageError(f"{where}: no key {key!r}{nearest(key, RUN_KEYS)}")
        if type(value) not in RUN_KEYS[key] or (isinstance(value, int) and abs(value) >= MOST):
            wanted = " or ".join(_WANTED[kind] for kind in RUN_KEYS[key])
            raise UsageError(f"{where}: {key} = {shown(value)}: give {wanted}")


Links = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE … [then STAGE …]… [then SINK …]",
        help="Verbs and their options; see mlpipe verbs.",
        autocompletion=complete_link,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE.toml", callback=_use_config, is_eager=True, help="Take the chain from a config."
    ),
]
SaveConfig = Annotated[
    Path | None, typer.Option("--save-config", metavar="FILE.toml", help="Also write the chain as a config.")
]


@options.running
def run(
    context: typer.Context,
    links: Links = None,
    config: ConfigFile = None,
    save_config: SaveConfig = None,
    prefetch: options.Prefetch = 1,
    *,
    flags: options.RunFlags,
) -> None:
    """Read rows, pass them through stages, write them.

    Links of the chain are separated by the word then, or by +; flags of the run come before the first link. Each
    verb has its own help: mlpipe run head --help. All verbs: mlpipe verbs. A flag wins over its MLPIPE_… variable,
    and that over the config.

    Example: mlpipe run read X.npy then head --rows 1000 then write head.npy
    """
    session = session_of(context)
    verbs, kept = _verbs(context, links, config)
    from mlpipe.chain import assemble, check_order
    from mlpipe.opening import Opening

    check_order(verbs)
    ended = _with_sink(verbs)
    with ExitStack() as files:
        files.enter_context(holding(flags))
        opening = Opening(files, flags.force, kept)
        for what, path in (("--save-config", save_config), ("--report", flags.report), ("--lock", flags.lock)):
            if path is not None:
                opening.writes(path, what)
        pipeline = assemble(ended, opening)
        command = ["run", *_names(ended)]
        seeds = [one.seed for one in ended if isinstance(getattr(one, "seed", None), int)]
        request = Request(command, flags, _facts(pipeline), _output(ended), opening.inputs, prefetch, seeds)
        save = _saving(context, save_config, verbs, request)
        record = carry_out(pipeline, request, session, lambda rows: {"rows": rows}, planned=save)
        if record is not None:
            _finish(record, flags.as_json, session)


def _verbs(context: typer.Context, links: list[str] | None, config: Any) -> tuple[list[Any], list[FileIdentity]]:
    """The chain, and the file it came from, if any."""
    if config is not None:
        if links:
            raise UsageError(f"--config holds the chain; leave out {links[0]!r} and what follows")
        found: Config = config
        return list(found.verbs), [found.fingerprint] if found.fingerprint else []
    if not links:
        raise UsageError("a chain needs a source, such as: mlpipe run read X.npy then head then write Y.npy")
    flags = [name for one in context.command.params for name in [*one.opts, *one.secondary_opts]]
    return parse_links(split_links(links), flags), []


def _with_sink(verbs: list[Any]) -> list[Any]:
    """The chain, ended by stdout where it has no sink."""
    from mlpipe.registry import entry_of, make

    if entry_of(verbs[-1]).kind == "sink":
        return verbs
    if sys.stdout.isatty():
        raise UsageError("the chain has no sink; end it with 'then write FILE', or 'then nothing' to only measure it")
    return [*verbs, make("write", "-")]


def _names(verbs: list[Any]) -> list[str]:
    from mlpipe.registry import name_of

    return [name_of(verb) for verb in verbs]


def _output(verbs: list[Any]) -> str | None:
    return getattr(verbs[-1], "path", None)


def _saving(
    context: typer.Context, path: Path | None, verbs: list[Any], request: Request
) -> Callable[[], None] | None:  # fmt: skip
    """What writes the config once the chain is known to be valid; what can be known to fail fails now."""
    if path is None:
        return None
    from mlpipe.config import config_file

    given = {key: context.params[key] for key in RUN_KEYS if _was_given(context, key)}
    values = {key: value if isinstance(value, bool | int) else str(value) for key, value in given.items()}
    file, content = config_file(path, verbs, values, force=request.flags.force, inputs=request.kept)
    file.check()

    def save() -> None:
        with file:
            file.pwrite(content, 0)

    return save


def _was_given(context: typer.Context, key: str) -> bool:
    """Whether a flag or the config says it; variables and defaults are not what was asked for here."""
    source = context.get_parameter_source(key)
    return source is not None and source.name in ("COMMANDLINE", "DEFAULT_MAP")


def _facts(pipeline: Pipeline) -> list[Any]:
    spec = pipeline.source.spec
    shape = [spec.rows, *spec.row_shape]
    return [{"path": pipeline.source.name, "bytes": spec.nbytes, "shape": shape, "dtype": spec.dtype.name}]


def _finish(record: Record, as_json: bool, session: Session) -> None:
    """Say what was done."""
    output: dict[str, Any] = dict(record.output or {})
    if as_json and output.get("path") != "-":
        typer.echo(json.dumps({**(record.result or {}), **output}))
    elif output:
        shape = " x ".join(map(str, output["shape"]))
        session.note(f"wrote {output['path']}: {shape} {output['dtype']}")
    else:
        session.note(f"{(record.result or {})['rows']:,} rows went through")
