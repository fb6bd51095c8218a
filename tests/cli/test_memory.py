"""The ceiling: anonymous memory of the whole process, as seen from outside, for any size of input and output."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mlpipe.measure.memory import why_unmeasured
from mlpipe.npy_format import build_header
from tests.cli.conftest import Run
from tests.cli.gate import start

MIB = 2**20
INTERVAL = 0.004
UNCOUNTED = 160 * MIB
"""What RLIMIT_DATA counts on top: memory that is reserved, as stacks of threads and buffers of BLAS, but not used."""

pytestmark = pytest.mark.skipif(why_unmeasured() is not None, reason="no /proc with RssAnon here")
Limit = Callable[[int], Callable[[], None]]


class Watched(NamedTuple):
    """How a run ended, and the most anonymous memory it was seen with."""

    code: int
    peak: int
    out: str
    err: str


def anonymous(process: int) -> int:
    """Anonymous memory of a process and its children, in bytes; 0 once it is over."""
    total = 0
    with contextlib.suppress(OSError):
        found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
        total = int(found[1]) << 10 if found else 0
        for task in Path(f"/proc/{process}/task").iterdir():
            total += sum(map(anonymous, map(int, (task / "children").read_text().split())))
    return total


def watched(*arguments: str, **settings: Any) -> Watched:
    """Run `mlpipe distances ARGUMENTS…` and look at its memory all the while."""
    process = start("-m", "mlpipe", "-q", "distances", *arguments, **settings)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(INTERVAL)
    out, err = process.communicate()
    return Watched(process.returncode, peak, out or "", err or "")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPIPE_MEMORY", raising=False)


def ruler(name: str, rows: int, features: int, dtype: str = "<f4") -> None:
    """Rows of zeros but for the first value, which counts them: they take little room, and are |i - j| apart."""
    header = build_header((rows, features), dtype)
    Path(name).write_bytes(header)
    os.truncate(name, len(header) + np.dtype(dtype).itemsize * rows * features)
    np.load(name, mmap_mode="r+")[:, 0] = np.arange(rows)


def assert_ruled(name: str, rows: int) -> None:
    """Check the distances between the rows of a ruler."""
    found, columns = np.load(name, mmap_mode="r"), np.arange(rows, dtype="f4")
    assert (found.shape, found.dtype) == ((rows, rows), np.float32)
    for row in {*range(0, rows, max(1, rows // 700)), rows - 1}:
        np.testing.assert_array_equal(found[row], np.abs(columns - row))


def save(name: str, *shape: int, dtype: str = "f4", order: Any = "C") -> None:
    np.save(name, np.asarray(np.random.default_rng(3).random(shape), dtype, order=order))


class Case(NamedTuple):
    """Shapes, flags, and a ceiling in MiB, small for what the run reads, writes and computes with."""

    shapes: tuple[tuple[int, int], ...]
    flags: tuple[str, ...]
    memory: int
    dtype: str = "f4"
    order: str = "C"


FILE, STREAM = ("-o", "D.npy"), ("-o", "-")
CASES = {
    "tall": Case(((1_000_000, 4), (100, 4)), STREAM, 150),
    "flat": Case(((100, 4), (1_000_000, 4)), STREAM, 170),
    "flat into a file": Case(((50, 4), (1_000_000, 4)), FILE, 130),
    "tall summary": Case(((1_000_000, 4), (100, 4)), (), 130),
    "wide": Case(((64, 100_000),), FILE, 200, "f8"),
    "wide, transposed": Case(((64, 100_000),), FILE, 200, ">f8", "F"),
    "condensed": Case(((7000, 16),), (*FILE, "--condensed"), 130),
    "mirrored": Case(((4000, 1030),), FILE, 150),
    "tall, transposed": Case(((400_000, 40), (50, 40)), FILE, 140, ">i4", "F"),
    "covariance": Case(((3000, 300),), (*FILE, "--metric", "mahalanobis"), 140),
    "given covariance": Case(((600, 800),), (*FILE, "--metric", "mahalanobis", "--inverse-covariance", "VI.npy"), 190),
    "variances": Case(((400_000, 20), (40, 20)), (*FILE, "--metric", "seuclidean"), 140),
    "cosine": Case(((3000, 700),), (*FILE, "--metric", "cosine", "--dtype", "float64"), 140),
}


def arguments_of(case: Case) -> list[str]:
    """Write the inputs of a case; what to call it with."""
    names = ["X.npy", "Y.npy"][: len(case.shapes)]
    for name, shape in zip(names, case.shapes, strict=True):
        save(name, *shape, dtype=case.dtype, order=case.order)
    if "VI.npy" in case.flags:
        np.save("VI.npy", np.eye(case.shapes[0][1]))
    return [*names, *case.flags]


@pytest.mark.parametrize("name", CASES)
def test_the_ceiling_holds(name: str) -> None:
    case = CASES[name]
    settings = {"stdout": subprocess.DEVNULL} if "-" in case.flags else {}
    ended = watched(*arguments_of(case), "--memory", f"{case.memory}MiB", **settings)
    assert (ended.code, ended.err) == (0, "")
    assert 30 * MIB < ended.peak <= case.memory * MIB
    if "D.npy" in case.flags:
        rows, columns = case.shapes[0][0], case.shapes[-1][0]
        count = rows * (rows - 1) // 2 if "--condensed" in case.flags else rows * columns
        assert np.load("D.npy", mmap_mode="r").size == count


def test_compiling_is_within_the_ceiling(tmp_path: Path) -> None:
    save("X.npy", 300, 50)
    environment = {**os.environ, "MLPIPE_CACHE_DIR": str(tmp_path / "cache")}
    ended = watched("X.npy", "--metric", "jensenshannon", "--memory", "130MiB", env=environment)
    assert (ended.code, ended.err) == (0, "")
    assert 40 * MIB < ended.peak <= 130 * MIB
    assert list((tmp_path / "cache").rglob("*.kernel"))


def named(err: str) -> int:
    """Mebibytes that a message says are enough."""
    found = re.fullmatch(
        r"mlpipe: error: a memory ceiling of .* is too small: .*; use --memory (\d+)MiB or more\n", err
    )
    assert found is not None, err
    return int(found[1])


@pytest.mark.parametrize("name", ["tall summary", "wide", "condensed", "given covariance"])
def test_the_smallest_ceiling_named_does_work(name: str) -> None:
    case = CASES[name]
    # Fewer rows: where memory is least, blocks are small and the work is long.
    case = case._replace(shapes=tuple((min(rows, 300), features) for rows, features in case.shapes))
    arguments = arguments_of(case)
    refused = watched(*arguments, "--memory", "1MiB")
    least = named(refused.err)
    assert (refused.code, refused.out) == (7, "")
    assert not os.path.exists("D.npy")
    ended = watched(*arguments, "--memory", f"{least}MiB")
    assert (ended.code, ended.err) == (0, "")
    assert ended.peak <= least * MIB
    still = watched(*arguments, "--force", "--memory", f"{least - 8}MiB")
    assert still.code == 7
    assert abs(named(still.err) - least) <= 2


def test_a_ceiling_too_small_is_refused_before_any_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save("X.npy", 30, 20)
    for flags in ([], ["-o", "D.npy"], ["--dry-run"]):
        code, out, err = run("distances", "X.npy", "--memory", "20MiB", *flags)
        assert (code, out) == (7, "")
        assert err.startswith(
            "mlpipe: error: a memory ceiling of 20.0 MiB is too small: pairwise and the interpreter need"
        )
        least = named(err)
    assert run("distances", "X.npy", "--memory", f"{least + 1}MiB").code == 0
    monkeypatch.setenv("MLPIPE_MEMORY", "20MiB")
    assert run("distances", "X.npy").code == 7


@pytest.fixture
def limited() -> Iterator[Limit]:
    """How a process limits its memory to so many bytes: by a control group; else its data, which counts more."""
    group = next(filter(None, (make_group(*place) for place in places())), None)
    if group is None:
        yield lambda nbytes: data_limit(nbytes + UNCOUNTED)
        return
    directory, limit = group

    def entering(nbytes: int) -> Callable[[], None]:
        (directory / limit).write_text(str(nbytes))
        return lambda: (directory / "cgroup.procs").write_text(str(os.getpid())) and None

    yield entering
    for _ in range(200):  # a group is busy until the kernel has reaped its last process
        with contextlib.suppress(OSError):
            directory.rmdir()
            return
        time.sleep(0.02)


def places() -> Iterator[tuple[Path, str]]:
    """Where groups may be made, and what the limit is called there."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, kinds, own = line.split(":", 2)
        if "memory" in kinds.split(","):
            yield Path(f"/sys/fs/cgroup/memory{own}"), "memory.limit_in_bytes"
        elif not kinds:
            yield Path(f"/sys/fs/cgroup{own}"), "memory.max"


