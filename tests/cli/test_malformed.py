"""Every malformed input through the commands: one line, the right exit code, nothing left behind."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from mlpipe.readers.files import shown_name
from tests.cli.conftest import Ended, Run
from tests.malformed import CASES, Malformed

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
pytestmark = pytest.mark.timeout(60)  # what must not block would otherwise hang

# One of each sort, in processes of their own.
SPAWNED = [
    "empty",
    "CSV",
    "objects",
    "header of 4 GiB that is there",
    "FIFO nobody writes to",
    "endless device",
    "missing",
]
LIMIT_BYTES = 1 << 30


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Relative paths, so that a user who may not pass the directories above can still get here.
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", np.arange(6, dtype=np.float32).reshape(3, 2))


def assert_refused(ended: Ended, case: Malformed, path: Path) -> None:
    """One line that names the file and the reason, the right exit code, and nothing on stdout."""
    assert ended.err.startswith(f"mlpipe: error: {shown_name(path)}: ")
    assert ended.err.endswith("\n")
    assert ended.err[:-1].isprintable()
    for words in case.words:
        assert words in ended.err
    assert ended.code == case.exit_code
    assert ended.out == ""


@every_case
@pytest.mark.parametrize("bad_first", [True, False], ids=["X", "Y"])
def test_distances_refuses(run: Run, case: Malformed, bad_first: bool) -> None:
    path = case.build(Path())
    inputs = [path, "good.npy"] if bad_first else ["good.npy", path]
    before = sorted(os.listdir())
    with case.user():
        ended = run("distances", *inputs, "-o", "out.npy")
    assert_refused(ended, case, path)
    assert sorted(os.listdir()) == before


@every_case
def test_info_says_why(run: Run, case: Malformed) -> None:
    path = case.build(Path())
    with case.user():
        code, out, err = run("info", "good.npy", path)
    assert_refused(Ended(code, "", err), case, path)
    title, good, bad = out.splitlines()
    assert title.endswith("readable")
    assert good.startswith("good.npy")
    assert good.endswith("yes")
    assert bad.startswith(shown_name(path))
    assert bad.endswith("no")


@pytest.mark.parametrize("case", [case for case in CASES if case.name in SPAWNED], ids=lambda case: case.name)
def test_a_process_of_its_own_says_the_same(spawn: Run, case: Malformed) -> None:
    path = case.build(Path())
    before = sorted(os.listdir())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))

    ended = spawn("distances", path, "good.npy", "-o", "out.npy", preexec_fn=limit)
    assert_refused(ended, case, path)
    assert sorted(os.listdir()) == before


def test_the_spawned_cases_are_in_the_table() -> None:
    assert {case.name for case in CASES} >= set(SPAWNED)
