"""``mlpipe report``: what to do with the records that runs leave behind."""

from __future__ import annotations

import typer

COMMANDS = {
    "show": "The table of a run again.",
    "compare": "Two runs side by side; exit code 8 when a threshold is crossed.",
    "html": "A page that works offline, of one run or of two.",
}


def report(context: typer.Context) -> None:
    """Show and compare the records that --report FILE.json and mlpipe profile -o FILE.json leave behind."""
    from mlpipe.cli.main import want_command

    want_command(context)
