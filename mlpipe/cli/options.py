"""Every flag that two commands share, defined once; and how a command gets them.

A flag wins over its ``MLPIPE_*`` variable, and that over the default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints, overload

import typer

from mlpipe.cli.chain import joined, typer_parameter
from mlpipe.cli.session import event_log, session_of
from mlpipe.declare import parameters
from mlpipe.errors import UsageError
from mlpipe.registry import find, make
from mlpipe.verbs import Entry

MOST_THREADS = 1024
MOST_AHEAD = 1024


def _size(text: str) -> int:
    """Bytes of ``512MiB``, ``1.5G`` or ``100000``."""
    from mlpipe.measure.sizes import parse_size

    return parse_size(text)


def _threads(text: str) -> int:
    """Whole number within reason."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_THREADS):
        raise UsageError(f"--threads {text}: give a whole number from 1 to {MOST_THREADS}")
    return int(text)


def _prefetch(text: int | str) -> int:
    """Whole number within reason; Typer parses the default, too."""
    if not (str(text).isascii() and str(text).isdigit() and 1 <= int(str(text)[:9]) <= MOST_AHEAD):
        raise UsageError(f"--prefetch {text}: give a whole number from 1 to {MOST_AHEAD}")
    return int(text)


# A string, for a path would lose the slash at the end of a directory's name.
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write a .npy file; - writes its bytes to stdout."),
]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace an existing output.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Print the plan; read no data, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        parser=_size,
        envvar="MLPIPE_MEMORY",
        show_default="the smaller of 1 GiB and half of what is free",
        help="Ceiling on the memory of the whole process, such as 512MiB.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        parser=_threads,
        envvar="MLPIPE_THREADS",
        show_default="the processors this process may use",
        help="Threads that compute.",
    ),
]
Prefetch = Annotated[
    int,
    typer.Option(
        "--prefetch", metavar="N", parser=_prefetch, envvar="MLPIPE_PREFETCH",
        help="Blocks that are read ahead of the one in use.",
    ),
]  # fmt: skip
Progress = Annotated[
    Literal["auto", "bar", "log", "none"],
    typer.Option(
        "--progress",
        envvar="MLPIPE_PROGRESS",
        help="A bar, a line every few seconds, or neither; auto is a bar on a terminal only.",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Write where time and memory went: FILE.json, FILE.html or FILE.prom."
    ),
]
Lock = Annotated[
    Path | None,
    typer.Option("--lock", metavar="FILE", help="End with exit code 75 at once if another run holds this file."),
]
LogJson = Annotated[
    bool,
    typer.Option("--log-json", envvar="MLPIPE_LOG_JSON", help="Tell what happens on stderr as JSON, one line each."),
]
Dtype = Annotated[
    Literal["float32", "float64"] | None,
    typer.Option(
        "--dtype",
        show_default="float32 for float16 and float32 inputs, else float64",
        help="Type to compute in and to write.",
    ),
]


@dataclass(frozen=True, slots=True)
class RunFlags:
    """The flags of every command that carries out a chain: its fields are their declaration."""

    force: Force = False
    dry_run: DryRun = False
    as_json: Json = False
    memory: Memory = None
    threads: Threads = None
    progress: Progress = "auto"
    report: Report = None
    lock: Lock = None
    log_json: LogJson = False


Command = Callable[..., None]


@overload
def running(function: Command) -> Command: ...
@overload
def running(*, verb: str) -> Callable[[Command], Command]: ...
def running(function: Command | None = None, *, verb: str | None = None) -> Command | Callable[[Command], Command]:
    """Give a command the flags of `RunFlags`, and the options of a verb.

    Parameters
    ----------
    function : callable
        The command. Its parameter ``flags`` gets the flags, made into one `RunFlags`; ``verb``, if it has one, the
        verb. What it declares besides stays, in its order.
    verb : str, optional
        Name of the verb whose declared options become flags of the command, in the place of the parameter ``verb``.
    """
    if function is None:
        return lambda command: _with_flags(command, None if verb is None else find(verb))
    return _with_flags(function, None)


def _reporting(flags: RunFlags, context: typer.Context | None) -> AbstractContextManager[None]:
    """What writes the report of a command that ends before its run begins, too."""
    if context is None:
        return nullcontext()
    from mlpipe.cli.recording import reporting

    session = session_of(context)
    if flags.log_json and session.log is None:
        session.log = event_log()
    return reporting(flags, session)


def _with_flags(function: Command, entry: Entry | None) -> Command:
    """The command as Typer sees it: one keyword a flag."""
    shared = [one.name for one in fields(RunFlags)]

    def command(**values: Any) -> None:
        flags = RunFlags(**{name: values.pop(name) for name in shared})
        with _reporting(flags, values.get("context")):
            carry_out(values, flags)

    def carry_out(values: dict[str, Any], flags: RunFlags) -> None:
        given: dict[str, Any] = {"flags": flags}
        if entry is not None:
            kind = entry.load()
            own = {one.name: values.pop(one.name) for one in parameters(kind)}
            given["verb"] = make(entry.name, **joined(kind, own))
        function(**values, **given)

    hints = get_type_hints(RunFlags, include_extras=True)
    flags = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(RunFlags)
    ]
    options = [] if entry is None else [typer_parameter(one) for one in parameters(entry.load())]
    found = inspect.signature(function, eval_str=True).parameters.values()
    declared = [
        replacement
        for one in found
        for replacement in {"flags": flags, "verb": options}.get(
            one.name, [one.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        )
    ]
    command.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in declared}
    command.__doc__, command.__name__, command.__module__ = function.__doc__, function.__name__, function.__module__
    return command
