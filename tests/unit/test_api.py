"""`pairwise_distances`: shapes, types, `out`, and what is refused."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from scipy.spatial.distance import cdist, squareform

import mlpipe
from mlpipe import api
from mlpipe.api import pairwise_distances
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels import distances as kernels
from mlpipe.kernels import rows as row_kernels
from mlpipe.stages.metrics import DEFINITIONS


def rows(count: int, features: int = 3, seed: int = 0, dtype="f8"):
    return np.random.default_rng([seed, count, features]).random((count, features)).astype(dtype)


def compiled() -> dict[str, int]:
    """How many variants of each kernel there are in this process."""
    everything = {**vars(kernels), **vars(row_kernels)}
    return {name: len(value.overloads) for name, value in everything.items() if hasattr(value, "overloads")}


def test_is_public():
    assert mlpipe.pairwise_distances is pairwise_distances


# Shapes.


def test_two_arrays():
    x, y = rows(7), rows(5, seed=1)
    np.testing.assert_allclose(pairwise_distances(x, y), cdist(x, y), rtol=1e-14)


def test_one_array_is_symmetric_with_a_zero_diagonal():
    x = rows(150, 40)
    square = pairwise_distances(x)
    assert square.tobytes() == np.ascontiguousarray(square.T).tobytes()
    assert (np.diag(square) == 0).all()
    assert square.tobytes() == pairwise_distances(x, x).tobytes()


def test_nan_does_not_break_the_symmetry():
    """Which of two NaN goes on depends on which is met first; there is only one."""
    x = rows(90, 5)
    x[3, 0], x[4, 0], x[5, 1], x[6, 1], x[70, 2] = np.nan, -np.nan, np.inf, -np.inf, np.inf
    for metric in ("euclidean", "cosine", "dot", "canberra", "nan_euclidean"):
        square = pairwise_distances(x, metric=metric)
        assert square.tobytes() == np.ascontiguousarray(square.T).tobytes()
        assert square.tobytes() == pairwise_distances(x, x.copy(), metric=metric).tobytes()


def test_one_dimensional_arrays_are_a_row_per_element():
    assert pairwise_distances([1.0, 2.0], [5.0, 7.0, 2.0]).tolist() == [[4, 6, 1], [3, 5, 0]]
    assert pairwise_distances(np.arange(3)).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]


def test_lists_and_ranges_and_scalars():
    assert pairwise_distances([[0, 0]], [[3, 4]]).tolist() == [[5.0]]
    assert pairwise_distances(range(3), [1]).tolist() == [[1], [0], [1]]
    assert pairwise_distances([np.array([0, 0])], ((3, 4),)).tolist() == [[5.0]]


@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_no_rows(m, n, dtype):
    result = pairwise_distances(np.empty((m, 4), dtype), np.empty((n, 4), dtype))
    assert (result.shape, result.dtype) == ((m, n), np.dtype(dtype))


def test_no_features():
    assert pairwise_distances(np.empty((2, 0)), np.empty((3, 0))).tolist() == [[0.0] * 3] * 2
    assert pairwise_distances(np.empty((2, 0))).tolist() == [[0.0] * 2] * 2


# Any memory layout and type, without compiling anew.


def layouts(x):
    """The same rows in other arrays."""
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=0)[::2]
    yield np.repeat(x, 3, axis=1)[:, ::3]
    yield x[::-1].copy()[::-1]
    yield x.astype(x.dtype.newbyteorder())
    yield np.broadcast_to(x, (2, *x.shape))[1]
    frozen = x.copy()
    frozen.flags.writeable = False
    yield frozen
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[:] = x
    yield unaligned


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "jensenshannon", "mahalanobis", "jaccard"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_layout_in_memory_neither_matters_nor_compiles(metric, dtype):
    x, y = rows(40, 5, dtype=dtype), rows(30, 5, 1, dtype)
    given = {"VI": np.eye(5)} if metric == "mahalanobis" else {}
    expected = pairwise_distances(x, y, metric, **given)
    square = pairwise_distances(x, metric=metric, **given)
    before = compiled()
    for other in layouts(x):
        assert pairwise_distances(other, y, metric, **given).tobytes() == expected.tobytes()
        assert pairwise_distances(y, other, metric, **given).tobytes() == expected.T.tobytes()
        assert pairwise_distances(other, metric=metric, **given).tobytes() == square.tobytes()
    assert compiled() == before


@pytest.mark.parametrize("parameter", ["w", "V", "VI"])
def test_layout_of_parameters_neither_matters_nor_compiles(parameter):
    x = rows(20, 4)
    metric = {"w": "euclidean", "V": "seuclidean", "VI": "mahalanobis"}[parameter]
    value = np.eye(4) * 2 if parameter == "VI" else np.array([1.0, 2, 3, 4])
    expected = pairwise_distances(x, metric=metric, **{parameter: value})
    before = compiled()
    frozen = value.copy()
    frozen.flags.writeable = False
    for other in (frozen, np.repeat(value, 2, axis=0)[::2], value.astype(">f8"), value.astype("i4"), value.tolist()):
        assert pairwise_distances(x, metric=metric, **{parameter: other}).tobytes() == expected.tobytes()
    assert compiled() == before


def test_inputs_are_left_alone():
    x, y = rows(20, 4), rows(10, 4, 1)
    kept = x.copy(), y.copy()
    for definition in DEFINITIONS:
        part = slice(0, definition.features)
        pairwise_distances(x[:, part], y[:, part], definition.name)
        pairwise_distances(x[:, part], metric=definition.name)
    assert x.tobytes() == kept[0].tobytes()
    assert y.tobytes() == kept[1].tobytes()


@pytest.mark.parametrize(
    ("x", "y", "dtype", "expected"),
    [
        ("f4", "f4", None, "f4"),
        ("f2", ">f4", None, "f4"),
        ("f4", "f8", None, "f8"),
        ("i1", "f4", None, "f8"),
        ("?", "?", None, "f8"),
        ("f8", "f8", "float32", "f4"),
        ("f4", "f4", np.float64, "f8"),
        ("u8", ">i8", ">f4", "f4"),
    ],
)
def test_type_of_the_result(x, y, dtype, expected):
    result = pairwise_distances(np.ones((2, 3), x), np.zeros((4, 3), y), dtype=dtype)
    assert result.dtype == np.dtype(expected)
    assert result.dtype.isnative
    assert (result == np.sqrt(np.dtype(expected).type(3))).all()


def test_float32_is_computed_from_float64_values_rounded():
    x = np.array([[1 + 1e-9], [1]])
    assert pairwise_distances(x)[0, 1] > 0
    assert pairwise_distances(x, dtype="f4")[0, 1] == 0


# Blocks, threads.


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "mahalanobis", "jensenshannon"])
@pytest.mark.parametrize("block", [1, 40, 1000, 7000])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_and_threads_change_no_bit(metric, block, threads, monkeypatch):
    x, y = rows(70, 5), rows(140, 5, 1)
    expected = pairwise_distances(x, y, metric), pairwise_distances(y, metric=metric)
    monkeypatch.setattr(api, "SMALL", 0)
    monkeypatch.setattr(api, "BLOCK_BYTES", 8 * block)
    assert pairwise_distances(x, y, metric, threads=threads).tobytes() == expected[0].tobytes()
    assert pairwise_distances(y, metric=metric, threads=threads).tobytes() == expected[1].tobytes()


def test_small_work_starts_no_thread(monkeypatch):
    started = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread))
    pairwise_distances(rows(10), threads=4)
    assert started == []


def test_no_thread_is_left():
    pairwise_distances(rows(1000, 20), threads=3)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("mlpipe")] == []


# out=


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_out_is_filled_and_returned(dtype):
    x, y = rows(9, dtype=dtype), rows(4, seed=1, dtype=dtype)
    out = np.full((9, 4), -1, dtype)
    assert pairwise_distances(x, y, out=out) is out
    assert out.tobytes() == pairwise_distances(x, y).tobytes()


def test_out_may_be_laid_out_in_any_way():
    x, y = rows(9), rows(4, seed=1)
    expected = pairwise_distances(x, y)
    before = compiled()
    around = np.full((20, 10), -1.0)
    for out in (np.empty((9, 4), order="F"), around[1:19:2, 2:6], np.empty((4, 9)).T):
        assert pairwise_distances(x, y, out=out) is out
        assert (out == expected).all()
    assert (around[::2] == -1).all()
    assert (around[:, 6:] == -1).all()
    assert compiled() == before


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.empty((4, 9)), "shape"),
        (np.empty((9, 4), "f4"), "dtype"),
        (np.empty((9, 4), ">f8"), "dtype"),
        (np.broadcast_to(np.zeros(4), (9, 4)), "read-only"),
    ],
)
def test_out_that_does_not_fit(out, words):
    with pytest.raises(InputError, match=words):
        pairwise_distances(rows(9), rows(4, seed=1), out=out)


def test_out_may_be_an_input():
    x = rows(5, 5)
    expected = pairwise_distances(x)
    assert pairwise_distances(x, out=x).tobytes() == expected.tobytes()
    y = rows(3, 5, 1)
    expected = pairwise_distances(y, x)
    assert pairwise_distances(y, x, out=x[:3]).tobytes() == expected.tobytes()


def test_out_for_nothing():
    out = np.empty((0, 4))
    assert pairwise_distances(rows(0), rows(4), out=out) is out


# Errors.


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.ones((2, 3)), np.ones((2, 4))), InputError, r"X \(2, 3\) and Y \(2, 4\)"),
        ((np.ones((2, 3)), np.ones(3)), InputError, r"X \(2, 3\) and Y \(3,\)"),
        ((np.ones((2, 3, 4)),), InputError, r"X has shape \(2, 3, 4\)"),
        ((np.float64(3),), InputError, "X is a single value"),
        ((np.array(["a"]),), InputError, "X has dtype <U1"),
        ((np.array([None]),), InputError, "X has dtype object"),
        ((np.ones(2), np.ones(2, "c16")), InputError, "Y has dtype complex128"),
        ((np.ones(2, "f4"), np.array(["2020-01-01"], "M8[D]")), InputError, "Y has dtype datetime64"),
        ((np.ones(2), None, "nearest"), UsageError, "unknown metric 'nearest'"),
    ],
)
def test_what_is_refused(arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        pairwise_distances(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "given", "error"),
    [
        ("euclidean", {"p": 3}, UsageError),
        ("minkowski", {"p": 0}, UsageError),
        ("euclidean", {"w": [1.0]}, InputError),
        ("euclidean", {"w": [-1.0, 1, 1]}, InputError),
        ("seuclidean", {"V": [[1.0, 1, 1]]}, InputError),
        ("mahalanobis", {"VI": np.eye(2)}, InputError),
        ("mahalanobis", {}, InputError),
        ("euclidean", {"dtype": "f2"}, UsageError),
        ("haversine", {}, InputError),
    ],
)
def test_parameters_that_are_refused(metric, given, error):
    with pytest.raises(error):
        pairwise_distances(rows(3), metric=metric, **given)


def test_float128_is_refused_where_there_is_one():
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(InputError, match="float16 to float64"):
            pairwise_distances(np.ones((2, 2), np.longdouble))


def test_squareform_takes_the_result():
    assert len(squareform(pairwise_distances(rows(10)))) == 45
