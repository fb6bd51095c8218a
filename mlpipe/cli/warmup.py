"""``mlpipe warmup``: compile and cache the kernels ahead, for images and cron."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from mlpipe.cli import options
from mlpipe.cli.session import session_of


def warmup(
    context: typer.Context,
    metric: Annotated[
        list[str] | None,
        typer.Option("-m", "--metric", metavar="METRIC", help="Only this metric's kernels; may be repeated."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="The kernels of all metrics, as without --metric.")] = False,
    as_json: options.Json = False,
    progress: options.Progress = "auto",
) -> None:
    """Compile the kernels and keep them in the cache directory, so that no later run has to.

    The cache is for one version of mlpipe and one kind of processor: warm it where the runs will be. Kernels
    that are in it already only take the time to load them.
    """
    from mlpipe.engine.warmup import warm
    from mlpipe.errors import OutputError
    from mlpipe.kernels._jit import CACHE_VARIABLE, cache_state
    from mlpipe.measure.sizes import format_duration, format_size
    from mlpipe.report.progress import make_progress

    session = session_of(context)
    started = time.perf_counter()
    # Names and a bar would overwrite each other.
    with make_progress("none" if session.quiet or session.verbose else progress, None, unit="kernels") as shown:

        def ready(kernel: str) -> None:
            shown.advance(1)
            session.detail(kernel)

        kernels = warm(() if every else metric or (), ready)
    seconds = time.perf_counter() - started
    cache = cache_state()
    if cache["directory"] is None or not cache["writable"]:
        raise OutputError(f"kernels were compiled but could not be kept; set {CACHE_VARIABLE} to a writable directory")
    if as_json:
        typer.echo(json.dumps({"kernels": kernels, "seconds": round(seconds, 3), **cache}))
    else:
        size = f"{cache['entries']} files, {format_size(cache['bytes'])}"
        typer.echo(f"{kernels} kernels ready in {format_duration(seconds)}: {cache['directory']} ({size})")
