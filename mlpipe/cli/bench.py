"""``mlpipe bench``: comparisons on the user's own machine and data."""

from __future__ import annotations

import typer

COMMANDS = {
    "kernels": "Distances and counts: Python, NumPy, Numba, mlpipe, CUDA.",
    "loading": "Ways to load a directory of shards, each in its own process.",
    "scaling": "How time grows with rows, features and threads.",
}


def bench(context: typer.Context) -> None:
    """Compare ways to compute and to load, on this machine and, if you like, on your data.

    What every method returns is compared with the others before any time is shown. Times are wall-clock times, so
    leave the machine alone meanwhile.
    """
    from mlpipe.cli.main import want_command

    want_command(context)
