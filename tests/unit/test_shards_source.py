"""Many files as one source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from mlpipe.errors import InputError, InputMissingError, MlpipeError
from mlpipe.opening import Opening
from mlpipe.readers import shards
from mlpipe.readers.shards import ShardsSource, open_common
from tests.malformed import CASES, Malformed

WHOLE = np.arange(23 * 5, dtype="f4").reshape(23, 5)
CUTS = [4, 4, 5, 15]  # one file without rows, one with a single row


@pytest.fixture(autouse=True)
def _no_descriptor_leaks() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def store(folder: Path, array: np.ndarray, cuts: list[int], *kinds: str) -> list[Path]:
    """Parts of an array in files, in turns as kinds of storage: C, F or a byte order."""
    paths = []
    for place, part in enumerate(np.split(array, cuts)):
        kind = kinds[place % len(kinds)] if kinds else "C"
        if kind in "<>":
            part = part.astype(part.dtype.newbyteorder(kind))
        part = np.asfortranarray(part) if kind == "F" else part
        path = folder / f"s{place}.npy"
        np.save(path, part)
        paths.append(path)
    return paths


def rows_of(source: ShardsSource, start: int, stop: int, dtype: str = "f4") -> np.ndarray:
    out = np.empty((stop - start, *source.spec.row_shape), dtype)
    source.read_rows(start, out)
    return out


KINDS = [("C",), ("F",), (">",), ("C", "F"), ("<", ">"), ("F", ">", "C")]


@pytest.mark.parametrize("kinds", KINDS)
def test_any_rows_are_those_of_the_whole(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    with ShardsSource(store(tmp_path, WHOLE, CUTS, *kinds)) as source:
        assert (source.spec.rows, source.spec.row_shape) == (23, (5,))
        for start in range(24):
            for stop in range(start, 24):
                np.testing.assert_array_equal(rows_of(source, start, stop), WHOLE[start:stop])
        np.testing.assert_array_equal(rows_of(source, 2, 20, "i8"), WHOLE[2:20])
        source.check_unchanged()


@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8"])
@pytest.mark.parametrize("kinds", KINDS)
def test_rows_in_any_order(tmp_path: Path, kinds: tuple[str, ...], dtype: str) -> None:
    rows = np.random.default_rng(1).integers(0, 23, 100)
    out = np.empty((100, 5), dtype)
    with ShardsSource(store(tmp_path, WHOLE, CUTS, *kinds)) as source:
        source.gather(rows, out)
        source.gather(rows[:0], out[:0])
        with pytest.raises(IndexError):
            source.gather(np.array([3, 23]), out[:2])
        with pytest.raises(IndexError):
            source.read_rows(22, out[:2])
        with pytest.raises(ValueError, match="C-contiguous"):
            source.gather(rows, out.T)
    np.testing.assert_array_equal(out, WHOLE[rows])


@pytest.mark.parametrize("shape", [(9,), (9, 2, 3), (9, 0), (0, 3)])
def test_rows_of_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    whole = np.arange(np.prod(shape), dtype="i2").reshape(shape)
    with ShardsSource(store(tmp_path, whole, [min(4, len(whole))])) as source:
        np.testing.assert_array_equal(rows_of(source, 0, len(whole), "i2"), whole)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.zeros((2, 4), "f4"), r"b\.npy: rows of shape \(4,\), but \(5,\) in .*a\.npy; files that are read together"),
        (np.zeros((2, 5, 1), "f4"), r"b\.npy: rows of shape \(5, 1\), but \(5,\) in .*a\.npy"),
        (np.zeros((2, 5), "f8"), r"b\.npy: float64, but float32 in .*a\.npy"),
        (np.zeros((0, 4), "f4"), r"b\.npy: rows of shape \(4,\)"),
    ],
)
def test_files_that_differ(tmp_path: Path, other: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", WHOLE)
    np.save(tmp_path / "b.npy", other)
    with pytest.raises(InputError, match=message):
        ShardsSource([tmp_path / "a.npy", tmp_path / "b.npy"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_malformed_file_among_others(case: Malformed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if case.unprivileged:
        tmp_path.chmod(0o777)
    np.save("good.npy", np.zeros((3, 2), "f4"))
    bad = case.build(tmp_path)
    with case.user(), pytest.raises(MlpipeError) as caught:
        ShardsSource(["good.npy", bad])
    assert caught.value.exit_code == case.exit_code
    assert all(word in str(caught.value) for word in case.words)
    assert "\n" not in str(caught.value)


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "OPEN_FILES", 3)
    whole = np.arange(100)
    paths = store(tmp_path, whole, list(range(1, 100)))
    before = len(os.listdir("/proc/self/fd"))
    with ShardsSource(paths) as source:
        assert len(os.listdir("/proc/self/fd")) == before
        for start in (0, 50, 7):
            np.testing.assert_array_equal(rows_of(source, start, 100, "i8"), whole[start:])
            assert len(os.listdir("/proc/self/fd")) == before + 3
        out = np.empty(100, "i8")
        source.gather(np.arange(100)[::-1].copy(), out)
        np.testing.assert_array_equal(out, whole[::-1])
        assert len(os.listdir("/proc/self/fd")) <= before + 3
    with pytest.raises(ValueError, match="closed"):
        rows_of(source, 0, 1)


def test_threads_may_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "OPEN_FILES", 2)
    whole = np.arange(4000, dtype="f4").reshape(400, 10)
    with ShardsSource(store(tmp_path, whole, list(range(20, 400, 20)), "C", "F")) as source:

        def work(seed: int) -> bool:
            random = np.random.default_rng(seed)
            for _ in range(40):
                start, stop = np.sort(random.integers(0, 401, 2)).tolist()
                if not (rows_of(source, start, stop) == whole[start:stop]).all():
                    return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(8)))


def vanish(path: Path) -> None:
    path.unlink()


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4)


def replace(path: Path) -> None:
    np.save(path.with_name("new.npy"), WHOLE)
    path.with_name("new.npy").replace(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (vanish, r"s3\.npy: removed or renamed"),
        (shrink, r"s3\.npy: (changed|truncated) while"),
        (replace, r"s3\.npy: replaced while"),
    ],
)
@pytest.mark.parametrize("opened", [False, True])
def test_a_file_that_changes_midway(tmp_path: Path, change, message: str, opened: bool) -> None:  # type: ignore[no-untyped-def]
    paths = store(tmp_path, WHOLE, CUTS)
    with ShardsSource(paths) as source:
        if opened:
            rows_of(source, 0, 23)
        change(paths[3])
        with pytest.raises(InputError, match=message):
            source.check_unchanged()
        if not opened:
            with pytest.raises(InputError, match=message):
                rows_of(source, 0, 23)
            with pytest.raises(InputError, match=message):
                source.gather(np.array([0, 14]), np.empty((2, 5), "f4"))


def test_a_mapped_file_that_shrinks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LOOK_SECONDS", 0.0)
    paths = store(tmp_path, WHOLE, CUTS)
    out = np.empty((2, 5), "f4")
    with ShardsSource(paths) as source:
        source.gather(np.array([0, 14]), out)
        os.truncate(paths[3], 0)
        with pytest.raises(InputError, match=r"s3\.npy: changed while it was read"):
            source.gather(np.array([0, 14]), out)


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [path.name for path in store(tmp_path, WHOLE, CUTS)]
    monkeypatch.chdir(tmp_path)
    with ShardsSource(names) as source:
        monkeypatch.chdir("/")
        np.testing.assert_array_equal(rows_of(source, 0, 23), WHOLE)
        source.check_unchanged()
        (tmp_path / "s0.npy").unlink()
        with pytest.raises(InputError, match=r"^s0\.npy: removed"):
            source.check_unchanged()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"gone\.npy: no such file"):
        ShardsSource([*store(tmp_path, WHOLE, CUTS), tmp_path / "gone.npy"])


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        (("i1", "i4"), "i4"),
        (("u1", "f4"), "f4"),
        (("i4", "f4"), "f8"),
        (("u4", "i1"), "i8"),
        (("?", "u1", "f2"), "f2"),
        ((">i2", "<u2", "f4"), "f4"),
        ((">i2", ">i2"), ">i2"),
        (("i2", "u2", "f2"), "f4"),
    ],
)
def test_files_of_different_dtypes_in_their_common_one(tmp_path: Path, kinds: tuple[str, ...], common: str) -> None:
    parts = [np.array([[1, 0], [1, 1]]).astype(kind) for kind in kinds]
    paths = [tmp_path / f"{place}.npy" for place in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        np.save(path, part)
    with ExitStack() as files:
        opening = Opening(files)
        source = open_common(list(map(str, paths)), opening, files)
        assert len(opening.inputs) == len(paths)
        assert source.spec.dtype == np.dtype(common)
        native = np.dtype(common).newbyteorder("=")
        out = np.empty((2 * len(parts), 2), native)
        source.read_rows(0, out)
        np.testing.assert_array_equal(out, np.concatenate(parts).astype(native))
        backwards = np.empty_like(out)
        source.gather(np.arange(len(out))[::-1].copy(), backwards)
        np.testing.assert_array_equal(backwards, out[::-1])


@pytest.mark.parametrize("kinds", [("i8", "f8"), ("u8", "i8"), ("i8", "u1", "f4"), ("u8", "i1"), ("c8", "f4")])
def test_files_without_a_common_dtype_are_named(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    paths = [str(tmp_path / f"{kind}.npy") for kind in kinds]
    for path, kind in zip(paths, kinds, strict=True):
        np.save(path, np.ones(3, kind))
    message = rf"{kinds[-1]}\.npy: {np.dtype(kinds[-1]).name}, but {np.dtype(kinds[0]).name} in .*{kinds[0]}\.npy; no "
    with ExitStack() as files, pytest.raises(InputError, match=message):
        open_common(paths, Opening(files), files)
    with ExitStack() as files:
        assert open_common(paths[:1], Opening(files), files).spec.dtype == np.dtype(kinds[0])
