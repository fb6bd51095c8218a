"""How long the commands take to start: with a warm cache, against importing what they cannot do without."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Goal, Part, Race, Table, milliseconds, race, times

RUNS = 10


def command(*arguments: str) -> list[str]:
    """The installed ``mlpipe`` of this interpreter."""
    return [str(Path(sys.executable).parent / "mlpipe"), *arguments]


def _call(arguments: list[str]) -> None:
    done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}")


def _race(ours: list[str], theirs: list[str], runs: int) -> Race:
    _call(ours)  # fills caches of files and kernels
    _call(theirs)
    return race(lambda: _call(ours), lambda: _call(theirs), pairs=(runs, runs))


def run(quick: bool) -> Part:
    """The two goals, and what a bare interpreter takes."""
    runs = 3 if quick else RUNS
    goals, rows = [], []
    with tempfile.TemporaryDirectory() as directory:
        x, y, d = (str(Path(directory) / name) for name in ("X.npy", "Y.npy", "D.npy"))
        random = np.random.default_rng(6)
        for name in (x, y):
            np.save(name, random.standard_normal((10, 4), dtype=np.float32))
        distances = command("-q", "distances", x, y, "-o", d, "--force")
        for title, ours, module, most in (
            ("mlpipe distances, 10 × 10, d = 4, warm cache", distances, "numba", 4.0),
            ("mlpipe --help", command("--help"), "typer", 3.0),
        ):
            result = _race(ours, [sys.executable, "-c", f"import {module}"], runs)
            factor = 1 / result.ratio
            goals.append(Goal(f"{title}: ≤ {most:g}× python -c 'import {module}'", times(factor), factor <= most))
            rows.append([title, milliseconds(min(result.ours)), f"import {module}", milliseconds(min(result.theirs)),
                         times(factor), f"≤ {most:g}×"])  # fmt: skip
        bare = _race([sys.executable, "-c", "import numpy"], [sys.executable, "-c", "pass"], runs)
    note = (
        f"Wall time of the process, best of {runs} alternating runs. For comparison: python -c pass "
        f"{milliseconds(min(bare.theirs))} ms, import numpy {milliseconds(min(bare.ours))} ms."
    )
    return Part(
        "startup", goals, [Table("start", note, ["command", "ms", "against", "ms", "times as long", "goal"], rows)]
    )
