"""``apply``: shapes, dtypes, labels; the same bytes in any blocks and threads, and with any neighbours."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import mlpipe
from mlpipe.buffers import Array
from mlpipe.chain import Chain
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.steps import working
from mlpipe.registry import make
from tests.flow import flow

X = np.random.default_rng(3).normal(size=(203, 5)).astype(np.float32) * 10


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def applied(x: Array, text: str, dtype: str | None = None) -> Array:
    """Rows that come out of a whole run."""
    np.save("X.npy", x)
    mlpipe.read("X.npy").apply(text, dtype=dtype).write("out.npy")
    found = np.load("out.npy")
    Path("out.npy").unlink()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x * 2", X * 2),
        ("x[1]", X[:, 1]),
        ("x[0] + x[-1]", X[:, 0] + X[:, -1]),
        ("x[1],", X[:, 1:2]),
        ("x[0] + x[1], x[2]", np.stack([X[:, 0] + X[:, 1], X[:, 2]], 1)),
        ("x - x[0]", X - X[:, :1]),
        ("x, x[0] * x[1]", np.concatenate([X, X[:, :1] * X[:, 1:2]], 1)),
        ("x[0], x, x > 0", np.concatenate([X[:, :1], X, X > 0], 1)),
        ("7", np.full(len(X), 7)),
        ("pi, 1", np.tile(np.array([np.pi, 1], np.float32), (len(X), 1))),
    ],
)
def test_shapes(text: str, expected: Array) -> None:
    got = applied(X, text)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected.astype(np.float32))


def test_rows_of_one_value_and_of_many_dimensions() -> None:
    np.testing.assert_array_equal(applied(X[:, 0], "x + 1"), X[:, 0] + 1)
    np.testing.assert_array_equal(applied(X[:, 0], "x, -x"), np.stack([X[:, 0], -X[:, 0]], 1))
    cube = X[:200].reshape(10, 4, 5, 5)
    np.testing.assert_array_equal(applied(cube, "abs(x)"), np.abs(cube))
    for text in ("x[0]", "x, x"):
        with pytest.raises(InputError, match=r"link 2 \(apply\): columns of rows of shape \(4, 5, 5\); they need"):
            applied(cube, text)


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("text", ["x + 1", "x[0]", "x, x[0]"])
def test_few_rows(rows: int, text: str) -> None:
    assert len(applied(X[:rows], text)) == rows


def test_rows_without_columns() -> None:
    assert applied(X[:, :0], "x, 1").shape == (203, 1)
    assert applied(X[:, :0], "x + 1").shape == (203, 0)


KINDS = ["?", "i1", "u1", "i8", "u8", "f2", "f4", "f8", ">f4", ">i2"]
TYPES = [*((kind, None) for kind in KINDS), *itertools.product(["f2", "i1"], ["float16", "int8", "uint64", "bool"])]


@pytest.mark.parametrize(("dtype", "to"), TYPES)
def test_dtypes(dtype: str, to: str | None) -> None:
    x = (X[:20] * 3).astype(np.int16).astype(dtype)
    kind = working(np.dtype(dtype).newbyteorder("="))
    wanted = x.astype(kind) / 2
    if to in ("int8", "uint64"):
        limits = np.iinfo(to)
        wanted = np.clip(np.trunc(wanted), limits.min, limits.max)
    for text, expected in (("x / 2", wanted), ("x[3] / 2, x[0] / 2", wanted[:, [3, 0]])):
        got = applied(x, text, to)
        assert got.dtype == (to or kind)
        np.testing.assert_array_equal(got, expected.astype(to or kind))


def test_what_does_not_fit_an_integer() -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 1e30, -1e30, -0.9]])
    expected = np.array([[0, 127, -128, 127, -128, 0]])
    np.testing.assert_array_equal(applied(x, "x", "int8"), expected)
    np.testing.assert_array_equal(applied(x, "x, x[0]", "int8"), np.concatenate([expected, [[0]]], 1))


def test_division_by_zero_raises_nothing() -> None:
    x = np.array([[1.0, -1.0, 0.0]])
    np.testing.assert_array_equal(applied(x, "x / 0"), [[np.inf, -np.inf, np.nan]])
    np.testing.assert_array_equal(applied(x, "x[0] // 0, x[0] % 0, log(x[2]), sqrt(x[1]), 1 / x[2]"),
                                  [[np.inf, np.nan, -np.inf, np.nan, np.inf]])  # fmt: skip


def test_nan_has_one_form() -> None:
    for text in ("-x", "x + x[0]", "x[0] - x[1], -x[0]"):
        got = applied(np.array([[np.nan, -np.nan]]), text)
        assert set(got.view(np.uint64).flat) == {np.array(np.nan).view(np.uint64).item()}


@pytest.mark.parametrize("text", ["log1p(abs(x)) / 3", "exp(x[0]) + x[1], sin(x), x[-1] ** 3"])
def test_same_bytes_in_any_blocks_and_threads(text: str) -> None:
    x = np.random.default_rng(0).normal(size=(20011, 7)).astype(np.float32)
    np.save("X.npy", x)
    found = set()
    for size, threads in itertools.product((None, 1000, 4099), (1, 3)):
        chain = mlpipe.read("X.npy")
        chain = chain if size is None else chain.batch(size)
        verbs = (*chain.apply(text).verbs, make("write", "out.npy"))
        Chain(verbs).run(threads=threads, force=True)
        found.add(Path("out.npy").read_bytes())
    assert len(found) == 1


def test_batches_stay_batches() -> None:
    np.save("X.npy", X)
    assert [len(batch) for batch in mlpipe.read("X.npy").batch(100).apply("x[0]")] == [100, 100, 3]
    assert [len(batch) for batch in mlpipe.read("X.npy").batch(100).apply("x + 1")] == [100, 100, 3]


def test_neighbours_are_fused() -> None:
    np.save("X.npy", X)
    chain = mlpipe.read("X.npy").abs().apply("x / 2").apply("x + 1").sqrt()
    with chain.opened() as pipeline:
        specs = pipeline.specs()
        assert specs[-1].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(list(chain)), np.sqrt(np.abs(X) / 2 + 1))


def test_labels_go_with_the_rows() -> None:
    labels = np.arange(len(X))
    got, beside = flow(make("apply", "x[0], x").open(None), X, labels, sizes=(7, 30, 1))
    np.testing.assert_array_equal(got, np.concatenate([X[:, :1], X], 1))
    np.testing.assert_array_equal(beside, labels)
    assert flow(make("apply", "x[0]").open(None), X, labels, known=False)[0].shape == (203,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x[5]", "link 2 (apply): 'x[5]', column 1: the rows have 5 columns"),
        ("x[0] + x[-6]", "link 2 (apply): 'x[0] + x[-6]', column 8: the rows have 5 columns"),
        ("x +", "apply 'x +', column 3: invalid syntax"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        applied(X, text)
    assert str(caught.value) == message


def test_columns_of_rows_without_any() -> None:
    with pytest.raises(UsageError, match="column 1: each row is one value; write x"):
        applied(X[:, 0], "x[0]")


def test_long_sums_compile() -> None:
    text = " + ".join(f"x[{k % 5}]" for k in range(400))
    np.testing.assert_allclose(applied(X.astype(float), text), X.astype(float).sum(1) * 80, rtol=1e-12)
