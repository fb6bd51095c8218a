"""Directories of shards, labels beside rows or among them, and outputs of unknown size."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpipe
from mlpipe.errors import InputError, OutputError, UsageError
from mlpipe.link import Block, Labels, Sink, Spec
from mlpipe.writers import columns
from mlpipe.writers.columns import LabelColumnSink
from mlpipe.writers.npy import NpySink, StreamSink
from mlpipe.writers.shards import ShardsSink
from mlpipe.writers.write import Write

X = np.arange(23 * 5, dtype="f4").reshape(23, 5)
Y = np.arange(23, dtype="i8") % 7


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        yield


@pytest.fixture(autouse=True)
def _no_descriptor_leaks() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def spec_of(x: np.ndarray, y: np.ndarray | None = None, known: bool = True) -> Spec:
    labels = None if y is None else Labels(y.shape[1:], y.dtype)
    return Spec(len(x) if known else None, x.shape[1:], x.dtype, labels)


def store(sink: Sink, x: np.ndarray, y: np.ndarray | None = None, block: int = 4, known: bool = True) -> None:
    spec = spec_of(x, y, known)
    sink.check(spec)
    with sink.open(spec) as writing:
        for start in range(0, len(x), block):
            labels = None if y is None else y[start : start + block]
            writing.write(Block(start, x[start : start + block], labels=labels))
        writing.sync()
    assert sink.rows == len(x)  # type: ignore[attr-defined]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_manifest(folder: Path, rows: int, labelled: bool) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["rows"] == sum(shard["rows"] for shard in manifest["shards"]) == rows
    listed = [part for shard in manifest["shards"] for part in ([shard, shard["labels"]] if labelled else [shard])]
    assert sorted(os.listdir(folder)) == sorted(["manifest.json", *(part["file"] for part in listed)])
    for part in listed:
        raw = (folder / part["file"]).read_bytes()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (part["bytes"], part["sha256"])
        assert np.load(folder / part["file"]).shape[0] == part["rows"]


@pytest.mark.parametrize("per_shard", [1, 4, 5, 22, 23, 24, 1000, None])
@pytest.mark.parametrize("labelled", [False, True])
def test_shards(tmp_path: Path, per_shard: int | None, labelled: bool) -> None:
    y = Y if labelled else None
    store(ShardsSink(tmp_path / "a", per_shard), X, y)
    store(ShardsSink(tmp_path / "b/", per_shard), X, y, block=7, known=False)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    check_manifest(tmp_path / "a", 23, labelled)
    batches: list[Any] = list(mlpipe.read(tmp_path / "a"))
    if labelled:
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), Y)
        batches = [rows for rows, _ in batches]
    np.testing.assert_array_equal(np.concatenate(batches), X)


@pytest.mark.parametrize("shape", [(0, 3), (5,), (5, 2, 2), (5, 0)])
@pytest.mark.parametrize("known", [True, False])
def test_shards_of_any_shape(tmp_path: Path, shape: tuple[int, ...], known: bool) -> None:
    x = np.arange(np.prod(shape), dtype="i2").reshape(shape)
    store(ShardsSink(tmp_path / "out", 3), x, np.zeros((len(x), 2), "u1"), known=known)
    check_manifest(tmp_path / "out", len(x), labelled=True)
    shards = [np.load(path) for path in sorted((tmp_path / "out").glob("shard-0000?.npy"))]
    np.testing.assert_array_equal(np.concatenate(shards), x)


def test_the_default_is_a_shard_of_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpipe.writers.shards.SHARD_BYTES", 45)
    store(ShardsSink(tmp_path / "out"), X)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["rows_per_shard"] == 2


@pytest.mark.parametrize(
    ("y", "block", "message"),
    [
        (None, Block(4, X[4:]), "row 4, column 0 comes where row 0"),
        (None, Block(0, X[:, :2]), "rows of shape"),
        (None, Block(0, X.astype("f8")), "float64"),
        (Y, Block(0, X), "without their labels"),
        (None, Block(0, X[:4]), "only 4 of 23 rows"),
    ],
)
def test_rows_that_do_not_fit_or_are_missing_are_a_bug(
    tmp_path: Path, y: np.ndarray | None, block: Block, message: str
) -> None:
    sink = ShardsSink(tmp_path / "out")
    with pytest.raises((ValueError, RuntimeError), match=message), sink.open(spec_of(X, y)) as writing:
        writing.write(block)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("y", [Y, np.ones((23, 3), "f8")])
def test_labels_in_a_file_beside(tmp_path: Path, y: np.ndarray, known: bool) -> None:
    store(NpySink(tmp_path / "out.npy"), X, y, known=known)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), X)
    np.testing.assert_array_equal(np.load(tmp_path / "out-labels.npy"), y)
    assert len(os.listdir(tmp_path)) == 2
    np.save(tmp_path / "wanted.npy", X)
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "wanted.npy").read_bytes()


def test_labels_that_exist_are_refused_and_stay(tmp_path: Path) -> None:
    (tmp_path / "out-labels.npy").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"out-labels\.npy: exists"):
        NpySink(tmp_path / "out.npy").check(spec_of(X, Y))
    NpySink(tmp_path / "out.npy").check(spec_of(X))
    store(NpySink(tmp_path / "out.npy", force=True), X, Y)
    np.testing.assert_array_equal(np.load(tmp_path / "out-labels.npy"), Y)


@pytest.mark.parametrize("scratch", [1, 60, 1 << 20])
@pytest.mark.parametrize("known", [True, False])
def test_labels_as_the_last_column(tmp_path: Path, scratch: int, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SCRATCH_BYTES", scratch)
    store(LabelColumnSink(NpySink(tmp_path / "out.npy")), X, Y, known=known)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.column_stack([X, Y]))
    store(LabelColumnSink(NpySink(tmp_path / "plain.npy")), X, known=known)
    np.testing.assert_array_equal(np.load(tmp_path / "plain.npy"), X)
    assert sorted(os.listdir(tmp_path)) == ["out.npy", "plain.npy"]


INTEGERS = [0, 1, -1, 127, 128, 255, 256, 2048, 2049, 2**24, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 0.5, 1.0, -1.0, 255.0, 256.0, 65504.0, 1e10, 2.0**63, 2.0**64, -(2.0**63), 1e300, np.inf, np.nan]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["i8", "f8", "f4", "u8", "?"]),
    st.sampled_from(["?", "i1", "u1", "i8", "u8", "f2", "f4", "f8"]),
    st.lists(st.integers(0, 14), min_size=1, max_size=3),
)
def test_a_label_is_kept_exactly_or_refused(kind: str, into: str, places: list[int]) -> None:
    with np.errstate(all="ignore"):
        labels = np.array([(FLOATS if kind[0] == "f" else INTEGERS)[place] for place in places]).astype(kind)
        cast = labels.astype(into)
    out = np.empty(len(labels), into)
    fitting = [_same(a, b) for a, b in zip(labels, cast, strict=True)]
    try:
        columns._convert(labels, out, 10)
    except InputError as error:
        row = int(str(error).split(" of row ")[1].split()[0]) - 10
        assert not fitting[row] or abs(int(labels[row])) >= 2**63
    else:
        assert all(map(_same, labels, out))


def _same(a: Any, b: Any) -> bool:
    """Whether two NumPy scalars are the same number, compared as Python's, which is exact."""
    a, b = a.item(), b.item()
    return a == b or (a != a and b != b)


