"""The Rich console that messages, tables and bars go through; imports Rich, so import it late."""

from __future__ import annotations

from rich.console import Console


class ReportConsole(Console):
    """A console for standard error that leaves standard output alone.

    Rich answers a broken pipe by pointing standard output, which may carry the array, at ``/dev/null`` and by
    exiting the thread. Here it is the error that it is.

    Examples
    --------
    >>> import sys
    >>> ReportConsole(file=sys.stdout).print("written")
    written
    """

    def on_broken_pipe(self) -> None:
        """Let the caller decide."""
        raise BrokenPipeError("closed by its reader")
