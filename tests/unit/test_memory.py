from __future__ import annotations

import mmap
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlpipe.measure import memory
from mlpipe.measure.memory import (
    MemorySampler,
    anonymous_bytes,
    available_bytes,
    default_ceiling,
    file_backed_bytes,
    peak_rss_bytes,
    release_free_memory,
    why_unmeasured,
)

MIB = 2**20
on_proc = pytest.mark.skipif(why_unmeasured() is not None, reason="no /proc with RssAnon here")
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _private(size: int) -> mmap.mmap:
    """Anonymous memory, touched, outside of any allocator."""
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, size, mmap.PAGESIZE):
        block[page] = 1
    return block


@on_proc
def test_anonymous_memory_follows_what_is_touched():
    before = anonymous_bytes()
    with _private(64 * MIB):
        during = anonymous_bytes()
    after = anonymous_bytes()
    assert 62 * MIB <= during - before <= 66 * MIB
    assert abs(after - before) <= 2 * MIB


@on_proc
def test_mapped_files_count_as_file_backed_and_not_as_anonymous(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(32 * MIB))
    anonymous, mapped = anonymous_bytes(), file_backed_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert sum(view[:: mmap.PAGESIZE]) == 0
        assert file_backed_bytes() - mapped >= 30 * MIB
        assert anonymous_bytes() - anonymous <= 2 * MIB


@on_proc
def test_children_and_grandchildren_are_included():
    grandchild = "block = b'x' * 2**25; print('ready', flush=True); input()"
    child = (
        "import subprocess, sys\n"
        "block = b'x' * 2**25\n"
        f"subprocess.run([sys.executable, '-c', {grandchild!r}])"
    )  # fmt: skip
    before = anonymous_bytes()
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        with MemorySampler(interval=60) as sampler:
            pass
        process.communicate(b"\n")
    assert sampler.peak_anonymous - before >= 64 * MIB
    assert anonymous_bytes() - before <= 8 * MIB


@on_proc
def test_children_started_by_other_threads_are_included():
    ready, done = threading.Event(), threading.Event()

    def start() -> None:
        with subprocess.Popen(
            [sys.executable, "-c", "b = b'x' * 2**25; print(1, flush=True); input()"], stdin=-1, stdout=-1
        ) as process:
            process.stdout.readline()
            ready.set()
            done.wait()
            process.communicate(b"\n")

    before = anonymous_bytes()
    thread = threading.Thread(target=start)
    thread.start()
    ready.wait()
    during = anonymous_bytes()
    done.set()
    thread.join()
    assert during - before >= 32 * MIB


def test_peak_rss_covers_the_past():
    with _private(32 * MIB):
        pass
    assert peak_rss_bytes() >= 32 * MIB


@on_proc
def test_sampler_sees_a_peak_that_has_passed():
    reached = threading.Event()

    class Watched(MemorySampler):
        def sample(self):
            anonymous = super().sample()
            if anonymous - self.base >= 60 * MIB:
                reached.set()
            return anonymous

    Watched.base = anonymous_bytes()
    with Watched(interval=0.001) as sampler:
        with _private(64 * MIB):
            assert reached.wait(30)
        between = sampler.sample()
    assert between - Watched.base < 32 * MIB
    assert sampler.peak_anonymous - Watched.base >= 60 * MIB
    assert sampler.peak_rss >= sampler.peak_anonymous - 8 * MIB
    assert sampler.reason is None


@on_proc
def test_sampler_takes_a_sample_when_told():
    with MemorySampler(interval=60) as sampler, _private(64 * MIB):
        seen = sampler.sample()
    assert sampler.peak_anonymous == seen


def test_sampler_leaves_no_thread_behind_when_the_block_raises():
    def fail() -> None:
        with MemorySampler(interval=60):
            raise ValueError("boom")

    before = threading.active_count()
    with pytest.raises(ValueError, match="boom"):
        fail()
    assert threading.active_count() == before


def test_without_proc_only_the_resident_size_is_known_and_it_says_why(tmp_path):
    with MemorySampler(interval=60, root=tmp_path) as sampler:
        block = b"x" * (32 * MIB)
        assert sampler.sample() is None
    assert sampler.peak_anonymous is None
    assert sampler.peak_rss >= len(block)
    assert sampler.reason.startswith(str(tmp_path / "proc/self/status"))
    assert "only the resident size" in sampler.reason
    assert anonymous_bytes(tmp_path) is None
    assert file_backed_bytes(tmp_path) is None


