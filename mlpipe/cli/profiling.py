"""What the commands about records share: show one, write one, show two side by side."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlpipe.cli.text import aligned, one_line
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.measure.schema import RecordFacts
    from mlpipe.report.compare import Comparison
    from mlpipe.writers.atomic import AtomicFile


def show_record(record: RecordFacts, *, err: bool) -> None:
    """Print what a record says: on a terminal with colours, elsewhere as plain text."""
    from mlpipe.report.profile import profile_text
    from mlpipe.report.table import stage_table

    command = one_line(" ".join(["mlpipe", *record["command"]]))
    if record["status"] != "done" or not record["complete"]:
        reason = f": {one_line(record['error'])}" if record["error"] else ""
        typer.echo(f"{command}\n{record['status']}, exit code {record['exit_code']}{reason}", err=err)
    else:
        typer.echo(command, err=err)
    if (sys.stderr if err else sys.stdout).isatty():
        from mlpipe.report.console import ReportConsole

        ReportConsole(stderr=err).print(stage_table(record, terminal=True))
    else:
        typer.echo(stage_table(record, terminal=False), err=err, nl=False)
    typer.echo(profile_text(record), err=err, nl=False)


def show_comparison(found: Comparison, differing: Sequence[str], *, err: bool) -> None:
    """Print two records side by side, and what else differs."""
    from mlpipe.report.compare import comparison_table

    typer.echo(f"old: {found.names[0]}\nnew: {found.names[1]}", err=err)
    for reason in differing:
        typer.echo(f"warning: {one_line(reason)}", err=err)
    for note in found.notes():
        typer.echo(one_line(note), err=err)
    typer.echo(aligned(comparison_table(found.changes())), err=err)


def page_of(record: RecordFacts, other: RecordFacts | None) -> str:
    """The page of a record."""
    from mlpipe.report.html import render

    return render(record, other)


def check_text(path: Path, ending: str, *, force: bool, kept: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raise for what can be known to keep a text from being written, or if the name has another ending."""
    _file(path, ending, None, force, kept).check()


def write_text(path: Path, ending: str, text: str, *, force: bool, kept: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Write a file whole or not at all; never in the place of one of those that are kept."""
    content = text.encode("utf-8", "replace")  # names of files may hold anything
    with _file(path, ending, len(content), force, kept) as file:
        file.pwrite(content, 0)


def _file(path: Path, ending: str, size: int | None, force: bool, kept: Iterable[str | os.PathLike[str]]) -> AtomicFile:
    from mlpipe.writers.atomic import AtomicFile

    if str(path) == "-":
        raise UsageError("a report needs a file; --json prints it to stdout")
    if path.suffix.lower() != ending:  # lest -f replace data by a slip
        raise UsageError(f"{str(path if path.name else '')!r}: give a name that ends in {ending}")
    return AtomicFile(path, size=size, force=force, inputs=list(_there(kept)))


def _there(paths: Iterable[str | os.PathLike[str]]) -> Iterator[os.stat_result]:
    """Those of the paths that exist; words of a command that are none do not."""
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            yield Path(path).stat()
