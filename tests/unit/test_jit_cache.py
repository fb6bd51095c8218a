"""Compiled kernels are kept on disk, found again, and never trusted more than they deserve."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import mlpipe
from mlpipe.kernels import _jit
from mlpipe.kernels.rows import cosine_of_first, to_truth

PACKAGE = Path(mlpipe.__file__).parent

# Calls two kernels as named on the command line; prints how many were loaded, how many compiled, and a result.
CHILD = """
import sys
import numpy as np
from mlpipe.kernels import rows
values, status = np.arange(6.0).reshape(3, 2), np.empty(3)
for name in sys.argv[1:]:
    getattr(rows, name)(*((values, status) if name == "cosine_of_first" else (values, values)))
stats = [getattr(rows, name).stats for name in sys.argv[1:]]
print(sum(sum(s.cache_hits.values()) for s in stats), sum(sum(s.cache_misses.values()) for s in stats))
"""


def child(*kernels: str, cwd: Path = PACKAGE.parent, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *kernels],
        cwd=cwd,
        env={"PATH": os.defpath, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen) -> tuple[int, int]:
    """Kernels loaded and compiled; nothing on standard error."""
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    loaded, compiled = out.split()
    return int(loaded), int(compiled)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """The directory of this version's kernels in a cold cache of its own."""
    monkeypatch.setenv(_jit.CACHE_VARIABLE, str(tmp_path / "cache"))
    _jit.cache_directory.cache_clear()
    yield _jit.cache_directory()[1]
    _jit.cache_directory.cache_clear()


def call(kernel=cosine_of_first.py_func, dtype="f8") -> tuple[int, int]:
    """Call a kernel that nobody has called, as a new process would; how often it was loaded and compiled."""
    fresh = _jit.kernel(kernel)
    rows, status = np.array([[1.0], [2.0]], dtype), np.empty(2, dtype)
    fresh(rows, status)
    np.testing.assert_allclose(status, np.cos(rows[:, 0]), rtol=1e-6)
    return sum(fresh.stats.cache_hits.values()), sum(fresh.stats.cache_misses.values())


def only_file(directory: Path) -> Path:
    """The one kernel there, with nothing beside it."""
    (file,) = directory.iterdir()
    return file


# Kept and found again.


def test_new_process_loads_what_another_compiled(tmp_path):
    environment = {_jit.CACHE_VARIABLE: str(tmp_path)}
    assert outcome(child("cosine_of_first", "to_truth", **environment)) == (0, 2)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.kernel")}
    assert len(before) == 2
    assert outcome(child("cosine_of_first", "to_truth", **environment)) == (2, 0)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.kernel")} == before


def test_process_that_loads_one_kernel_can_compile_another(tmp_path):
    environment = {_jit.CACHE_VARIABLE: str(tmp_path)}
    assert outcome(child("cosine_of_first", **environment)) == (0, 1)
    assert outcome(child("cosine_of_first", "to_truth", **environment)) == (1, 1)


def test_processes_with_a_cold_cache_do_not_disturb_one_another(tmp_path):
    environment = {_jit.CACHE_VARIABLE: str(tmp_path)}
    together = [child(name, **environment) for name in ("cosine_of_first", "to_truth", "to_truth")]
    assert [outcome(process)[0] for process in together[:2]] == [0, 0]
    outcome(together[2])
    assert sorted(file.suffix for file in tmp_path.rglob("*.*")) == [".kernel", ".kernel"]
    assert outcome(child("cosine_of_first", "to_truth", **environment)) == (2, 0)


def test_each_type_has_a_file(directory):
    assert [call(dtype="f4"), call(dtype="f8"), call(dtype="f4"), call(dtype="f8")] == [(0, 1), (0, 1), (1, 0), (1, 0)]
    assert len(list(directory.iterdir())) == 2


# A file that is not what it should be.


def copy_of_another_kernel(file: Path) -> bytes:
    """A sound file, but of the float32 variant: running it would read memory that is not there."""
    call(dtype="f4")
    (other,) = (entry for entry in file.parent.iterdir() if entry != file)
    content = other.read_bytes()
    other.unlink()
    return content


