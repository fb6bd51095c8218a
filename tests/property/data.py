"""Inputs and tolerances for the property tests of distances."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.spatial import distance as scipy_distance

from tests import naive

ROWS = (0, 1, 2, 3, 5, 17, 63, 64, 65, 66, 67, 127, 128, 129, 130, 255, 256, 257, 258)
FEATURES = (0, 1, 2, 3, 31, 32, 33, 127, 128, 129, 130, 1000, 1023, 1024, 1025, 1030)
DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
LAYOUTS = ("C", "F", "strided", "reversed", "readonly", "unaligned")

# Dear to compute: for scipy a Python call per pair, a power or logarithm per feature, a square of features.
PER_PAIR = ("correlation", "cosine")
PER_FEATURE = ("minkowski", "jensenshannon", "canberra")

# Where the distance of a row to itself is not zero by definition.
NOT_ZERO = ("dice", "dot", "russellrao")

RTOL = {"f4": 2e-6, "f8": 1e-12}
ATOL = {"f4": 1e-6, "f8": 1e-14}


def fits(metric: str, features: int, pairs: int = 1) -> int:
    """`features`, or what the metric and the patience for that many pairs allow instead."""
    if metric == "haversine":
        return 2
    if metric == "mahalanobis":
        return min(features, 33)
    dear = metric in PER_FEATURE and pairs * features > 1_000_000
    return min(features, 33) if dear else features


def rows(metric: str, count: int, features: int, seed: int) -> np.ndarray:
    """Ordinary rows for `metric`, float64 but with values that float32 can hold."""
    random = np.random.default_rng([seed, count, features])
    values = random.normal(size=(count, features))
    if metric == "haversine":
        values = values * [0.5, 1.0]
    elif metric == "jensenshannon":
        values = np.maximum(values + 1, 0)
    elif metric == "dice":
        values = random.random((count, features))
    elif metric == "nan_euclidean":
        values[random.random(values.shape) < 0.2] = np.nan
    elif metric == "hamming" or metric in naive.BOOLEAN:
        values = np.floor(values) + 1
    return values.astype("f4").astype("f8")


def parameters(metric: str, features: int, seed: int, weighted: bool) -> dict[str, Any]:
    """What the metric needs or may be given, so that X alone and X against a copy are the same."""
    random = np.random.default_rng(seed)
    if metric == "seuclidean":
        return {"V": random.uniform(0.5, 2, features)}
    if metric == "mahalanobis":
        basis = random.normal(size=(features, features))
        return {"VI": basis @ basis.T / max(1, features) + np.eye(features)}
    given: dict[str, Any] = {"p": float(random.choice([0.5, 1.5, 3.0]))} if metric == "minkowski" else {}
    if weighted and metric in naive.WEIGHTED:
        w = random.uniform(0.25, 4, features).astype("f4").astype("f8")
        w[random.random(features) < 0.1] = 0
        given["w"] = w
    return given


def scipy_matrix(X: np.ndarray, Y: np.ndarray, metric: str, **given: Any) -> np.ndarray:
    """scipy's figures, in float64; the naive oracle's for what scipy lacks."""
    X, Y = np.asarray(X).astype("f8"), np.asarray(Y).astype("f8")
    if metric not in naive.SCIPY:
        return naive.matrix(X, Y, metric, **given)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = scipy_distance.cdist(X, Y, metric, **given)
    if metric == "correlation" and X.shape[1]:
        expected[np.ptp(X, axis=1) == 0] = np.nan
        expected[:, np.ptp(Y, axis=1) == 0] = np.nan
    return expected


def assert_close(ours: np.ndarray, expected: np.ndarray, metric: str, scale: float = 1.0) -> None:
    """Compare within the precision of `ours`; absolutely where the definition itself cancels."""
    kind = ours.dtype.str[1:]
    assert ours.shape == expected.shape
    rtol, atol = RTOL[kind], 0.0
    if metric in (*PER_PAIR, "dot", "jensenshannon"):  # 1 − c, sums of either sign, scipy's own logarithms
        atol = ATOL[kind] * scale
    if metric == "jensenshannon":
        atol = 3e-8 if kind == "f8" else 1e-6  # the square root of what scipy loses
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=atol)


def raw(array: np.ndarray) -> bytes:
    """Bytes of the values in C order."""
    return np.ascontiguousarray(array).tobytes()


def laid_out(values: np.ndarray, dtype: np.dtype[Any], layout: str) -> np.ndarray:
    """The same numbers as an array of another type, byte order and memory layout."""
    plain = values.astype(dtype)
    count, features = plain.shape
    if layout == "F":
        return np.asfortranarray(plain)
    if layout == "strided":
        wide = np.zeros((2 * count, 3 * features), dtype)
        wide[::2, 1::3] = plain
        return wide[::2, 1::3]
    if layout == "reversed":
        return plain[::-1, ::-1].copy()[::-1, ::-1]
    if layout == "unaligned":
        buffer = np.zeros(plain.nbytes + 1, np.uint8)[1:]
        result = buffer.view(dtype).reshape(plain.shape)
        result[:] = plain
        return result
    if layout == "readonly":
        plain.flags.writeable = False
    return plain


@st.composite
def array_types(draw: st.DrawFn) -> tuple[np.dtype[Any], str]:
    """A supported dtype of either byte order, and a layout."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES))).newbyteorder(draw(st.sampled_from("<>")))
    return dtype, draw(st.sampled_from(LAYOUTS))
