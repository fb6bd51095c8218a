"""Chains of transforms over a file larger than the ceiling, beside `cp`, NumPy, and the stages one by one.

Whole processes, ending in fsync; the NumPy script holds the array in memory and does the same five steps.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import THREADS, Goal, Part, Table, best, results_directory, times
from benchmarks.shuffling import _copy
from benchmarks.startup import command
from benchmarks.whole_process import measure

COLUMNS = 128
MEMORY = "512MiB"
FIVE = {
    "clip": ["clip", "--min", "0", "--max", "3"],
    "log1p": ["log1p"],
    "normalize": ["normalize", "--norm", "l2"],
    "cast": ["cast", "--to", "float16"],
}
SCRIPT = """
import sys, os, numpy as np
x = np.load(sys.argv[1])
x = np.clip(x, 0, 3)
x = np.log1p(x)
norm = np.sqrt((x * x).sum(axis=1, keepdims=True))
norm[norm == 0] = 1
x = x / norm
x = x.astype(np.float16)
with open(sys.argv[2], "wb") as file:
    np.save(file, x)
    file.flush()
    os.fsync(file.fileno())
"""


def _wall(arguments: list[str], target: Path, runs: int) -> float:
    """Shortest of some runs, each onto nothing and a settled disk."""
    walls = []
    for _ in range(runs):
        target.unlink(missing_ok=True)
        os.sync()
        walls.append(measure(arguments).wall)
    return min(walls)


def _numpy_pass(path: Path) -> float:
    """One bare pass over the array in memory."""
    array = np.load(path)
    return best(lambda: np.multiply(array, np.float32(2), out=array), 2)


def run(quick: bool) -> Part:
    """All of them, one after the other."""
    rows, runs = (100_000, 1) if quick else (8_000_000, 2)
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory(dir=results_directory(quick)) as folder:
        source, target = Path(folder, "X.npy"), Path(folder, "T.npy")
        base = command("-q", "run", "-f", "--threads", str(THREADS), "--memory", MEMORY)
        measure([*base, "generate", "--rows", str(rows), "--columns", str(COLUMNS), "--dtype", "float32", "then",
                 "write", str(source)])  # fmt: skip

        def chain(*links: list[str]) -> float:
            words = [word for link in links for word in ("then", *link)]
            return _wall([*base, "read", str(source), *words, "then", "write", str(target)], target, runs)

        standardize = chain(["standardize"])
        five = chain(*FIVE.values())
        singles = {name: chain(link) for name, link in FIVE.items()}
        time.sleep(1)
        copy = min(_copy(source, target) for _ in range(runs))
        bare = _numpy_pass(source)
        numpy = _wall([sys.executable, "-c", SCRIPT, str(source), str(target)], target, runs)
    size = f"{rows * COLUMNS * 4 / 1e9:.1f} GB"
    limit, slowest = copy + bare, max(singles.values())
    goals += [
        Goal(f"read | standardize | write, {size}: ≤ 1.3× cp + a NumPy pass", times(standardize / limit),
             standardize <= 1.3 * limit),
        Goal(f"read | clip | log1p | normalize | cast | write, {size}: ≤ 1.3× cp + a NumPy pass", times(five / limit),
             five <= 1.3 * limit),
        Goal("the same: ≤ 1.2× its slowest single stage", times(five / slowest), five <= 1.2 * slowest),
        Goal("the same: ≥ 3× the NumPy script that does the steps one by one", times(numpy / five), numpy >= 3 * five),
    ]  # fmt: skip
    lines = [
        ["standardize (two passes over the file)", f"{standardize:.2f}"],
        ["clip | log1p | normalize | cast", f"{five:.2f}"],
    ]
    lines += [[name, f"{wall:.2f}"] for name, wall in singles.items()]
    lines += [
        ["cp, fsync", f"{copy:.2f}"],
        ["NumPy, one bare pass in memory", f"{bare:.2f}"],
        ["NumPy script", f"{numpy:.2f}"],
    ]
    note = f"Seconds, best of {runs}; mlpipe with --memory {MEMORY}."
    return Part("chains", goals, [Table(f"chains over {size}", note, ["what", "s"], lines)])