def flipped(file: Path) -> bytes:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)


DAMAGE = {
    "empty": lambda file: b"",
    "shorter than its digest": lambda file: file.read_bytes()[:10],
    "digest only": lambda file: file.read_bytes()[:32],
    "truncated": lambda file: file.read_bytes()[:-1],
    "longer": lambda file: file.read_bytes() + b"\0",
    "one bit flipped": flipped,
    "text": lambda file: b"not a kernel\n" * 100,
    "no pickle, digest right": lambda file: _jit._digest(file, b"junk") + b"junk",
    "another pickle, digest right": lambda file: _jit._digest(file, b"K*.") + b"K*.",
    "another kernel": copy_of_another_kernel,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_replaced_silently(damage, directory, capfd):
    assert call() == (0, 1)
    file = only_file(directory)
    sound = len(file.read_bytes())
    file.write_bytes(DAMAGE[damage](file))
    assert call() == (0, 1)
    assert only_file(directory) == file
    assert len(file.read_bytes()) == pytest.approx(sound, rel=0.1)
    assert call() == (1, 0)
    assert capfd.readouterr() == ("", "")


def test_directory_in_place_of_a_file(directory):
    assert call() == (0, 1)
    file = only_file(directory)
    file.unlink()
    file.mkdir()
    assert call() == (0, 1)
    assert list(directory.iterdir()) == [file]


# Nowhere to keep anything.


@pytest.mark.parametrize("fault", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_directory_that_takes_no_files(fault, directory, monkeypatch):
    def refuse(*_arguments, **_keywords):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert call() == (0, 1)
    assert list(directory.iterdir()) == []


def test_disk_that_fills_up_keeps_no_part_of_a_file(directory, monkeypatch):
    def fill_up(descriptor, mode):
        os.close(descriptor)
        return open("/dev/full", mode, buffering=0)

    monkeypatch.setattr(os, "fdopen", fill_up)
    assert call() == (0, 1)
    assert list(directory.iterdir()) == []


def test_named_directory_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(_jit.CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    assert _jit.cache_directory.__wrapped__() is None
    assert outcome(child("to_truth", **{_jit.CACHE_VARIABLE: str(tmp_path / "file" / "below")})) == (0, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable to root")
def test_unwritable_directory(directory):
    directory.chmod(0o500)
    assert call() == (0, 1)
    assert not _jit.cache_state()["writable"]


# Which directory.


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A home, and a place for temporary files, and nothing set."""
    for name in (_jit.CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("home", "temporary", "xdg", "named"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def found() -> tuple[str, Path]:
    why, directory = _jit.cache_directory.__wrapped__()
    assert directory.is_dir()
    return why, directory.parent


def test_home_is_the_default(places):
    assert found() == ("home", places / "home/.cache/mlpipe")


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_directories_are_private_whatever_the_umask(mask, places):
    old = os.umask(mask)
    try:
        why, directory = _jit.cache_directory.__wrapped__()
    finally:
        os.umask(old)
    assert why == "home"
    assert [one.stat().st_mode & 0o777 for one in (directory, directory.parent)] == [0o700, 0o700]


def test_xdg_comes_before_home(places, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "xdg"))
    assert found() == ("XDG_CACHE_HOME", places / "xdg/mlpipe")


def test_named_directory_comes_first(places, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "xdg"))
    monkeypatch.setenv(_jit.CACHE_VARIABLE, str(places / "named"))
    assert found() == (_jit.CACHE_VARIABLE, places / "named")


def test_named_directory_may_be_shared(places, monkeypatch):
    (places / "named").chmod(0o777)
    monkeypatch.setenv(_jit.CACHE_VARIABLE, str(places / "named"))
    assert found() == (_jit.CACHE_VARIABLE, places / "named")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_default_that_others_can_write_to_is_passed_over(mode, places):
    (places / "home/.cache/mlpipe").mkdir(parents=True)
    (places / "home/.cache/mlpipe").chmod(mode)
    assert found()[0] == "temporary"


def test_default_whose_inner_directory_others_can_write_to_is_passed_over(places):
    inner = _jit.cache_directory.__wrapped__()[1]
    inner.chmod(0o777)
    assert found()[0] == "temporary"


def test_default_of_another_user_is_passed_over(places, monkeypatch):
    (places / "home/.cache/mlpipe").mkdir(parents=True)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert _jit.cache_directory.__wrapped__() is None


def test_everything_open_to_others_means_no_cache(places):
    for base in (places / "home/.cache/mlpipe", places / f"temporary/mlpipe-{os.getuid()}"):
        base.mkdir(parents=True)
        base.chmod(0o777)
    assert _jit.cache_directory.__wrapped__() is None


def test_user_without_a_home(places, monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert found() == ("temporary", places / f"temporary/mlpipe-{os.getuid()}")


def test_home_that_does_not_exist(places, monkeypatch):
    monkeypatch.setenv("HOME", "/proc/no-such-home")
    assert found()[0] == "temporary"


def test_empty_environment(tmp_path):
    process = subprocess.run(
        ["env", "-i", f"TMPDIR={tmp_path}", sys.executable, "-c", CHILD, "to_truth"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.split() in (["0", "1"], ["1", "0"])


def test_state(directory):
    assert _jit.cache_state()["warm"] is False
    call()
    size = only_file(directory).stat().st_size
    assert _jit.cache_state() == {
        "directory": str(directory),
        "source": _jit.CACHE_VARIABLE,
        "warm": True,
        "entries": 1,
        "bytes": size,
        "writable": True,
    }


def test_state_without_a_directory(monkeypatch):
    monkeypatch.setattr(_jit, "cache_directory", lambda: None)
    assert _jit.cache_state()["directory"] is None


def test_flush_removes_the_files_of_one_kernel(directory):
    call()
    _jit.kernel(to_truth.py_func)(np.ones((1, 1)), np.ones((1, 1)))
    assert len(list(directory.iterdir())) == 2
    _jit._KernelCache(cosine_of_first.py_func).flush()
    assert only_file(directory).name.startswith("to_truth-")


# Stale kernels.


@pytest.fixture
def package(tmp_path):
    """A copy of the package, to be changed."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "copy/mlpipe", ignore=shutil.ignore_patterns("__pycache__")))


def test_kernel_is_compiled_again_when_one_it_calls_changes(package, tmp_path):
    (package / "kernels/inner.py").write_text(
        "from mlpipe.kernels._jit import kernel\n\n@kernel\ndef inner():\n    return 2.0\n"
    )
    outer = package / "kernels/outer.py"
    outer.write_text(
        "from mlpipe.kernels._jit import kernel\nfrom mlpipe.kernels.inner import inner\n\n"
        "@kernel\ndef outer(out):\n    out[0] = inner()\n"
    )
    kept = outer.stat().st_mtime_ns
    code = (
        "import numpy as np\nfrom mlpipe.kernels.outer import outer\n"
        "out = np.empty(1)\nouter(out)\nprint(out[0], sum(outer.stats.cache_hits.values()))"
    )

    def run() -> str:
        environment = {"PYTHONPATH": str(package.parent), _jit.CACHE_VARIABLE: str(tmp_path / "cache")}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # Python's own cache does go by modification times
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert run() == "2.0 0"
    inner = package / "kernels/inner.py"
    inner.write_text(inner.read_text().replace("2.0", "3.0"))
    os.utime(inner, ns=(kept, kept))  # modification times say nothing
    assert run() == "3.0 0"
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(("target", "name"), [("numba", "__version__"), ("llvmlite", "__version__")])
def test_another_compiler_means_another_directory(target, name, directory, monkeypatch):
    monkeypatch.setattr(getattr(_jit, target), name, "0.0")
    _jit._stamp.cache_clear()
    try:
        assert _jit.cache_directory.__wrapped__()[1] != directory
    finally:
        _jit._stamp.cache_clear()
