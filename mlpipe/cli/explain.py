"""What is said of an error, and the exit code it ends the process with."""

from __future__ import annotations

import errno

import typer

from mlpipe.errors import Interrupted, MemoryCeilingError, MlpipeError, OutputError, UsageError

_WORDS_OF_LIBRARIES = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "give a whole number",
    "Input should be a valid number, unable to parse string as a number": "give a number",
    "Input should be a valid boolean, unable to interpret input": "give true or false",
}

_STREAM_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error.

    Examples
    --------
    >>> explain(UsageError("--k 0: give 1 or more"))
    (2, '--k 0: give 1 or more')
    >>> explain(KeyError("x"))
    (1, "a bug in mlpipe: KeyError: 'x'; repeat with 'mlpipe --debug' and report it")
    """
    if isinstance(error, MlpipeError | Interrupted):
        return error.exit_code, str(error)
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "mlpipe"
        message = error.format_message()
        for theirs, ours in _WORDS_OF_LIBRARIES.items():
            message = message.replace(theirs, ours)
        return UsageError.exit_code, f"{message} (see '{path} --help')"
    # Python has no class of its own for a thread that got no memory for its stack.
    if isinstance(error, MemoryError) or str(error) == "can't start new thread":
        reason = "the system gave no more memory; free some, or plan for less with --memory"
        return MemoryCeilingError.exit_code, reason
    if stdout_failed(error) and isinstance(error, OSError):
        return OutputError.exit_code, f"standard output: {error.strerror}"
    what = f"{type(error).__name__}: {error}"
    return MlpipeError.exit_code, f"a bug in mlpipe: {what}; repeat with 'mlpipe --debug' and report it"


def stdout_failed(error: BaseException) -> bool:
    """Whether an error says that standard output cannot be written any more.

    Examples
    --------
    >>> stdout_failed(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    True
    """
    if isinstance(error, BrokenPipeError):
        return True
    return isinstance(error, OSError) and error.filename is None and error.errno in _STREAM_FAILURES
