"""What the flags before the command say, for the command and for the one place that reports errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from mlpipe.cli.text import complain, say

if TYPE_CHECKING:
    from mlpipe.report.events import EventLog


LOG_JSON = "--log-json"
_YES = ("1", "true", "t", "yes", "y", "on")


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
    arguments : list of str
        What was typed after ``mlpipe``.
    alone : bool
        Whether the process is there for this command alone.
    log : EventLog or None
        What takes everything that is said, in the place of words for people.
    recorded : bool
        Whether a run began, so that its record tells how it ended.
    unreported : Exception or None
        What kept the report of a run that is done from being written: raised once the command has told its result.
    """

    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    arguments: list[str] = field(default_factory=list)
    alone: bool = False
    log: EventLog | None = None
    recorded: bool = False
    unreported: Exception | None = None

    def note(self, message: str) -> None:
        """Tell the user something on stderr, unless asked to be quiet."""
        if self.log is not None:
            self.log.emit("note", message=message)
        elif not self.quiet:
            say(f"mlpipe: {message}")

    def detail(self, message: str) -> None:
        """Tell the user something on stderr, if asked to be verbose."""
        if self.log is not None and self.verbose:
            self.log.emit("note", message=message)
        elif self.verbose:
            say(f"mlpipe: {message}")

    def complain(self, message: str, exit_code: int) -> None:
        """Say what ended the run."""
        if self.log is not None:
            self.log.emit("error", message=message, exit_code=exit_code)
        else:
            complain(message)


def session_of(context: typer.Context) -> Session:
    """Session the command runs in."""
    found: Session = context.obj
    return found


def asks_for_log(arguments: Sequence[str]) -> bool:
    """Whether the flag or its variable says that everything is to be told as JSON.

    Examples
    --------
    >>> asks_for_log(["stats", "X.npy", "--log-json"])
    True
    """
    return LOG_JSON in arguments or os.environ.get("MLPIPE_LOG_JSON", "").lower() in _YES


def event_log() -> EventLog:
    """What `--log-json` asks for."""
    from mlpipe.report.events import EventLog

    return EventLog()
