"""Tables in files of every form: what they hold reads back, and they are there whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mlpipe.counting.columns import Column, Text, take
from mlpipe.counting.table import Table, table_of
from mlpipe.errors import OutputError, UsageError
from mlpipe.opening import Opening
from mlpipe.workers import Workers
from mlpipe.writers import parquet, tables
from mlpipe.writers.archives import common_dtype
from mlpipe.writers.rows import chunks, regrouped
from mlpipe.writers.tables import check_table, form_of, write_table

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=60)
DISK_BYTES = 1 << 20
FORMS = (".csv", ".json", ".npz", ".npy", ".parquet")
WORDS = Text.of([b"plain", b"", b'say "no", twice', b"two\nlines", b"caf\xc3\xa9", b"\xff", b"\r"])


@pytest.fixture
def opening() -> Iterator[Opening]:
    with ExitStack() as files:
        yield Opening(files)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk takes root's privileges")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _table(columns: dict[str, Column], piece: int = 3, rows: bool = True) -> Table:
    """A table in pieces."""
    whole = table_of(columns)
    [parts] = whole.pieces
    size = whole.rows or 0
    pieces = (
        tuple(take(part, slice(start, start + piece)).copy() for part in parts) for start in range(0, size, piece)
    )
    return Table(whole.names, whole.dtypes, whole.rows if rows else None, pieces)


def _counts(size: int) -> dict[str, Column]:
    return {"value": np.arange(size) * 3 - 5, "count": np.arange(size, 0, -1)}


def _columns() -> dict[str, Column]:
    """One of each kind."""
    kinds = {f"{kind}": np.arange(7).astype(kind) for kind in ("u1", "i2", "i4", "u8", "f2", "f4", "f8")}
    kinds["f4"][:3] = np.nan, np.inf, -0.0
    return {**kinds, "?": np.arange(7) % 2 == 0, "S": np.array([b"a", b"", b"bc"] * 2 + [b"d"]),
            "U": np.array(["ä", "", "bc"] * 2 + ["d"]), "text": WORDS}  # fmt: skip


def test_csv_reads_back(tmp_path, opening):
    path = tmp_path / "t.csv"
    assert write_table(_table(_columns()), str(path), opening) == 7
    content = path.read_bytes().replace(b"\xff", b"?")
    head, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert head == list(_columns())
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    assert columns["f4"] == ("nan", "inf", "-0.0", "3.0", "4.0", "5.0", "6.0")
    assert columns["?"][:2] == ("True", "False")
    assert columns["U"] == ("ä", "", "bc", "ä", "", "bc", "d")
    assert [word.encode() for word in columns["text"]] == [word.replace(b"\xff", b"?") for word in WORDS.tolist()]
    assert columns["u8"] == tuple(map(str, range(7)))


def test_json_reads_back(tmp_path, opening):
    path = tmp_path / "t.json"
    facts = {"rows": 9, "missing": np.int64(2), "share": math.nan, "method": 'a "word"', "edges": [1, math.inf]}
    assert write_table(_table(_columns()), str(path), opening, facts=facts) == 7
    found = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    rows = found.pop("counts")
    assert found == {"schema_version": 1, "rows": 9, "missing": 2, "share": None, "method": 'a "word"',
                     "edges": [1, None]}  # fmt: skip
    assert list(rows[0]) == list(_columns())
    assert [row["f4"] for row in rows] == [None, None, 0, 3, 4, 5, 6]
    assert [row["?"] for row in rows[:2]] == [True, False]
    assert [row["text"] for row in rows] == [w.decode("utf-8", "backslashreplace") for w in WORDS.tolist()]
    assert [row["U"] for row in rows[:3]] == ["ä", "", "bc"]
    assert [row["u8"] for row in rows] == list(range(7))


def test_npz_reads_back(tmp_path, opening):
    path = tmp_path / "t.npz"
    assert write_table(_table(_columns()), str(path), opening) == 7
    with np.load(path) as archive:
        assert list(archive) == list(_columns())
        for name, column in _columns().items():
            expected = np.array(column.tolist()) if isinstance(column, Text) else column
            assert archive[name].dtype == expected.dtype
            np.testing.assert_array_equal(archive[name], expected)


def test_parquet_reads_back(tmp_path, opening):
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    assert write_table(_table(_columns()), str(path), opening) == 7
    with pq.ParquetFile(path) as file:
        read = file.read()
    for name, column in _columns().items():
        values = read[name].to_pylist()
        assert np.array_equal(np.array(values), np.array(column.tolist()), equal_nan=name == "f4")
    assert read.schema.field("u1").type == "uint8"
    assert read.schema.field("f4").type == "float"


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("size", [0, 1, 10, 70_000])
def test_npy_reads_back(tmp_path, opening, size, rows):
    path = tmp_path / "t.npy"
    columns = _counts(size)
    assert write_table(_table(columns, 30_011, rows), str(path), opening) == size
    whole = np.column_stack(list(columns.values()))
    expected = io.BytesIO()
    np.save(expected, whole)
    assert path.read_bytes() == expected.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_bytes_depend_neither_on_pieces_nor_on_threads(tmp_path, opening, form):
    if form == ".parquet":
        pytest.importorskip("pyarrow")
    size = parquet.GROUP_CELLS // 2 + 5
    columns = _counts(size) if form == ".npy" else {"text": Text.of(b"%d" % n for n in range(size)), **_counts(size)}
    found = set()
    with Workers(3) as threads:
        for piece, known, workers in ((size, True, None), (9_973, False, threads)):
            path = tmp_path / f"{piece}{form}"
            table = _table(columns, piece, known)
            assert write_table(table, str(path), opening, facts={"rows": 1}, workers=workers) == size
            found.add(path.read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_table_is_a_file_like_any_other(tmp_path, opening, form):
    path = str(tmp_path / f"empty{form}")
    if form == ".parquet":
        pytest.importorskip("pyarrow")
    dtypes = (np.dtype("f4"), np.dtype("i8"))
    assert write_table(Table(("value", "count"), dtypes, 0, iter(())), path, opening, facts={"rows": 0}) == 0
    if form == ".csv":
        assert Path(path).read_text() == "value,count\n"
    elif form == ".json":
        assert json.loads(Path(path).read_text()) == {"schema_version": 1, "rows": 0, "counts": []}
    elif form == ".npy":
        assert np.load(path).shape == (0, 2)
    elif form == ".npz":
        assert np.load(path)["value"].dtype == np.dtype("f4")


@FIXED
@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 30))
def test_chunks_are_bounded(sizes, rows, nbytes):
    text = Text.of([b"x" * size for size in sizes])
    parts = list(chunks((np.arange(len(sizes)), text), 2 * rows, nbytes))
    assert [string for part in parts for string in part[1].tolist()] == text.tolist()
    assert [number for part in parts for number in part[0].tolist()] == list(range(len(sizes)))
    for part in parts:
        held = [len(string) for string in part[1].tolist()]
        assert 1 <= len(held) <= rows
        assert sum(held) <= nbytes or len(held) == 1


@FIXED
@given(st.lists(st.integers(0, 12), max_size=40), st.integers(1, 9), st.integers(1, 30), st.integers(1, 9))
def test_groups_do_not_depend_on_pieces(sizes, rows, nbytes, piece):
    columns = {
        "a": Text.of([b"x" * size for size in sizes]),
        "b": np.arange(len(sizes)),
        "c": Text.of([b"y"] * len(sizes)),
    }
    found = [
        [[column.tolist() for column in group] for group in regrouped(_table(columns, some).pieces, rows, nbytes)]
        for some in (piece, 100)
    ]
    assert found[0] == found[1]
    assert [number for group in found[0] for number in group[1]] == list(range(len(sizes)))
    for group in found[0]:
        assert len(group[0]) <= rows
        assert sum(map(len, group[0] + group[2])) <= nbytes or len(group[0]) == 1


DTYPES = st.sampled_from(["?", "i1", "u1", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]).map(np.dtype)


@given(st.lists(DTYPES, min_size=1, max_size=3), st.sampled_from(["i8", "f8"]))
def test_a_common_dtype_holds_every_value(keys, counts):
    names = (*(f"x{n}" for n in range(len(keys))), "count")
    common = common_dtype(names, (*keys, np.dtype(counts)))
    if common is not None:
        for key in keys:
            if key.kind in "iu":
                limits = np.iinfo(key)
                ends = np.array([limits.min, limits.max], key)
                assert ends.astype(common).tolist() == ends.tolist()
            elif key.kind == "f":
                assert common == np.float64


def test_what_has_no_common_dtype_is_refused_before_there_is_anything(tmp_path, opening):
    path = str(tmp_path / "t.npy")
    with pytest.raises(UsageError, match=r"t\.npy: one array .*value text, count int64 have none.*write \.npz"):
        check_table(path, opening, ("value", "count"), (None, np.dtype("i8")))
    with pytest.raises(UsageError, match="value int64, count int64, share float64 have none"):
        write_table(_table({**_counts(2), "share": np.zeros(2)}), path, opening)
    table = _table({"value": np.array([0.5]), "count": np.array([2**53 + 1])})
    with pytest.raises(OutputError, match=r"count 9007199254740993 is beyond 2\*\*53"):
        write_table(table, path, opening)
    assert os.listdir(tmp_path) == []


def test_the_form_is_that_of_the_name(tmp_path, opening):
    assert [form_of(name) for name in ("a.CSV", "-", "b.x.npz")] == [".csv", ".csv", ".npz"]
    with pytest.raises(UsageError, match=r"t\.txt: tables are written as \.csv, \.json, \.npz, \.npy or \.parquet"):
        write_table(_table(_counts(2)), str(tmp_path / "t.txt"), opening)
    with pytest.raises(UsageError, match="t: tables are"):
        check_table("t", opening)
    with pytest.raises(UsageError, match=r"- \.npy: tables go to stdout as \.csv or \.json"):
        check_table("-", opening, form=".npy")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_there_stays_unless_forced(tmp_path, form):
    if form == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"t{form}"
    path.write_bytes(b"old")
    with ExitStack() as files:
        with pytest.raises(OutputError, match="exists; use --force"):
            check_table(str(path), Opening(files))
        with pytest.raises(OutputError, match="exists; use --force"):
            write_table(_table(_counts(3)), str(path), Opening(files))
        forced = Opening(files, force=True)
        forced.inputs.append(path.stat())
        with pytest.raises(OutputError, match="also an input"):
            write_table(_table(_counts(3)), str(path), forced)
        assert path.read_bytes() == b"old"
        write_table(_table(_counts(3)), str(path), Opening(files, force=True))
    assert path.read_bytes() != b"old"


@pytest.mark.parametrize("form", FORMS)
def test_an_error_on_the_way_leaves_nothing(tmp_path, opening, form):
    if form == ".parquet":
        pytest.importorskip("pyarrow")

    def pieces() -> Iterator[tuple[Column, ...]]:
        yield np.arange(100_000), np.arange(100_000)
        raise OSError("the disk of the counter is gone")

    table = Table(("value", "count"), (np.dtype("i8"),) * 2, None, pieces())
    with pytest.raises(OSError, match="is gone"):
        write_table(table, str(tmp_path / f"t{form}"), opening)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk, opening, form):
    if form == ".parquet":
        pytest.importorskip("pyarrow")
    values = np.random.default_rng(0).integers(0, 2**62, 200_000)
    path = small_disk / f"t{form}"
    with pytest.raises(OutputError, match="no space left on device; free some space") as caught:
        write_table(_table({"value": values, "count": values}, 50_000), str(path), opening, directory=str(small_disk))
    assert "\n" not in str(caught.value)
    assert os.listdir(small_disk) == []


def test_text_that_an_archive_cannot_hold_is_refused(tmp_path, opening):
    table = _table({"line": Text.of([b"a\0"]), "count": np.ones(1, int)})
    with pytest.raises(OutputError, match="ends with a NUL byte"):
        write_table(table, str(tmp_path / "t.npz"), opening)
    assert os.listdir(tmp_path) == []


def test_without_pyarrow_other_forms_are_named(tmp_path, opening, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"takes pyarrow: pip install 'mlpipe\[parquet\]', or write \.csv"):
        check_table(str(tmp_path / "t.parquet"), opening)


@pytest.mark.parametrize("form", [None, ".json"])
def test_stdout_gets_the_bytes_of_the_file(tmp_path, opening, capfdbinary, form):
    path = tmp_path / f"t{form or '.csv'}"
    write_table(_table(_columns()), str(path), opening)
    write_table(_table(_columns()), "-", opening, form=form)
    assert capfdbinary.readouterr().out == path.read_bytes()


def test_stdout_that_is_no_file_gets_text(opening, capsys):
    write_table(_table({"value": Text.of([b"\xff"]), "count": np.ones(1, int)}), "-", opening)
    assert capsys.readouterr().out == "value,count\n\\xff,1\n"


def test_a_reader_that_goes_away_is_one_line(opening):
    code = (
        "import numpy as np; from contextlib import ExitStack; from mlpipe.opening import Opening;"
        "from mlpipe.counting.table import table_of; from mlpipe.writers.tables import write_table;"
        "write_table(table_of({'count': np.arange(10**6)}), '-', Opening(ExitStack()))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert errors.splitlines()[-1] == (
        "mlpipe.errors.OutputError: standard output: closed by its reader before all was written"
    )


def test_names_are_quoted_like_values(tmp_path, opening):
    columns = {'a "b", c': np.ones(1, int), "count": np.ones(1, int)}
    write_table(_table(columns), str(tmp_path / "t.csv"), opening)
    assert (tmp_path / "t.csv").read_text() == '"a ""b"", c",count\n1,1\n'
    write_table(_table(columns), str(tmp_path / "t.json"), opening, label="rows")
    assert json.loads((tmp_path / "t.json").read_text())["rows"] == [{'a "b", c': 1, "count": 1}]


def test_a_table_is_closed_when_it_cannot_be_written(tmp_path, opening):
    closed = []

    def pieces() -> Iterator[tuple[Column, ...]]:
        try:
            yield np.arange(3), np.arange(3)
        finally:
            closed.append(True)

    source = pieces()
    next(source)
    (tmp_path / "t.csv").touch()
    with pytest.raises(OutputError):
        tables.write_table(Table(("a", "count"), (np.dtype("i8"),) * 2, 3, source), str(tmp_path / "t.csv"), opening)
    assert closed == [True]
