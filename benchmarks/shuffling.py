"""A shuffled epoch of shards in batches, consumed in Python; and the global shuffle of a file larger than the ceiling.

The epoch: everybody reads the same shards from the page cache through memory maps, in batches of 256 rows, and the
loop touches each batch. PyTorch and Grain are slow enough that a part of an epoch gives their rate.
The file: wall time of the command, beside `cp` of the same file, both ending in fsync.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mlpipe
from benchmarks.harness import THREADS, Goal, Part, Table, results_directory, times
from benchmarks.startup import command
from benchmarks.whole_process import measure

COLUMNS = 129
BATCH = 256
ROUNDS = 10
PEER_ROWS = 40_000
"""Rows after which the rate of a slow peer is known."""


def write_shards(directory: Path, shards: int, rows: int) -> list[Path]:
    """Shards of normally distributed rows, in the page cache."""
    random = np.random.default_rng(5)
    paths = [directory / f"shard-{number:02d}.npy" for number in range(shards)]
    for path in paths:
        np.save(path, random.standard_normal((rows, COLUMNS), dtype=np.float32))
    return paths


class Rows:
    """The shards as a random-access source, as their documentation shows it: one row for one index."""

    def __init__(self, paths: list[Path]) -> None:
        self.maps = [np.load(path, mmap_mode="r") for path in paths]
        self.each = len(self.maps[0])

    def __len__(self) -> int:
        return self.each * len(self.maps)

    def __getitem__(self, index: int) -> Any:
        shard, row = divmod(int(index), self.each)
        return np.array(self.maps[shard][row])


class RowsAtOnce(Rows):
    """The same with PyTorch's hook that fetches a whole batch."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


def ours(directory: Path, epoch: int) -> Iterable[Any]:
    """Batches of an epoch."""
    return mlpipe.read(str(directory)).shuffle(seed=1, epoch=epoch).batch(BATCH)


def torch_loader(rows: Rows, workers: int) -> Iterable[Any]:
    """PyTorch's map-style loader."""
    from torch.utils.data import DataLoader

    return DataLoader(rows, batch_size=BATCH, shuffle=True, num_workers=workers)  # type: ignore[arg-type]


def grain_loader(rows: Rows) -> Iterable[Any]:
    """Grain's dataset, with its own reading threads."""
    import grain

    return grain.MapDataset.source(rows).shuffle(seed=1).batch(BATCH).to_iter_dataset()


def rate(batches: Callable[[], Iterable[Any]], most: int) -> float:
    """Rows a second of a loop over at most so many rows; starting the loader counts."""
    start, rows, touched = time.perf_counter(), 0, 0.0
    for batch in batches():
        rows += len(batch)
        touched += float(batch[0, 0])
        if rows >= most:
            break
    return rows / (time.perf_counter() - start)


def steady_rate(batches: Callable[[], Iterable[Any]], most: int) -> float:
    """The same from the second batch on: opening files and starting worker processes are left out, for everybody."""
    iterator: Iterator[Any] = iter(batches())
    next(iterator)
    start, rows = time.perf_counter(), 0
    for batch in iterator:
        rows += len(batch)
        if rows >= most:
            break
    return rows / (time.perf_counter() - start)


def epoch_part(quick: bool, goals: list[Goal]) -> Table:
    """Rows a second of everybody."""
    shards, each = (8, 1000) if quick else (64, 10_000)
    with tempfile.TemporaryDirectory(dir=results_directory(quick)) as folder:
        paths = write_shards(Path(folder), shards, each)
        rows = Rows(paths)
        most = min(PEER_ROWS, len(rows) // 2)
        whole = max(rate(partial(ours, Path(folder), epoch), len(rows)) for epoch in range(ROUNDS))
        rates = {
            "mlpipe, opening 64 files included": whole,
            "mlpipe": max(steady_rate(partial(ours, Path(folder), epoch), len(rows)) for epoch in range(ROUNDS)),
        }
        for workers in (0, 1, THREADS):
            name = f"PyTorch DataLoader, map-style, {workers} workers"
            rates[name] = max(steady_rate(partial(torch_loader, rows, workers), most) for _ in range(2))
        name = "PyTorch DataLoader, __getitems__, 0 workers"
        rates[name] = max(steady_rate(partial(torch_loader, RowsAtOnce(paths), 0), most) for _ in range(2))
        rates["Grain MapDataset"] = max(steady_rate(partial(grain_loader, rows), most) for _ in range(2))
    mine = rates["mlpipe"]
    torch = max(value for name, value in rates.items() if name.startswith("PyTorch"))
    grain = rates["Grain MapDataset"]
    what = f"shuffled epoch, {shards} × {each} × {COLUMNS} float32, batches of {BATCH}"
    goals += [
        Goal(f"{what}: ≥ 10 M rows/s, opening included", f"{whole / 1e6:.1f} M", whole >= 10e6),
        Goal(f"{what}: ≥ 50× PyTorch DataLoader, any workers", times(mine / torch), mine >= 50 * torch),
        Goal(f"{what}: ≥ 100× Grain", times(mine / grain), mine >= 100 * grain),
    ]
    lines = [[name, f"{value / 1e6:.3f}", times(mine / value)] for name, value in rates.items()]
    note = "Best of several, from the second batch on; PyTorch and Grain hold the files open from before that."
    return Table(what, note, ["loader", "million rows/s", "mlpipe is faster by"], lines)


def _copy(source: Path, target: Path) -> float:
    """Seconds of `cp` and fsync."""
    start = time.perf_counter()
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return time.perf_counter() - start


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_part(quick: bool, goals: list[Goal]) -> Table:
    """Global shuffle of a file, beside cp."""
    rows, gigabytes = (200_000, 0.1) if quick else (16_000_000, 8)
    with tempfile.TemporaryDirectory(dir=results_directory(quick)) as folder:
        source, target = Path(folder, "X.npy"), Path(folder, "S.npy")
        ours = command("-q", "run", "-f", "--threads", str(THREADS))
        measure([*ours, "generate", "--rows", str(rows), "--columns", str(COLUMNS - 1), "--dtype", "float32", "then",
                 "write", str(source)])  # fmt: skip
        chain = ["read", str(source), "then", "shuffle", "--seed", "1", "then", "write", str(target)]
        digests, lines, walls = set(), [], {}
        copies = min(_copy(source, target) for _ in range(2))
        for memory in ("512MiB", "256MiB"):
            usages = []
            for _ in range(2):
                target.unlink(missing_ok=True)
                os.sync()
                usages.append(measure([*ours, "--memory", memory, *chain]))
            walls[memory] = min(usage.wall for usage in usages)
            digests.add(_digest(target))
            peak = max(usage.anonymous for usage in usages) >> 20
            lines.append([f"mlpipe, --memory {memory}", f"{walls[memory]:.1f}", f"{peak} MiB"])
        lines.append(["cp, fsync", f"{copies:.1f}", ""])
    share = walls["512MiB"] / (2 * copies)
    what = f"global shuffle of {gigabytes} GB"
    goals += [
        Goal(f"{what} with --memory 512MiB: ≤ 3× cp of the file twice", times(share), share <= 3),
        Goal(f"{what}: the same bytes with --memory 256MiB", "yes" if len(digests) == 1 else "no", len(digests) == 1),
    ]
    return Table(what, "Seconds, best of two.", ["process", "s", "peak anonymous"], lines)


def run(quick: bool) -> Part:
    """Both."""
    goals: list[Goal] = []
    tables = [epoch_part(quick, goals), file_part(quick, goals)]
    return Part("shuffling", goals, tables)
