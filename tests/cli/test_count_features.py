"""`mlpipe count-features` from end to end: what is read, what comes out where, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.stages import counting
from tests.cli.conftest import Run
from tests.malformed import CASES, Malformed

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples/data/digits.npy"
LABELS = ROOT / "examples/data/digits_labels.npy"


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(out: str) -> list[tuple[str, ...]]:
    """Rows of a CSV, without its headings."""
    return [tuple(row) for row in csv.reader(io.StringIO(out))][1:]


def counts_of(out: str) -> dict[str, int]:
    return {value: int(count) for value, count in table(out)}


def piped(content: bytes, *arguments: str, **settings: Any) -> tuple[int, str, str]:
    """Run a process with this on its stdin."""
    command = [sys.executable, "-m", "mlpipe", "-q", "count-features", *arguments]
    done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=120, **settings)
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode()


def test_digits(run: Run) -> None:
    code, out, err = run("count-features", DIGITS)
    assert code == 0
    assert out.startswith("value,count\n0,56272\n16,10456\n15,4304\n")
    digits = np.load(DIGITS)
    assert counts_of(out) == {str(value): count for value, count in Counter(digits.ravel().tolist()).items()}
    assert err.splitlines()[-1].startswith("mlpipe: 1,797 rows, 17 distinct, 0 missing; dense: ")
    assert run("-q", "count-features", DIGITS).err == ""


def test_json_says_how_it_was_counted(run: Run) -> None:
    facts = json.loads(run("-q", "count-features", DIGITS, "--top", "2", "--json").out)
    assert facts["schema_version"] == 1
    assert (facts["rows"], facts["total"], facts["distinct"], facts["missing"]) == (1797, 115008, 17, 0)
    assert facts["method"] == "dense"
    assert facts["counts"] == [{"value": 0, "count": 56272}, {"value": 16, "count": 10456}]
    np.save("N.npy", np.array([1.5, np.nan, np.nan]))
    facts = json.loads(run("-q", "count-features", "N.npy", "--json").out)
    assert facts["counts"] == [{"value": None, "count": 2}, {"value": 1.5, "count": 1}]
    assert facts["missing"] == 2


def test_columns_repeated_and_negative(run: Run) -> None:
    digits = np.load(DIGITS)
    code, out, _ = run("-q", "count-features", DIGITS, "--column", "3", "--column", "-1", "--top", "2")
    assert code == 0
    assert [row[0] for row in table(out)] == ["3", "3", "63", "63"]
    assert run("-q", "count-features", DIGITS, "--column", "3,-1", "--top", "2").out == out
    one = counts_of(run("-q", "count-features", DIGITS, "--column=-30").out)
    assert one == {str(value): count for value, count in Counter(digits[:, -30].tolist()).items()}
    each = table(run("-q", "count-features", DIGITS, "--each-column", "--sort", "value").out)
    assert each == [
        (str(column), str(value), str(count))
        for column in range(64)
        for value, count in sorted(Counter(digits[:, column].tolist()).items())
    ]


def test_rows_pairs_labels_and_conditions(run: Run) -> None:
    digits, labels = np.load(DIGITS), np.load(LABELS)
    out = run("-q", "count-features", DIGITS, "--pairs", "20,-28", "--top", "1").out
    pair, count = Counter(zip(digits[:, 20].tolist(), digits[:, -28].tolist(), strict=True)).most_common(1)[0]
    assert out == f"x[20],x[36],count\n{pair[0]},{pair[1]},{count}\n"
    out = run("-q", "count-features", DIGITS, "--rows").out
    assert out.count("\n") == 1 + len(np.unique(digits, axis=0))
    out = run("-q", "count-features", DIGITS, "--by", LABELS, "--column", "36", "--sort", "value").out
    wanted = Counter(zip(labels.tolist(), digits[:, 36].tolist(), strict=True))
    assert table(out) == [(str(a), str(b), str(count)) for (a, b), count in sorted(wanted.items())]
    out = run("-q", "count-features", DIGITS, "--where", "x[36] > 10 and x[20] == 0", "--column", "2").out
    kept = digits[(digits[:, 36] > 10) & (digits[:, 20] == 0), 2]
    assert counts_of(out) == {str(value): count for value, count in Counter(kept.tolist()).items()}


def test_labels_beside_the_rows(run: Run) -> None:
    Path("data").mkdir()
    for part in range(2):
        np.save(f"data/x{part}.npy", np.arange(4) % 2)
        np.save(f"data/x{part}-labels.npy", np.full(4, part, "i4"))
    wanted = "label,value,count\n0,0,2\n0,1,2\n1,0,2\n1,1,2\n"
    for files in (["data"], ["data/x0.npy", "data/x1.npy"], ["data/x?.npy"]):
        assert run("-q", "count-features", *files, "--by", "labels").out == wanted
        assert run("-q", "count-features", *files).out == "value,count\n0,4\n1,4\n"
    assert (
        run("-q", "run", "read", "data", "then", "count-features", "--by", "labels", "then", "write", "o.npy").code == 0
    )
    assert np.load("o.npy").tolist() == [[0, 0, 2], [0, 1, 2], [1, 0, 2], [1, 1, 2]]
    code, _, err = run("count-features", DIGITS, "--by", "labels")
    assert code == 3
    assert "digits-labels.npy: no such file" in err


def test_weights(run: Run) -> None:
    np.save("X.npy", np.array([3, 5, 3]))
    np.save("W.npy", np.array([0.5, 2.25, 0.25]))
    assert run("-q", "count-features", "X.npy", "--weights", "W.npy").out == "value,count\n5,2.25\n3,0.75\n"
    np.save("W.npy", np.array([2**40, 7, 1]))
    out = run("-q", "count-features", "X.npy", "--weights", "W.npy", "--normalize", "--cumulative").out
    assert out.splitlines()[1].startswith("3,1099511627777,0.99999")
    np.save("W.npy", np.array([1, -7, 1]))
    code, out, err = run("-q", "count-features", "X.npy", "--weights", "W.npy")
    assert (code, out) == (4, "")
    assert err == "mlpipe: error: W.npy: row 1 weighs -7; weights are finite numbers from 0 on\n"


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("more", [[], ["--each-column"], ["--json"], ["--normalize"], ["--where", "x > 0"]])
def test_empty_arrays_give_an_empty_table(shape: tuple[int, ...], more: list[str], run: Run) -> None:
    np.save("X.npy", np.zeros(shape, "f4"))
    code, out, err = run("-q", "count-features", "X.npy", *more)
    assert (code, err) == (0, "")
    assert (json.loads(out)["counts"] == []) if more == ["--json"] else (out.count("\n") == 1)


def test_several_files_in_their_common_type(run: Run) -> None:
    np.save("a.npy", np.array([1, 2], "i1"))
    np.save("b.npy", np.array([2, 70000], ">i4"))
    np.save("c.npy", np.array([0.5, 2], "f4"))
    np.save("d.npy", np.array([2**60]))
    assert run("-q", "count-features", "a.npy", "b.npy").out == "value,count\n2,2\n1,1\n70000,1\n"
    out = run("-q", "count-features", "a.npy", "c.npy", "-o", "o.npz").out
    assert np.load("o.npz")["value"].dtype == np.float32
    assert out == ""
    code, out, err = run("count-features", "a.npy", "b.npy", "c.npy", "d.npy")
    assert (code, out) == (4, "")
    assert err == (
        "mlpipe: error: d.npy: int64, but float32 in c.npy; no dtype holds the values of both exactly: convert one of "
        "them first\n"
    )
    np.save("e.npy", np.zeros((2, 2), "i1"))
    assert run("count-features", "a.npy", "e.npy").code == 4


def test_directories_patterns_and_order(run: Run) -> None:
    Path("shards").mkdir()
    for number, part in enumerate(np.array_split(np.load(DIGITS), 12)):
        np.save(f"shards/{number}.npy", part)
    whole = run("-q", "count-features", DIGITS, "--pairs", "1,2").out
    for files in (["shards"], ["shards/*.npy"], sorted(map(str, Path("shards").iterdir()))):
        for threads in ("1", "3"):
            assert run("-q", "count-features", *files, "--pairs", "1,2", "--threads", threads).out == whole


def test_stdin(run: Run) -> None:
    content = DIGITS.read_bytes()
    wanted = run("-q", "count-features", DIGITS, "--top", "3").out
    assert piped(content, "--top", "3") == (0, wanted, "")
    assert piped(content, "-", "--top", "3") == (0, wanted, "")
    code, out, err = piped(content[:5000], "--top", "3")
    assert (code, out) == (4, "")
    assert "standard input: ends early: 115008 bytes of shape (1797, 64) were announced" in err
    code, _, err = piped(content, "--bins", "4")
    assert code == 2
    assert "give --edges, or read a file" in err
    assert piped(content, "--edges", "0,8,16")[1] == "low,high,count\n0.0,8.0,77857\n8.0,16.0,37151\n"
    assert piped(content, "-", str(DIGITS))[0] == 2


def test_no_input_at_a_terminal() -> None:
    main, side = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "mlpipe", "count-features"], stdin=side, capture_output=True, check=False, timeout=60
    )
    os.close(main)
    os.close(side)
    assert done.returncode == 2
    assert b"nothing to read: name files, or redirect a .npy file to standard input" in done.stderr


def test_bars_on_a_terminal() -> None:
    main, side = pty.openpty()
    command = [sys.executable, "-m", "mlpipe", "-q", "count-features", str(DIGITS), "--top", "3"]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=side, stderr=side, env=environment)
    os.close(side)
    shown = b""
    try:
        while more := os.read(main, 4096):
            shown += more
    except OSError:  # the terminal is gone with the process
        pass
    assert process.wait(60) == 0
    os.close(main)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r", "").splitlines()
    assert b"\x1b[3" not in shown, "no colours"
    assert lines[0].split() == ["value", "count", "share"]
    assert lines[1].split()[:4] == ["0", "56,272", "48.9", "%"]
    assert lines[1].count("█") > 10 > lines[2].count("█") > 3
    assert lines[-2] == "counted  1,797 rows, 17 distinct, 0 missing"
    assert lines[-1].startswith("method   dense")


@pytest.mark.parametrize("suffix", ["csv", "json", "npz", "npy", "parquet"])
def test_outputs(suffix: str, run: Run) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = Path(f"counts.{suffix}")
    code, out, err = run("count-features", DIGITS, "--column", "3", "-o", path)
    assert (code, out) == (0, "")
    assert err.splitlines()[-1].startswith(f"mlpipe: wrote counts.{suffix}: 17 values; 1,797 rows, 17 distinct, ")
    wanted = Counter(np.load(DIGITS)[:, 3].tolist())
    assert read_back(path) == sorted(wanted.items(), key=lambda one: (-one[1], one[0]))
    code, _, err = run("count-features", DIGITS, "-o", path)
    assert code == 5
    assert "--force" in err
    before = path.read_bytes()
    assert run("-q", "count-features", DIGITS, "--column", "3", "-o", path, "-f").code == 0
    assert path.read_bytes() == before
    assert run("-q", "count-features", "gone.npy", "-o", path, "-f").code == 3
    assert path.read_bytes() == before


def read_back(path: Path) -> list[tuple[int, int]]:
    """Values and counts of a file."""
    if path.suffix == ".csv":
        return [(int(value), int(count)) for value, count in table(path.read_text())]
    if path.suffix == ".json":
        return [(one["value"], one["count"]) for one in json.loads(path.read_text())["counts"]]
    if path.suffix == ".npy":
        return [(value, count) for value, count in np.load(path).tolist()]
    if path.suffix == ".npz":
        found = np.load(path)
        return list(zip(found["value"].tolist(), found["count"].tolist(), strict=True))
    from pyarrow import parquet

    found = parquet.read_table(path).to_pydict()
    return list(zip(found["value"], found["count"], strict=True))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("X.npy --column 3", 4, "count-features --column 3: rows have 3 columns, from 0 to 2, or -3 to -1"),
        ("X.npy --column -4", 4, "count-features --column -4: rows have 3 columns, from 0 to 2, or -3 to -1"),
        ("X.npy --pairs 1", 2, "--pairs 1: give two columns, such as 0,3"),
        ("X.npy --pairs 1,x", 2, "--pairs 1,x: give two columns, such as 0,3"),
        ("X.npy --rows --pairs 0,1", 2, "count-features --rows and --pairs: each says what is counted; give one"),
        ("X.npy --bins 3 --edges 1,2", 2, "count-features --bins and --edges: each says where bins end"),
        ("X.npy --bins many", 2, "--bins many: give a number of bins, or one of auto"),
        ("X.npy --top many", 2, "--top many: give a whole number"),
        ("X.npy --where x.y", 2, "count-features --where 'x.y', column 2: nothing has attributes here"),
        ("X.npy --where x[7]", 4, "count-features --where: x[7], but rows have 3 columns"),
        ("X.npy --cast int8", 4, "count-features --cast int8: row 1 holds 300.0, which int8 cannot"),
        ("X.npy --split", 2, "--split: only a text has words; give --lines FILE.txt, too"),
        ("X.npy --lines a.txt", 2, "--lines a.txt and X.npy: give either a text or arrays"),
        ("--lines a.txt --column 3", 2, "--lines and --column: a text has neither columns nor numbers"),
        ("--lines a.txt --approx", 2, "--lines and --approx"),
        ("--lines gone.txt", 3, "gone.txt: no such file"),
        ("--lines .", 3, ".: a directory"),
        ("X.npy -o - --json", 2, "-o - and --json"),
        ("X.npy -o counts.xlsx", 2, "counts.xlsx: tables are written as .csv, .json, .npz, .npy or .parquet"),
        ("X.npy -o X.npy -f", 5, "X.npy"),
        ("X.npy -o o.csv --report o.csv", 2, "both --report and --output name o.csv"),
        ("X.npy --by gone.npy", 3, "gone.npy: no such file"),
        ("X.npy --by -", 2, "count-features --by -: only rows can come from stdin"),
        ("X.npy --by X.npy", 4, "count-features --by X.npy: shape (2, 3); there must be one value for each row"),
        ("X.npy --memory 1MiB", 7, "a memory ceiling of 1.00 MiB is too small"),
        ("- X.npy", 2, "-: standard input is one array; give no other files beside it"),
        ("X.npy --sort size", 2, "Invalid value for '--sort'"),
        ("C.npy", 4, "complex128 where bool, integers or floats are needed"),
        ("O.npy", 4, "O.npy: dtype '|O': Python objects"),
    ],
)  # fmt: skip
def test_refused_in_one_line(words: str, code: int, message: str, run: Run) -> None:
    np.save("X.npy", np.array([[1.0, 2, 3], [1, 2, 300]]))
    np.save("C.npy", np.ones(3, complex))
    np.save("O.npy", np.array([{}]), allow_pickle=True)
    Path("a.txt").write_text("to be\n")
    before = sorted(os.listdir())
    ended = run("-q", "count-features", *words.split())
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.name.endswith(" text")], ids=lambda case: case.name
)  # of strings, which are counted
def test_malformed_files(case: Malformed, tmp_path: Path, run: Run) -> None:
    path = case.build(tmp_path)
    with case.user():
        code, out, err = run("-q", "count-features", path, "-o", "counts.csv")
    assert (code, out) == (case.exit_code, "")
    assert err.startswith("mlpipe: error: ")
    assert err.count("\n") == 1
    assert not Path("counts.csv").exists()


TEXT = b"to be\nor not\n\nto be\r\nto be\n caf\xc3\xa9\xff \nlast"


def test_lines_and_words(run: Run) -> None:
    Path("a.txt").write_bytes(TEXT)
    out = subprocess.run(
        "LC_ALL=C sort a.txt | LC_ALL=C uniq -c | LC_ALL=C sort -s -k1,1nr", shell=True, capture_output=True, check=True
    ).stdout
    wanted = [(line[8:], line[:7].strip()) for line in out.decode("latin-1").split("\n")[:-1]]
    got = run("-q", "count-features", "--lines", "a.txt", "-o", "lines.npz")
    assert got.code == 0
    facts = json.loads(run("-q", "count-features", "--lines", "a.txt", "-o", "lines.csv", "--json").out)
    assert (facts["rows"], facts["distinct"]) == (7, len(wanted))
    code, csv_out, _ = piped(TEXT, "--lines", "-", "--split", "--sort", "value")
    words = Counter(TEXT.split())
    assert code == 0
    assert csv_out.startswith("word,count\nbe,3\n")
    assert len(table(csv_out)) == len(words)
    assert piped(TEXT, "--lines", "/dev/stdin", "--split", "--sort", "value")[1] == csv_out
    assert piped(b"", "--lines", "-") == (0, "line,count\n", "")


def test_dry_run_reads_headers_only(run: Run) -> None:
    header = DIGITS.read_bytes()[:128]
    Path("X.npy").write_bytes(header)
    os.truncate("X.npy", DIGITS.stat().st_size)
    before = os.stat("X.npy").st_atime_ns
    code, out, err = run("count-features", "X.npy", "-n", "--memory", "512MiB", "--bins", "5", "--temp-dir", ".")
    assert (code, err) == (0, "")
    assert "bins, edges learned from all values first" in out
    assert "passes over the source     2" in out
    plan = json.loads(run("count-features", "X.npy", "-n", "--json", "-o", "o.csv").out)
    [stage] = plan["stages"]
    assert stage["method"] == "chosen by the first rows: dense, table or partitions"
    assert stage["temporary_files"] == "."
    assert plan["bytes_held"] <= plan["memory_ceiling"]
    assert not Path("o.csv").exists()
    assert os.stat("X.npy").st_atime_ns >= before


def test_report(run: Run) -> None:
    assert run("-q", "count-features", DIGITS, "--report", "r.json", "-o", "counts.csv").code == 0
    record = json.loads(Path("r.json").read_text())
    assert record["status"] == "done"
    assert record["result"]["distinct"] == 17
    assert record["result"]["output"] == "counts.csv"
    assert [stage["name"] for stage in record["stages"]] == ["read", "count-features", "write"]


def test_a_file_that_changes_meanwhile_leaves_no_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("X.npy", np.arange(10))

    def finished(*arguments: Any) -> Any:
        np.save("X.npy", np.arange(11))
        return real(*arguments)

    real = counting.finished
    monkeypatch.setattr(counting, "finished", finished)
    code, out, err = run("-q", "count-features", "X.npy", "-o", "o.csv")
    assert (code, out) == (4, "")
    assert "X.npy: " in err
    assert not Path("o.csv").exists()


def test_approx(run: Run) -> None:
    pytest.importorskip("datasketches")
    facts = json.loads(run("-q", "count-features", DIGITS, "--approx", "--top", "1", "--json").out)
    assert facts["counts"] == [{"value": 0, "count": 56272}]
    assert facts["distinct_low"] <= 17 <= facts["distinct_high"]
    assert facts["count_error"] == 0


def test_in_python() -> None:
    chain = mlpipe.read(DIGITS).count_features(top=2)
    assert [block.tolist() for block in chain] == [[[0, 56272], [16, 10456]]]