def test_labels_that_do_not_fit_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label 300 of row 22 is no uint8 value; use --labels files"):
        store(LabelColumnSink(NpySink(tmp_path / "out.npy")), X.astype("u1"), np.append(Y[:22], 300))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("x", "y"), [(X[:, 0], Y), (X.reshape(23, 5, 1), Y), (X, X)])
def test_rows_that_cannot_have_one_more_column(tmp_path: Path, x: np.ndarray, y: np.ndarray) -> None:
    with pytest.raises(InputError, match="takes rows of one axis with one label each"):
        LabelColumnSink(NpySink(tmp_path / "out.npy")).check(spec_of(x, y))


@pytest.mark.parametrize("sink", [NpySink("x.npy"), ShardsSink("x"), StreamSink(1), LabelColumnSink(NpySink("x.npy"))])
def test_rows_that_never_end_are_refused(sink: Sink) -> None:
    with pytest.raises(UsageError, match="the rows never end"):
        sink.check(replace(spec_of(X, known=False), endless=True))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", [(0, 3), (23, 5), (7,), (3, 0)])
def test_a_pipe_gets_the_bytes_of_numpy(tmp_path: Path, shape: tuple[int, ...], known: bool) -> None:
    x = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    np.save(tmp_path / "wanted.npy", x)
    with (tmp_path / "out.npy").open("wb") as file:
        store(StreamSink(file), x, known=known)
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "wanted.npy").read_bytes()


def test_a_pipe_of_unknown_length_gets_nothing_before_all_is_there() -> None:
    out, into = os.pipe()
    os.set_blocking(out, False)
    with pytest.raises(KeyError), StreamSink(into).open(spec_of(X, known=False)) as writing:  # noqa: PT012 - within
        writing.write(Block(0, X))
        raise KeyError
    with pytest.raises(BlockingIOError):
        os.read(out, 1)
    os.close(out)
    os.close(into)


def test_a_pipe_takes_one_array() -> None:
    with pytest.raises(UsageError, match="holds one array; add --labels column"):
        StreamSink(1).check(spec_of(X, Y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows_per_shard": 0}, "--rows-per-shard 0: give 1 or more"),
        ({"path": "-", "rows_per_shard": 5}, "stdout is one array"),
        ({"labels": "rows"}, "--labels rows: give files or column"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Write(**{"path": "out", **options})


@pytest.mark.parametrize("known", [True, False])
def test_a_disk_that_fills_up(tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk takes root's privileges")
    try:
        monkeypatch.setattr("mlpipe.writers.target.check_room", lambda *_: None)
        big = np.zeros((4000, 100), "f4")
        for sink in (ShardsSink(disk / "out", 100), NpySink(disk / "out.npy")):
            with pytest.raises(OutputError, match=r"out.*: cannot be written: no space left on device"):
                store(sink, big, np.zeros(4000, "i8"), 100, known)
            assert os.listdir(disk) == []
        with pytest.MonkeyPatch.context() as patch, (tmp_path / "pipe").open("wb") as file:
            patch.setattr("tempfile.tempdir", str(disk))
            with pytest.raises(OutputError, match=r"temporary files in .*disk: .*no space left"):
                store(StreamSink(file), big, None, 100, known=False)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
