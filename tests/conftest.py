"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from mlpipe.engine import budget


@pytest.fixture(scope="session", autouse=True)
def signals_reach_the_processes_under_test() -> Iterator[None]:
    """Undo what nohup, or a shell's background job, would hand down: SIGINT and SIGHUP ignored."""
    ignored = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)  # a new process starts with the default in place of a handler
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def plans_do_not_see_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan as in a process that has just started: hundreds of compiled kernels make that of the tests a large one."""
    monkeypatch.setattr(budget, "anonymous_bytes", lambda: 100 << 20)
