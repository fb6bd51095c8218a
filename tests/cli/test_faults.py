"""Signals, faults and poor surroundings, in real processes: the exit code, one line, and nothing left behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from mlpipe.npy_format import build_header
from tests.cli.conftest import Run
from tests.cli.gate import Gated, start, wait_until
from tests.malformed import unprivileged

OLD = b"the old output"
DISK_BYTES = 4 << 20
ENDING = [signal.SIGINT, signal.SIGTERM]
MLPIPE = ["-m", "mlpipe", "-q", "distances"]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs in the working directory, an empty directory for outputs, and one for the gate."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPIPE_DEBUG", raising=False)
    os.mkdir("out")
    os.mkdir("gate")
    random = np.random.default_rng(5)
    np.save("X.npy", random.normal(size=(700, 5)).astype("f4"))
    np.save("Y.npy", random.normal(size=(400, 5)).astype("f4"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk takes root's privileges")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def gated(call: str, count: int, *arguments: str, **settings: object) -> Gated:
    return Gated(Path("gate").absolute(), call, count, "-q", "distances", *arguments, **settings)


def holes(name: str, *shape: int) -> None:
    """A file of zeros that take no room on the disk."""
    header = build_header(shape, "<f4")
    Path(name).write_bytes(header)
    os.truncate(name, len(header) + 4 * int(np.prod(shape)))


GATES = {
    "reading": ("preadv", 1, []),
    "reading for the variances": ("preadv", 1, ["--metric", "seuclidean"]),
    "making room": ("posix_fallocate", 1, []),
    "writing": ("pwrite", 2, []),
    "syncing": ("fsync", 1, []),
}


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("moment", GATES)
def test_a_signal_at_any_moment_leaves_what_was_there(moment: str, number: signal.Signals) -> None:
    call, count, flags = GATES[moment]
    existing = number == signal.SIGTERM
    if existing:
        Path("out/D.npy").write_bytes(OLD)
    run = gated(call, count, "X.npy", "Y.npy", *flags, "-o", "out/D.npy", "--force")
    run.signal(number)
    ended = run.let_through()
    assert ended == (128 + number, "", f"mlpipe: error: interrupted by {number.name}\n")
    assert os.listdir("out") == ["D.npy"] * existing
    assert not existing or Path("out/D.npy").read_bytes() == OLD


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_compiling(tmp_path: Path, number: signal.Signals) -> None:
    cache = tmp_path / "cache"
    run = start(*MLPIPE, "X.npy", "Y.npy", "-o", "out/D.npy", env={**os.environ, "MLPIPE_CACHE_DIR": str(cache)})
    wait_until(lambda: bool(list(cache.rglob("*.kernel"))), "no kernel was compiled")
    run.send_signal(number)
    out, err = run.communicate()
    assert (run.returncode, out, err) == (128 + number, "", f"mlpipe: error: interrupted by {number.name}\n")
    assert os.listdir("out") == []
    assert [file for file in cache.rglob("*") if file.is_file() and file.suffix != ".kernel"] == []


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_computing(run: Run, number: signal.Signals) -> None:
    holes("A.npy", 60_000, 3000)
    assert run("distances", "X.npy").code == 0  # kernels are only loaded below
    long = start(*MLPIPE, "A.npy", "--report", "out/R.json")
    watched = psutil.Process(long.pid)
    wait_until(lambda: long.poll() is not None or sum(watched.cpu_times()[:2]) > 3, "nothing was computed")
    long.send_signal(number)
    out, err = long.communicate()
    assert (long.returncode, out, err) == (128 + number, "", f"mlpipe: error: interrupted by {number.name}\n")
    assert '"status": "interrupted"' in Path("out/R.json").read_text()


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_the_reader_of_the_pipe_is_away(number: signal.Signals) -> None:
    holes("A.npy", 3000, 4)
    reader, writer = os.pipe()
    run = start(*MLPIPE, "A.npy", "-o", "-", stdout=writer)
    os.close(writer)
    asleep = Path(f"/proc/{run.pid}/task")

    def stuck() -> bool:
        try:
            return any("pipe" in (task / "wchan").read_text() for task in asleep.iterdir())
        except FileNotFoundError:  # a thread has ended meanwhile
            return False

    wait_until(lambda: run.poll() is not None or stuck(), "the pipe did not fill")
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    os.close(reader)
    assert (run.returncode, err) == (128 + number, f"mlpipe: error: interrupted by {number.name}\n")


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_sigkill_leaves_nothing(call: str) -> None:
    Path("out/D.npy").write_bytes(OLD)
    run = gated(call, 1, "X.npy", "Y.npy", "-o", "out/D.npy", "--force")
    run.process.kill()
    assert run.let_through()[0] == -signal.SIGKILL
    assert os.listdir("out") == ["D.npy"]
    assert Path("out/D.npy").read_bytes() == OLD


def truncate(path: str) -> None:
    os.truncate(path, 4000)


def replace(path: str) -> None:
    shutil.copy(path, "new.npy")
    os.replace("new.npy", path)


def touch(path: str) -> None:
    os.utime(path)


def append(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


CHANGES = {
    "truncated before it is read": ("preadv", truncate, "X.npy", "X.npy: truncated while reading, "),
    "truncated once it was read": ("pwrite", truncate, "Y.npy", "Y.npy: changed while it was read, from 8128 to 4000"),
    "replaced": ("preadv", replace, "Y.npy", "Y.npy: replaced while it was read; run again"),
    "touched": ("pwrite", touch, "X.npy", "X.npy: written to while it was read; run again"),
    "grown": ("preadv", append, "Y.npy", "Y.npy: changed while it was read, from 8128 to 8132 bytes; run again"),
    "removed": ("pwrite", os.unlink, "Y.npy", "Y.npy: removed or renamed while it was read; run again"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_input_that_changes_while_it_is_read(change: str) -> None:
    call, act, path, message = CHANGES[change]
    run = gated(call, 1 if call == "preadv" else 2, "X.npy", "Y.npy", "-o", "out/D.npy")
    act(path)
    code, out, err = run.let_through()
    assert (code, out) == (4, "")
    assert err.startswith(f"mlpipe: error: {message}")
    assert err.count("\n") == 1
    assert os.listdir("out") == []


def test_an_input_that_changes_while_it_is_summarised() -> None:
    run = gated("preadv", 1, "X.npy", "Y.npy")
    touch("X.npy")
    assert run.let_through()[:2] == (4, "")


def test_a_disk_that_fills_up_after_the_look(small_disk: Path) -> None:
    run = gated("posix_fallocate", 1, "X.npy", "Y.npy", "-o", str(small_disk / "D.npy"))
    (small_disk / "filler").write_bytes(bytes(DISK_BYTES - (1 << 20)))
    code, out, err = run.let_through()
    assert (code, out) == (5, "")
    assert err == (
        f"mlpipe: error: {small_disk}/D.npy: cannot be written: no space left on device; "
        "free some space or write to another disk\n"
    )
    assert os.listdir(small_disk) == ["filler"]


def test_a_disk_that_fills_up_under_stdout(small_disk: Path) -> None:
    with open(small_disk / "D.npy", "wb") as file:
        run = gated("write", 1, "X.npy", "Y.npy", "-o", "-", stdout=file)
        (small_disk / "filler").write_bytes(bytes(DISK_BYTES - (1 << 20)))
        code, _, err = run.let_through()
    assert code == 5
    assert err.startswith("mlpipe: error: standard output: cannot be written: no space left on device; ")
    assert err.count("\n") == 1


def test_more_than_a_small_disk_holds_is_refused_before_any_work(run: Run, small_disk: Path) -> None:
    holes("A.npy", 2000, 3)
    code, out, err = run("distances", "A.npy", "-o", small_disk / "D.npy")
    assert (code, out) == (5, "")
    assert err == (
        f"mlpipe: error: {small_disk}/D.npy: needs 15.3 MiB, 4.00 MiB free; free some space or write to another disk; "
        "mlpipe neighbors gives the k nearest without the matrix\n"
    )
    assert os.listdir(small_disk) == []


def test_a_limit_on_the_size_of_files(spawn: Run) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    code, out, err = spawn("distances", "X.npy", "Y.npy", "-o", "out/D.npy", preexec_fn=limit)
    assert (code, out) == (5, "")
    assert err.startswith(
        "mlpipe: error: out/D.npy: needs 1.07 MiB, files may have 1.00 MiB; raise the limit (ulimit -f)"
    )
    assert os.listdir("out") == []


def test_a_directory_of_somebody_else(run: Run) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        shutil.copy("X.npy", name)
        os.chmod(f"{name}/X.npy", 0o644)
        run("distances", f"{name}/X.npy")  # what follows may not be able to read this package
        with unprivileged():
            if os.geteuid() == os.stat(name).st_uid:
                os.chmod(name, 0o555)
            code, out, err = run("distances", f"{name}/X.npy", "-o", f"{name}/D.npy")
        os.chmod(name, 0o755)
        assert (code, out) == (5, "")
        assert err == (
            f"mlpipe: error: {name}/D.npy: cannot be written: permission denied; "
            "write to another directory or change its permissions\n"
        )
        assert os.listdir(name) == ["X.npy"]


def shell(script: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a script in which `mlpipe` is this package, and nothing else is known."""
    environment = {"MLPIPE_CACHE_DIR": os.environ.get("MLPIPE_CACHE_DIR", "")}
    prologue = f'mlpipe() {{ "{sys.executable}" -m mlpipe "$@"; }}\n'
    return subprocess.run(  # type: ignore[call-overload]
        ["/bin/bash", "-c", prologue + script], env=environment, capture_output=True, text=True, check=False, **settings
    )


