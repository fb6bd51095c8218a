"""Every flag that two commands share, defined once.

A flag wins over its ``MLPIPE_*`` variable, and that over the default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlpipe.errors import UsageError

MOST_THREADS = 1024
MOST_AHEAD = 1024


def _size(text: str) -> int:
    """Bytes of ``512MiB``, ``1.5G`` or ``100000``."""
    from mlpipe.measure.sizes import parse_size

    return parse_size(text)


def _threads(text: str) -> int:
    """Whole number within reason."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_THREADS):
        raise UsageError(f"--threads {text}: give a whole number from 1 to {MOST_THREADS}")
    return int(text)


def _prefetch(text: int | str) -> int:
    """Whole number within reason; Typer parses the default, too."""
    if not (str(text).isascii() and str(text).isdigit() and 1 <= int(str(text)[:9]) <= MOST_AHEAD):
        raise UsageError(f"--prefetch {text}: give a whole number from 1 to {MOST_AHEAD}")
    return int(text)


# A string, for a path would lose the slash at the end of a directory's name.
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write a .npy file; - writes its bytes to stdout."),
]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace an existing output.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Print the plan; read no data, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        parser=_size,
        envvar="MLPIPE_MEMORY",
        show_default="the smaller of 1 GiB and half of what is free",
        help="Ceiling on the memory of the whole process, such as 512MiB.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        parser=_threads,
        envvar="MLPIPE_THREADS",
        show_default="the processors this process may use",
        help="Threads that compute.",
    ),
]
Prefetch = Annotated[
    int,
    typer.Option(
        "--prefetch", metavar="N", parser=_prefetch, envvar="MLPIPE_PREFETCH",
        help="Blocks that are read ahead of the one in use.",
    ),
]  # fmt: skip
Progress = Annotated[
    Literal["auto", "bar", "log", "none"],
    typer.Option(
        "--progress",
        envvar="MLPIPE_PROGRESS",
        help="A bar, a line every few seconds, or neither; auto is a bar on a terminal only.",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.json", help="Write where time and memory went, as JSON."),
]
Lock = Annotated[
    Path | None,
    typer.Option("--lock", metavar="FILE", help="End with exit code 75 at once if another run holds this file."),
]
Dtype = Annotated[
    Literal["float32", "float64"] | None,
    typer.Option(
        "--dtype",
        show_default="float32 for float16 and float32 inputs, else float64",
        help="Type to compute in and to write.",
    ),
]
