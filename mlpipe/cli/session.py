"""What the flags before the command say, for the command and for the one place that reports errors."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from mlpipe.cli.text import say


@dataclass(slots=True)
class Session:
    """One run of the command line.

    Parameters
    ----------
    quiet : bool
        No tables, notes or progress on stderr; errors still show.
    verbose : bool
        Also say what was decided and why.
    debug : bool
        Show Python's traceback with an error.
    """

    quiet: bool = False
    verbose: bool = False
    debug: bool = False

    def note(self, message: str) -> None:
        """Tell the user something on stderr, unless asked to be quiet."""
        if not self.quiet:
            say(f"mlpipe: {message}")

    def detail(self, message: str) -> None:
        """Tell the user something on stderr, if asked to be verbose."""
        if self.verbose:
            say(f"mlpipe: {message}")


def session_of(context: typer.Context) -> Session:
    """Session the command runs in."""
    found: Session = context.obj
    return found
