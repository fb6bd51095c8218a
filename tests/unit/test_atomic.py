from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlpipe.errors import Interrupted, OutputError
from mlpipe.writers import atomic
from mlpipe.writers.atomic import AtomicFile

OLD = b"the old output"


def refuse_flag(monkeypatch: pytest.MonkeyPatch, flag: int, reason: int) -> None:
    """Let os.open answer as a file system that does not know a flag."""
    real = os.open

    def refusing(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & flag == flag:
            raise OSError(reason, os.strerror(reason))
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refusing)


def refuse_links(monkeypatch: pytest.MonkeyPatch, reason: int = errno.EPERM) -> None:
    """Let os.link answer as a file system that has no hard links, such as FAT, or as a broken one."""

    def refusing(*_: Any, **__: Any) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", refusing)


@pytest.fixture(params=["unnamed", "named", "no hard links"])
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as on each kind of file system."""
    if request.param != "unnamed":
        refuse_flag(monkeypatch, os.O_TMPFILE, errno.EOPNOTSUPP)
    if request.param == "no hard links":
        refuse_links(monkeypatch)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.bin"


@pytest.fixture
def old(out: Path) -> Path:
    out.write_bytes(OLD)
    return out


@pytest.fixture(autouse=True)
def _no_descriptor_leaks() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path.parent))


def write(path: Path, content: bytes = b"new", **options: Any) -> None:
    with AtomicFile(path, size=len(content), **options) as file:
        file.pwrite(content, 0)


@pytest.mark.usefixtures("anywhere")
def test_a_file_appears_only_when_it_is_complete(out: Path) -> None:
    with AtomicFile(out, size=5) as file:
        file.pwrite(b"lo", 3)
        file.pwrite(b"hel", 0)
        assert not out.exists()
    assert out.read_bytes() == b"hello"
    assert names(out) == ["out.bin"]


@pytest.mark.usefixtures("anywhere")
def test_a_file_replaces_another_only_when_it_is_complete(old: Path) -> None:
    before = old.stat().st_ino
    with AtomicFile(old, size=None, force=True) as file:
        file.pwrite(b"new", 0)
        assert (old.read_bytes(), old.stat().st_ino) == (OLD, before)
    assert old.read_bytes() == b"new"
    assert names(old) == ["out.bin"]


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize(
    "error", [ValueError("a bug"), Interrupted(15), KeyboardInterrupt(), GeneratorExit()], ids=repr
)
@pytest.mark.parametrize("existing", [True, False])
def test_whatever_goes_wrong_leaves_what_was_there(out: Path, error: BaseException, existing: bool) -> None:
    if existing:
        out.write_bytes(OLD)
    before = names(out)
    file = AtomicFile(out, size=3, force=True)
    with pytest.raises(type(error)), file:  # noqa: PT012 - the error comes from within
        file.pwrite(b"new", 0)
        raise error
    assert names(out) == before
    assert not existing or out.read_bytes() == OLD


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("force", [True, False])
def test_an_error_while_it_is_given_its_name_leaves_nothing(
    out: Path, force: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "replace", fail)
    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OutputError, match=r"out\.bin: cannot be written: input/output error"):
        write(out, force=force)
    assert names(out) == []


@pytest.mark.parametrize(("named", "reason"), [(True, errno.EIO), (False, errno.EIO), (False, errno.EPERM)])
def test_a_link_that_fails_is_an_error_where_there_are_links(
    out: Path, named: bool, reason: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        refuse_flag(monkeypatch, os.O_TMPFILE, errno.EOPNOTSUPP)
    refuse_links(monkeypatch, reason)
    with pytest.raises(OutputError, match=os.strerror(reason).lower()):
        write(out)
    assert names(out) == []


def test_a_file_planted_under_the_temporary_name_is_not_written_to(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_flag(monkeypatch, os.O_TMPFILE, errno.EOPNOTSUPP)
    monkeypatch.setattr(secrets, "token_hex", lambda length: "guessed")
    victim = out.with_name("victim")
    victim.write_bytes(OLD)
    out.with_name(".mlpipe-guessed.tmp").hardlink_to(victim)
    with pytest.raises(OutputError, match="file exists"):
        write(out)
    assert victim.read_bytes() == OLD


def test_an_interruption_between_name_and_replacement_leaves_nothing(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        assert len(names(old)) == 2
        raise Interrupted(15)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(Interrupted):
        write(old, force=True)
    assert names(old) == ["out.bin"]
    assert old.read_bytes() == OLD


@pytest.mark.usefixtures("anywhere")
def test_what_appeared_meanwhile_is_kept(out: Path) -> None:
    file = AtomicFile(out, size=3)
    file.__enter__()
    file.pwrite(b"new", 0)
    out.write_bytes(OLD)
    with pytest.raises(OutputError, match=r"out\.bin: appeared meanwhile .* --force"):
        file.__exit__(None, None, None)
    assert out.read_bytes() == OLD
    assert names(out) == ["out.bin"]


@pytest.mark.usefixtures("anywhere")
def test_permissions_follow_the_umask(out: Path) -> None:
    umask = os.umask(0o027)
    try:
        write(out)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o400])
def test_mode_and_owner_of_what_is_replaced_are_kept(old: Path, mode: int) -> None:
    old.chmod(mode)
    owner = (1234, 5678) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(old, *owner)
    write(old, force=True)
    now = old.stat()
    assert (stat.S_IMODE(now.st_mode), (now.st_uid, now.st_gid)) == (mode, owner)
    assert old.read_bytes() == b"new"


@pytest.mark.usefixtures("anywhere")
def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    link.symlink_to("there/target")
    write(link, b"first")
    write(link, b"second", force=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"second"
    assert (names(target), names(link)) == (["target"], ["link", "there"])


def test_an_existing_output_needs_force(old: Path) -> None:
    for attempt in (lambda: AtomicFile(old, size=3).check(), lambda: write(old)):
        with pytest.raises(OutputError, match=r"out\.bin: exists; use --force"):
            attempt()
    assert old.read_bytes() == OLD


def hard_link(source: Path, link: Path) -> Path:
    link.hardlink_to(source)
    return link


def soft_link(source: Path, link: Path) -> Path:
    link.symlink_to(source)
    return link


@pytest.mark.parametrize("lead", [lambda source, _: source, hard_link, soft_link])
def test_an_input_is_never_replaced(tmp_path: Path, lead: Callable[[Path, Path], Path]) -> None:
    source = tmp_path / "X.npy"
    source.write_bytes(OLD)
    path = lead(source, tmp_path / "other.npy")
    other = tmp_path.stat()
    file = AtomicFile(path, size=3, force=True, inputs=[other, source.stat()])
    with pytest.raises(OutputError, match="also an input"):
        file.check()
    with pytest.raises(OutputError, match="also an input"), file:
        raise AssertionError("it was opened")
    assert source.read_bytes() == OLD


def make_loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def make_fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def make_file(path: Path) -> Path:
    path.write_bytes(OLD)
    return path


def make_directory(path: Path) -> Path:
    path.mkdir()
    return path


UNFIT = {
    "empty": (lambda path: "", "'' is no name for an output"),
    "NUL": (lambda path: f"{path}\0", "no name for an output"),
    "slash": (lambda path: f"{path}/", "a directory; give the path of a file in it"),
    "parent": (lambda path: path / "..", "a directory; give the path of a file in it"),
    "root": (lambda path: "/", "a directory; give the path of a file in it"),
    "directory": (make_directory, "a directory; give the path of a file in it"),
    "pipe": (make_fifo, "not a regular file, .* -o -"),
    "device": (lambda path: "/dev/null", "not a regular file, .* -o -"),
    "no directory": (lambda path: path / "D.npy", "there is no directory .*; create it first"),
    "below a file": (lambda path: make_file(path) / "D.npy", "not a directory"),
    "long name": (lambda path: path.with_name("x" * 256), "file name too long; choose a shorter name"),
    "loop": (make_loop, "too many levels of symbolic links; choose a path without"),
    "below a loop": (lambda path: make_loop(path) / "D.npy", "too many levels of symbolic links"),
    "no device": (lambda path: "/proc/D.npy", "cannot be written"),
}


@pytest.mark.parametrize(("make", "message"), UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("force", [True, False])
def test_a_path_that_cannot_be_an_output(
    out: Path, make: Callable[[Path], Path | str], message: str, force: bool
) -> None:
    path = make(out)
    before = names(out)
    with pytest.raises(OutputError, match=message) as caught:
        write(path, force=force)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert names(out) == before


def test_names_that_only_look_odd_are_fine(tmp_path: Path) -> None:
    odd = [b"x" * 255, b"\xff\xfe", b"two\nlines", b" ", b"-", "é".encode()]
    for name in odd:
        write(tmp_path / os.fsdecode(name))
    assert sorted(os.listdir(os.fsencode(tmp_path))) == sorted(odd)


def test_a_relative_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with AtomicFile("out.bin", size=3) as file:
        file.pwrite(b"new", 0)
        monkeypatch.chdir("/")
    assert (tmp_path / "out.bin").read_bytes() == b"new"


def test_an_output_larger_than_the_disk_is_refused(out: Path) -> None:
    pattern = r"out\.bin: needs 1\.00 EiB, .* free; free some space or write to another disk; do that instead"
    with pytest.raises(OutputError, match=pattern):
        AtomicFile(out, size=1 << 60, hint="do that instead").check()
    with pytest.raises(OutputError, match=r"another disk$"), AtomicFile(out, size=1 << 60):
        raise AssertionError("it was opened")
    assert names(out) == []


def test_a_file_system_that_hides_its_size_is_given_a_chance(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255]))
    AtomicFile(out, size=1 << 40).check()


def test_checking_changes_nothing(out: Path) -> None:
    AtomicFile(out, size=1000).check()
    assert names(out) == []


@pytest.mark.parametrize("reason", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_make_room_ahead(out: Path, reason: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with AtomicFile(out, size=6) as file:
        file.pwrite(b"new", 0)
    assert out.read_bytes() == b"new\0\0\0"


def test_a_directory_that_cannot_be_synced_is_no_error(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = os.fsync, []

    def sync(fd: int) -> None:
        seen.append(stat.S_ISDIR(os.fstat(fd).st_mode))
        if seen[-1]:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    write(out)
    assert seen == [False, True]
    assert out.read_bytes() == b"new"


@pytest.mark.usefixtures("anywhere")
def test_of_runs_that_do_not_see_the_lock_the_last_wins_whole(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "hold", lambda path, name: None)
    with AtomicFile(out, size=6, force=True) as slow:
        slow.pwrite(b"slow", 0)
        with AtomicFile(out, size=4, force=True) as fast:
            fast.pwrite(b"fast", 0)
            slow.pwrite(b"er", 4)
        assert out.read_bytes() == b"fast"
    assert out.read_bytes() == b"slower"
    assert names(out) == ["out.bin"]


def test_a_file_that_is_not_open_takes_nothing(out: Path) -> None:
    file = AtomicFile(out, size=3)
    with pytest.raises(ValueError, match="not open"):
        file.pwrite(b"new", 0)
    with file:
        file.pwrite(b"new", 0)
    with pytest.raises(ValueError, match="not open"):
        file.pwrite(b"new", 0)