def test_a_status_without_rss_anon_is_not_measured_rather_than_zero(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tpython\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n")
    assert anonymous_bytes(tmp_path) is None
    assert why_unmeasured(tmp_path) is not None
    assert peak_rss_bytes(tmp_path) == 2 * MIB


def test_status_of_a_fake_process_tree(tmp_path):
    for process, size, children in (("self", 1000, "7 8"), ("7", 200, "9"), ("9", 30, ""), ("8", None, "")):
        task = tmp_path / "proc" / process / "task" / "1"
        task.mkdir(parents=True)
        (task / "children").write_text(children)
        line = "" if size is None else f"RssAnon:\t{size} kB\n"  # a zombie has no memory lines
        (tmp_path / "proc" / process / "status").write_text(f"Name:\tRssAnon: 5 kB\n{line}Threads:\t1\n")
    (tmp_path / "proc/self/task/2").mkdir()
    assert anonymous_bytes(tmp_path) == 1230 * 1024


def test_memory_profiler_is_imported_by_the_fallback_alone():
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mlpipe.measure import cgroup, host, memory, meter, sizes\n"
        "with memory.MemorySampler(): pass\n"
        "memory.release_free_memory(); memory.keep_heap_trimmed(); memory.default_ceiling(); host.host_facts()\n"
        "heavy = {'numpy', 'numba', 'memory_profiler', 'psutil', 'multiprocessing', 'rich', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "with memory.MemorySampler(root=Path('/nowhere')): pass\n"
        "print('memory_profiler' in sys.modules)"
    )
    expected = "[]" if why_unmeasured() is None else "['memory_profiler', 'multiprocessing', 'psutil']"
    assert _python(code).splitlines() == [expected, "True"]


def test_available_memory_is_that_of_the_machine_where_nothing_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "resource", None)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  9000000 kB\nMemFree:  1 kB\nMemAvailable:  1000000 kB\n")
    assert available_bytes(tmp_path) == 1_000_000 * 1024
    assert default_ceiling(tmp_path) == 500_000 * 1024
    (tmp_path / "proc/meminfo").write_text("MemAvailable:  9000000 kB\n")
    assert default_ceiling(tmp_path) == 2**30


def test_available_memory_without_proc_is_the_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "resource", None)
    monkeypatch.setattr(memory, "machine_memory", lambda: 600 * MIB)
    assert available_bytes(tmp_path) == 600 * MIB
    assert default_ceiling(tmp_path) == 300 * MIB
    monkeypatch.setattr(memory, "machine_memory", lambda: None)
    assert available_bytes(tmp_path) is None
    assert default_ceiling(tmp_path) == 2**30


@on_proc
@pytest.mark.parametrize("kind", ["RLIMIT_DATA", "RLIMIT_AS"])
def test_ulimit_limits_what_is_available(kind):
    limit = 700 * MIB
    code = (
        f"import resource; resource.setrlimit(resource.{kind}, ({limit}, {limit}))\n"
        "from mlpipe.measure.memory import available_bytes, default_ceiling\n"
        "print(available_bytes(), default_ceiling())"
    )
    available, ceiling = map(int, _python(code).split())
    assert 0 < available < limit
    assert 0 < ceiling < limit // 2


FRAGMENTED = """
from mlpipe.measure.memory import anonymous_bytes, keep_heap_trimmed, release_free_memory
{setup}
before = anonymous_bytes()
survivors = []
for _ in range(20):
    blocks = [bytearray(size << 20) for size in (20, 10, 5, 1)]
    for block in blocks:
        block[::4096] = bytes(len(block) // 4096)
    survivors.append(bytearray(30_000))
    del blocks, block
kept = anonymous_bytes() - before
release_free_memory()
print(kept, anonymous_bytes() - before)
"""


@on_proc
@on_glibc
def test_freed_memory_is_given_back():
    kept, released = map(int, _python(FRAGMENTED.format(setup="")).split())
    assert kept >= 16 * MIB
    assert released <= 4 * MIB


@on_proc
@on_glibc
def test_a_trimmed_heap_keeps_no_freed_memory():
    kept, _ = map(int, _python(FRAGMENTED.format(setup="keep_heap_trimmed()")).split())
    assert kept <= 4 * MIB


def test_release_is_harmless_without_glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    release_free_memory()
    memory.keep_heap_trimmed()


def test_a_process_that_ends_meanwhile_counts_nothing(monkeypatch, tmp_path):
    (tmp_path / "proc/self/task/1").mkdir(parents=True)
    (tmp_path / "proc/self/task/1/children").write_text(f"{os.getpid()} ")
    (tmp_path / "proc/self/status").write_text("RssAnon:\t5 kB\n")
    assert anonymous_bytes(tmp_path) == 5 * 1024
    assert not Path(tmp_path / "proc" / str(os.getpid())).exists()
