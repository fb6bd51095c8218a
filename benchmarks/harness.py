"""What every part of the benchmarks shares: how two things are timed, and how results are kept.

Times are taken in pairs (ours, theirs, ours, theirs, …), so that a machine that slows down or is disturbed
does so for both; the figure is the ratio of the best of each. Results are plain text by the time they are
kept, so that one part can be measured again without the others.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2
SETTLE_S = 0.05
"""Pause before each run: OpenMP threads of the one before stop spinning."""


@dataclass
class Goal:
    """A goal of the project, the figure measured for it, and whether the figure reaches it."""

    goal: str
    figure: str
    met: bool


@dataclass
class Table:
    """A table of results: cells are text."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


@dataclass
class Part:
    """What one part of the benchmarks found, and when; `others` is the processor time others took meanwhile."""

    name: str
    goals: list[Goal]
    tables: list[Table]
    quick: bool = False
    others: float = 0.0
    revision: str = ""
    measured: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))


@dataclass
class Race:
    """Seconds of each run of two contenders, in pairs."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """How many times as fast ours is: best against best."""
        return min(self.theirs) / min(self.ours)

    @property
    def median_ratio(self) -> float:
        """The same, as the median over pairs."""
        return statistics.median(t / o for o, t in zip(self.ours, self.theirs, strict=True))


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call; what it returns is freed after the clock has stopped."""
    time.sleep(SETTLE_S)
    start = time.perf_counter()
    result = function()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def race(
    ours: Callable[[], object], theirs: Callable[[], object], *, pairs: tuple[int, int], budget_s: float = 15.0
) -> Race:
    """Time two contenders alternately: at least and at most so many pairs, within the budget between these."""
    least, most = pairs
    result = Race([], [])
    start = time.perf_counter()
    while len(result.ours) < least or (len(result.ours) < most and time.perf_counter() - start < budget_s):
        result.ours.append(seconds(ours))
        result.theirs.append(seconds(theirs))
    return result


def best(function: Callable[[], object], runs: int) -> float:
    """Shortest of several runs."""
    return min(seconds(function) for _ in range(runs))


@contextmanager
def two_threads() -> Iterator[None]:
    """Give every library two threads: BLAS and OpenMP by threadpoolctl, FAISS by its own setting as well."""
    import faiss
    from threadpoolctl import threadpool_limits

    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(THREADS))
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(THREADS)
        stack.callback(faiss.omp_set_num_threads, before)
        yield


class Others:
    """Share of the machine's processors that other processes used while a block ran, as `share`."""

    share = 0.0

    def __enter__(self) -> Others:
        self._start, self._busy = time.perf_counter(), self._used_by_others()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed = (time.perf_counter() - self._start) * (os.cpu_count() or 1)
        self.share = max(0.0, self._used_by_others() - self._busy) / elapsed

    @staticmethod
    def _used_by_others() -> float:
        """Seconds of processor time of everyone (waiting for the disk and the hypervisor's part included) but us."""
        fields = (Path("/proc/stat").read_text().partition("\n")[0]).split()[1:9]
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return busy - sum(use.ru_utime + use.ru_stime for use in uses)


def milliseconds(value: float) -> str:
    """Seconds as milliseconds, to three digits."""
    return f"{1000 * value:,.0f}" if value >= 0.1 else f"{1000 * value:.1f}"


def times(ratio: float) -> str:
    """A ratio, to three digits."""
    return f"{ratio:.0f}×" if ratio >= 100 else f"{ratio:.1f}×" if ratio >= 10 else f"{ratio:.2f}×"


def results_directory(quick: bool) -> Path:
    """Where what was measured is kept between runs; not part of the repository."""
    directory = ROOT / "build" / "benchmarks" / ("quick" if quick else "full")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def save(part: Part) -> None:
    """Keep what a part found."""
    path = results_directory(part.quick) / f"{part.name}.json"
    path.write_text(json.dumps(asdict(part), indent=1, ensure_ascii=False) + "\n")


def load(name: str, quick: bool) -> Part | None:
    """What a part found when it was last measured, or None."""
    path = results_directory(quick) / f"{name}.json"
    if not path.exists():
        return None
    kept: dict[str, Any] = json.loads(path.read_text())
    kept["goals"] = [Goal(**goal) for goal in kept["goals"]]
    kept["tables"] = [Table(**table) for table in kept["tables"]]
    return Part(**kept)
