"""The command line: a table of commands, and the one place that turns an error into an exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

from mlpipe import __version__
from mlpipe.cli.signals import interruptible, silent

with silent():  # what takes a tenth of a second
    import typer
    from typer.core import TyperGroup
    from typer.main import get_command

    from mlpipe.cli.explain import explain, stdout_failed
    from mlpipe.cli.session import Session, asks_for_log, event_log, session_of
from mlpipe.errors import Interrupted, OutputError, UsageError

# A command is the function `name` in the module `mlpipe.cli.name`, imported only when it is run.
COMMANDS = {
    "distances": "Distances between all rows of one or two files.",
    "neighbors": "The nearest rows of a set, for every row of another.",
    "count-features": "How often each value occurs, in arrays and texts.",
    "dedup-near": "Rows without those that lie near an earlier one.",
    "stats": "Statistics of each column and of all values, in one pass.",
    "run": "A chain of verbs: read, transform, write.",
    "verbs": "Every verb of a chain.",
    "profile": "Any command, measured: where time and memory went.",
    "report": "Show, compare and draw records of runs.",
    "info": "Shape, dtype, order and size from the header alone.",
    "doctor": "What this machine offers and mlpipe will use.",
    "bench": "Compare ways to compute and to load, on this machine.",
    "warmup": "Compile and cache the kernels ahead of time.",
}


def _summary() -> None:
    """Stand for a command in the list."""


def load(name: str, prefix: str = "") -> Any:
    """Import one command and let Typer read its annotated function.

    The command ``name`` of a group is in the module `mlpipe.cli.group_name`. A module with ``COMMANDS`` is a group.
    """
    attribute = f"{prefix}{name}".replace("-", "_")
    module = importlib.import_module(f"mlpipe.cli.{attribute}")
    function, commands = getattr(module, attribute), getattr(module, "COMMANDS", None)
    if commands is not None:
        return get_command(_group(name, commands, function))
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings, kind = getattr(module, "SETTINGS", None), getattr(module, "COMMAND", None)
    single.command(name, cls=kind, context_settings=settings)(function)
    return get_command(single)


class LazyGroup(TyperGroup):
    """A group whose commands are summaries until one of them is run."""

    prefix = ""
    """What the names of its modules begin with."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Put the real command in the place of its summary."""
        name, summary, rest = super().resolve_command(ctx, args)
        return name, load(name, self.prefix) if name else summary, rest


def _group(name: str, commands: dict[str, str], function: Any) -> typer.Typer:
    """A command that is followed by another one; `function` has its flags and its help."""
    kind = type("NestedGroup", (LazyGroup,), {"prefix": f"{name}-"})
    group = typer.Typer(
        cls=kind, name=name, add_completion=False, rich_markup_mode=None, invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    for one, summary in commands.items():
        group.command(one, help=summary)(_summary)
    group.callback()(function)
    return group


# Plain help: Rich would double the time of `mlpipe --help`.
app = typer.Typer(
    cls=LazyGroup,
    name="mlpipe",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)


for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(_summary)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlpipe {__version__}")
        raise typer.Exit


def want_command(context: typer.Context) -> None:
    """End with the list of commands unless one of them follows."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(UsageError.exit_code)


@app.callback()
def before_command(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only results and errors.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also say what was decided, and why.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="MLPIPE_DEBUG", help="Show a traceback with an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Exact, fast, out-of-core work on .npy files, under a memory ceiling that is kept."""
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other; give one of them")
    session = session_of(context)
    session.quiet, session.verbose, session.debug = quiet, verbose, debug
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")
    want_command(context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``mlpipe``; by default what the process was started with.

    Returns
    -------
    int
        The exit code: 0, or that of the error which ended the run.

    Examples
    --------
    >>> main(["--version"])  # doctest: +ELLIPSIS
    mlpipe ...
    0
    """
    _prepare_streams()
    _limit_blas()
    given = sys.argv[1:] if arguments is None else list(arguments)
    session = Session(arguments=given, alone=arguments is None)
    with interruptible(), warnings.catch_warnings():
        try:
            if asks_for_log(given):  # even if they cannot be parsed
                session.log = event_log()
            _run(given, session)
            sys.stdout.flush()
        except typer.Exit as done:
            return done.exit_code
        except Exception as error:  # noqa: BLE001 - the one place where every error ends
            return _report(error, session)
        except Interrupted as error:
            return _report(error, session)
    return 0


def _run(arguments: list[str], session: Session) -> None:
    """Parse and carry out one command; errors come out as they were raised."""
    command = get_command(app)
    if "_MLPIPE_COMPLETE" in os.environ:
        command.main(prog_name="mlpipe")
    # Not `command.main`: it would turn every signal into exit 130 and a closed pipe into exit 1.
    with command.make_context("mlpipe", arguments, obj=session) as context:
        command.invoke(context)


def _report(error: BaseException, session: Session) -> int:
    """Say in one line what went wrong; return the exit code."""
    if session.debug:
        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        _discard_stdout()
        return OutputError.exit_code
    if stdout_failed(error):
        _discard_stdout()
    code, message = explain(error)
    session.complain(message, code)
    return code


def _discard_stdout() -> None:
    """Let the interpreter's last flush go nowhere: stdout has failed already."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _limit_blas() -> None:
    """Keep NumPy's linear algebra to one thread: with more, a matrix is inverted to other last digits.

    Has to come before NumPy is imported. It also starts sooner, and reserves 72 MiB less address space.
    """
    for library in ("OPENBLAS", "MKL", "BLIS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"


def _prepare_streams() -> None:
    """Make the standard streams safe to use, whatever this process was started with."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Lest an output become stream 1 or 2. Only reading it, so that what is said to nobody fails.
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may not fit its encoding
