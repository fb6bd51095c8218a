"""From .npy files to a .npy file that is safe on the disk: mlpipe and the same in scikit-learn, as processes.

Wall time from start to exit, interpreter and imports included. Memory is that of the process, sampled: the
peak of its anonymous memory, and the kernel's own record of its largest resident size. Outputs go to the
disk that the repository is on, and are deleted, and the disk settled, before each run.
"""

from __future__ import annotations

import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import THREADS, Goal, Part, Table, results_directory, times
from benchmarks.startup import command

ROUNDS = 4
FEATURES = 64
SAMPLE_S = 0.01
PIECE = 16 << 20
SMALL_CEILING = "256MiB"


@dataclass
class Usage:
    """Wall seconds of one process, and its peaks in bytes."""

    wall: float
    anonymous: int
    resident: int


def _fields(process: int) -> tuple[int, int]:
    """Anonymous memory now, and the largest resident size so far, in bytes; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    values = {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines)
              if key in ("RssAnon", "VmHWM")}  # fmt: skip
    return values.get("RssAnon", 0), values.get("VmHWM", 0)


def measure(arguments: list[str]) -> Usage:
    """Run a process to its end and watch it."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": str(THREADS)}
    usage = Usage(0.0, 0, 0)
    ended = threading.Event()

    def watch(number: int) -> None:
        while not ended.wait(SAMPLE_S):
            anonymous, resident = _fields(number)
            usage.anonymous = max(usage.anonymous, anonymous)
            usage.resident = max(usage.resident, resident)

    start = time.perf_counter()
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        watcher = threading.Thread(target=watch, args=(process.pid,))
        watcher.start()
        _, errors = process.communicate()
        usage.wall = time.perf_counter() - start
        ended.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {errors.decode()}")
    return usage


def _settle(output: Path) -> None:
    """Before each run: no output, nothing left to write."""
    with suppress(FileNotFoundError):
        output.unlink()
    os.sync()
    time.sleep(1)


def _write_alone(path: Path, size: int, direct: bool) -> float:
    """Seconds to write so many bytes of one buffer and fsync: what the disk alone takes."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_DIRECT if direct else 0)
    with mmap.mmap(-1, PIECE) as buffer:  # aligned to pages, as O_DIRECT wants
        buffer.write(np.random.default_rng(1).bytes(PIECE))
        start = time.perf_counter()
        descriptor = os.open(path, flags)
        try:
            os.posix_fallocate(descriptor, 0, size)
            for offset in range(0, size - size % PIECE, PIECE):
                os.pwrite(descriptor, buffer, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return time.perf_counter() - start


@contextmanager
def _files(rows: int, quick: bool) -> Iterator[tuple[Path, Path, Path]]:
    """Inputs and the place of the output, on the disk of the repository."""
    with tempfile.TemporaryDirectory(dir=results_directory(quick)) as directory:
        x, y, d = (Path(directory) / name for name in ("X.npy", "Y.npy", "D.npy"))
        random = np.random.default_rng(3)
        for path in (x, y):
            np.save(path, random.standard_normal((rows, FEATURES), dtype=np.float32))
        yield x, y, d


def _check(x: Path, y: Path, output: Path) -> None:
    """Refuse to time what computes something else: some rows, against distances by difference in float64."""
    found, some = np.load(output, mmap_mode="r"), slice(None, None, 4999)
    left, right = (np.load(path).astype(np.float64) for path in (x, y))
    for number, row in zip(range(len(left))[some], left[some], strict=True):
        if not np.allclose(found[number], np.sqrt(((right - row) ** 2).sum(axis=1)), rtol=1e-4):
            raise AssertionError(f"row {number} of {output.name} is wrong: the times would mean nothing")


def _ways(x: Path, y: Path, output: Path) -> dict[str, list[str]]:
    """The contenders, ours and the peer's by turns."""
    files = [str(x), str(y)]
    ours = command("-q", "distances", *files, "-o", str(output))
    theirs = [sys.executable, str(Path(__file__).with_name("sklearn_script.py")), *files, str(output)]
    return {
        "mlpipe distances": ours,
        "scikit-learn, np.load": theirs,
        f"mlpipe distances --memory {SMALL_CEILING}": [*ours, "--memory", SMALL_CEILING],
        "scikit-learn, np.load(mmap_mode='r')": [*theirs, "mmap"],
    }


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def _figures(usages: list[Usage]) -> list[str]:
    """Seconds of one way, best and median, and its largest memory."""
    walls = [usage.wall for usage in usages]
    peaks = [max(usage.anonymous for usage in usages), max(usage.resident for usage in usages)]
    return [f"{min(walls):.2f}", f"{statistics.median(walls):.2f}", *map(_mebibytes, peaks), str(len(walls))]


