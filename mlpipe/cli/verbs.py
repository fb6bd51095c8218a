"""``mlpipe verbs``: every verb of a chain."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import typer

from mlpipe.cli import options
from mlpipe.cli.session import session_of
from mlpipe.cli.text import aligned
from mlpipe.registry import table, unusable

_Row = tuple[str, str, str, str]

_TITLES = ("verb", "kind", "flow", "what it does")


def verbs(context: typer.Context, as_json: options.Json = False) -> None:
    """Every verb of a chain: its kind, how much it has to see, and what it does.

    streaming needs one block of rows, buffering a bounded window, fitting a pass over everything first; reducing
    merges partial results to one. Each verb has its own help: mlpipe run shuffle --help.

    Example: mlpipe verbs --json
    """
    entries = list(table().values())
    for reason in unusable():
        session_of(context).note(f"warning: {reason}")
    if as_json:
        facts = [{key: value for key, value in asdict(entry).items() if key != "target"} for entry in entries]
        typer.echo(json.dumps(facts, indent=2))
        return
    rows = [_TITLES, *((entry.name, entry.kind, entry.flow, entry.summary) for entry in entries)]
    if sys.stdout.isatty():  # elsewhere a line for each verb
        rows = list(_folded(rows, shutil.get_terminal_size().columns))
    typer.echo(aligned(rows))


def _folded(rows: Sequence[_Row], columns: int) -> Iterator[_Row]:
    """Rows of which the last cell goes on in further lines where a terminal is too narrow."""
    before = sum(max(len(row[place]) for row in rows) + 2 for place in range(3))
    for *cells, summary in rows:
        first, *more = textwrap.wrap(summary, max(20, columns - before))
        yield (cells[0], cells[1], cells[2], first)
        yield from (("", "", "", line) for line in more)
