"""``mlpipe report html``: a page of one run or of two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlpipe.cli import options
from mlpipe.cli.session import session_of


def report_html(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="A record.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER.json]", help="Another one to compare it with, of an earlier run.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE.html", help="Where the page goes.", show_default="beside FILE.json"
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    """Make a page of a record: one file that works offline, with everything in it.

    Example: mlpipe report html run.json -o run.html
    """
    from mlpipe.cli.profiling import page_of, write_text
    from mlpipe.measure.schema import load_record

    record = load_record(file)
    earlier = None if other is None else load_record(other)
    path = file.with_suffix(".html") if output is None else output
    write_text(
        path, ".html", page_of(record, earlier), force=force, kept=[one for one in (file, other) if one is not None]
    )
    session_of(context).note(f"wrote {path}")
