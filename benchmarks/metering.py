"""What measuring costs: the same runs with the default meter and without, and watched from outside and not.

The default is the clocks of all links, the figures of all threads and the sampler of memory; without them a run has
none of these. `mlpipe profile --memory` samples the process from outside besides, through memory-profiler.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import mlpipe
from benchmarks.harness import SETTLE_S, THREADS, Goal, Part, Table, milliseconds, results_directory
from benchmarks.startup import command
from mlpipe.chain import Chain
from mlpipe.engine.budget import Plan, plan
from mlpipe.engine.local import run as carry_out
from mlpipe.measure.memory import MemorySampler
from mlpipe.measure.meter import Lane, Meter

CEILING = 512 << 20
COLUMNS = 128
TINY = "read, batch 256, batch 64 (32 KiB), nothing"
"""For comparison: such batches cost more than the bytes in them, measured or not."""
CALLS = 200_000
INTERVAL = "0.1"


@dataclass
class Pairs:
    """Wall and CPU seconds of runs that were measured and of runs that were not, by turns."""

    off: list[tuple[float, float]] = field(default_factory=list)
    on: list[tuple[float, float]] = field(default_factory=list)

    def overhead(self, place: int) -> float:
        """How much longer the best measured run took than the best other one: 0.01 is 1 %."""
        return min(one[place] for one in self.on) / min(one[place] for one in self.off) - 1

    def median(self, place: int) -> float:
        """The same, as the median over pairs."""
        return statistics.median(on[place] / off[place] for on, off in zip(self.on, self.off, strict=True)) - 1


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call, all threads included."""
    time.sleep(SETTLE_S)
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def without(made: Plan) -> None:
    """A run that nobody measures."""
    carry_out(made)


def with_default(made: Plan) -> None:
    """A run as the command line does it."""
    meter = Meter()
    with MemorySampler(meter=meter):
        carry_out(made, meter)


def chains(path: str) -> dict[str, Chain]:
    """One that does much with each byte, one that does little in many stages, and one in needlessly small batches."""
    rows = mlpipe.read(path)
    return {
        "read, clip, log1p, normalize, nothing": rows.clip(min=0, max=3).log1p().normalize(),
        "read, batch 8192, check, batch 4096, nothing": rows.batch(size=8192).check(finite=True).batch(size=4096),
        TINY: rows.batch(size=256).batch(size=64),
    }


def _race(chain: Chain, rounds: int) -> Pairs:
    pairs = Pairs()
    with chain.opened() as pipeline:
        made = plan(pipeline, CEILING, THREADS)
        with_default(made)  # fills caches of files and kernels
        for _ in range(rounds):
            pairs.off.append(timed(lambda: without(made)))
            pairs.on.append(timed(lambda: with_default(made)))
    return pairs


def _profiled(arguments: list[str], flags: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command's run, by its own record."""
    words = command("-q", "profile", "--json", *flags, *arguments)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    return record["wall_s"], record["cpu_s"]


def _watched(path: str, rounds: int) -> Pairs:
    """A chain as a process, watched from outside and not."""
    text = f"run --threads {THREADS} read {path} then repeat --epochs 4 then clip --min 0 --max 3 then log1p"
    arguments = [*text.split(), "then", "normalize", "then", "nothing"]
    pairs = Pairs()
    _profiled(arguments, [])
    for _ in range(rounds):
        pairs.off.append(_profiled(arguments, []))
        pairs.on.append(_profiled(arguments, ["--memory", "--interval", INTERVAL]))
    return pairs


def nanoseconds(act: Callable[[Lane], object], calls: int) -> float:
    """CPU nanoseconds of one of many calls on a lane that runs."""
    with Meter().lane("read") as lane:
        start = time.thread_time_ns()
        for _ in range(calls):
            act(lane)
        return (time.thread_time_ns() - start) / calls


def _calls(quick: bool) -> Table:
    """What the calls on the way of a block take."""
    calls = CALLS // 20 if quick else CALLS

    def turn(lane: Lane) -> None:
        lane.enter("wait_in")
        lane.enter("self")

    def wait(lane: Lane) -> None:
        lane.enter("wait_in")
        lane.enter("wait_out")

    sampler = MemorySampler(meter=Meter())
    rows = [
        ["enter, from work to waiting or back", f"{nanoseconds(turn, calls) / 2:,.0f}"],
        ["enter, from waiting to waiting", f"{nanoseconds(wait, calls) / 2:,.0f}"],
        ["count a batch", f"{nanoseconds(lambda lane: lane.count(rows=1, nbytes=8), calls):,.0f}"],
        ["a sample of memory", f"{nanoseconds(lambda _: sampler.sample(), calls // 100):,.0f}"],
    ]
    return Table("calls of the meter", "CPU time of one call, its loop included.", ["call", "ns"], rows)


def _row(title: str, pairs: Pairs) -> list[str]:
    best = [min(one[0] for one in runs) for runs in (pairs.off, pairs.on)]
    shares = [pairs.overhead(0), pairs.median(0), pairs.overhead(1)]
    return [title, *map(milliseconds, best), *(f"{share:+.2%}" for share in shares), str(len(pairs.on))]


def run(quick: bool) -> Part:
    """Both ways by turns."""
    rows, rounds = (100_000, 3) if quick else (4_000_000, 12)
    with tempfile.TemporaryDirectory(dir=results_directory(quick)) as directory:
        path = str(Path(directory) / "X.npy")
        np.save(path, np.random.default_rng(9).random((rows, COLUMNS), dtype=np.float32))
        found = {title: _race(chain, rounds) for title, chain in chains(path).items()}
        watched = _watched(path, max(3, rounds // 2))
    worst = max(pairs.overhead(0) for title, pairs in found.items() if title != TINY)
    seen = watched.overhead(0)
    goals = [
        Goal("the default meter costs ≤ 1 % of a run", f"{worst:+.2%}", worst <= 0.01),
        Goal("mlpipe profile --memory costs ≤ 3 % of a run", f"{seen:+.2%}", seen <= 0.03),
    ]
    lines = [_row(title, pairs) for title, pairs in found.items()]
    lines.append(_row(f"profile --memory --interval {INTERVAL}, in turn with profile", watched))
    header = ["run", "off ms", "on ms", "best on best", "median of pairs", "CPU, best on best", "pairs"]
    note = f"{rows:,} × {COLUMNS} float32 from the page cache, {THREADS} threads; wall time unless said."
    return Part("metering", goals, [Table("what measuring costs", note, header, lines), _calls(quick)])
