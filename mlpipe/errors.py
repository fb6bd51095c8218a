"""One tree of errors. Each class carries the exit code the command line ends with.

A message is one line: the offending value, the limit, and the flag or action that fixes it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class MlpipeError(Exception):
    """Root of every error mlpipe raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(MlpipeError):
    """A flag, argument or combination of them that makes no sense."""

    exit_code = 2


class InputMissingError(MlpipeError):
    """An input that does not exist or cannot be read."""

    exit_code = 3


class InputError(MlpipeError):
    """A malformed input, or shapes or dtypes that do not fit."""

    exit_code = 4


class OutputError(MlpipeError):
    """An output that exists, cannot be written, or does not fit on the disk."""

    exit_code = 5


class DeviceError(MlpipeError):
    """A device or engine that is not available."""

    exit_code = 6


class MemoryCeilingError(MlpipeError):
    """A memory ceiling too small for the work; the message names the smallest that works.

    Parameters
    ----------
    message : str
        One line.
    needs : int
        Bytes that would do; 0 when not known.
    """

    exit_code = 7

    def __init__(self, message: str, needs: int = 0) -> None:
        super().__init__(message)
        self.needs = needs


class RegressionError(MlpipeError):
    """A regression threshold was crossed."""

    exit_code = 8


class LockedError(MlpipeError):
    """Another run holds the lock."""

    exit_code = 75


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end; ``except Exception`` must not swallow it.

    Parameters
    ----------
    signum : int
        The signal received.

    Examples
    --------
    >>> Interrupted(signal.SIGTERM).exit_code
    143
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


@contextmanager
def at_link(link: str, verb: str = "") -> Iterator[None]:
    """Say of an error raised within at which link of a chain it came up, unless that was said already.

    Parameters
    ----------
    link : str
        What comes before the message; nothing changes if empty.
    verb : str
        Its name, which the message need not begin with then.

    Examples
    --------
    >>> with at_link("link 3 (clip)", "clip"):
    ...     raise UsageError("clip --min 3: above --max 2")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: link 3 (clip): --min 3: above --max 2
    """
    try:
        yield
    except MlpipeError as error:
        message = str(error)
        if link and not re.match(r"links? \d", message):
            said = message.removeprefix(f"{verb}: " if message.startswith(f"{verb}: ") else f"{verb} ")
            error.args = (f"{link}: {said}", *error.args[1:])
        raise
