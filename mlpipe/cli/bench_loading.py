"""``mlpipe bench loading``: ways to load a directory of shards."""

from __future__ import annotations

from typing import Annotated

import typer

from mlpipe.cli import benching
from mlpipe.cli.benching import Shown, names, whole
from mlpipe.cli.session import session_of

Directory = Annotated[str, typer.Argument(metavar="DIR", help="A directory of .npy files whose rows are alike.")]
BatchSize = Annotated[
    int, typer.Option("--batch-size", metavar="N", parser=whole("--batch-size"), help="Rows of a batch.")
]
BufferSize = Annotated[
    int, typer.Option("--buffer-size", metavar="N", parser=whole("--buffer-size"), help="Rows of shuffle buffers.")
]
Epochs = Annotated[
    int, typer.Option("--epochs", metavar="N", parser=whole("--epochs", 10_000), help="Times through all rows.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", parser=whole("--seed", 2**63 - 1, 0), help="Of all orders.")]
Cold = Annotated[bool, typer.Option("--cold", help="Have files leave the page cache before each epoch.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="METHOD", help="Only this one, as --json calls it; may be repeated."),
]


def bench_loading(
    context: typer.Context,
    directory: Directory,
    batch_size: BatchSize = 256,
    buffer_size: BufferSize = 4096,
    epochs: Epochs = 1,
    seed: Seed = 0,
    cold: Cold = False,
    method: Methods = None,
    budget: benching.Budget = 20.0,
    threads: benching.Threads = None,
    plot: benching.Plot = None,
    force: benching.Force = False,
    as_json: benching.Json = False,
    progress: benching.Progress = "auto",
) -> None:
    """Time ways to load a directory of shards in batches, each in a process of its own.

    A full load, generators of rows and of batches, memory maps, PyTorch's IterableDataset and Grain where they are
    installed, and mlpipe. Every byte of every batch is read once, and its sum has to be the same for all. Rows per
    second count from opening the files on; importing is apart. Memory is the peak of anonymous memory, of worker
    processes, too. What takes longer than the budget is stopped, and its rate is that of the rows it got to.

    Example: mlpipe bench loading train/ --epochs 2 --cold --plot loading.svg
    """
    session = session_of(context)
    from mlpipe.bench.loading import Settings, compare_loading, find_shards
    from mlpipe.bench.ways import WAYS
    from mlpipe.measure.host import processors

    chosen = names("--method", method, list(WAYS))
    settings = Settings(batch_size, buffer_size, epochs, budget, seed, threads or processors(), cold, chosen)
    found = find_shards(directory)
    shown = Shown(session, as_json=as_json, plot=plot, force=force, inputs=found.files)
    said = {
        "batch_size": batch_size, "buffer_size": buffer_size, "epochs": epochs, "seed": seed, "cold": cold,
        "budget_s": budget, "threads": settings.threads, "methods": chosen,
    }  # fmt: skip
    with shown.progress(progress, len(chosen)) as ready:
        result = compare_loading(found, settings, said, ready)
    shown.show(result)
