"""Lines of the user's functions: times, memory, threads."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import numba
import pytest

from mlpipe.measure.lines import LINES_TO, Watch, not_watched, watched
from mlpipe.measure.schema import FunctionFacts

SOURCE = """
import time

KEPT = []


def half(x):
    return x / 2


class Scale:
    def by(self, x):
        return 3 * x


def work(x):
    time.sleep(0.02)
    for _ in range(3):
        x = half(x)

    if x < 0:
        x = -x
    return Scale().by(x)


def keep(x):
    KEPT.append(bytearray(x))
    del KEPT[:-1]
    return x


def fail(x):
    return 1 // x


def never(x):
    return x
"""


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("mine", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def hits(facts: list[FunctionFacts]) -> dict[str, dict[str, int | None]]:
    return {one["function"]: {line["source"].strip(): line["hits"] for line in one["lines"]} for one in facts}


@pytest.mark.parametrize("memory", [False, True])
def test_every_line_is_counted_and_helpers_and_methods_too(module: ModuleType, memory: bool) -> None:
    watch = Watch(memory=memory)
    call = watch.wrap(module.work)
    assert call(8.0) == 3.0
    assert call(8.0) == 3.0
    found = hits(watch.facts())
    assert found == {
        "half": {"def half(x):": None, "return x / 2": 6},
        "Scale.by": {"def by(self, x):": None, "return 3 * x": 2},
        "work": {
            "def work(x):": None, "time.sleep(0.02)": 2, "for _ in range(3):": 8, "x = half(x)": 6, "": None,
            "if x < 0:": 2, "x = -x": 0, "return Scale().by(x)": 2,
        },
    }  # fmt: skip


@pytest.mark.parametrize("memory", [False, True])
def test_the_slow_line_is_found(module: ModuleType, memory: bool) -> None:
    watch = Watch(memory=memory)
    watch.wrap(module.work)(8.0)
    lines = next(one["lines"] for one in watch.facts() if one["function"] == "work")
    slow = max(lines, key=lambda line: line["time_s"] or 0)
    assert slow["source"].strip() == "time.sleep(0.02)"
    assert slow["time_s"] is not None
    assert slow["time_s"] >= 0.02


def test_memory_is_what_a_line_took_and_gave_back(module: ModuleType) -> None:
    watch, size = Watch(memory=True), 50_000_000
    call = watch.wrap(module.keep)
    for _ in range(3):
        call(size)
    [facts] = watch.facts()
    grown = {line["source"].strip(): line["increment"] for line in facts["lines"]}
    slack = 3_000_000
    assert grown["KEPT.append(bytearray(x))"] == pytest.approx(3 * size, abs=slack)
    assert grown["del KEPT[:-1]"] == pytest.approx(-2 * size, abs=slack)
    assert grown["return x"] == pytest.approx(0, abs=slack)
    assert all((line["memory"] is None) == (line["hits"] is None) for line in facts["lines"])


def test_memory_is_not_asked_for(module: ModuleType) -> None:
    watch = Watch()
    watch.wrap(module.work)(1.0)
    assert {line["memory"] for one in watch.facts() for line in one["lines"]} == {None}


@pytest.mark.parametrize("memory", [False, True])
def test_calls_from_several_threads_are_added_up(module: ModuleType, memory: bool) -> None:
    watch = Watch(memory=memory)
    call = watch.wrap(module.work)
    threads = [threading.Thread(target=lambda: [call(8.0) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = hits(watch.facts())
    assert found["work"]["time.sleep(0.02)"] == 20
    assert found["half"]["return x / 2"] == 60
    assert sys.gettrace() is None or "coverage" in sys.modules


@pytest.mark.parametrize("memory", [False, True])
def test_an_exception_goes_through_and_its_line_counts(module: ModuleType, memory: bool) -> None:
    watch, before = Watch(memory=memory), sys.gettrace()
    call = watch.wrap(module.fail)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            call(0)
    assert call(1) == 1
    assert sys.gettrace() is before
    assert hits(watch.facts())["fail"]["return 1 // x"] == 3


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, x: int) -> int:
        return x


def test_what_is_not_made_by_def_has_no_lines() -> None:
    watch = Watch()
    compiled, unhashable = numba.njit(lambda x: x), Unhashable()
    for function in (abs, compiled, unhashable):
        assert watch.wrap(function) is function
        assert function(1) == 1
    assert watch.facts() == []
    why = "is compiled, or not made by def"
    assert watch.reasons == [f"abs {why}", f"<lambda> {why}", f"Unhashable {why}"]


def test_nothing_is_watched_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LINES_TO, raising=False)

    def function() -> None:
        pass

    assert watched(function) is function
    not_watched("nobody asks")


def test_what_was_found_is_written_when_the_process_ends(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    code = "import mine; from mlpipe.measure.lines import *; watched(mine.half)(1); not_watched('a'); not_watched('a')"
    environment = {**os.environ, LINES_TO: str(tmp_path / "lines.json")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    found = json.loads((tmp_path / "lines.json").read_text())
    assert found["reasons"] == ["a"]
    assert [(one["file"], one["function"]) for one in found["functions"]] == [("mine.py", "half")]
