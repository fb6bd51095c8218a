"""Pictures of histograms: the same bytes, and what is said on them."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Run, run

__all__ = ["run"]

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    np.save("X.npy", np.c_[random.normal(size=500), random.integers(0, 9, 500), np.full(500, np.nan)])


def test_svg(run: Run) -> None:
    assert run("-q", "stats", "X.npy", "--plot", "a.svg").code == 0
    assert run("-q", "stats", "X.npy", "--plot", "b.svg", "--threads", "1").code == 0
    content = Path("a.svg").read_bytes()
    assert content == Path("b.svg").read_bytes()
    assert content.startswith(b"<?xml")
    assert b"dc:date" not in content
    comments = re.findall(r"<!-- (.*?) -->", content.decode())
    assert "X.npy: 500 rows of 3 float64" in comments
    assert {"column 0", "column 1", "column 2", "no finite values"} <= set(comments)


def test_png(run: Run) -> None:
    assert run("-q", "stats", "X.npy", "--plot", "a.png", "--columns", "1").code == 0
    assert run("-q", "stats", "X.npy", "--plot", "b.png", "--columns", "1").code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert Path("a.png").read_bytes().startswith(PNG)


def test_many_columns_and_odd_names(run: Run) -> None:
    np.save("$x$ <&>.npy", np.arange(40).reshape(2, 20))
    assert run("-q", "stats", "$x$ <&>.npy", "--plot", "a.svg").code == 0
    content = Path("a.svg").read_text()
    assert "(the first 16 of 20 columns)" in content
    assert "column 15" in content
    assert "column 16" not in content
    ended = run("stats", "$x$ <&>.npy", "--plot", "a.svg")
    assert ended.code == 5
    assert "a.svg: exists" in ended.err


def test_nothing_to_draw(run: Run) -> None:
    np.save("E.npy", np.empty((0, 0)))
    assert run("-q", "stats", "E.npy", "--plot", "a.svg").code == 0


def test_without_matplotlib(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *values: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *values)

    monkeypatch.setattr(builtins, "__import__", missing)
    ended = run("stats", "X.npy", "--plot", "a.svg")
    assert ended.code == 2
    assert "pip install 'mlpipe[plot]'" in ended.err
