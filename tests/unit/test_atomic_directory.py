"""Directories that appear whole, and files that appear together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlpipe.errors import LockedError, OutputError
from mlpipe.writers.atomic import AtomicDirectory, AtomicFile, AtomicFiles

ROOT = Path(__file__).parents[2]
OLD = b"the old output"


@pytest.fixture(autouse=True)
def _no_descriptor_leaks() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(params=["unnamed", "named"])
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as on each kind of file system."""
    if request.param == "named":
        monkeypatch.setattr("mlpipe.writers.atomic.open_unnamed", lambda directory: None)


def fill(directory: AtomicDirectory, count: int) -> None:
    for number in range(count):
        [file] = directory.create((str(number), 3))
        file.pwrite(f"{number:03}".encode(), 0)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("kept_open", [1, 2, 3, 100])
def test_it_appears_once_it_is_whole(tmp_path: Path, kept_open: int) -> None:
    out, before = tmp_path / "out", len(os.listdir("/proc/self/fd"))
    with AtomicDirectory(f"{out}/", size=15, kept_open=kept_open) as directory:
        fill(directory, 5)
        assert not out.exists()
        assert len(os.listdir("/proc/self/fd")) <= before + 1 + kept_open
    assert {path.name: path.read_text() for path in out.iterdir()} == {str(n): f"{n:03}" for n in range(5)}
    assert os.listdir(tmp_path) == ["out"]
    assert (out / "0").stat().st_nlink == 1


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("kept_open", [1, 100])
def test_an_error_leaves_nothing(tmp_path: Path, kept_open: int) -> None:
    directory = AtomicDirectory(tmp_path / "out", size=None, kept_open=kept_open)
    with pytest.raises(KeyError), directory:  # noqa: PT012 - what is raised within
        fill(directory, 5)
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_files_started_together_may_all_be_written_to(tmp_path: Path) -> None:
    with AtomicDirectory(tmp_path / "out", size=None, kept_open=2) as directory:
        for number in range(3):
            one, two = directory.create((f"{number}a", None), (f"{number}b", None))
            two.pwrite(b"b", 0)
            one.pwrite(b"a", 0)
    assert sorted(path.read_text() for path in (tmp_path / "out").iterdir()) == ["a"] * 3 + ["b"] * 3


@pytest.mark.parametrize("kind", ["directory", "full directory", "file", "dangling link"])
def test_what_is_there_is_never_replaced(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_bytes(OLD)
    elif kind == "dangling link":
        out.symlink_to("gone")
    else:
        out.mkdir()
    if kind == "full directory":
        (out / "x").write_bytes(OLD)
    if kind == "dangling link":  # a link stays one: what it names is made
        with AtomicDirectory(out, size=None) as directory:
            fill(directory, 1)
        assert (out.is_symlink(), os.listdir(tmp_path / "gone")) == (True, ["0"])
        return
    with pytest.raises(OutputError, match="out: exists, and a directory is never replaced, not even with --force"):
        AtomicDirectory(out, size=None).check()
    assert kind != "file" or out.read_bytes() == OLD


def put_in_the_way(directory: AtomicDirectory, out: Path, kind: str) -> None:
    fill(directory, 2)
    if kind == "file":
        out.write_bytes(OLD)
    else:
        out.mkdir()
        (out / "x").write_bytes(OLD)


@pytest.mark.parametrize("kind", ["full directory", "file"])
def test_what_appears_meanwhile_is_kept(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    directory = AtomicDirectory(out, size=None)
    with pytest.raises(OutputError, match="out: appeared meanwhile and is kept"), directory:
        put_in_the_way(directory, out, kind)
    assert (out if kind == "file" else out / "x").read_bytes() == OLD
    assert os.listdir(tmp_path) == ["out"]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with AtomicDirectory(tmp_path / "out", size=None), pytest.raises(LockedError, match="another run is writing it"):
        AtomicDirectory(tmp_path / "out/", size=None).__enter__()


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("no/out", {}, "there is no directory .*no; create it first"),
        ("out", {"size": 1 << 62}, "out: needs 4.00 EiB, .* free"),
        ("/", {}, "give the path of a file|exists"),
    ],
)
def test_what_can_be_known_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=message):
        AtomicDirectory(path, **{"size": None, **options}).check()
    assert os.listdir(tmp_path) == []


def test_a_limit_on_files_is_one_on_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (1000, 1000))
    AtomicDirectory(tmp_path / "out", size=5000, largest=1000, kept_open=9).check()
    with pytest.raises(OutputError, match="files may have 1000 B"):
        AtomicDirectory(tmp_path / "out", size=5000, largest=1001, kept_open=9).check()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys, signal, time\n"
        "from mlpipe.writers.atomic import AtomicDirectory\n"
        "with AtomicDirectory(sys.argv[1], size=None) as directory:\n"
        "    for name in 'abc':\n"
        "        directory.create((name, 1 << 20))[0].pwrite(bytes(1 << 20), 0)\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(number)
    assert os.listdir(tmp_path) == []


def test_files_appear_together(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    files = [AtomicFile(a, size=1), AtomicFile(b, size=1)]
    with AtomicFiles(files):
        for file in files:
            file.pwrite(b"x", 0)
        assert os.listdir(tmp_path) == []
    assert a.read_bytes() == b.read_bytes() == b"x"


@pytest.mark.parametrize("taken", ["a", "b"])
def test_none_appears_when_one_cannot(tmp_path: Path, taken: str) -> None:
    files = [AtomicFile(tmp_path / name, size=1) for name in "ab"]
    with pytest.raises(OutputError, match=f"{taken}: appeared meanwhile"), AtomicFiles(files):
        (tmp_path / taken).write_bytes(OLD)
    assert os.listdir(tmp_path) == [taken]
    assert (tmp_path / taken).read_bytes() == OLD


@pytest.mark.parametrize("taken", ["a", "b"])
def test_one_that_exists_is_refused_before_any_is_made(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(OLD)
    together = AtomicFiles([AtomicFile(tmp_path / name, size=1) for name in "ab"])
    with pytest.raises(OutputError, match=f"{taken}: exists"):
        together.check()
    with pytest.raises(OutputError, match=f"{taken}: exists"):
        together.__enter__()
    assert os.listdir(tmp_path) == [taken]
