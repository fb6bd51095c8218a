"""How much memory this process uses, and how much it may use.

Anonymous memory (``RssAnon``) is what the ceiling is about: the heap, stacks and buffers, which only
swap could take back. Pages of mapped files are apart: the kernel drops them at will. Memory shared between
processes (``mmap`` with ``MAP_SHARED``) is in neither.

Where there is no ``/proc``, only the resident size is known, and anonymous memory is None, with a reason.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mlpipe.measure.cgroup import memory_left
from mlpipe.measure.host import machine_memory
from mlpipe.measure.samples import Sample, Samples

if TYPE_CHECKING:
    from mlpipe.measure.meter import Meter

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

DEFAULT_CEILING = 2**30
_ROOT = Path("/")
_M_TRIM_THRESHOLD = -1  # from <malloc.h>
_TRIM_THRESHOLD = 128 * 1024
_LEAST_PAUSE = 0.05  # seconds; a sample takes some 0.1 ms, and makes the other threads wait for the interpreter


def anonymous_bytes(root: Path = _ROOT) -> int | None:
    """Anonymous memory of this process and of all its descendants, now.

    Pages that a forked child still shares with its parent count in both.

    One read of ``/proc/self/status`` (0.03–0.05 ms; ``smaps_rollup`` takes 2–5 ms because it walks the page
    tables) and one of ``children`` per thread. The kernel counts in batches per processor: on a machine of
    many processors the last few hundred KiB may be missing.

    Parameters
    ----------
    root : Path
        Where ``/proc`` is looked for.

    Returns
    -------
    int or None
        Bytes, or None where the system does not say (see `why_unmeasured`).

    Examples
    --------
    >>> anonymous = anonymous_bytes()
    >>> anonymous is None or anonymous > 2**20
    True
    """
    own = _status(root / "proc/self", "RssAnon")
    if own is None:
        return None
    return own + sum(_status(process, "RssAnon") or 0 for process in _descendants(root / "proc/self", root))


def memory_now(root: Path = _ROOT) -> tuple[int | None, int | None, int | None, int | None]:
    """Anonymous, file-backed and resident memory of this process and its descendants; its own largest resident size.

    Pages that several of them share count in each.

    Examples
    --------
    >>> anonymous, file_backed, resident, highest = memory_now()
    >>> anonymous is None or anonymous <= resident <= highest
    True
    """
    keys = ("RssAnon", "RssFile", "VmRSS", "VmHWM")
    anonymous, file_backed, resident, highest = _fields(root / "proc/self/status", keys)
    for process in _descendants(root / "proc/self", root):
        more = _fields(process / "status", keys)
        anonymous, file_backed, resident = (
            None if own is None else own + (other or 0)
            for own, other in zip((anonymous, file_backed, resident), more, strict=False)
        )
    return anonymous, file_backed, resident, highest


def file_backed_bytes(root: Path = _ROOT) -> int | None:
    """Resident pages of mapped files, of this process alone; None where the system does not say.

    Examples
    --------
    >>> mapped = file_backed_bytes()
    >>> mapped is None or mapped > 0
    True
    """
    return _status(root / "proc/self", "RssFile")


def peak_rss_bytes(root: Path = _ROOT) -> int | None:
    """Largest resident size of this process so far, files included; None where the system does not say.

    Examples
    --------
    >>> peak = peak_rss_bytes()
    >>> peak is None or peak > 2**20
    True
    """
    peak = _status(root / "proc/self", "VmHWM")
    if peak is None and resource is not None:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit or None
    return peak


def why_unmeasured(root: Path = _ROOT) -> str | None:
    """Say why anonymous memory is not known; None when it is.

    Examples
    --------
    >>> why_unmeasured(Path("/nowhere"))
    '/nowhere/proc/self/status gives no RssAnon; only the resident size, files included, is known'
    """
    if _status(root / "proc/self", "RssAnon") is not None:
        return None
    return f"{root / 'proc/self/status'} gives no RssAnon; only the resident size, files included, is known"


def available_bytes(root: Path = _ROOT) -> int | None:
    """Memory that may still be allocated: by the machine, the control groups (v1, v2) and ``ulimit``.

    Returns
    -------
    int or None
        Bytes, or None where nothing says.

    Examples
    --------
    >>> available = available_bytes()
    >>> available is None or available >= 0
    True
    """
    machine = _field(root / "proc/meminfo", "MemAvailable")
    limits = [machine_memory() if machine is None else machine, memory_left(root)]
    if resource is not None:
        for kind, used in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
            soft, _ = resource.getrlimit(kind)
            if soft != resource.RLIM_INFINITY:
                limits.append(max(0, soft - (_status(root / "proc/self", used) or 0)))
    return min((limit for limit in limits if limit is not None), default=None)


def default_ceiling(root: Path = _ROOT) -> int:
    """Ceiling used without ``--memory``: 1 GiB, or half of what is available where that is less.

    Examples
    --------
    >>> 0 <= default_ceiling() <= 2**30
    True
    """
    available = available_bytes(root)
    return DEFAULT_CEILING if available is None else min(DEFAULT_CEILING, available // 2)


def release_free_memory() -> None:
    """Give freed heap back to the system, so that it no longer counts as anonymous memory.

    On glibc, ``malloc_trim(0)``; elsewhere nothing. After ``import numba`` (37 MiB) there is nothing to give
    back, after compiling kernels (69–89 MiB) 1 MiB; after work with temporary arrays of up to 20 MiB it took
    36.9 MiB back to 0.4. Costs about a millisecond: for the end of a phase, not for a loop.

    Examples
    --------
    >>> release_free_memory()
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def keep_heap_trimmed() -> None:
    """Have the allocator give freed memory back at once from now on; for the start of a process.

    On glibc, a fixed ``M_TRIM_THRESHOLD`` of 128 KiB, which also stops the threshold of ``mmap`` from growing
    up to 32 MiB: with it, the temporary arrays of `release_free_memory` left 0.4 MiB behind instead of 36.9 with
    no call at all, and compiling took no longer. A fixed ``M_MMAP_THRESHOLD`` did the same; ``M_ARENA_MAX=1``
    changed nothing (36.9 MiB from one thread, 36.5 instead of 36.8 from four).

    Examples
    --------
    >>> keep_heap_trimmed()
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


class MemorySampler:
    """Watch memory from a thread of its own, for the length of a ``with`` block.

    Parameters
    ----------
    interval : float
        Seconds between samples, at most at first: a short run has more of them, a long one fewer, for their number
        is bounded. The start and the end of the block are always sampled.
    root : Path
        Where ``/proc`` is looked for.
    meter : Meter, optional
        As for `follow`.

    Attributes
    ----------
    peak_anonymous, peak_file_backed : int or None
        Largest anonymous and file-backed memory seen, descendants included, in bytes; None when it cannot be known.
    peak_rss : int or None
        Largest resident size of this process, in bytes.
    reason : str or None
        Why `peak_anonymous` is not known.
    samples : Samples
        What was seen, over time.

    Examples
    --------
    >>> with MemorySampler() as memory:
    ...     block = bytearray(2**24)
    >>> memory.reason is not None or memory.peak_anonymous > 2**24
    True
    """

    def __init__(self, interval: float = 0.05, root: Path = _ROOT, meter: Meter | None = None) -> None:
        self.interval = interval
        self.peak_anonymous: int | None = None
        self.peak_file_backed: int | None = None
        self.peak_rss: int | None = None
        self.reason = why_unmeasured(root)
        self.samples = Samples()
        self._root = root
        self._meter = meter
        self._began = perf_counter() if meter is None else meter.began / 1e9
        self._lock = threading.RLock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, meter: Meter) -> None:
        """Count time from the beginning of a run, and sample what it has in flight, too; peaks before it stay."""
        with self._lock:
            self._meter, self._began = meter, meter.began / 1e9
            self.samples = Samples()
            self.sample()

    def sample(self) -> int | None:
        """Take a sample now, at a moment known to be a peak; returns the anonymous memory."""
        with self._lock:
            memory = memory_now(self._root) if self.reason is None else (None, None, _sampled_rss(), None)
            anonymous, file_backed, resident, highest = memory
            meter, now = self._meter, perf_counter() - self._began
            queues = {} if meter is None else {name: waiting() for name, waiting in list(meter.queues.items())}
            self.samples.add(Sample(now, memory, 0 if meter is None else meter.in_flight.now, queues))
            self.peak_anonymous = _larger(self.peak_anonymous, anonymous)
            self.peak_file_backed = _larger(self.peak_file_backed, file_backed)
            self.peak_rss = _larger(self.peak_rss, resident if self.reason else highest)
        return anonymous

    def _watch(self) -> None:
        while not self._done.wait(self._pause()):
            self.sample()

    def _pause(self) -> float:
        """A fiftieth of the time so far, within reason."""
        rare: float = self.interval * 2**self.samples.thinned
        elapsed = perf_counter() - self._began
        return min(rare, max(_LEAST_PAUSE, elapsed / 50))

    def __enter__(self) -> Self:
        self.sample()
        self._done.clear()
        self._thread = threading.Thread(target=self._watch, name="mlpipe-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.sample()
        self.peak_rss = _larger(self.peak_rss, peak_rss_bytes(self._root))


def process_rss(process: int) -> int | None:
    """Resident size of a process, by memory-profiler's sampler; None if it has ended.

    Examples
    --------
    >>> process_rss(os.getpid()) > 2**20
    True
    """
    import memory_profiler

    # Only ever by process number: given a function it runs it again and, on an error, kills our children.
    try:
        mebibytes: float = memory_profiler.memory_usage(process, interval=1e-6, timeout=1e-6, max_usage=True)
    except memory_profiler.psutil.Error:
        return None
    return int(mebibytes * 2**20) if mebibytes > 0 else None


def descendants_of(process: int, root: Path = _ROOT) -> list[int]:
    """Numbers of the processes that another one started, and of those they started, still alive.

    Examples
    --------
    >>> descendants_of(os.getpid(), Path("/nowhere"))
    []
    """
    return [int(one.name) for one in _descendants(root / "proc" / str(process), root)]


def _sampled_rss() -> int | None:
    """Resident size of this process, where there is no ``/proc``."""
    return process_rss(os.getpid())


def _status(process: Path, key: str) -> int | None:
    return _field(process / "status", key)


def _field(path: Path, key: str) -> int | None:
    """Value in bytes of a ``Key:  123 kB`` line; None when there is no such file or line."""
    return _fields(path, (key,))[0]


def _fields(path: Path, keys: Sequence[str]) -> list[int | None]:
    """Values of several such lines."""
    try:
        text = b"\n" + _read(str(path))
    except OSError:
        return [None] * len(keys)
    found: list[int | None] = []
    for key in keys:
        _, _, rest = text.partition(b"\n%s:" % key.encode())
        word = rest[:40].split(maxsplit=1)[:1]
        found.append(int(word[0]) * 1024 if word and word[0].isdigit() else None)
    return found


def _descendants(process: Path, root: Path) -> list[Path]:
    """Processes started by this one and by those, still alive."""
    found: list[Path] = []
    tasks = f"{process}/task"
    try:
        names = os.listdir(tasks)  # noqa: PTH208 - a sample makes none of the objects that it can do without
    except OSError:
        return found
    for name in names:
        try:
            children = _read(f"{tasks}/{name}/children").split()
        except OSError:  # the thread has ended meanwhile
            continue
        for child in children:
            directory = root / "proc" / os.fsdecode(child)
            found += [directory, *_descendants(directory, root)]
    return found


def _read(path: str) -> bytes:
    """Content of a small file; in a third less time than `Path.read_bytes`, which asks for its size first."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while more := os.read(file, 1 << 14):
            content += more
        return content
    finally:
        os.close(file)


def _larger(known: int | None, new: int | None) -> int | None:
    return new if known is None else known if new is None else max(known, new)


def _glibc() -> ctypes.CDLL | None:
    """Find the C library in this process, when it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
