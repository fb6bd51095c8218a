"""What the comparisons share: their flags, and how results are shown."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import options
from mlpipe.cli.session import Session
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.opening import FileIdentity

MOST = 10**9
MOST_SECONDS = 86_400.0


def whole(flag: str, most: int = MOST, least: int = 1) -> Callable[[str | int], int]:
    """Reads a whole number within reason."""

    def read(text: str | int) -> int:
        shown = str(text)
        if not (shown.isascii() and shown.isdigit() and least <= int(shown[:20]) <= most):
            raise UsageError(f"{flag} {shown}: give a whole number from {least} to {most:,}")
        return int(shown)

    return read


def several(flag: str, most: int = MOST) -> Callable[[str], tuple[int, ...]]:
    """Reads whole numbers with commas between them; gives each once, in ascending order."""
    one = whole(flag, most)

    def read(text: str) -> tuple[int, ...]:
        return tuple(sorted({one(part.strip()) for part in text.split(",")}))

    return read


def _budget(text: str | float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(f"--budget {text}: give seconds, more than 0 and up to {MOST_SECONDS:,.0f}")
    return seconds


def names(flag: str, given: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Those of the known names that were given, in the order in which they are known; all of them if none was."""
    from mlpipe.declare import nearest

    for name in given or ():
        if name not in known:
            raise UsageError(f"{flag} {name}: no such {flag[2:]}{nearest(name, known)}")
    return [name for name in known if not given or name in given]


Repeat = Annotated[
    int,
    typer.Option("--repeat", metavar="N", parser=whole("--repeat", 10_000), help="Samples of each, if there is time."),
]
Budget = Annotated[
    float, typer.Option("--budget", metavar="SECONDS", parser=_budget, help="Time for each method at each task.")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="F.svg", help="Draw the comparison, as .svg or .png (mlpipe[plot]).")
]
Force = options.Force
Json = options.Json
Progress = options.Progress
Threads = options.Threads


class Shown:
    """How far a comparison is, and then its result.

    Parameters
    ----------
    session : Session
        Whether to be quiet.
    as_json : bool
        Print JSON.
    plot : Path or None
        Where the picture goes.
    force : bool
        Whether it may replace what is there.
    inputs : list
        Files it may not replace.
    """

    def __init__(
        self, session: Session, *, as_json: bool, plot: Path | None, force: bool, inputs: Sequence[FileIdentity] = ()
    ) -> None:
        self._session, self._as_json, self._plot = session, as_json, plot
        self._drawing: Any = None
        if plot is not None:
            from mlpipe.opening import Opening
            from mlpipe.report.plot import Drawing

            with ExitStack() as files:
                self._drawing = Drawing(plot, Opening(files, force, list(inputs)))
            self._drawing.check()

    @contextmanager
    def progress(self, mode: Any, total: int | None) -> Iterator[Callable[[str], None]]:
        """Show how many are done; yields what is told of each."""
        from mlpipe.report.progress import make_progress

        quiet = self._session.quiet or self._session.verbose
        with make_progress("none" if quiet else mode, total, unit="methods") as shown:

            def ready(label: str) -> None:
                shown.advance(1)
                self._session.detail(label)

            yield ready

    def show(self, found: Any) -> None:
        """Print the tables, or JSON, and draw the picture."""
        if self._drawing is not None:
            from mlpipe.report.comparison_plot import comparison_picture

            self._drawing.put(comparison_picture(found, self._drawing.suffix))
        if self._as_json:
            typer.echo(json.dumps(found, allow_nan=False))
        else:
            _print_tables(found)
        if not self._as_json:
            for note in found["notes"]:
                self._session.note(note)
        if self._plot is not None:
            self._session.note(f"wrote {self._plot}")


def _print_tables(found: Any) -> None:
    from mlpipe.report.comparison import comparison_tables

    tables = comparison_tables(found)
    if sys.stdout.isatty():
        from mlpipe.report.console import ReportConsole

        console = ReportConsole()
        for table in tables:
            console.print(table)
            console.print()
    else:
        typer.echo("\n".join(map(str, tables)), nl=False)
