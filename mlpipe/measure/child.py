"""Run a process to its end, from outside: its time, its memory, its exit code; signals go on to it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from types import FrameType
from typing import IO

from mlpipe.measure.memory import process_rss
from mlpipe.measure.sampling import ProcessSampler

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a run to end: they are handed on to the process, which then cleans up."""

Stream = IO[bytes] | int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, and what it used.

    Parameters
    ----------
    exit_code : int
        As a shell has it: 128 and the signal's number, if one ended it.
    killed : bool
        Whether a signal ended it, instead of being answered by it.
    signum : int or None
        The signal that this process got meanwhile, and handed on.
    started : str
        ISO 8601, UTC.
    wall_s, cpu_s : float
        From before it was started to its end, start of the interpreter included; its CPU time and that of the
        processes it waited for.
    rss_peak : int or None
        Largest resident size, as the kernel tells its parent; since the last sample, if there were any. None if it was
        not larger than that of this process: it was a copy of it at first, and the kernel counts that, too.
    major_faults : int
        Pages that had to be read from a disk.
    sampler : ProcessSampler or None
        Its memory over time, if that was asked for.
    """

    exit_code: int
    killed: bool
    signum: int | None
    started: str
    wall_s: float
    cpu_s: float
    rss_peak: int | None
    major_faults: int
    sampler: ProcessSampler | None


def run_to_end(
    command: Sequence[str],
    environment: Mapping[str, str],
    interval: float | None = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> Ended:
    """Run a command and wait for it.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    environment : mapping
        Of the new process, whole.
    interval : float, optional
        Seconds between samples of its memory; none are taken otherwise.
    stdout, stderr : file, descriptor or None
        Where its streams go; to those of this process by default.

    Returns
    -------
    Ended
        Also when a signal came: whoever asks decides what becomes of that.

    Examples
    --------
    >>> run_to_end([sys.executable, "-c", "raise SystemExit(4)"], os.environ).exit_code
    4
    """
    if interval is not None:
        process_rss(os.getpid())  # imports what it needs before there is something to sample
    with _forwarding() as signals:
        started, began = datetime.now(UTC).isoformat(timespec="milliseconds"), perf_counter()
        process = subprocess.Popen(command, env=dict(environment), stdout=stdout, stderr=stderr)  # noqa: S603 - as asked
        signals.hand_on_to(process.pid)
        sampler = None if interval is None else ProcessSampler(process.pid, interval, began)
        with sampler or nullcontext():
            # It is left for a while as a zombie, so that its number still is its own while it is sampled.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            wall = perf_counter() - began
        signals.hand_on_to(None)
        _, status, usage = os.wait4(process.pid, 0)
    peak = _peak_of_its_own(usage)
    if sampler is not None and peak is not None:
        sampler.finish(wall, peak)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(
        exit_code=code if code >= 0 else 128 - code,
        killed=code < 0,
        signum=signals.first,
        started=started,
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime,
        rss_peak=peak,
        major_faults=usage.ru_majflt,
        sampler=sampler,
    )


def _peak_of_its_own(usage: resource.struct_rusage) -> int | None:
    unit = 1 if sys.platform == "darwin" else 1024
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss * unit if usage.ru_maxrss > ours else None


class _Signals:
    """Signals on their way to a process."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._process: int | None = None
        self._waiting: list[int] = []

    def take(self, signum: int, _frame: FrameType | None) -> None:
        """Hand a signal on; keep it until there is a process."""
        self.first = self.first or signum
        if self._process is None:
            self._waiting.append(signum)
        else:
            os.kill(self._process, signum)

    def hand_on_to(self, process: int | None) -> None:
        """Say which process gets them, until it has ended."""
        self._process = process
        waiting, self._waiting = self._waiting, []
        for signum in waiting if process is not None else ():
            os.kill(process or 0, signum)


@contextmanager
def _forwarding() -> Iterator[_Signals]:
    """Hand signals on instead of ending; one that was ignored from the start (``nohup``) stays ignored."""
    signals = _Signals()
    watched = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, signals.take) for number in watched}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
