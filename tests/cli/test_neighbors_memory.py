"""The ceiling of `mlpipe neighbors`, as seen from outside, whatever the number of queries and of rows of data."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.measure.memory import why_unmeasured
from mlpipe.npy_format import build_header
from tests.cli.gate import start, wait_until
from tests.cli.test_memory import MIB, Watched, anonymous, named

pytestmark = pytest.mark.skipif(why_unmeasured() is not None, reason="no /proc with RssAnon here")
SEEN = 0.004
"""Seconds between two looks."""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPIPE_MEMORY", raising=False)


def watched(*arguments: str, until: float | None = None, **settings: Any) -> Watched:
    """Run `mlpipe neighbors ARGUMENTS…`, for so many seconds at most, and look at its memory all the while."""
    import time

    process = start("-m", "mlpipe", "-q", "neighbors", *arguments, **settings)
    peak, began = 0, time.monotonic()
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(SEEN)
        if until is not None and time.monotonic() - began > until:
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: process.poll() is not None, "the signal was lost")
    out, err = process.communicate()
    return Watched(process.returncode, peak, out or "", err or "")


def save(name: str, *shape: int, dtype: str = "f4") -> None:
    np.save(name, np.random.default_rng(len(name)).random(shape).astype(dtype))


CASES = {
    "many of both": ((20_000, 24), (30_000, 24), "f4", ["-k", "10"]),
    "few queries": ((8, 40), (300_000, 40), "f4", ["-k", "20"]),
    "many neighbours": ((300, 16), (40_000, 16), "f4", ["-k", "3000", "-m", "cityblock"]),
    "wide": ((40, 60_000), (90, 60_000), "f8", ["-k", "5", "-m", "cosine"]),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if place > 1 else []) for place, name in enumerate(CASES)]
)
def test_the_smallest_ceiling_named_does_work(name: str) -> None:
    queries, data, dtype, flags = CASES[name]
    save("Q.npy", *queries, dtype=dtype)
    save("D.npy", *data, dtype=dtype)
    arguments = ["Q.npy", "D.npy", *flags, "-o", "near"]
    refused = watched(*arguments, "--memory", "1MiB")
    least = named(refused.err)
    assert (refused.code, os.path.exists("near")) == (7, False)
    ended = watched(*arguments, "--memory", f"{least}MiB")
    assert (ended.code, ended.err) == (0, "")
    assert 30 * MIB < ended.peak <= least * MIB
    assert np.load("near/indices.npy").shape == (queries[0], int(flags[1]))
    assert watched(*arguments, "--force", "--memory", f"{least - 8}MiB").code == 7


@pytest.mark.slow
def test_compiling_is_within_the_ceiling(tmp_path: Path) -> None:
    save("Q.npy", 300, 16)
    save("D.npy", 5000, 16)
    environment = {**os.environ, "MLPIPE_CACHE_DIR": str(tmp_path / "cache")}
    least = named(watched("Q.npy", "D.npy", "--memory", "1MiB").err)
    ended = watched("Q.npy", "D.npy", "--memory", f"{least}MiB", env=environment)
    assert (ended.code, ended.err) == (0, "")
    assert 30 * MIB < ended.peak <= least * MIB
    assert list((tmp_path / "cache").rglob("*.kernel"))


@pytest.mark.slow
@pytest.mark.parametrize("memory", [260, 800])
def test_a_million_queries_and_a_million_rows(memory: int) -> None:
    """Not to its end, which is far: until some blocks are through; zeros on the disk take no room there."""
    for name in ("Q.npy", "D.npy"):
        header = build_header((1_000_000, 128), "<f4")
        Path(name).write_bytes(header)
        os.truncate(name, len(header) + 4 * 128 * 1_000_000)
        np.load(name, mmap_mode="r+")[:, 0] = np.arange(1_000_000)
    flags = ["-k", "10", "-o", "near", "--memory", f"{memory}MiB", "--report", "R.json"]
    ended = watched("Q.npy", "D.npy", *flags, until=90)
    assert ended.code in (0, 143)
    assert 100 * MIB < ended.peak <= memory * MIB
    record = json.loads(Path("R.json").read_text())
    assert record["process"]["anonymous_peak"] <= memory * MIB
    assert not os.path.exists("near") or ended.code == 0
