"""Rows of different lengths in files, as NumPy and SciPy read them."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.errors import OutputError, UsageError
from mlpipe.link import Labels, Spec
from mlpipe.opening import Opening
from mlpipe.writers import sparse
from mlpipe.writers.forms import arrays_form
from mlpipe.writers.sparse import NAMES, CsrSink, SparseRows

SPEC = Spec(None, (), np.dtype("f4"), Labels((), np.dtype("i8")))
INDPTR, INDICES = [0, 0, 2, 2, 5, 5], [7, 1, 3, 3, 0]
DISTANCES = [0.0, 0.5, 1e-20, 2.0, np.inf]


def write(path: Path | str, force: bool = False) -> None:
    """The same matrix in pieces, of which one ends within a row."""
    opening = Opening(ExitStack(), force)
    if path != "-":
        opening.ends(str(path).rstrip("/"), "--output")
    sink = CsrSink(str(path), 9, opening)
    sink.check(SPEC)
    with sink.open(SPEC) as writing:
        for start, stop, ends in ((0, 0, [0]), (0, 4, [2, 2]), (4, 5, [5, 5])):
            values, indices = np.array(DISTANCES[start:stop], "f4"), np.array(INDICES[start:stop], np.int64)
            writing.write(SparseRows(start, values, labels=indices, ends=np.array(ends)))
        writing.sync()
    assert (sink.rows, sink.entries) == (5, 5)


def test_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "near", f"{tmp_path}/other/"):
        write(path)
        arrays = [np.load(Path(path) / f"{name}.npy") for name in NAMES]
        assert [array.dtype for array in arrays] == [np.int64, np.int64, np.float32]
        for array, expected in zip(arrays, (INDPTR, INDICES, DISTANCES), strict=True):
            np.testing.assert_array_equal(array, np.array(expected, array.dtype))
    with pytest.raises(OutputError, match=r"indptr\.npy: exists; use --force"):
        write(tmp_path / "near")
    (tmp_path / "near" / "more").touch()
    (tmp_path / "near" / "indices.npy").unlink()
    write(tmp_path / "near", force=True)
    assert sorted(os.listdir(tmp_path / "near")) == ["distances.npy", "indices.npy", "indptr.npy", "more"]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="exists and is no directory"):
        write(tmp_path / "file")


def test_an_archive_that_scipy_reads(tmp_path: Path) -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    write(tmp_path / "near.npz")
    first = (tmp_path / "near.npz").read_bytes()
    matrix = scipy_sparse.load_npz(tmp_path / "near.npz")
    assert matrix.shape == (5, 9)
    assert matrix.format == "csr"
    np.testing.assert_array_equal(matrix.indptr, INDPTR)
    np.testing.assert_array_equal(matrix.indices, INDICES)
    np.testing.assert_array_equal(matrix.data, np.array(DISTANCES, "f4"))
    with np.load(tmp_path / "near.npz") as archive:
        assert sorted(archive) == ["data", "format", "indices", "indptr", "shape"]
        assert archive["indices"].dtype == np.int64
    with pytest.raises(OutputError, match="exists"):
        write(tmp_path / "near.npz")
    write(tmp_path / "near.npz", force=True)
    assert (tmp_path / "near.npz").read_bytes() == first
    assert os.listdir(tmp_path) == ["near.npz"]


@pytest.mark.parametrize("pairs", [1, 2, 1000])
def test_pairs(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse, "_PIECE_PAIRS", pairs)
    write(tmp_path / "near.csv")
    text = (tmp_path / "near.csv").read_text()
    assert text.splitlines() == [
        "query,neighbour,distance", "1,7,0.0", "1,1,0.5", "3,3,1e-20", "3,3,2.0", "3,0,inf"
    ]  # fmt: skip
    rows = np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1)
    assert rows[:, 1].tolist() == INDICES


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    for name in ("near", "near.npz", "near.csv"):
        sink = CsrSink(str(tmp_path / name), 9, Opening(ExitStack()))
        with pytest.raises(ValueError, match="entry 3 comes where 0 is next"), sink.open(SPEC) as writing:
            writing.write(SparseRows(3, np.zeros(0, "f4"), labels=np.zeros(0, np.int64)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("path", "form"), [("-", "csv"), ("x.csv", "csv"), ("x.NPZ", "npz"), ("x", "directory")])
def test_forms(path: str, form: str) -> None:
    assert arrays_form(path, "three") == form
    assert arrays_form("x.npz/", "three") == "directory"
    with pytest.raises(UsageError, match=r"three arrays do not fit into a \.npy file"):
        arrays_form("x.npy", "three")


@pytest.mark.parametrize("name", ["near.txt", "near.JSON", "v1.2/near.parquet", ".near.gz"])
def test_files_of_other_kinds_are_no_directories(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(UsageError, match=r"cannot be written; give a directory \(.*/\), a \.npz, \.csv or -"):
        CsrSink(str(path), 9, Opening(ExitStack()))
    assert arrays_form(f"{path}/", "three") == "directory"
    path.mkdir(parents=True)
    assert arrays_form(str(path), "three") == "directory"


def test_no_rows(tmp_path: Path) -> None:
    path: Any = tmp_path / "none.npz"
    with CsrSink(str(path), 0, Opening(ExitStack())).open(SPEC):
        pass
    with np.load(path) as archive:
        assert archive["indptr"].tolist() == [0]
        assert archive["shape"].tolist() == [0, 0]
        assert archive["format"].item() == b"csr"
