"""`--lock`: one run at a time, for cron."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run

COMMANDS = {
    "run": ["run", "--lock", "nightly.lock", "read", "X.npy", "then", "write", "out.npy"],
    "distances": ["distances", "X.npy", "-o", "out.npy", "--lock", "nightly.lock"],
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", np.eye(3))


@contextmanager
def held(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_second_run_ends_at_once(run: Run, command: list[str]) -> None:
    with held("nightly.lock"):
        done = run(*command)
        message = "mlpipe: error: --lock nightly.lock: another run holds it; wait for it to end\n"
        assert (done.code, done.err) == (75, message)
        assert not Path("out.npy").exists()
    assert run(*command).code == 0
    assert Path("out.npy").exists()
    assert Path("nightly.lock").read_bytes() == b"", "it stays, empty"
    with held("nightly.lock"):
        assert run(*command).code == 75, "which comes before all that is wrong otherwise"
    assert run(*command).code == 5


def test_it_is_held_before_inputs_are_opened(run: Run) -> None:
    with held("nightly.lock"):
        assert run("run", "--lock", "nightly.lock", "read", "missing.npy", "then", "nothing").code == 75


def test_a_dry_run_takes_no_lock(run: Run) -> None:
    assert run("run", "--lock", "nightly.lock", "-n", "read", "X.npy", "then", "nothing").code == 0
    assert not Path("nightly.lock").exists()


def test_what_was_there_stays_as_it_is(run: Run) -> None:
    Path("nightly.lock").write_text("mine")
    Path("nightly.lock").chmod(0o444)
    assert run(*COMMANDS["run"]).code == 0
    assert Path("nightly.lock").read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "--lock .: not a regular file; name another one"),
        ("no/such/file", "--lock no/such/file: cannot be written: no such file or directory; check the path"),
        ("fifo", "--lock fifo: not a regular file; name another one"),
    ],
)
def test_what_cannot_be_locked(run: Run, path: str, message: str) -> None:
    os.mkfifo("fifo")
    done = run("run", "--lock", path, "read", "X.npy", "then", "nothing")
    assert done.code == 5
    assert message in done.err


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["run", "--lock", "a", "read", "X.npy", "then", "write", "a", "--labels", "files"], "--lock and write"),
        (["run", "--lock", "a", "--report", "./a", "read", "X.npy", "then", "nothing"], "--report and --lock"),
        (["distances", "X.npy", "-o", "a", "--lock", "a"], "--output and --lock"),
        (["distances", "X.npy", "--report", "a", "--lock", "a"], "--report and --lock"),
    ],
)
def test_it_is_no_output(run: Run, command: list[str], names: str) -> None:
    done = run(*command)
    assert done.code == 2
    assert f"both {names} name a; give them different files" in done.err


def test_a_config_may_say_it(run: Run) -> None:
    assert run(*COMMANDS["run"][:3], "--save-config", "c.toml", *COMMANDS["run"][3:]).code == 0
    assert 'lock = "nightly.lock"' in Path("c.toml").read_text()
    with held("nightly.lock"):
        assert run("run", "--config", "c.toml").code == 75