def test_a_pipe_closed_downstream() -> None:
    done = shell('mlpipe -q distances X.npy Y.npy -o - | head -c 100 | wc -c; echo "${PIPESTATUS[0]}"')
    assert done.stdout.split() == ["100", "5"]
    assert done.stderr == "mlpipe: error: standard output: closed by its reader before all was written\n"


def test_as_from_cron() -> None:
    done = shell("umask 077; exec <&-; mlpipe distances X.npy Y.npy -o out/D.npy", start_new_session=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "\x1b" not in done.stderr
    assert "%," not in done.stderr
    assert done.stderr.endswith("wrote out/D.npy: 700 x 400 float32 euclidean distances\n")
    assert os.stat("out/D.npy").st_mode & 0o777 == 0o600
    assert np.load("out/D.npy").shape == (700, 400)


@pytest.mark.parametrize(
    ("redirection", "code", "out"),
    [("-o out/D.npy >&- 2>&-", 0, ""), ("-o out/D.npy <&- >&- 2>&-", 0, ""), (">&-", 5, ""), ("-o - >&-", 5, "")],
)
def test_closed_streams(redirection: str, code: int, out: str) -> None:
    done = shell(f"mlpipe distances X.npy Y.npy {redirection}")
    assert (done.returncode, done.stdout) == (code, out)
    if code:
        assert [line for line in done.stderr.splitlines() if "error" in line] == [done.stderr.splitlines()[-1]]
        assert "standard output" in done.stderr
    else:
        assert done.stderr == ""
        assert np.load("out/D.npy").shape == (700, 400)
        assert Path("out/D.npy").stat().st_size == 128 + 4 * 700 * 400


def test_errors_survive_a_closed_or_full_stderr() -> None:
    done = shell("mlpipe distances missing.npy 2>/dev/full")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    for redirection in ("2>&-", "2>/dev/full --progress log"):
        done = shell(f"mlpipe distances X.npy Y.npy --force -o out/D.npy {redirection}")
        assert (done.returncode, np.load("out/D.npy").shape) == (0, (700, 400))


def test_a_cache_that_cannot_be_written(spawn: Run, tmp_path: Path) -> None:
    Path("file").touch()
    environment = {**os.environ, "MLPIPE_CACHE_DIR": str(tmp_path / "file")}
    assert spawn("-q", "distances", "X.npy", "Y.npy", "-o", "out/D.npy", env=environment) == (0, "", "")
    assert np.load("out/D.npy").shape == (700, 400)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_directory_that_disappears(call: str) -> None:
    run = gated(call, 1, "X.npy", "Y.npy", "-o", "out/D.npy")
    os.rmdir("out")
    code, out, err = run.let_through()
    assert (code, out) == (5, "")
    assert err.startswith("mlpipe: error: out/D.npy: cannot be written: ")
    assert err.count("\n") == 1


def test_two_runs_at_once_on_one_output(spawn: Run) -> None:
    first = gated("pwrite", 1, "X.npy", "Y.npy", "-o", "out/D.npy")
    code, out, err = spawn("distances", "X.npy", "Y.npy", "-o", "out/D.npy", "--force")
    assert (code, out) == (75, "")
    assert err.splitlines()[-1].startswith("mlpipe: error: out/D.npy: another run is writing it; ")
    assert first.let_through()[0] == 0
    assert np.load("out/D.npy").shape == (700, 400)
    assert os.listdir("out") == ["D.npy"]


def test_ctrl_c_while_modules_are_imported(tmp_path: Path) -> None:
    """A module in the place of Typer sends the signal; Python's own answer would be a traceback."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1]); import mlpipe.cli.main",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
