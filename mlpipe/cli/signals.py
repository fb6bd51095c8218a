"""Signals that ask a run to end become one exception, so that clean-up is ordinary clean-up."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mlpipe.errors import Interrupted

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RETRY_SECONDS = 0.02


@contextmanager
def silent() -> Iterator[None]:
    """Let Ctrl-C end the process without a word, while modules are imported: Python would print a traceback."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the main thread at the first SIGINT, SIGTERM or SIGHUP; ignore later ones.

    A signal that was ignored from the start (``nohup``, a background job) stays ignored.

    Examples
    --------
    >>> import signal
    >>> with interruptible():
    ...     try:
    ...         signal.raise_signal(signal.SIGTERM)
    ...     except Interrupted as error:
    ...         print(error)
    interrupted by SIGTERM
    """
    watched = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in watched:
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted(signum)

    def ask_again(unraisable: Any) -> None:
        # Python swallows what is raised inside a destructor; without this the signal would be lost.
        if not isinstance(unraisable.exc_value, Interrupted):
            previous_hook(unraisable)
            return
        for number in watched:
            signal.signal(number, stop)
        again = threading.Timer(_RETRY_SECONDS, os.kill, (os.getpid(), unraisable.exc_value.exit_code - 128))
        again.daemon = True
        again.start()

    previous_hook = sys.unraisablehook
    previous = {number: signal.signal(number, stop) for number in watched}
    sys.unraisablehook = ask_again
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook
        for number, handler in previous.items():
            signal.signal(number, handler)
