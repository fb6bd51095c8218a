"""What threads use: CPU time, major faults, and bytes that had to come from storage.

A thread knows its own figures by the C library; those of another, while it lives, stand under ``/proc``. Bytes read
from storage are only there: what was in the page cache already is not among them.
"""

from __future__ import annotations

from pathlib import Path
from time import thread_time_ns
from types import TracebackType
from typing import NamedTuple, Self

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

WHY_NO_STORAGE = "/proc/self/io cannot be read"
WHY_NO_FAULTS = "this system does not count the faults of threads"


class Use(NamedTuple):
    """What was used; None for what the system does not say. `delay_ns`: ready to run, but others had the processor."""

    cpu_ns: int | None
    major_faults: int | None
    bytes_read: int | None
    delay_ns: int | None = None

    def since(self, before: Use) -> Use:
        """What was used meanwhile.

        Examples
        --------
        >>> Use(9, 3, None, 8).since(Use(4, 1, 0, 2))
        Use(cpu_ns=5, major_faults=2, bytes_read=None, delay_ns=6)
        """
        return Use(*(None if a is None or b is None else max(0, a - b) for a, b in zip(self, before, strict=True)))


NOTHING = Use(0, 0, 0, 0)


def own_use() -> Use:
    """What the calling thread has used so far.

    Examples
    --------
    >>> own_use().cpu_ns > 0
    True
    """
    faults = None
    if hasattr(resource, "RUSAGE_THREAD"):
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
    thread = Path("/proc/thread-self")
    return Use(thread_time_ns(), faults, storage(thread / "io")[0], _scheduled(thread)[1])


def use_of(thread: int) -> Use:
    """What another thread of this process, by its native number, has used so far.

    Examples
    --------
    >>> use_of(1 << 30)  # there is none
    Use(cpu_ns=None, major_faults=None, bytes_read=None, delay_ns=None)
    """
    directory = Path(f"/proc/self/task/{thread}")
    cpu, delay = _scheduled(directory)
    try:
        faults = int((directory / "stat").read_bytes().rpartition(b")")[2].split()[9])
    except (OSError, ValueError, IndexError):
        return Use(None, None, None)
    return Use(cpu, faults, storage(directory / "io")[0], delay)


def _scheduled(directory: Path) -> tuple[int | None, int | None]:
    """Nanoseconds that a thread ran, and that it was ready to."""
    try:
        ran, waited = map(int, (directory / "schedstat").read_bytes().split()[:2])
    except (OSError, ValueError):
        return None, None
    return ran, waited


def storage(path: Path = Path("/proc/self/io")) -> tuple[int | None, int | None]:
    """Bytes that were read from storage, and those that will be written there, by a process or thread."""
    try:
        lines = dict(line.split(b": ") for line in path.read_bytes().splitlines())
        return int(lines[b"read_bytes"]), int(lines[b"write_bytes"])
    except (OSError, ValueError, KeyError):
        return None, None


def major_faults() -> int | None:
    """Major faults of this process and its children that have ended; None where the system does not say.

    Examples
    --------
    >>> faults = major_faults()
    >>> faults is None or faults >= 0
    True
    """
    faults = None
    if resource is not None:
        faults = sum(resource.getrusage(who).ru_majflt for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return faults


class ThreadMeter:
    """Measures the thread that enters its ``with`` block, for as long as that lasts.

    Parameters
    ----------
    name : str
        What reports call it.
    phase : int
        Part of the run, from 0.

    Attributes
    ----------
    use : Use or None
        What it used; None before it ended.
    """

    __slots__ = ("_before", "name", "phase", "use")

    def __init__(self, name: str, phase: int) -> None:
        self.name, self.phase = name, phase
        self.use: Use | None = None
        self._before = NOTHING

    def __enter__(self) -> Self:
        self._before = own_use()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.use = own_use().since(self._before)
