"""Processes watched from outside."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpipe.measure.child import run_to_end
from mlpipe.measure.sampling import ProcessSampler, Sample, Series
from tests.cli.gate import wait_until

MIB = 1 << 20


@given(st.lists(st.integers(0, 9), max_size=200), st.integers(2, 9))
def test_a_series_is_bounded_and_loses_no_peak(values: list[int], most: int) -> None:
    series = Series(most=most)
    for second, value in enumerate(values):
        series.append(Sample(float(second), rss=value))
    points = series.points
    assert len(points) <= most
    assert max((point.rss or 0 for point in points), default=0) == max(values, default=0)
    times = [point.at for point in points]
    assert times == sorted(set(times))
    if values:
        assert times[-1] == len(values) - 1
        starts = [0, *(int(at) + 1 for at in times[:-1])]
        assert [point.rss for point in points] == [
            max(values[start : int(at) + 1]) for start, at in zip(starts, times, strict=True)
        ]


def measured(code: str, interval: float = 0.01) -> ProcessSampler:
    ended = run_to_end([sys.executable, "-c", code], os.environ, interval)
    assert ended.exit_code == 0
    assert ended.sampler is not None
    return ended.sampler


def test_anonymous_memory_is_seen_and_not_taken_for_files() -> None:
    found = measured(f"import time; block = bytearray({200 * MIB}); time.sleep(0.2)")
    anonymous, files = found.peak("anonymous"), found.peak("file_backed")
    assert anonymous is not None
    assert files is not None
    assert 200 * MIB < anonymous < 230 * MIB
    assert files < 50 * MIB
    assert (found.peak("rss") or 0) > 200 * MIB


def test_a_touched_map_is_file_backed_only(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(150 * MIB)
    code = f"""
import mmap, time
with open({str(path)!r}, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    total = sum(mapped[place] for place in range(0, len(mapped), 4096))
    time.sleep(0.2)
"""
    found = measured(code)
    assert (found.peak("file_backed") or 0) > 150 * MIB
    assert (found.peak("anonymous") or 0) < 50 * MIB


def test_a_peak_between_two_samples_is_exact() -> None:
    # Nothing is sampled while the block is there, and yet the kernel's mark tells.
    found = measured(f"import time; time.sleep(0.3); block = bytearray({100 * MIB}); del block; time.sleep(0.6)", 0.25)
    facts = found.series.facts()
    assert facts["rss_peak"] is not None
    marks = [mark for mark in facts["rss_peak"] if mark is not None]
    assert max(marks) > 100 * MIB
    # The mark is reset after each sample, so that the peak is that of one interval; of two if a sample falls into it.
    assert sum(mark > 100 * MIB for mark in marks) <= 2 < len(marks)


def test_children_are_included() -> None:
    child = f"import time; block = bytearray({100 * MIB}); time.sleep(0.3)"
    found = measured(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)")
    assert found.children == 1
    assert (found.peak("anonymous") or 0) > 100 * MIB
    assert (found.peak("rss") or 0) > 100 * MIB


def test_without_proc_only_the_resident_size_is_known(tmp_path: Path) -> None:
    with ProcessSampler(os.getpid(), 10, time.perf_counter(), tmp_path) as found:
        pass
    [rss] = found.series.facts()["rss"]
    assert rss is not None
    assert rss > MIB
    assert found.peak("anonymous") is None
    assert found.series.facts()["rss_peak"] is None
    assert str(tmp_path) in found.reasons["anonymous_peak"]


def test_a_mark_that_cannot_be_reset_is_not_told(tmp_path: Path) -> None:
    process = tmp_path / "proc" / str(os.getpid())
    process.mkdir(parents=True)
    (process / "status").write_text("VmHWM:\t  300 kB\nRssAnon:\t  100 kB\nRssFile:\t  50 kB\n")
    (process / "clear_refs").mkdir()
    with ProcessSampler(os.getpid(), 10, time.perf_counter(), tmp_path) as found:
        pass
    facts = found.series.facts()
    assert (facts["anonymous"], facts["file_backed"], facts["rss_peak"]) == ([102_400], [51_200], None)
    assert "cannot be reset" in found.reasons["samples.rss_peak"]


def test_a_process_that_has_ended_adds_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    sampler = ProcessSampler(process.pid, 1, time.perf_counter())
    sampler.sample()
    process.wait()
    sampler.sample()
    assert sampler.series.points == []


def test_time_and_processors_of_a_child() -> None:
    ended = run_to_end(
        [sys.executable, "-c", "import time; time.sleep(0.3)\nwhile time.process_time() < 0.3: pass"], os.environ
    )
    assert ended.wall_s >= 0.5
    assert 0.3 <= ended.cpu_s < ended.wall_s
    assert (ended.exit_code, ended.killed, ended.signum, ended.sampler) == (0, False, None, None)


def test_the_peak_of_a_child_is_its_own() -> None:
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert run_to_end(["/bin/sleep", "0"], os.environ).rss_peak is None  # it was a copy of this process at first
    larger = run_to_end([sys.executable, "-c", f"bytearray({ours})"], os.environ).rss_peak
    assert larger is not None
    assert ours < larger < ours + 50 * MIB


def test_a_child_that_a_signal_ends_has_the_exit_code_of_a_shell() -> None:
    ended = run_to_end([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], os.environ)
    assert (ended.exit_code, ended.killed, ended.signum) == (137, True, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_go_to_the_child(number: signal.Signals, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"""
import pathlib, signal, sys, time
signal.signal({int(number)}, lambda *_: sys.exit(7))
pathlib.Path({str(ready)!r}).touch()
time.sleep(60)
"""
    before = signal.getsignal(number)

    def ask() -> None:
        wait_until(ready.exists, "the child did not start")
        os.kill(os.getpid(), number)

    asking = threading.Thread(target=ask)
    asking.start()
    ended = run_to_end([sys.executable, "-c", code], os.environ)
    asking.join()
    assert (ended.exit_code, ended.killed, ended.signum) == (7, False, number)
    assert signal.getsignal(number) is before
