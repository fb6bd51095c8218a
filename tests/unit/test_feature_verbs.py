"""one-hot, bucketize, hash-features and project, against NumPy and plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.randoms import words
from mlpipe.keys import key
from mlpipe.link import Array
from mlpipe.stages.bucketize import Bucketize
from mlpipe.stages.hash_features import HashFeatures
from mlpipe.stages.one_hot import OneHot
from mlpipe.stages.project import Project
from tests.passing import passed

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(0, 3, (203, 5))
EVERYWHERE = [{"threads": 1}, {"threads": 2, "sizes": (1, 50, 3)}, {"known": False, "sizes": (64,)}]


def same_everywhere(verb: Any, rows: Array) -> Array:
    """What comes out, whatever blocks and threads; labels go along."""
    labels = np.arange(2 * len(rows)).reshape(-1, 2)
    results = [passed(verb, rows, labels, **how) for how in EVERYWHERE]
    assert len({made.tobytes() for made, _ in results}) == 1
    for _, beside in results:
        np.testing.assert_array_equal(beside, labels)
    return results[0][0]


@pytest.mark.parametrize("dtype", ["u1", "i8", "?"])
@pytest.mark.parametrize("shape", [(101,), (101, 1), (0,)], ids=str)
def test_one_hot(dtype: str, shape: tuple[int, ...]) -> None:
    rows = RANDOM.integers(0, 2 if dtype == "?" else 7, shape).astype(dtype)
    made = same_everywhere(OneHot(7), rows)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, np.eye(7)[rows.reshape(-1).astype(int)])


@pytest.mark.parametrize("wrong", [-1, 7, 2**62])
def test_one_hot_names_the_first_row_that_has_no_class(wrong: int) -> None:
    rows = np.zeros(500, np.int64)
    rows[[320, 400]] = wrong
    with pytest.raises(InputError, match=f"row 320 holds {wrong}, but classes are 0 to 6; give more --classes"):
        passed(OneHot(7), rows, sizes=(100,), threads=2)


def test_one_hot_refuses_other_rows() -> None:
    for rows in (np.zeros(3), np.zeros((3, 2), int)):
        with pytest.raises(InputError, match="one-hot takes rows of one whole number"):
            passed(OneHot(2), rows)
    with pytest.raises(UsageError, match="--classes 0: give 1 or more"):
        OneHot(0)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i4", "u1", "?"])
def test_bucketize(dtype: str, right: bool) -> None:
    rows = np.abs(X).astype(dtype)
    if dtype[0] == "f":
        rows[3, 2], rows[4, 4], rows[5, 1] = np.nan, np.inf, -np.inf
    for edges in ((0.0, 1.0, 1.0, 4.0), (-np.inf, *np.linspace(0, 4, 40).repeat(2).tolist(), np.inf), (1.0,) * 17):
        made = same_everywhere(Bucketize(edges, right), rows)
        assert made.dtype == np.int64
        np.testing.assert_array_equal(made, np.digitize(rows.astype("f8"), edges, right))


def test_bucketize_refuses_edges_out_of_order() -> None:
    for edges in ((), (2.0, 1.0), (1.0, np.nan)):
        with pytest.raises(UsageError, match="in ascending order"):
            Bucketize(edges)
    with pytest.raises(InputError, match="complex"):
        passed(Bucketize((1.0,)), np.zeros((3, 2), "c8"))


@pytest.mark.parametrize("shape", [(57,), (57, 4), (0, 3), (20, 2, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["i1", "u8", "?"])
def test_hash_features(dtype: str, shape: tuple[int, ...]) -> None:
    rows = RANDOM.integers(0, 100, shape).astype(dtype)
    made = same_everywhere(HashFeatures(11, seed=3), rows)
    wanted = np.zeros((len(rows), 11), np.float32)
    flat, hashed = rows.reshape(len(rows), int(np.prod(shape[1:]))), np.empty((1, 2 * int(np.prod(shape[1:]))), "u8")
    for i, row in enumerate(flat):
        for j, value in enumerate(row.tolist()):
            words(key(3, 0, "hash-features"), value, hashed)
            wanted[i, hashed[0, 2 * j] % 11] += -1 if hashed[0, 2 * j + 1] % 2 else 1
    np.testing.assert_array_equal(made, wanted)


def test_hashes_spread_and_depend_on_seed_and_column() -> None:
    rows = np.arange(20_000)
    one = passed(HashFeatures(16), rows)[0]
    counts = np.abs(one).sum(0)
    assert abs(counts - 1250).max() < 5 * np.sqrt(1250)
    assert abs(one.sum()) < 5 * np.sqrt(20_000)
    assert (one != passed(HashFeatures(16, seed=1), rows)[0]).any()
    both = passed(HashFeatures(64), np.array([[5, 5]]))[0]
    assert np.abs(both).sum() == 2
    with pytest.raises(InputError, match="whole numbers, not float64"):
        passed(HashFeatures(4), X)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "u1", "?"])
@pytest.mark.parametrize("columns", [1, 5, 513])
def test_project_by_a_given_matrix(tmp_path: Path, dtype: str, columns: int) -> None:
    matrix = RANDOM.normal(size=(5, columns)).astype("f8" if columns == 5 else "f4")
    np.save(tmp_path / "M.npy", matrix)
    rows = np.abs(X).astype(dtype)
    made = same_everywhere(Project(matrix=str(tmp_path / "M.npy")), rows)
    narrow = dtype in ("f4", "f2") and matrix.dtype == np.float32
    assert made.dtype == ("f4" if narrow else "f8")
    wanted = rows.astype("f8") @ matrix.astype("f8")
    np.testing.assert_allclose(made, wanted, rtol=1e-6 if narrow else 1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(0, 3), (7, 0), (9,), (6, 2, 3)], ids=str)
def test_project_odd_shapes(shape: tuple[int, ...]) -> None:
    rows = RANDOM.normal(size=shape)
    made = same_everywhere(Project(components=3, seed=5), rows)
    assert made.shape == (shape[0], 3)
    if 0 in shape[1:]:
        assert (made == 0).all()


def test_random_projection_is_one_matrix_that_keeps_lengths() -> None:
    matrix = passed(Project(components=400, seed=9), np.eye(300))[0]
    assert abs(matrix.mean()) < 0.001
    assert abs(matrix.var() * 400 - 1) < 0.02
    rows = RANDOM.normal(size=(50, 300)).astype("f4")
    made = passed(Project(components=400, seed=9), rows)[0]
    np.testing.assert_allclose(made, rows @ matrix, rtol=1e-4, atol=1e-5)
    assert abs((np.linalg.norm(made, axis=1) / np.linalg.norm(rows, axis=1)).mean() - 1) < 0.02
    assert (matrix != passed(Project(components=400, seed=8), np.eye(300))[0]).all()


def test_project_refuses(tmp_path: Path) -> None:
    for given in ({}, {"matrix": "M.npy", "components": 2}):
        with pytest.raises(UsageError, match=r"either --matrix M\.npy or --components K"):
            Project(**given)
    np.save(tmp_path / "M.npy", np.zeros((4, 2)))
    np.save(tmp_path / "flat.npy", np.zeros(4))
    with pytest.raises(InputError, match="has 4 rows, but 5 features come in"):
        passed(Project(matrix=str(tmp_path / "M.npy")), X)
    with pytest.raises(InputError, match="a projection has two dimensions"):
        passed(Project(matrix=str(tmp_path / "flat.npy")), X)


def test_in_a_chain(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    chain = mlpipe.read(tmp_path / "X.npy").select("0").bucketize((-1, 0, 1)).one_hot(4).project(components=2, seed=1)
    made = np.concatenate(list(chain))
    one_hot = np.eye(4)[np.digitize(X[:, 0], [-1, 0, 1])]
    np.testing.assert_array_equal(made, passed(Project(components=2, seed=1), one_hot)[0])
