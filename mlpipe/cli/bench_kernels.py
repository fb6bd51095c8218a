"""``mlpipe bench kernels``: ways to compute distances and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli import benching, options
from mlpipe.cli.benching import Shown, names, whole
from mlpipe.cli.session import session_of
from mlpipe.errors import UsageError

if TYPE_CHECKING:
    from mlpipe.bench.data import Data

ROWS = 2000
FEATURES = 64
VALUES = 1_000_000
DISTINCT = 1000

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[X.npy [Y.npy]]", help="Rows to compare on; made-up ones without."),
]
Rows = Annotated[
    int, typer.Option("--rows", metavar="N", parser=whole("--rows"), help="Rows of X; the first ones of a file.")
]
Columns = Annotated[
    int, typer.Option("--columns", metavar="N", parser=whole("--columns"), help="Rows of Y: columns of the matrix.")
]
Features = Annotated[
    int | None,
    typer.Option(
        "--features", metavar="N", parser=whole("--features"), show_default=str(FEATURES),
        help="Features of made-up rows.",
    ),
]  # fmt: skip
Values = Annotated[
    int, typer.Option("--values", metavar="N", parser=whole("--values"), help="Values that are counted.")
]
Distinct = Annotated[
    int | None,
    typer.Option(
        "--distinct", metavar="N", parser=whole("--distinct", 2**40), show_default=str(DISTINCT),
        help="Range of made-up values.",
    ),
]  # fmt: skip
Column = Annotated[
    int | None, typer.Option("--column", metavar="N", show_default="0", help="Column of X that is counted.")
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="TASK", help="Only pair, batch or count; may be repeated."),
]


def bench_kernels(
    context: typer.Context,
    files: Files = None,
    rows: Rows = ROWS,
    columns: Columns = ROWS,
    features: Features = None,
    values: Values = VALUES,
    distinct: Distinct = None,
    column: Column = None,
    dtype: options.Dtype = None,
    task: Tasks = None,
    repeat: benching.Repeat = 5,
    budget: benching.Budget = 2.0,
    threads: benching.Threads = None,
    plot: benching.Plot = None,
    force: benching.Force = False,
    as_json: benching.Json = False,
    progress: benching.Progress = "auto",
) -> None:
    """Time ways to compute: pure Python, NumPy, Numba, mlpipe and, if there is one, a GPU.

    The tasks are the euclidean distance of a pair of vectors, those of a batch of rows to another, and how often each
    integer of a column occurs. All results are compared with NumPy's; one that is wrong ends the run. What takes longer
    than the budget is timed on some of the rows and scaled, which ≈ says. Compiling is timed apart.

    Example: mlpipe bench kernels --rows 5000 --columns 5000 --features 128 --dtype float32 --plot kernels.svg
    """
    session = session_of(context)
    from mlpipe.bench.kernels import TASKS, Settings, compare_kernels
    from mlpipe.measure.host import processors

    settings = Settings(threads or processors(), repeat, budget, names("--task", task, TASKS))
    data = _data(files or [], rows, columns, features, values, distinct, column, dtype)
    shown = Shown(session, as_json=as_json, plot=plot, force=force, inputs=data.files)
    said = {
        "rows": len(data.x), "columns": len(data.y), "features": data.x.shape[1], "dtype": data.x.dtype.name,
        "values": 0 if data.values is None else len(data.values), "repeat": repeat, "budget_s": budget,
        "threads": settings.threads, "tasks": list(settings.tasks),
    }  # fmt: skip
    with shown.progress(progress, None) as ready:
        found = compare_kernels(data, settings, said, ready)
    shown.show(found)


def _data(
    files: list[str], rows: int, columns: int, features: int | None, values: int, distinct: int | None,
    column: int | None, dtype: Any,
) -> Data:  # fmt: skip
    """What is compared on."""
    from mlpipe.bench.data import made_up, of_files

    if len(files) > 2:
        raise UsageError(f"{files[2]}: give X.npy and at most Y.npy")
    if not files:
        if column is not None:
            raise UsageError("--column is of a file; give X.npy, or leave it out")
        return made_up(rows, columns, features or FEATURES, dtype, values, distinct or DISTINCT)
    for flag, value in (("--features", features), ("--distinct", distinct)):
        if value is not None:
            raise UsageError(f"{flag} is for made-up data; leave it out with {files[0]}")
    return of_files(files, rows, columns, dtype, values, column or 0)
