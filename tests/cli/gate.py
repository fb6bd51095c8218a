"""A run of mlpipe that stops at a gate: at some call of the operating system, until it is let through.

``python -m tests.cli.gate CALL COUNT DIRECTORY ARGUMENTS…`` runs ``mlpipe ARGUMENTS…`` with the given call of
``os.CALL`` waiting in front of a gate, so that a test can do something at that very moment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 120.0
INTERVAL = 0.005


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that has to happen."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(INTERVAL)


def start(*arguments: str | Path, **settings: Any) -> subprocess.Popen[str]:
    """Start `python ARGUMENTS…` with its streams in pipes."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **settings}
    return subprocess.Popen([sys.executable, *map(str, arguments)], text=True, **settings)


class Gated:
    """A process in front of its gate."""

    def __init__(self, directory: Path, call: str, count: int, *arguments: str | Path, **settings: Any) -> None:
        self.reached, self.open = directory / "reached", directory / "open"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = start(
            "-m", "tests.cli.gate", call, str(count), directory, *arguments, **{"env": environment, **settings}
        )
        wait_until(lambda: self.reached.exists() or self.process.poll() is not None, f"{call} was not called")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; return once it was seen: from then on it is ignored."""
        self.process.send_signal(number)
        wait_until(lambda: self.process.poll() is not None or ignores(self.process.pid, number), "the signal was lost")

    def let_through(self) -> tuple[int, str, str]:
        """Open the gate and wait for the end; exit code, stdout and stderr."""
        self.open.touch()
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out or "", err or ""


def ignores(process: int, number: signal.Signals) -> bool:
    """Whether a process ignores a signal."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) >> (number - 1) & 1)


def main() -> int:
    """Put up the gate and run mlpipe."""
    call, count, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    original, calls = getattr(os, call), 0

    def gated(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            (directory / "reached").touch()
            while not (directory / "open").exists():
                time.sleep(INTERVAL)
        return original(*arguments, **keywords)

    setattr(os, call, gated)
    from mlpipe.cli.main import main as mlpipe

    return mlpipe(sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
