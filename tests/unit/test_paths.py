"""Directories, patterns and lists of files."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from mlpipe.errors import InputError, InputMissingError
from mlpipe.readers.paths import expand, listed, natural_key, split_labels


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_numbers_are_sorted_by_value() -> None:
    names = ["1.npy", "a.npy", "a1.npy", "a01.npy", "a2.npy", "a10.npy", "a10b2.npy", "a10b10.npy", "b.npy"]
    mixed = names[:]
    random.Random(1).shuffle(mixed)
    found = sorted(mixed, key=natural_key)
    assert found.index("a2.npy") < found.index("a10.npy") < found.index("a10b2.npy") < found.index("a10b10.npy")
    assert found == sorted(names, key=natural_key)


def test_a_directory_is_its_npy_files_in_natural_order() -> None:
    touch("d/shard-10.npy", "d/shard-2.npy", "d/.hidden.npy", "d/notes.txt", "d/X.NPY", "d/deeper/shard-1.npy")
    assert expand(["d"]) == expand(["d/"]) == ["d/shard-2.npy", "d/shard-10.npy"]
    assert expand(["d/notes.txt", "d"]) == ["d/notes.txt", "d/shard-2.npy", "d/shard-10.npy"]


def test_patterns() -> None:
    touch("d/s10.npy", "d/s9.npy", "d/.s1.npy", "e/f/s3.npy", "[x].npy")
    assert expand(["d/*.npy"]) == ["d/s9.npy", "d/s10.npy"]
    assert expand(["**/s?.npy"]) == ["d/s9.npy", "e/f/s3.npy"]
    assert expand(["[x].npy"]) == ["[x].npy"]  # a file of this very name
    assert expand(["s[0-9].npy", "gone.npy"][1:]) == ["gone.npy"]  # whoever opens it says that it is not there


@pytest.mark.parametrize(("path", "message"), [("empty", "empty: a directory without"), ("*.no", "no file matches")])
def test_what_stands_for_no_file_is_missing(path: str, message: str) -> None:
    Path("empty").mkdir()
    touch("empty/.x.npy", "empty/a.txt")
    with pytest.raises(InputMissingError, match=message):
        expand([path])


@pytest.mark.parametrize("path", ["x\0y", "a" * 5000, "", "\udcff*"])
def test_names_that_no_file_has_are_no_bug(path: str) -> None:
    if "*" not in path:
        assert expand([path]) == [path]
    else:
        with pytest.raises(InputMissingError, match=r"^[ -~]*$"):
            expand([path])


def test_a_list_of_files() -> None:
    Path("list").write_bytes(b"a.npy\n\nwith space.npy\r\n\xff.npy\n")
    assert listed("list") == ["a.npy", "with space.npy", os.fsdecode(b"\xff.npy")]
    Path("zeros").write_bytes(b"a\nb.npy\0c.npy\0")
    assert listed("zeros") == ["a\nb.npy", "c.npy"]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, InputMissingError, "list: cannot be read: No such file"),
        (b"", InputMissingError, "names no file"),
        (b"\n \n", InputMissingError, "names no file"),
        (b"\x93NUMPY\x01\x00", InputError, "a .npy file, not a list"),
    ],
)
def test_what_is_no_list(content: bytes | None, kind: type[Exception], message: str) -> None:
    if content is not None:
        Path("list").write_bytes(content)
    with pytest.raises(kind, match=message):
        listed("list")


def test_a_list_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpipe.readers.paths.LIST_BYTES", 10)
    Path("list").write_bytes(b"x" * 11)
    with pytest.raises(InputError, match="longer than 10 bytes"):
        listed("list")


def test_labels_beside_rows() -> None:
    assert split_labels(["a.npy", "b.npy"]) == (["a.npy", "b.npy"], [])
    assert split_labels(["a-labels.npy"]) == (["a-labels.npy"], [])
    rows, labels = split_labels(["d/a-labels.npy", "d/a.npy", "d/b.npy", "d/b-labels.npy"])
    assert (rows, labels) == (["d/a.npy", "d/b.npy"], ["d/a-labels.npy", "d/b-labels.npy"])


@pytest.mark.parametrize("paths", [["a.npy", "a-labels.npy", "b.npy"], ["a.npy", "a-labels.npy", "b.bin"]])
def test_labels_for_some_rows_only(paths: list[str]) -> None:
    with pytest.raises(InputMissingError, match=r"b\.\w+: has no b-labels\.\w+ beside it, as a-labels.npy is"):
        split_labels(paths)
