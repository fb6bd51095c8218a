"""Plain text for people."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import typer


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines, the cells of a column under one another.

    Examples
    --------
    >>> print(aligned([("file", "rows"), ("digits.npy", "1797")]))
    file        rows
    digits.npy  1797
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def one_line(text: str) -> str:
    r"""Fold white space and escape what would disturb a terminal or a log.

    Examples
    --------
    >>> one_line("Missing argument.\n  Choose: \x1b[31m")
    'Missing argument. Choose: \\x1b[31m'
    """
    folded = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in folded)


@contextlib.contextmanager
def best_effort() -> Iterator[None]:
    """Go on without stderr when it fails: a log that is full or closed must not end a run."""
    try:
        yield
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # lest what is left in its buffer fail again at the end


def say(text: str) -> None:
    """Write a line to stderr."""
    with best_effort():
        typer.echo(text, err=True)


def complain(message: object) -> None:
    """Say on stderr, in one line, what is wrong."""
    say(f"mlpipe: error: {one_line(str(message))}")
