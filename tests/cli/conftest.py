"""Ways to run the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mlpipe.cli.main import main


class Ended(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `mlpipe ARGUMENTS…` within this process: fast, the kernels stay loaded."""

    def call(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def spawn() -> Run:
    """Run `python -m mlpipe ARGUMENTS…` as its own process; keywords go to `subprocess.run`."""

    def call(*arguments: str | Path, **settings: object) -> Ended:
        command = [sys.executable, "-m", "mlpipe", *map(str, arguments)]
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, **settings}
        done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, check=False, **settings)  # type: ignore[call-overload]
        return Ended(done.returncode, done.stdout or "", done.stderr or "")

    return call
