"""``mlpipe bench scaling``: how time grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import benching, options
from mlpipe.cli.benching import Shown, names, several
from mlpipe.cli.session import session_of
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.bench.data import Data

ROWS = 4000
FEATURES = 256
VALUES = 8_000_000
DISTINCT = 1000

File = Annotated[str | None, typer.Argument(metavar="[X.npy]", help="Rows to measure with; made-up ones without.")]
Metric = Annotated[str, typer.Option("-m", "--metric", metavar="METRIC", help="Of the distances.")]
Rows = Annotated[
    Any,
    typer.Option("--rows", metavar="N,…", parser=several("--rows"), show_default="500,1000,2000,4000", help="Sizes."),
]
Features = Annotated[
    Any,
    typer.Option(
        "--features", metavar="N,…", parser=several("--features"), show_default="32,64,128,256", help="Sizes."
    ),
]
Values = Annotated[
    Any,
    typer.Option(
        "--values", metavar="N,…", parser=several("--values"), show_default="1000000,2000000,4000000,8000000",
        help="Numbers of values that are counted.",
    ),
]  # fmt: skip
Threads = Annotated[
    Any,
    typer.Option(
        "--threads", metavar="N,…", parser=several("--threads", options.MOST_THREADS), show_default="1, 2, 4 … all",
        help="Numbers of threads.",
    ),
]  # fmt: skip
Column = Annotated[
    int | None, typer.Option("--column", metavar="N", show_default="0", help="Column of X that is counted.")
]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", metavar="TASK", help="Only distances or count; may be repeated.")
]


def bench_scaling(
    context: typer.Context,
    file: File = None,
    metric: Metric = "euclidean",
    rows: Rows = None,
    features: Features = None,
    values: Values = None,
    threads: Threads = None,
    column: Column = None,
    dtype: options.Dtype = None,
    task: Tasks = None,
    repeat: benching.Repeat = 5,
    budget: benching.Budget = 1.0,
    plot: benching.Plot = None,
    force: benching.Force = False,
    as_json: benching.Json = False,
    progress: benching.Progress = "auto",
) -> None:
    """Time mlpipe's distances and counts at several sizes: how they grow with rows, features and threads.

    While one of them varies, the others have their largest size. The power by which time grows is fitted to the best
    times. Of threads the efficiency is shown: what is left of each, beside the fewest.

    Example: mlpipe bench scaling --metric cityblock --rows 1000,2000,4000 --threads 1,2,4 --plot scaling.svg
    """
    session = session_of(context)
    from mlpipe.bench.scaling import TASKS, Settings, compare_scaling, ladder, thread_ladder
    from mlpipe.measure.host import processors
    from mlpipe.stages.metrics import Measure

    Measure(metric)
    tasks = names("--task", task, TASKS)
    data = _data(file, rows or (ROWS,), features, values or (VALUES,), column, dtype)
    counted = 0 if data.values is None or "count" not in tasks else len(data.values)
    settings = Settings(
        rows=_sizes("--rows", rows, len(data.x), file) or ladder(len(data.x)),
        features=_sizes("--features", features, data.x.shape[1], file) or ladder(data.x.shape[1]),
        values=(_sizes("--values", values, counted, file) if counted else None) or ladder(max(1, counted)),
        threads=threads or thread_ladder(processors()),
        metric=metric, repeat=repeat, budget=budget, tasks=tasks,
    )  # fmt: skip
    shown = Shown(session, as_json=as_json, plot=plot, force=force, inputs=data.files)
    said = {
        "metric": metric, "dtype": data.x.dtype.name, "rows": list(settings.rows), "features": list(settings.features),
        "values": list(settings.values), "threads": list(settings.threads), "repeat": repeat, "budget_s": budget,
        "tasks": tasks,
    }  # fmt: skip
    with shown.progress(progress, 3 * ("distances" in tasks) + 2 * ("count" in tasks)) as ready:
        found = compare_scaling(data, settings, said, ready)
    shown.show(found)


def _data(
    file: str | None, rows: Sequence[int], features: Sequence[int] | None, values: Sequence[int], column: int | None,
    dtype: Any,
) -> Data:  # fmt: skip
    """What is measured with: as much as the largest sizes take."""
    from mlpipe.bench.data import made_up, of_files

    if file is not None:
        return of_files([file], rows[-1], rows[-1], dtype, values[-1], column or 0)
    if column is not None:
        raise UsageError("--column is of a file; give X.npy, or leave it out")
    return made_up(rows[-1], rows[-1], (features or (FEATURES,))[-1], dtype, values[-1], DISTINCT)


def _sizes(flag: str, given: Sequence[int] | None, most: int, file: str | None) -> Sequence[int] | None:
    """What was given, unless there is not so much."""
    if given and given[-1] > most:
        raise UsageError(f"{flag} {given[-1]}: {file} has {most:,}")
    return given
