"""The frame: help, versions, global flags, exit codes, streams and signals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mlpipe
from mlpipe import errors
from mlpipe.cli import info as info_module
from mlpipe.cli import main as main_module
from mlpipe.cli.main import COMMANDS, load, main
from mlpipe.cli.signals import interruptible
from mlpipe.errors import Interrupted
from tests.cli.conftest import Run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "X.npy"
    np.save(path, np.zeros((3, 2), np.float32))
    return path


def test_help_lists_every_command_with_its_summary(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # so that no summary takes two lines, wherever the tests are run
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name, summary in COMMANDS.items():
        assert any(line.split(None, 1) == [name, summary] for line in out.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_for_itself_and_all_its_flags(run: Run, name: str) -> None:
    code, out, err = run(name, "-h")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: mlpipe {name} ")
    undocumented = [parameter.name for parameter in load(name).params if not parameter.help]
    assert undocumented == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from mlpipe.cli.main import main; main(sys.argv[1:]);"
        "sys.exit(', '.join({'numpy', 'numba', 'rich'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"mlpipe {mlpipe.__version__}\n", "")


def test_no_command_shows_help_and_is_a_usage_error(run: Run) -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: mlpipe ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distnaces"], "No such command 'distnaces'. Did you mean 'distances'? (see 'mlpipe --help')"),
        (["--vresion"], "No such option: --vresion (Possible options: --version) (see 'mlpipe --help')"),
        (["info", "--jsno"], "No such option: --jsno (Possible options: --json) (see 'mlpipe info --help')"),
        (["info"], "Missing argument 'FILE'. (see 'mlpipe info --help')"),
        (["-q", "-v", "doctor"], "-q and -v contradict each other; give one of them"),
        (["\x1b[31m\n"], r"No such command '\x1b[31m\n'. (see 'mlpipe --help')"),
    ],
)
def test_a_usage_error_is_one_line(run: Run, arguments: list[str], message: str) -> None:
    assert run(*arguments) == (2, "", f"mlpipe: error: {message}\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.UsageError("no"), 2, "no"),
        (errors.InputMissingError("no"), 3, "no"),
        (errors.InputError("two\nlines \x1b[0m"), 4, r"two lines \x1b[0m"),
        (errors.OutputError("no"), 5, "no"),
        (errors.DeviceError("no"), 6, "no"),
        (errors.MemoryCeilingError("no"), 7, "no"),
        (errors.RegressionError("no"), 8, "no"),
        (errors.LockedError("no"), 75, "no"),
        (Interrupted(signal.SIGHUP), 129, "interrupted by SIGHUP"),
        (MemoryError(), 7, "the system gave no more memory; free some, or plan for less with --memory"),
        (
            ZeroDivisionError("by 0"),
            1,
            "a bug in mlpipe: ZeroDivisionError: by 0; repeat with 'mlpipe --debug' and report it",
        ),
        (
            OSError(errno.EIO, "Bad disk", "x"),
            1,
            "a bug in mlpipe: OSError: [Errno 5] Bad disk: 'x'; repeat with 'mlpipe --debug' and report it",
        ),
    ],
)
def test_every_error_has_its_exit_code_and_one_line(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(info_module, "inspect", fail)
    assert run("info", file) == (code, "", f"mlpipe: error: {message}\n")


def test_debug_adds_the_traceback(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise errors.InputError("no")

    monkeypatch.setattr(info_module, "inspect", fail)
    code, _, err = run("--debug", "info", file)
    assert code == 4
    assert err.startswith("Traceback ")
    assert err.endswith("mlpipe: error: no\n")
    monkeypatch.setenv("MLPIPE_DEBUG", "1")
    assert run("info", file).err == err.replace("--debug", "")


def test_a_closed_pipe_ends_quietly(file: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "mlpipe", "info", file], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (5, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["info", "FILE"]])
def test_a_full_disk_under_stdout_is_an_output_error(spawn: Run, file: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        code, _, err = spawn(*(str(file) if part == "FILE" else part for part in arguments), stdout=full)
    assert (code, err) == (5, "mlpipe: error: standard output: No space left on device\n")


def test_closed_standard_streams_are_never_reused(file: Path) -> None:
    code = (
        "import os, sys; from mlpipe.cli.main import main; code = main(['--version']);"
        "os._exit(any(os.fstat(d).st_rdev != os.stat(os.devnull).st_rdev for d in range(3)) or code)"
    )
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code], check=False)
    assert done.returncode == 5  # the version could not be told


def test_a_file_name_that_stdout_cannot_encode(spawn: Run, tmp_path: Path) -> None:
    path = tmp_path / "日.npy"
    np.save(path, np.zeros(3))
    code, out, err = spawn("info", path, env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert (code, err) == (0, "")
    assert r"\u65e5.npy" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_runs_clean_up_and_decides_the_exit_code(number: signal.Signals) -> None:
    # The clean-up sends the same signal again: it must neither end nor disturb it.
    code = (
        "import signal, sys, time\n"
        "from mlpipe.cli import info, main\n"
        "def wait(path):\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        f"        signal.raise_signal({number:d})\n"
        "        print('cleaned', flush=True)\n"
        "info.inspect = wait\n"
        "sys.exit(main.main(['info', 'X.npy']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "cleaned\n")
    assert err == f"mlpipe: error: interrupted by {number.name}\n"


def test_a_signal_ignored_from_the_start_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_swallowed_by_a_destructor_comes_again() -> None:
    class Swallows:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            for _ in range(1000):
                pass  # Python looks for signals here, so it raises here

    def destroy_and_wait() -> None:
        Swallows()
        time.sleep(30)

    with interruptible(), pytest.raises(Interrupted, match="SIGTERM"):
        destroy_and_wait()


def test_handlers_and_warning_filters_are_put_back(run: Run) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    hook = sys.unraisablehook
    run("--version")
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert sys.unraisablehook is hook


def test_completion_knows_commands_and_their_flags() -> None:
    def complete(line: str) -> str:
        settings = {"_MLPIPE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        command = [sys.executable, "-c", "import sys; from mlpipe.cli.main import main; sys.exit(main())"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **settings})
        return done.stdout

    assert "distances" in complete("mlpipe dist").split()
    assert "--json" in complete("mlpipe info --js").split()


def test_python_m_mlpipe_is_mlpipe(spawn: Run) -> None:
    assert spawn("--version") == (0, f"mlpipe {mlpipe.__version__}\n", "")


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main_module.sys, "argv", ["mlpipe", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("mlpipe ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("neighbors a.npy --graph foo", "Invalid value for '--graph': 'foo' is not one of 'csr', 'edges'."),
        ("profile --runs x stats a.npy", "Invalid value for '--runs': give a whole number"),
        ("profile --interval x stats a.npy", "Invalid value for '--interval': give a number"),
    ],
)
def test_values_that_cannot_be_read(run: Run, arguments: str, message: str) -> None:
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"mlpipe: error: {message} (see 'mlpipe ")
