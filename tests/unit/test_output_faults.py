"""Outputs on a full disk, past a size limit, in a read-only directory, at a closed pipe, and killed half-way."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.errors import OutputError
from mlpipe.link import Block, Spec
from mlpipe.writers.atomic import AtomicFile
from mlpipe.writers.npy import NpySink, StreamSink

ROOT = Path(__file__).parents[2]
NOBODY = 65534
OLD = b"the old output"
DISK_BYTES = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk takes root's privileges")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def file_limit() -> Iterator[int]:
    """A limit of 1 MiB on the size of a file, as `ulimit -f` sets it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, before[1]))
    yield DISK_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(disk: Path, leave: int) -> None:
    status = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(status.f_bavail * status.f_frsize - leave))


def child(code: str, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """A process that runs `code` with the classes of this package at hand."""
    start = (
        "import os, sys, signal, time\n"
        "from mlpipe.cli.signals import interruptible\n"
        "from mlpipe.errors import Interrupted, MlpipeError\n"
        "from mlpipe.writers.atomic import AtomicFile\n"
        "path = sys.argv[1]\n"
    )
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def test_a_disk_too_small_is_refused_before_any_work(small_disk: Path) -> None:
    sink = NpySink(small_disk / "D.npy", hint="do something smaller")
    pattern = r"D\.npy: needs 3\.81 MiB, 1\.00 MiB free; free some space .*; do something smaller$"
    with pytest.raises(OutputError, match=pattern):
        sink.check(Spec(1000, (1000,), np.dtype("f4")))
    assert os.listdir(small_disk) == []


def test_room_is_made_before_anything_is_written(small_disk: Path) -> None:
    with AtomicFile(small_disk / "out", size=DISK_BYTES // 2):
        status = os.statvfs(small_disk)
        assert status.f_bavail * status.f_frsize <= DISK_BYTES // 2
    assert (small_disk / "out").stat().st_size == DISK_BYTES // 2


@pytest.mark.parametrize("existing", [True, False])
def test_a_disk_that_fills_up_between_look_and_start(
    small_disk: Path, existing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = small_disk / "out"
    if existing:
        out.write_bytes(OLD)
    before = os.statvfs(small_disk)
    fill(small_disk, leave=8192)
    monkeypatch.setattr(os, "statvfs", lambda _: before)
    pattern = "out: cannot be written: no space left on device; free some space or write to another disk"
    with pytest.raises(OutputError, match=pattern), AtomicFile(out, size=DISK_BYTES // 2, force=True):
        raise AssertionError("it was opened")
    assert sorted(os.listdir(small_disk)) == ["filler", "out"][: 1 + existing]
    assert not existing or out.read_bytes() == OLD


@pytest.mark.parametrize("existing", [True, False])
def test_a_disk_that_fills_up_while_a_file_of_unknown_size_grows(small_disk: Path, existing: bool) -> None:
    out = small_disk / "out"
    if existing:
        out.write_bytes(OLD)
    file = AtomicFile(out, size=None, force=True)
    with pytest.raises(OutputError, match="no space left on device"), file:
        file.pwrite(bytes(2 * DISK_BYTES), 0)
    assert os.listdir(small_disk) == ["out"] * existing
    assert not existing or out.read_bytes() == OLD
    status = os.statvfs(small_disk)
    assert status.f_bavail * status.f_frsize >= DISK_BYTES - 4096


def test_a_size_limit_is_refused_before_any_work(tmp_path: Path, file_limit: int) -> None:
    pattern = r"D\.npy: needs 3\.81 MiB, files may have 1\.00 MiB; raise the limit \(ulimit -f\)"
    with pytest.raises(OutputError, match=pattern):
        NpySink(tmp_path / "D.npy").check(Spec(1000, (1000,), np.dtype("f4")))
    AtomicFile(tmp_path / "out", size=file_limit).check()
    with pytest.raises(OutputError, match=r"needs 1\.00 MiB, files may have 1\.00 MiB"):
        AtomicFile(tmp_path / "out", size=file_limit + 1).check()


def test_a_size_limit_that_is_met_while_writing(tmp_path: Path, file_limit: int) -> None:
    out = tmp_path / "out"
    out.write_bytes(OLD)
    file = AtomicFile(out, size=None, force=True)
    with pytest.raises(OutputError, match=r"out: cannot be written: file too large; raise the limit"), file:
        file.pwrite(bytes(file_limit + 1), 0)
    assert os.listdir(tmp_path) == ["out"]
    assert out.read_bytes() == OLD


def test_a_size_limit_does_not_kill_a_fresh_process(tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with AtomicFile(path, size=None) as file:\n"
        "        file.pwrite(bytes(2000), 0)\n"
        "except MlpipeError as error:\n"
        "    print(error)\n"
        "    sys.exit(error.exit_code)\n"
    )
    process = child(code, tmp_path / "out")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "file too large" in said
    assert os.listdir(tmp_path) == []


AS_NOBODY = (
    "if os.geteuid() == 0:\n"
    f"    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    "try:\n"
    "    with AtomicFile(path, size=3, force=True) as file:\n"
    "        file.pwrite(b'new', 0)\n"
    "except MlpipeError as error:\n"
    "    print(error)\n"
    "    sys.exit(error.exit_code)\n"
)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may enter; those above pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
        directory.chmod(0o755)


def test_a_directory_that_may_not_be_written(open_directory: Path) -> None:
    (open_directory / "out").write_bytes(OLD)
    open_directory.chmod(0o555)
    for name in ("out", "new"):
        process = child(AS_NOBODY, open_directory / name)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 5
        assert said == (
            f"{open_directory / name}: cannot be written: permission denied; "
            "write to another directory or change its permissions\n"
        )
    assert os.listdir(open_directory) == ["out"]
    assert (open_directory / "out").read_bytes() == OLD


def test_a_directory_that_may_be_written_but_not_listed(open_directory: Path) -> None:
    if os.geteuid() == 0:
        os.chown(open_directory, NOBODY, NOBODY)
    open_directory.chmod(0o300)
    process = child(AS_NOBODY, open_directory / "out")
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    open_directory.chmod(0o700)
    assert os.listdir(open_directory) == ["out"]
    assert (open_directory / "out").read_bytes() == b"new"


def test_a_disk_that_may_not_be_written(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match="read-only file system; write to another directory"):
        AtomicFile(small_disk / "out", size=3).check()


HALF_WAY = (
    "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
    "    signal.signal(number, signal.SIG_DFL)  # nohup and background jobs hand down ignored ones\n"
    "done = 0\n"
    "try:\n"
    "    with interruptible(), AtomicFile(path, size=64 << 20, force=True) as file:\n"
    "        while True:\n"
    "            file.pwrite(bytes(1 << 20), done % 64 << 20)\n"
    "            done += 1\n"
    "            if done == 3:\n"
    "                print('writing', flush=True)\n"
    "except Interrupted as error:\n"
    "    sys.exit(error.exit_code)\n"
)


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_a_signal_half_way_leaves_what_was_there(
    tmp_path: Path, number: signal.Signals, code: int, existing: bool
) -> None:
    if number == signal.SIGKILL:
        try:
            os.close(os.open(tmp_path, os.O_TMPFILE | os.O_WRONLY))
        except OSError:
            pytest.skip("this file system has no files without a name")
    out = tmp_path / "out"
    if existing:
        out.write_bytes(OLD)
    process = child(HALF_WAY, out)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "")
    assert os.listdir(tmp_path) == ["out"] * existing
    assert not existing or out.read_bytes() == OLD
    with AtomicFile(out, size=3, force=True) as file:  # the lock is gone
        file.pwrite(b"new", 0)
    assert out.read_bytes() == b"new"


def matrix(rows: int) -> tuple[Spec, list[Block]]:
    return Spec(rows, (1000,), np.dtype("f4")), [Block(0, np.zeros((rows, 1000), "f4"))]


def store(sink: StreamSink, rows: int) -> None:
    spec, blocks = matrix(rows)
    with sink.open(spec) as writing:
        for block in blocks:
            writing.write(block)


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_a_pipe_that_its_reader_closed(rows: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pattern = "standard output: closed by its reader before all was written"
    with open(writer, "wb") as file, pytest.raises(OutputError, match=pattern):
        store(StreamSink(file), rows)


def test_a_reader_that_goes_away_half_way() -> None:
    reader, writer = os.pipe()
    code = "import sys; sys.stdin.buffer.read(100_000)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=reader), open(writer, "wb") as file:
        os.close(reader)
        with pytest.raises(OutputError, match="closed by its reader"):
            store(StreamSink(file), 1000)


def test_a_stream_onto_a_full_disk() -> None:
    with open("/dev/full", "wb") as file, pytest.raises(OutputError, match=r"standard output: .* no space left"):
        store(StreamSink(file), 1000)


def test_a_stream_into_a_file_on_a_small_disk_is_refused_before_any_work(small_disk: Path) -> None:
    with (small_disk / "out").open("wb") as file:
        spec, _ = matrix(1000)
        with pytest.raises(OutputError, match=r"standard output: needs 3\.81 MiB, 1\.00 MiB free"):
            StreamSink(file).check(spec)


def test_a_stream_onto_an_input(tmp_path: Path) -> None:
    path = tmp_path / "X.npy"
    path.write_bytes(OLD)
    with path.open("ab") as file, pytest.raises(OutputError, match="standard output: also an input"):
        store(StreamSink(file, inputs=[path.stat()]), 1)
    assert path.read_bytes() == OLD


def test_a_stream_that_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OutputError, match="standard output: cannot be written: bad file descriptor"):
        store(StreamSink(writer), 1)
