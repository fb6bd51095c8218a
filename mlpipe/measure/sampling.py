"""Watch the memory of another process and of those it starts, by their numbers, from outside.

The resident size comes from memory-profiler's sampler; beside it stand the kernel's own figures, where there is a
``/proc``: anonymous and file-backed memory, and the high-water mark of the resident size. That mark is reset after
each sample (5 is written to ``/proc/PID/clear_refs``), so that it is the exact peak since the sample before, however
short it was. Of several processes the marks are added, which is at least the peak of their sum.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self

from mlpipe.measure.memory import descendants_of, process_rss
from mlpipe.measure.schema import ProfileSampleFacts

MOST_POINTS = 1024
"""Samples that are kept; of more, neighbours become one, with the larger figures of both."""

_KEYS = (b"RssAnon:", b"RssFile:", b"VmHWM:")
_RESET_PEAK = b"5"
_ROOT = Path("/")


@dataclass(slots=True)
class Sample:
    """The memory of a process and its descendants at one time, in bytes; None for what cannot be known."""

    at: float
    rss: int | None = None
    anonymous: int | None = None
    file_backed: int | None = None
    rss_peak: int | None = None

    def add(self, other: Sample) -> None:
        """Add what another process holds."""
        for name in _FIGURES:
            one, more = getattr(self, name), getattr(other, name)
            setattr(self, name, more if one is None else one if more is None else one + more)

    def cover(self, later: Sample) -> None:
        """Stand for a later sample, too."""
        self.at = later.at
        for name in _FIGURES:
            one, more = getattr(self, name), getattr(later, name)
            setattr(self, name, more if one is None else one if more is None else max(one, more))


_FIGURES = ("rss", "anonymous", "file_backed", "rss_peak")


@dataclass
class Series:
    """Samples in a bounded number of points.

    Examples
    --------
    >>> series = Series(most=4)
    >>> for second in range(9):
    ...     series.append(Sample(float(second), rss=second % 5))
    >>> [(point.at, point.rss) for point in series.points]
    [(3.0, 3), (7.0, 4), (8.0, 3)]
    """

    most: int = MOST_POINTS
    points: list[Sample] = field(default_factory=list)
    _each: int = 1
    _in_last: int = 0

    def append(self, sample: Sample) -> None:
        """Add a sample, later than all before."""
        if self.points and self._in_last < self._each:
            self.points[-1].cover(sample)
            self._in_last += 1
            return
        if len(self.points) == self.most:
            self._halve()
            if self._in_last < self._each:
                self.append(sample)
                return
        self.points.append(sample)
        self._in_last = 1

    def _halve(self) -> None:
        kept = self.points[::2]
        for point, later in zip(kept, self.points[1::2], strict=False):
            point.cover(later)
        self._in_last = 2 * self._each if len(self.points) % 2 == 0 else self._in_last
        self.points, self._each = kept, 2 * self._each

    def facts(self) -> ProfileSampleFacts:
        """The points as a record holds them."""
        points = self.points
        marked = any(point.rss_peak is not None for point in points)
        return {
            "t_s": [round(point.at, 6) for point in points],
            "rss": [point.rss for point in points],
            "anonymous": [point.anonymous for point in points],
            "file_backed": [point.file_backed for point in points],
            "rss_peak": [point.rss_peak for point in points] if marked else None,
        }


class ProcessSampler:
    """Watch a process from a thread of its own, for the length of a ``with`` block.

    Parameters
    ----------
    process : int
        Its number. It must not have been waited for while the block lasts: numbers are used again.
    interval : float
        Seconds between samples.
    began : float
        What `time.perf_counter` said when the process was started: times of samples count from there.
    root : Path
        Where ``/proc`` is looked for.

    Attributes
    ----------
    series : Series
        The samples.
    children : int
        Largest number of its descendants seen at once.
    reasons : dict of str to str
        Why a figure is missing, by its name in a record.

    Examples
    --------
    >>> import os
    >>> with ProcessSampler(os.getpid(), 0.1, perf_counter()) as sampler:
    ...     block = bytearray(2**24)
    >>> sampler.peak("rss") > 2**24
    True
    """

    def __init__(self, process: int, interval: float, began: float, root: Path = _ROOT) -> None:
        self.process, self.interval = process, interval
        self.series = Series()
        self.children = 0
        self.reasons: dict[str, str] = {}
        self._began, self._root = began, root
        self._resettable = True
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def peak(self, name: str) -> int | None:
        """The largest of a figure: ``rss``, ``anonymous``, ``file_backed`` or ``rss_peak``."""
        return max((value for point in self.series.points if (value := getattr(point, name)) is not None), default=None)

    def sample(self) -> None:
        """Take a sample now; nothing is added once the process has ended."""
        total = Sample(perf_counter() - self._began)
        processes = [self.process, *descendants_of(self.process, self._root)]
        for number in processes:
            total.add(self._of(number))
        if all(getattr(total, name) is None for name in _FIGURES):
            return
        if total.anonymous is None:
            self.reasons["anonymous_peak"] = f"{self._root / 'proc'} does not say; only the resident size is known"
        self.children = max(self.children, len(processes) - 1)
        self.series.append(total)

    def finish(self, at: float, rss_peak: int) -> None:
        """Note the mark that the kernel left when the process ended, which is the peak since the last sample."""
        if self._resettable and self.peak("rss_peak") is not None:
            self.series.append(Sample(at, rss_peak=rss_peak))

    def _of(self, number: int) -> Sample:
        """One process; nothing of one that has ended."""
        directory = self._root / "proc" / str(number)
        try:
            lines = (directory / "status").read_bytes().splitlines()
        except OSError:
            return Sample(0.0, rss=process_rss(number))
        found = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(_KEYS)}
        anonymous, file_backed, peak = (found.get(key) for key in _KEYS)
        if peak is None:  # it has ended, but nobody has waited for it yet
            return Sample(0.0)
        rss = process_rss(number)
        if self._resettable and not self._reset(directory):
            self._resettable = False
        return Sample(0.0, rss, anonymous, file_backed, peak if self._resettable else None)

    def _reset(self, directory: Path) -> bool:
        """Let the high-water mark begin anew; whether that is possible."""
        try:
            (directory / "clear_refs").write_bytes(_RESET_PEAK)
        except FileNotFoundError:
            return directory.parent.exists()  # it has ended
        except ProcessLookupError:
            return True
        except OSError as error:
            self.reasons["samples.rss_peak"] = f"the high-water mark cannot be reset ({error.strerror})"
            return False
        return True

    def _watch(self) -> None:
        while not self._done.wait(self.interval):
            self.sample()

    def __enter__(self) -> Self:
        self.sample()
        self._thread = threading.Thread(target=self._watch, name="mlpipe-sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def merged_peak(values: Sequence[int | None]) -> int | None:
    """The largest of what several looked at; None if nobody knows.

    Examples
    --------
    >>> merged_peak([None, 3, 5]), merged_peak([None])
    (5, None)
    """
    return max((value for value in values if value is not None), default=None)
