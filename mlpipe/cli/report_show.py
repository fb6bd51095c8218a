"""``mlpipe report show``: the table of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlpipe.cli import options


def report_show(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="A record.")],
    as_json: options.Json = False,
) -> None:
    """Print the table of a run from its record: where its time and its memory went.

    Example: mlpipe report show run.json
    """
    from mlpipe.cli.profiling import show_record
    from mlpipe.measure.record import json_text
    from mlpipe.measure.schema import load_record

    record = load_record(file)
    if as_json:
        typer.echo(json_text(record), nl=False)
    else:
        show_record(record, err=False)