def _goals(runs: dict[str, list[Usage]], rows: int) -> list[Goal]:
    """Time best against best, where the peer may pick its better way; memory largest against its smaller way."""
    ours = runs["mlpipe distances"]
    peers = [usages for name, usages in runs.items() if name.startswith("scikit")]
    ratio = min(u.wall for usages in peers for u in usages) / min(u.wall for u in ours)
    what = f"whole process, {rows} × {rows}, d = {FEATURES}, float32, .npy to .npy"
    goals = [Goal(f"{what}: ≥ 2× scikit-learn", times(ratio), ratio >= 2)]
    for title, field in (("anonymous", "anonymous"), ("resident", "resident")):
        share = max(getattr(u, field) for u in ours) / min(max(getattr(u, field) for u in usages) for usages in peers)
        goals.append(Goal(f"{what}: peak {title} memory ≤ 1/4 of scikit-learn's", f"1/{1 / share:.1f}", share <= 0.25))
    return goals


def _overlap(arguments: list[str], directory: Path, rows: int) -> tuple[Goal, Table]:
    """One more run, with a report: how much of the shorter of compute and write ran beside the other."""
    report = directory / "report.json"
    measure([*arguments, "--report", str(report)])
    record = json.loads(report.read_text())
    wall, stages = record["wall_s"], record["stages"]
    _, compute, write = (stage["self_s"] for stage in (stages[0], stages[-2], stages[-1]))
    share = max(0.0, compute + write - wall) / min(compute, write)
    goal = Goal(
        f"whole process, {rows} × {rows}: the write is overlapped with compute (over half of the shorter)",
        f"{share:.0%} of the shorter", share > 0.5,
    )  # fmt: skip
    keys = ("self_s", "wait_in_s", "wait_out_s", "cpu_s")
    lines = [[stage["name"], *("" if stage[key] is None else f"{stage[key]:.2f}" for key in keys)] for stage in stages]
    note = f"Seconds, from --report of one more run; wall {wall:.2f} s."
    return goal, Table(
        "whole process: where the time goes", note, ["stage", "self", "wait in", "wait out", "CPU"], lines
    )


def _disk(output: Path, size: int) -> list[list[str]]:
    """The disk alone, in two ways."""
    rows = []
    for title, direct in (
        ("the disk alone: write, fsync", False),
        ("the disk alone: write past the cache, fsync", True),
    ):
        seconds = []
        for _ in range(3):
            _settle(output)
            with suppress(OSError):  # a file system without O_DIRECT
                seconds.append(_write_alone(output, size, direct))
        if seconds:
            rows.append([title, f"{min(seconds):.2f}", f"{statistics.median(seconds):.2f}", "", "", str(len(seconds))])
    return rows


def run(quick: bool) -> Part:
    """All ways by turns, some rounds."""
    rows, rounds = (4000, 2) if quick else (20000, ROUNDS)
    with _files(rows, quick) as (x, y, output):
        ways = _ways(x, y, output)
        runs: dict[str, list[Usage]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, arguments in ways.items():
                _settle(output)
                usage = measure(arguments)
                if number:
                    runs[name].append(usage)
                else:  # the first round fills caches of files and kernels
                    _check(x, y, output)
        goals = _goals(runs, rows)
        _settle(output)
        goal, where = _overlap(ways["mlpipe distances"], output.parent, rows)
        lines = [[name, *_figures(usages)] for name, usages in runs.items()]
        lines += _disk(output, 4 * rows * rows)
    header = ["process", "best s", "median s", "peak anonymous MiB", "peak resident MiB", "runs"]
    note = f"{rows} × {rows}, d = {FEATURES}, float32: {_mebibytes(4 * rows * rows)} MiB written, ending in fsync."
    return Part("whole_process", [*goals, goal], [Table("whole process", note, header, lines), where])
