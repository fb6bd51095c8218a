from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, OutputError, UsageError
from mlpipe.registry import make
from mlpipe.writers import atomic

ROWS = np.arange(30_000).reshape(10_000, 3)
LABELS = np.arange(10_000, dtype="u2")
FILES = ["a.npy", "b.npy", "c.npy"]


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", ROWS)
    np.save("y.npy", LABELS)


def sides(files: list[str] = FILES) -> list[list[int]]:
    return [(np.load(file)[:, 0] // 3).tolist() for file in files]


def test_every_row_is_on_one_side_and_keeps_its_label() -> None:
    mlpipe.read("X.npy", labels="y.npy").split(FILES, fractions=(0.7, 0.2, 0.1), seed=3)
    found = sides()
    assert sorted(row for rows in found for row in rows) == list(range(10_000))
    for file, rows in zip(FILES, found, strict=True):
        assert rows == sorted(rows)
        assert np.load(file.replace(".npy", "-labels.npy")).tolist() == rows
    for rows, share in zip(found, (0.7, 0.2, 0.1), strict=True):
        assert abs(len(rows) - 10_000 * share) < 5 * np.sqrt(10_000 * share * (1 - share))


def test_no_row_changes_sides() -> None:
    mlpipe.read("X.npy").split(FILES, fractions=(0.5, 0.25, 0.25))
    first = sides()
    for chain in (mlpipe.read("X.npy").batch(7), mlpipe.read("X.npy", rows=":4321"), mlpipe.read("X.npy").head(9)):
        chain.split(FILES, fractions=(0.5, 0.25, 0.25), force=True)
        for now, before in zip(sides(), first, strict=True):
            assert now == before[: len(now)]
    mlpipe.read("X.npy").split(FILES, fractions=(0.5, 0.25, 0.25), seed=1, force=True)
    assert sides() != first


def test_no_rows() -> None:
    mlpipe.read("X.npy").head(0).split(FILES, fractions=(0.5, 0.25, 0.25))
    assert [np.load(file).shape for file in FILES] == [(0, 3)] * 3


def test_all_files_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.npy").touch()
    with pytest.raises(OutputError, match=r"c.npy: exists"):
        mlpipe.read("X.npy").split(FILES, fractions=(0.5, 0.25, 0.25))
    Path("c.npy").unlink()
    with pytest.raises(InputError):
        mlpipe.read("X.npy").check(max=29_000).split(FILES, fractions=(0.5, 0.25, 0.25))
    appear = atomic.AtomicFile.appear
    count = []

    def third_fails(file: atomic.AtomicFile) -> None:
        count.append(1)
        if len(count) == 3:
            raise OutputError("c.npy: taken")
        appear(file)

    monkeypatch.setattr(atomic.AtomicFile, "appear", third_fails)
    with pytest.raises(OutputError, match="taken"):
        mlpipe.read("X.npy").split(FILES, fractions=(0.5, 0.25, 0.25))
    assert sorted(path.name for path in Path().iterdir()) == ["X.npy", "y.npy"]


@pytest.mark.parametrize(
    ("files", "fractions", "message"),
    [
        (FILES, (0.5, 0.5), "3 files"),
        (FILES[:2], (0.5, 0.4), "whose sum is 1"),
        (FILES[:2], (1.5, -0.5), "above 0"),
        (FILES[:2], (0.0, 1.0), "above 0"),
        (["a.npy", "./a.npy"], (0.5, 0.5), "named twice"),
        (["a.npy", "-"], (0.5, 0.5), "stdout"),
    ],
)
def test_options_that_make_no_sense(files: list[str], fractions: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make("split", files, fractions=fractions)