def make_group(parent: Path, limit: str) -> tuple[Path, str] | None:
    """A group below `parent`; None where that is not allowed."""
    directory = parent / f"mlpipe-test-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError:
        return None
    if os.access(directory / limit, os.W_OK):
        return directory, limit
    directory.rmdir()
    return None


def data_limit(nbytes: int) -> Callable[[], None]:
    """How a process limits its data, as `ulimit -d` does."""
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))


def larger_than_the_ceiling(enter: Callable[[], None], rows: int, features: int, dtype: str) -> None:
    """Distances of rows that are more than the ceiling, into a file that is more too, 256 MiB being all there is."""
    ruler("X.npy", rows, features, dtype)
    assert min(os.stat("X.npy").st_size, 4 * rows * rows) > 256 * MIB
    ended = watched("X.npy", "-o", "D.npy", "--dtype", "float32", "--memory", "256MiB", preexec_fn=enter)
    assert (ended.code, ended.err) == (0, "")
    assert ended.peak <= 256 * MIB
    assert_ruled("D.npy", rows)


def test_input_and_output_larger_than_the_ceiling(limited: Limit) -> None:
    larger_than_the_ceiling(limited(256 * MIB), 8500, 4000, "<f8")


@pytest.mark.slow
def test_an_output_of_many_times_the_ceiling(limited: Limit) -> None:
    larger_than_the_ceiling(limited(256 * MIB), 20_000, 3500, "<f4")


