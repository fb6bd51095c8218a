"""`mlpipe info`: facts from the header, for every file, whatever is wrong with the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.npy_format import build_header
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]


def facts_of(run: Run, *paths: Path) -> tuple[int, list[dict[str, Any]]]:
    code, out, _ = run("info", "--json", *paths)
    return code, [json.loads(line) for line in out.splitlines()]


def test_the_digits(run: Run) -> None:
    code, out, err = run("info", ROOT / "examples/data/digits.npy")
    title, row = (line.split("  ") for line in out.splitlines())
    assert (code, err) == (0, "")
    assert [cell.strip() for cell in title if cell] == ["file", "shape", "dtype", "order", "bytes", "rows", "readable"]
    assert [cell.strip() for cell in row if cell][1:] == [
        "(1797, 64)", "uint8", "C", "115,008 (112 KiB)", "1797", "yes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((3, 2), "<f4"), ([3, 2], "float32", "little", "C", 24, 3)),
        (np.zeros((3, 2), ">f8", order="F"), ([3, 2], "float64", "big", "Fortran", 48, 3)),
        (np.zeros(5, bool), ([5], "bool", "little", "C", 5, 5)),
        (np.zeros((0, 7), np.int16), ([0, 7], "int16", "little", "C", 0, 0)),
        (np.zeros((2, 3, 4), np.float16), ([2, 3, 4], "float16", "little", "C", 48, 2)),
    ],
)
def test_json_facts(run: Run, tmp_path: Path, array: np.ndarray[Any, Any], expected: tuple[Any, ...]) -> None:
    path = tmp_path / "X.npy"
    np.save(path, array)
    code, [facts] = facts_of(run, path)
    assert code == 0
    names = ("shape", "dtype", "byte_order", "order", "bytes", "rows")
    assert tuple(facts[name] for name in names) == expected
    assert (facts["path"], facts["readable"], facts["reason"]) == (str(path), True, None)
    assert facts["format_version"] == "1.0"


def test_a_header_larger_than_any_memory_is_only_a_header(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sparse.npy"
    header = build_header((2**30, 1000), "f8")
    path.write_bytes(header)
    os.truncate(path, len(header) + 8000 * 2**30)
    code, [facts] = facts_of(run, path)
    assert (code, facts["shape"], facts["bytes"]) == (0, [2**30, 1000], 8000 * 2**30)


def test_facts_are_shown_even_where_the_data_cannot_be_read(run: Run, tmp_path: Path) -> None:
    truncated, scalar, imaginary = (tmp_path / f"{name}.npy" for name in ("truncated", "scalar", "imaginary"))
    np.save(truncated, np.zeros((4, 4)))
    os.truncate(truncated, truncated.stat().st_size - 1)
    np.save(scalar, np.float64(1))
    np.save(imaginary, np.zeros(3, complex))
    code, found = facts_of(run, truncated, scalar, imaginary)
    assert code == 4
    assert [facts["shape"] for facts in found] == [[4, 4], [], [3]]
    assert [facts["rows"] for facts in found] == [4, None, 3]
    assert [facts["readable"] for facts in found] == [False] * 3
    assert all(facts["reason"].startswith(facts["path"]) for facts in found)


def test_every_file_is_looked_at_and_the_worst_decides(run: Run, tmp_path: Path) -> None:
    good, bad, missing = tmp_path / "good.npy", tmp_path / "bad.npy", tmp_path / "missing.npy"
    np.save(good, np.zeros(3))
    bad.write_bytes(b"1,2,3\n")
    code, out, err = run("info", missing, good)
    assert code == 3
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["no", "yes"]
    assert err.startswith(f"mlpipe: error: {missing}: ")
    assert err.count("\n") == 1
    code, out, err = run("info", bad, missing, good)
    assert code == 4
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["no", "no", "yes"]
    assert [line.split(": ")[2] for line in err.splitlines()] == [str(bad), str(missing)]


def test_a_pipe_is_refused_without_waiting(run: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.npy"
    os.mkfifo(pipe)
    code, [facts] = facts_of(run, pipe)
    assert (code, facts["readable"]) == (3, False)


def test_a_name_with_a_line_break_stays_on_one_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.npy"
    np.save(path, np.zeros(3))
    code, out, _ = run("info", path)
    assert code == 0
    assert len(out.splitlines()) == 2
    code, [facts] = facts_of(run, path)
    assert facts["path"] == str(path)
