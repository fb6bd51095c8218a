"""``mlpipe report compare``: two runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mlpipe.cli import options
from mlpipe.cli.session import session_of

FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        metavar="EXPR",
        help="End with exit code 8 beyond such a change, as in 'wall>+10%' or 'stage.read.self>+0.5s'; repeatable.",
    ),
]
Anyway = Annotated[bool, typer.Option("--anyway", help="Compare even if inputs, commands or hosts differ.")]


def report_compare(
    context: typer.Context,
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="The record to compare with.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="The record of the later run.")],
    fail_on: FailOn = None,
    anyway: Anyway = False,
    as_json: options.Json = False,
) -> None:
    """Compare two runs: medians side by side, and what changed in per cent.

    A threshold is METRIC OP CHANGE. METRIC is wall, cpu, anon_peak, rss_peak, file_peak, bytes_read, bytes_written,
    major_faults, or stage.NAME. and one of self, wait_in, wait_out, compile, cpu, rows_per_s, bytes_per_s, anon_peak,
    rss_peak, batch_p50, batch_p95, batch_max, rows, batches. OP is one of > >= < <=. CHANGE has a sign: +10%, +0.5s,
    +200MiB. A figure that a record lacks is an error, never a pass. Runs with other inputs, commands, threads or hosts
    are not compared, with exit code 4, nor are those that failed.

    Example: mlpipe report compare old.json new.json --fail-on 'wall>+10%' --fail-on 'stage.shuffle.anon_peak>+5%'
    """
    from mlpipe.cli.profiling import show_comparison
    from mlpipe.measure.schema import load_record
    from mlpipe.measure.thresholds import parse_threshold
    from mlpipe.report.compare import Comparison, check_thresholds

    session = session_of(context)
    thresholds = [parse_threshold(text) for text in fail_on or []]
    found = Comparison((str(old), str(new)), load_record(old), load_record(new))
    differing = found.check(anyway=anyway)
    if as_json:
        facts = {
            "old": str(old),
            "new": str(new),
            "differences": differing,
            "notes": found.notes(),
            "metrics": [change.facts() for change in found.changes()],
            "crossed": found.crossed(thresholds),
        }
        typer.echo(json.dumps(facts, indent=2, allow_nan=False))
    elif not session.quiet:
        show_comparison(found, differing, err=False)
    check_thresholds(found, thresholds)