@pytest.mark.slow
def test_an_output_of_many_times_the_limit_on_data() -> None:
    larger_than_the_ceiling(data_limit(256 * MIB + UNCOUNTED), 20_000, 3500, "<f4")


def test_the_default_ceiling_leaves_half_of_a_group(limited: Limit) -> None:
    save("X.npy", 3000, 40)
    ended = watched("X.npy", "-o", "D.npy", preexec_fn=limited(300 * MIB))
    assert (ended.code, ended.err) == (0, "")
    assert ended.peak <= 150 * MIB


def test_the_default_ceiling_knows_the_limit_on_data() -> None:
    save("X.npy", 3000, 40)
    ended = watched("X.npy", "-o", "D.npy", preexec_fn=data_limit(400 * MIB))
    assert (ended.code, ended.err) == (0, "")
    assert ended.peak <= 200 * MIB


def test_memory_that_the_system_refuses_is_one_line() -> None:
    save("X.npy", 3000, 40)
    # How much is too little depends on the machine: down until it is refused.
    for room in range(300, 60, -20):
        ended = watched("X.npy", "-o", "D.npy", "--force", "--memory", "2GiB", preexec_fn=data_limit(room * MIB))
        assert ended.out == ""
        if ended.code:
            break
        assert ended.err == ""
    assert (ended.code, ended.err.count("\n")) == (7, 1)
