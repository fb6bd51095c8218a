"""Statistics of a file in the page cache: every column described in one pass, beside what NumPy takes for less.

All in one process with kernels loaded; planning, threads and reading count. NumPy reads the same file through a memory
map, `sum` by two threads, each on half of the rows; the others as one calls them.
Processes are timed, too, from start to exit.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mlpipe
from benchmarks.harness import THREADS, Goal, Part, Table, race, results_directory, times
from benchmarks.startup import command
from benchmarks.whole_process import measure

COLUMNS = 64
PAIRS = (3, 7)


def write_rows(path: Path, rows: int) -> None:
    """Normally distributed float32 rows, written by the command, so that they lie in the page cache."""
    chain = ["generate", "--rows", str(rows), "--columns", str(COLUMNS), "--dtype", "float32", "then", "write"]
    measure([*command("-q", "run", "-f", "--threads", str(THREADS)), *chain, str(path)])


def sum_by_threads(path: Path) -> float:
    """Sum of all values, by two threads."""
    values: Any = np.load(path, mmap_mode="r").reshape(-1)
    sums = [0.0] * THREADS

    def add(place: int) -> None:
        sums[place] = float(np.sum(np.array_split(values, THREADS)[place]))

    threads = [threading.Thread(target=add, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sums)


def one_after_the_other(path: Path) -> list[Any]:
    """Mean, standard deviation, minimum and maximum of each column."""
    rows = np.load(path, mmap_mode="r")
    return [statistic(rows, axis=0) for statistic in (np.mean, np.std, np.min, np.max)]


def describe(path: Path, output: Path, **options: Any) -> None:
    """What `mlpipe stats` does once it has started."""
    mlpipe.read(str(path)).stats(output=str(output), **options).nothing(threads=THREADS, force=True)


def in_process(path: Path, output: Path, goals: list[Goal], what: str) -> Table:
    """One process, kernels loaded."""
    size = path.stat().st_size
    ours = partial(describe, path, output)
    ours()
    rivals: list[tuple[str, Callable[[], Any], float]] = [
        (f"numpy.sum, {THREADS} threads: ≥ 60 % of its rate", partial(sum_by_threads, path), 0.6),
        ("NumPy's mean, std, min and max, one after the other: ≥ 3×", partial(one_after_the_other, path), 3.0),
    ]
    lines = []
    for goal, theirs, least in rivals:
        result = race(ours, theirs, pairs=PAIRS, budget_s=60)
        figure = f"{100 * result.ratio:.0f} %" if least < 1 else times(result.ratio)
        goals.append(Goal(f"{what} against {goal}", figure, result.ratio >= least))
        name = goal.split(":")[0]
        lines.append([name, f"{1e-9 * size / min(result.theirs):.1f}", f"{1e-9 * size / min(result.ours):.1f}", figure])
    return Table(what, "GB/s, best of several.", ["peer", "its rate", "mlpipe stats", "mlpipe is faster by"], lines)


def processes(path: Path, output: Path, what: str) -> Table:
    """Whole processes, with what else can be asked for."""
    lines = []
    asked: dict[str, list[str]] = {
        "mlpipe stats": [],
        "… --quantiles 0.01,0.5,0.99": ["--quantiles", "0.01,0.5,0.99"],
        "… --covariance": ["--covariance", str(output.with_suffix(".npy"))],
    }
    for name, flags in asked.items():
        ours = command("-q", "stats", str(path), "-f", "-o", str(output), "--threads", str(THREADS))
        usages = [measure([*ours, *flags]) for _ in range(2)]
        peak = max(usage.anonymous for usage in usages) >> 20
        lines.append([name, f"{min(usage.wall for usage in usages):.2f}", f"{peak} MiB"])
    return Table(f"{what}, processes", "Seconds, best of two.", ["process", "s", "peak anonymous"], lines)


def run(quick: bool) -> Part:
    """Both."""
    goals: list[Goal] = []
    rows = 400_000 if quick else 16_000_000
    what = f"stats of {rows} × {COLUMNS} float32"
    with tempfile.TemporaryDirectory(dir=results_directory(quick)) as folder:
        path, output = Path(folder, "X.npy"), Path(folder, "s.npz")
        write_rows(path, rows)
        tables = [in_process(path, output, goals, what), processes(path, output, what)]
    return Part("statistics", goals, tables)
