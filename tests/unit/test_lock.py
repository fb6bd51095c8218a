from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mlpipe.errors import LockedError, OutputError
from mlpipe.writers import atomic
from mlpipe.writers.atomic import AtomicFile
from mlpipe.writers.lock import hold


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.bin"


def write(path: Path, content: bytes = b"new", **options: Any) -> None:
    with AtomicFile(path, size=len(content), **options) as file:
        file.pwrite(content, 0)


def test_only_one_run_writes_an_output(out: Path) -> None:
    with AtomicFile(out, size=3) as first:
        for options in ({}, {"force": True}):
            with pytest.raises(LockedError, match=r"out\.bin: another run is writing it") as caught:
                write(out, **options)
            assert caught.value.exit_code == 75
        write(out.with_name("beside"))
        first.pwrite(b"one", 0)
    write(out, b"two", force=True)
    assert out.read_bytes() == b"two"


def test_outputs_of_one_name_in_two_directories_have_two_locks(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with AtomicFile(tmp_path / "D", size=3) as file:
        write(tmp_path / "other" / "D")
        file.pwrite(b"new", 0)
    assert (tmp_path / "D").read_bytes() == (tmp_path / "other" / "D").read_bytes()


def test_a_link_leads_to_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(LockedError), AtomicFile(tmp_path / "there" / "D", size=1):
        write(tmp_path / "link" / "D")


def test_an_output_that_a_run_left_just_now_is_seen(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def after_another_run(path: Path, name: str) -> socket.socket | None:
        path.write_bytes(b"the old output")
        return hold(path, name)

    monkeypatch.setattr(atomic, "hold", after_another_run)
    with pytest.raises(OutputError, match="exists"), AtomicFile(out, size=3):
        raise AssertionError("it was opened")


@pytest.mark.parametrize("method", ["socket", "bind"])
def test_where_sockets_are_forbidden_there_is_no_lock(out: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(socket.socket):
        def __init__(self, *arguments: Any) -> None:
            if method == "socket":
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            super().__init__(*arguments)

        def bind(self, _address: Any) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(socket, "socket", Forbidden)
    assert hold(out, "out.bin") is None
