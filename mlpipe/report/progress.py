"""How far a run is, while it runs: a bar on a terminal, lines in a log, or nothing.

The engine's threads only add to a counter; a thread of the display's own looks at it now and then.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self, TextIO

from mlpipe.measure.sizes import format_count, format_duration, format_size

Mode = Literal["auto", "bar", "log", "none"]

BAR_INTERVAL = 0.1
LOG_INTERVAL = 5.0
WINDOW = 15.0
"""Seconds the rate is taken over: long enough to be calm, short enough to follow a change."""

FIGURES = 48
"""Characters kept for the figures beside a bar, so that it does not change its length with them."""


class Progress:
    """Shows nothing; the displays build on it.

    Examples
    --------
    >>> with Progress() as progress:
    ...     progress.advance(4096)
    """

    def advance(self, amount: int) -> None:
        """Note that `amount` more is done; cheap, from any thread."""

    def close(self) -> None:
        """Take the display away; harmless when repeated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Gauge:
    """What is done of how much, and how fast.

    Parameters
    ----------
    total : int or None
        How much there is to do; None when it is not known.
    unit : str
        ``"bytes"``, or the plural of what is counted.
    clock : callable
        Seconds, from anywhere.

    Examples
    --------
    >>> seconds = iter([0.0, 4.0])
    >>> gauge = Gauge(8 * 2**20, clock=lambda: next(seconds))
    >>> gauge.advance(2 * 2**20)
    >>> gauge.figures()
    '25 %, 2.00 MiB of 8.00 MiB, 512 KiB/s, 12.0 s left'
    """

    def __init__(self, total: int | None, unit: str = "bytes", clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self._unit = unit
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._seen = deque([(self._began, 0)])

    def advance(self, amount: int) -> None:
        """Add to what is done."""
        with self._lock:
            self.done += amount

    def figures(self) -> str:
        """Say how far it is, how fast of late, and how long it may still take as far as that can be told."""
        done, rate = self._rate()
        parts = self._amounts(done)
        if done:
            parts.append(f"{self._write(rate)}/s")
        if rate > 0 and self.total is not None and done < self.total:
            parts.append(f"{format_duration((self.total - done) / rate)} left")
        return ", ".join(parts)

    def numbers(self) -> dict[str, float | None]:
        """The same as numbers: what is done of how much, the rate a second, and the seconds left."""
        done, rate = self._rate()
        left = (self.total - done) / rate if rate > 0 and self.total is not None and done <= self.total else None
        share = done / self.total if self.total else None
        return {"done": done, "total": self.total, "share": share, "rate": rate, "left_s": left}

    def _rate(self) -> tuple[int, float]:
        """What is done, and how fast of late."""
        now, done = self._clock(), self.done
        while len(self._seen) > 1 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        self._seen.append((now, done))
        return done, (done - before) / (now - since) if now > since else 0.0

    def summary(self) -> str:
        """Say how far it came, how fast on the whole, and how long it took."""
        seconds = self._clock() - self._began
        parts = self._amounts(self.done)
        if self.done and seconds > 0:
            parts.append(f"{self._write(self.done / seconds)}/s")
        return ", ".join([*parts, f"took {format_duration(seconds)}"])

    def _amounts(self, done: int) -> list[str]:
        if self.total is None:
            return [self._write(done)]
        # Rounded down: 100 % is only said of what is complete.
        share = 100 if done >= self.total else 100 * done // self.total
        return [f"{share} %", f"{self._write(done)} of {self._write(self.total)}"]

    def _write(self, amount: float) -> str:
        return format_size(amount) if self._unit == "bytes" else f"{format_count(amount)} {self._unit}"


class Display(Progress):
    """A gauge and the thread that shows it."""

    def __init__(self, gauge: Gauge, interval: float) -> None:
        self.gauge = gauge
        self._interval = interval
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mlpipe-progress", daemon=True)
        self._thread.start()

    def advance(self, amount: int) -> None:
        """Add to what is done."""
        self.gauge.advance(amount)

    def _watch(self) -> None:
        while not self._closed.wait(self._interval):
            if not self._try(self._show):
                return

    def close(self) -> None:
        """Take the display away, once."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join()
            self._try(self._end)

    def _try(self, act: Callable[[], None]) -> bool:
        """Show something; a terminal or log that went away must not end the run."""
        try:
            act()
        except (OSError, ValueError):
            return False
        return True

    def _show(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class LogProgress(Display):
    """One line every few seconds, and one at the end.

    Parameters
    ----------
    gauge : Gauge
        What to show.
    stream : text file
        Where to.
    label : str
        What the lines begin with.
    interval : float
        Seconds between lines.
    """

    def __init__(self, gauge: Gauge, stream: TextIO, label: str, interval: float = LOG_INTERVAL) -> None:
        self._stream = stream
        self._label = label
        super().__init__(gauge, interval)

    def _line(self, text: str) -> None:
        self._stream.write(f"{self._label}: {text}\n")
        self._stream.flush()

    def _show(self) -> None:
        self._line(self.gauge.figures())

    def _end(self) -> None:
        self._line(self.gauge.summary())


class BarProgress(Display):
    """A Rich bar, gone when it is closed: the table after the run says the rest.

    Parameters
    ----------
    gauge : Gauge
        What to show.
    stream : text file
        The terminal.
    label : str
        What stands before the bar.
    interval : float
        Seconds between looks at the gauge.
    """

    def __init__(self, gauge: Gauge, stream: TextIO, label: str, interval: float = BAR_INTERVAL) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        from mlpipe.report.console import ReportConsole

        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}", markup=False),
            console=ReportConsole(file=stream, force_terminal=True),
            auto_refresh=False,
            transient=True,
            expand=True,
            # Standard output may carry the array itself.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._rich.add_task(label, total=gauge.total, figures=self._figures(gauge))
        self._try(self._rich.start)
        super().__init__(gauge, interval)

    @staticmethod
    def _figures(gauge: Gauge) -> str:
        return f"{gauge.figures():<{FIGURES}}"

    def _show(self) -> None:
        self._rich.update(self._task, completed=self.gauge.done, figures=self._figures(self.gauge), refresh=True)

    def _end(self) -> None:
        self._rich.stop()


def make_progress(
    mode: Mode, total: int | None, *, unit: str = "bytes", label: str = "mlpipe", stream: TextIO | None = None
) -> Progress:
    """Start showing progress.

    Parameters
    ----------
    mode : {"auto", "bar", "log", "none"}
        ``auto`` is a bar when `stream` is a terminal that can draw one, else nothing.
    total : int or None
        How much there is to do; None when it is not known.
    unit : str
        ``"bytes"``, or the plural of what is counted.
    label : str
        What the bar or the lines begin with.
    stream : text file, optional
        Where to; standard error by default.

    Returns
    -------
    Progress
        To be advanced, and closed at the end; a context manager.

    Examples
    --------
    >>> with make_progress("log", 2**20, label="mlpipe distances", stream=sys.stdout) as progress:
    ...     progress.advance(2**20)
    mlpipe distances: 100 %, 1.00 MiB of 1.00 MiB, ... took ...
    """
    stream = sys.stderr if stream is None else stream
    if mode == "auto":
        mode = "bar" if _draws(stream) else "none"
    if mode == "none":
        return Progress()
    display = BarProgress if mode == "bar" else LogProgress
    return display(Gauge(total, unit), stream, label)


def _draws(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a line can be redrawn."""
    try:
        return stream.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}
    except ValueError:  # closed
        return False
