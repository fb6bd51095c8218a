from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mlpipe.errors import InputError, InputMissingError
from mlpipe.readers.files import shown_name
from mlpipe.readers.npy import NpySource
from tests.malformed import CASES, MALFORMED, MISSING, Malformed, unprivileged

CLASSES = {MISSING: InputMissingError, MALFORMED: InputError}
PEAK_BYTES = 1_500_000  # a dictionary of thousands of keys; the 64 KiB of the header are read once


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Relative paths, so that a user who may not pass the directories above can still get here.
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)


def test_the_table_is_as_long_as_promised_and_names_are_unique() -> None:
    assert len(CASES) >= 45
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.timeout(60)  # what must not block would otherwise hang
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused_in_one_line_with_little_memory(case: Malformed) -> None:
    path = case.build(Path())
    descriptors = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    try:
        with case.user(), pytest.raises(CLASSES[case.exit_code]) as caught:
            NpySource(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert caught.value.exit_code == case.exit_code
    assert message.startswith(f"{shown_name(path)}: ")
    assert message.isprintable()  # hence one line
    assert len(message) < 1000
    for words in case.words:
        assert words in message
    assert peak < PEAK_BYTES
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_permissions_do_bind_in_these_tests() -> None:
    np.save("good.npy", np.zeros((3, 2)))
    with unprivileged():
        assert NpySource("good.npy").shape == (3, 2)
    os.chmod("good.npy", 0)
    with unprivileged(), pytest.raises(PermissionError):
        os.open("good.npy", os.O_RDONLY)
