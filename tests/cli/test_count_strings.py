"""`mlpipe count-features` on `.npy` files of strings, against `collections.Counter`."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run

WORDS = ["to", "be", "or", "not", "to", "b\0e", "", "é\U0001f600", "b", "\0b"]


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def counts_of(out: str) -> dict[str, int]:
    """A table without its headings."""
    return {value: int(count) for value, count in list(csv.reader(io.StringIO(out, newline="")))[1:]}


@pytest.mark.parametrize("dtype", ["U3", ">U3", "U40"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_counted_by_value(dtype: str, order: str, run: Run) -> None:
    array = np.array(WORDS, dtype).reshape(5, 2, order="F" if order == "F" else "C")
    np.save("X.npy", array)
    code, out, err = run("-q", "count-features", "X.npy")
    assert (code, err) == (0, "")
    assert counts_of(out) == Counter(WORDS)
    out = run("-q", "count-features", "X.npy", "--column", "-1").out
    assert counts_of(out) == Counter(array[:, 1].tolist())


def test_bytes_with_zeros_within(run: Run) -> None:
    words = [b"a", b"a\0b", b"a\0\0", b"", b"\0", b"\0a", b"a"]  # zeros at the end are no part of a string
    np.save("X.npy", np.array(words, "S3"))
    out = run("-q", "count-features", "X.npy", "--sort", "value").out
    assert list(counts_of(out).items()) == [("", 2), ("\0a", 1), ("a", 3), ("a\0b", 1)]


def test_several_files_in_the_wider_type(run: Run) -> None:
    Path("shards").mkdir()
    parts = [np.array(WORDS, "U3"), np.array(["wider than the others", "to"], ">U21"), np.array([], "U1")]
    for number, part in enumerate(parts):
        np.save(f"shards/{number}.npy", part)
    wanted = Counter(word for part in parts for word in part.tolist())
    for files in (["shards"], ["shards/*.npy"], ["shards/2.npy", "shards/1.npy", "shards/0.npy"]):
        assert counts_of(run("-q", "count-features", *files).out) == wanted
    assert run("-q", "count-features", "shards", "-o", "o.npz").code == 0
    with np.load("o.npz") as found:
        assert found["value"].dtype == np.dtype("U21")
        assert dict(zip(found["value"].tolist(), found["count"].tolist(), strict=True)) == wanted


def test_by_labels_that_are_strings(run: Run) -> None:
    labels = np.array(["cat", "dog", "cat", "mouse"])
    np.save("X.npy", np.array([1, 1, 1, 2]))
    np.save("Y.npy", labels)
    out = run("-q", "count-features", "X.npy", "--by", "Y.npy").out
    assert out == "label,value,count\ncat,1,2\ndog,1,1\nmouse,2,1\n"
    out = run("-q", "count-features", "Y.npy", "--by", "X.npy", "--top", "1").out
    assert out == "label,value,count\n1,cat,2\n"


def test_rows_and_pairs(run: Run) -> None:
    array = np.array(WORDS).reshape(5, 2)
    np.save("X.npy", np.concatenate([array, array[:2]]))
    wanted = Counter(map(tuple, np.load("X.npy").tolist()))
    for more in (["--rows"], ["--pairs", "0,1"]):
        rows = list(csv.reader(io.StringIO(run("-q", "count-features", "X.npy", *more).out)))[1:]
        assert {(a, b): int(count) for a, b, count in rows} == wanted


@pytest.mark.parametrize("dtype", ["S4", "U3", ">U3"])
def test_from_stdin(dtype: str) -> None:
    words = ["to", "be", "to", "a\0b"]
    np.save(file := io.BytesIO(), np.array(words, dtype))
    done = subprocess.run(
        [sys.executable, "-m", "mlpipe", "-q", "count-features"],
        input=file.getvalue(), capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert counts_of(done.stdout.decode()) == Counter(words)


def test_refused_in_one_line(run: Run) -> None:
    np.save("U.npy", np.array(["to", "be"]))
    np.save("S.npy", np.array([b"to", b"be"]))
    np.save("N.npy", np.arange(2))
    np.save("bad.npy", np.array([0x110000], "u4").view("U1"))
    for words, message in [
        ("U.npy N.npy", "U.npy: strings, but N.npy holds numbers; count them one by one"),
        ("N.npy S.npy", "S.npy: strings, but N.npy holds numbers; count them one by one"),
        ("U.npy S.npy", "S.npy: bytes16, but str64 in U.npy; no dtype holds the values of both exactly"),
        ("U.npy --bins 3", "count-features --bins: rows are text"),
        ("U.npy --cast int8", "count-features --cast: rows are text"),
        ("U.npy --where x>1", "count-features --where: rows are text"),
        ("N.npy --weights U.npy", "U.npy: dtype '<U2': text; save bool, integers or floats"),
        ("bad.npy", "bad.npy: no text: character 0 from row 0 on is 1114112"),
    ]:
        code, out, err = run("-q", "count-features", *words.split())
        assert (code, out) == (4, ""), words
        assert message in err
        assert err.count("\n") == 1


def test_stdin_that_holds_no_characters() -> None:
    np.save(file := io.BytesIO(), np.array([0x110000], "u4").view("U1"))
    done = subprocess.run(
        [sys.executable, "-m", "mlpipe", "-q", "count-features", "-"],
        input=file.getvalue(), capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"standard input: no text: character 0 from row 0 on is 1114112" in done.stderr
