"""Files of statistics: what is written, and what is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from mlpipe.errors import InputError, InputMissingError, OutputError
from mlpipe.opening import Opening
from mlpipe.readers import stats
from mlpipe.readers.stats import read_stats
from mlpipe.writers.stats import StatsFile, stats_bytes

KINDS = {"count": "i", "mean": "f"}
GOOD = {"count": np.array([3, 4]), "mean": np.array([0.5, np.nan])}


@pytest.fixture
def opening() -> Opening:
    return Opening(ExitStack())


def test_there_and_back(tmp_path: Path, opening: Opening) -> None:
    path = tmp_path / "s.npz"
    StatsFile(str(path), opening).save(GOOD)
    found = read_stats(str(path), KINDS, opening)
    assert len(opening.inputs) == 1
    with np.load(path, allow_pickle=False) as loaded:
        for name, array in GOOD.items():
            np.testing.assert_array_equal(found[name], array)
            np.testing.assert_array_equal(loaded[name], array)
    assert stats_bytes(GOOD) == path.read_bytes()


def test_what_numpy_saves_is_read(tmp_path: Path, opening: Opening) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "n.npz", **{name: array.astype(array.dtype.newbyteorder(">")) for name, array in GOOD.items()})
        found = read_stats(str(tmp_path / "n.npz"), KINDS, opening)
        np.testing.assert_array_equal(found["mean"], GOOD["mean"])


def test_replacing_needs_force(tmp_path: Path, opening: Opening) -> None:
    path = tmp_path / "s.npz"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"):
        StatsFile(str(path), opening).check()
    StatsFile(str(path), Opening(opening.files, force=True)).save(GOOD)
    assert path.read_bytes() == stats_bytes(GOOD)


def bad_files() -> dict[str, tuple[bytes, str]]:
    good = stats_bytes(GOOD)
    pickled = io.BytesIO()
    with zipfile.ZipFile(pickled, "w") as archive:
        archive.writestr("count.npy", pickle.dumps([1]))
        archive.writestr("mean.npy", pickle.dumps([1]))
    twice = stats_bytes({"count": GOOD["count"], "counu": GOOD["count"]}).replace(b"counu.npy", b"count.npy")
    objects = io.BytesIO()
    np.savez(objects, count=np.array([1, 2]), mean=np.array([{}, {}]))
    return {
        "empty": (b"", "not a readable .npz"),
        "text": (b"hello", "not a readable .npz"),
        "cut": (good[:-30], "not a readable .npz"),
        "flipped": (good[:90] + bytes([good[90] ^ 1]) + good[91:], "not a readable .npz|bad header"),
        "other": (
            stats_bytes({"count": GOOD["count"], "median": GOOD["mean"]}),
            "statistics of this verb are count, mean",
        ),
        "more": (stats_bytes({**GOOD, "extra": GOOD["mean"]}), "holds 'count', 'mean', 'extra'"),
        "twice": (twice, "holds 'count', 'count'"),
        "pickles": (pickled.getvalue(), "a pickle, which mlpipe never loads"),
        "objects": (objects.getvalue(), "Python objects"),
        "dtypes": (stats_bytes({**GOOD, "mean": GOOD["mean"].astype("f4")}), "mean holds float32, not float64"),
        "shapes": (stats_bytes({**GOOD, "mean": np.zeros(3)}), "shapes differ"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_bad_files(tmp_path: Path, opening: Opening, name: str) -> None:
    content, message = bad_files()[name]
    path = tmp_path / "s.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_stats(str(path), KINDS, opening)


def test_what_is_too_large_is_not_decompressed(
    tmp_path: Path, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "LARGEST", 1000)
    np.savez_compressed(tmp_path / "s.npz", count=np.zeros(10**5, int), mean=np.zeros(10**5))
    with pytest.raises(InputError, match="count takes 800128 bytes, more than the limit of 1000"):
        read_stats(str(tmp_path / "s.npz"), KINDS, opening)


def test_a_file_that_is_not_there(opening: Opening) -> None:
    with pytest.raises(InputMissingError, match="no such file"):
        read_stats("none.npz", KINDS, opening)
