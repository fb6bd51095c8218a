"""``mlpipe verbs``: every verb of a chain."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from mlpipe.cli import options
from mlpipe.cli.session import session_of
from mlpipe.cli.text import aligned
from mlpipe.registry import table, unusable


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
    rows = [(entry.name, entry.kind, entry.flow, entry.summary) for entry in entries]
    typer.echo(aligned([("verb", "kind", "flow", "what it does"), *rows]))
