"""Slow, obvious oracles: one Python loop per row pair, one per feature, no array arithmetic.

Every function takes plain sequences of Python floats. The conventions for zero rows, 0/0, NaN and
booleans are those of ``scipy.spatial.distance.cdist`` (and scikit-learn's for ``haversine`` and
``nan_euclidean``), save where mlpipe differs on purpose:

- ``jensenshannon`` is computed with 40 digits, so it never turns NaN by rounding;
- a row whose values are all equal has no correlation: NaN, whether or not its mean rounds;
- X alone takes its default variance or covariance over X once, as ``pdist`` does;
- the distance of a row to itself is exactly zero, for metrics where it is zero at all.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Row = Sequence[float]
NAN = math.nan
INF = math.inf

SUMS = ("braycurtis", "canberra", "cityblock", "euclidean", "hamming", "sqeuclidean")
BOOLEAN = ("dice", "jaccard", "rogerstanimoto", "russellrao", "sokalsneath", "yule")
WEIGHTED = (*SUMS, *BOOLEAN, "chebyshev", "correlation", "cosine", "minkowski")
SCIPY = (*WEIGHTED, "jensenshannon", "mahalanobis", "seuclidean")
METRICS = (*SCIPY, "dot", "haversine", "nan_euclidean")

ALIASES = {
    "chebyshev": ("chebychev", "cheby", "cheb", "ch"),
    "cityblock": ("cblock", "cb", "c"),
    "correlation": ("co",),
    "cosine": ("cos",),
    "euclidean": ("euclid", "eu", "e"),
    "hamming": ("matching", "hamm", "ha", "h"),
    "jaccard": ("jacc", "ja", "j"),
    "jensenshannon": ("js",),
    "mahalanobis": ("mahal", "mah"),
    "minkowski": ("mi", "m", "pnorm"),
    "seuclidean": ("se", "s"),
    "sqeuclidean": ("sqe", "sqeuclid"),
}


# Floating point as the hardware does it: Python raises where IEEE 754 gives NaN or infinity.


def total(terms: Iterable[float]) -> float:
    """Sum of `terms`, rounded once."""
    values = list(terms)
    if all(math.isfinite(v) for v in values):
        try:
            return math.fsum(values)
        except OverflowError:
            return INF if sum(v / 2**64 for v in values) > 0 else -INF
    result = 0.0
    for value in values:
        result += value
    return result


def divide(a: float, b: float) -> float:
    """IEEE 754 quotient."""
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a) or math.isnan(b):
        return NAN
    return math.copysign(INF, a) * math.copysign(1.0, b)


def root(a: float) -> float:
    """IEEE 754 square root."""
    return NAN if a < 0 else math.sqrt(a)


def power(a: float, b: float) -> float:
    """``a ** b`` for ``a >= 0`` and ``b > 0``, infinite where it overflows."""
    try:
        return float(a**b)
    except OverflowError:
        return INF


# One function per metric; `w` is one weight per feature, all ones when the caller gave none.


def sqeuclidean(x: Row, y: Row, w: Row) -> float:
    return total(c * ((a - b) * (a - b)) for a, b, c in zip(x, y, w, strict=True))


def euclidean(x: Row, y: Row, w: Row) -> float:
    return root(sqeuclidean(x, y, w))


def cityblock(x: Row, y: Row, w: Row) -> float:
    return total(c * abs(a - b) for a, b, c in zip(x, y, w, strict=True))


def chebyshev(x: Row, y: Row, w: Row) -> float:
    largest = 0.0
    for a, b, c in zip(x, y, w, strict=True):
        if c > 0 and abs(a - b) > largest:  # false for NaN, which is thereby left out
            largest = abs(a - b)
    return largest


def minkowski(x: Row, y: Row, w: Row, p: float = 2.0) -> float:
    if p == 1:
        return cityblock(x, y, w)
    if p == 2:
        return euclidean(x, y, w)
    if math.isinf(p):
        return chebyshev(x, y, w)
    return power(total(c * power(abs(a - b), p) for a, b, c in zip(x, y, w, strict=True)), 1 / p)


def canberra(x: Row, y: Row, w: Row) -> float:
    terms = []
    for a, b, c in zip(x, y, w, strict=True):
        size = abs(a) + abs(b)
        terms.append(c * 0.0 if size == 0 else divide(c * abs(a - b), size))
    return total(terms)


def braycurtis(x: Row, y: Row, w: Row) -> float:
    apart = total(c * abs(a - b) for a, b, c in zip(x, y, w, strict=True))
    size = total(c * abs(a + b) for a, b, c in zip(x, y, w, strict=True))
    return divide(apart, size)


def hamming(x: Row, y: Row, w: Row) -> float:
    return divide(total(c * (a != b) for a, b, c in zip(x, y, w, strict=True)), total(w))


def counts(x: Row, y: Row, w: Row) -> tuple[float, float, float, float]:
    """Weights of the features that are true in both, in none, in x only, in y only."""
    both, none, first, second = [], [], [], []
    for a, b, c in zip(x, y, w, strict=True):
        both.append(c * (a != 0 and b != 0))
        none.append(c * (a == 0 and b == 0))
        first.append(c * (a != 0 and b == 0))
        second.append(c * (a == 0 and b != 0))
    return total(both), total(none), total(first), total(second)


def jaccard(x: Row, y: Row, w: Row) -> float:
    both, _, first, second = counts(x, y, w)
    some = total((both, first, second))
    return 0.0 if some == 0 else divide(first + second, some)


def rogerstanimoto(x: Row, y: Row, w: Row) -> float:
    _, _, first, second = counts(x, y, w)
    return divide(2 * (first + second), total(w) + first + second)


def russellrao(x: Row, y: Row, w: Row) -> float:
    return divide(total(w) - counts(x, y, w)[0], total(w))


def sokalsneath(x: Row, y: Row, w: Row) -> float:
    both, _, first, second = counts(x, y, w)
    return divide(2 * (first + second), 2 * (first + second) + both)


def yule(x: Row, y: Row, w: Row) -> float:
    both, none, first, second = counts(x, y, w)
    crossed = first * second
    return 0.0 if crossed == 0 else divide(2 * crossed, both * none + crossed)


def dice(x: Row, y: Row, w: Row | None) -> float:
    """Without weights scipy multiplies the values, with weights it compares them."""
    if w is None:
        apart = total(a * (1 - b) + b * (1 - a) for a, b in zip(x, y, strict=True))
        shared = total(a * b for a, b in zip(x, y, strict=True))
    else:
        apart = total(c * (a != b) for a, b, c in zip(x, y, w, strict=True))
        shared = counts(x, y, w)[0]
    return divide(apart, 2 * shared + apart)


def dot(x: Row, y: Row) -> float:
    return total(a * b for a, b in zip(x, y, strict=True))


def cosine(x: Row, y: Row, w: Row) -> float:
    scale = total(w)
    w = [divide(c, scale) for c in w]
    xy = total(c * a * b for a, b, c in zip(x, y, w, strict=True))
    xx = total(c * a * a for a, c in zip(x, w, strict=True))
    yy = total(c * b * b for b, c in zip(y, w, strict=True))
    similarity = divide(xy, root(xx) * root(yy))
    if abs(similarity) > 1:
        similarity = math.copysign(1.0, similarity)
    return 1 - similarity


def correlation(x: Row, y: Row, w: Row) -> float:
    if min(len(set(x)), len(set(y))) <= 1:
        return NAN
    scale = total(w)
    x_mean = divide(total(c * a for a, c in zip(x, w, strict=True)), scale)
    y_mean = divide(total(c * b for b, c in zip(y, w, strict=True)), scale)
    return cosine([a - x_mean for a in x], [b - y_mean for b in y], w)


def seuclidean(x: Row, y: Row, V: Row) -> float:
    terms = [divide((a - b) * (a - b), v) for a, b, v in zip(x, y, V, strict=True)]
    return root(total(terms))


def mahalanobis(x: Row, y: Row, VI: Sequence[Row]) -> float:
    apart = [a - b for a, b in zip(x, y, strict=True)]
    terms = []
    for a, row in zip(apart, VI, strict=True):
        terms.append(a * total(b * c for b, c in zip(apart, row, strict=True)))
    return root(total(terms))


def jensenshannon(x: Row, y: Row) -> float:
    if any(a < 0 for a in (*x, *y)) or total(x) == 0 or total(y) == 0:
        return INF
    if not all(math.isfinite(a) for a in (*x, *y)):
        return NAN
    with decimal.localcontext(decimal.Context(prec=40, Emin=-99999, Emax=99999)):
        p, q = [decimal.Decimal(a) for a in x], [decimal.Decimal(b) for b in y]
        p_sum, q_sum = sum(p), sum(q)
        divergence = decimal.Decimal(0)
        for a, b in zip(p, q, strict=True):
            a, b = a / p_sum, b / q_sum
            middle = (a + b) / 2
            divergence += a * (a / middle).ln() if a else 0
            divergence += b * (b / middle).ln() if b else 0
        return float((max(divergence, decimal.Decimal(0)) / 2).sqrt())


def haversine(x: Row, y: Row) -> float:
    if not all(math.isfinite(a) for a in (*x, *y)):
        return NAN
    lat = math.sin((x[0] - y[0]) / 2) ** 2
    lon = math.sin((x[1] - y[1]) / 2) ** 2
    return 2 * math.asin(min(1.0, math.sqrt(lat + math.cos(x[0]) * math.cos(y[0]) * lon)))


def nan_euclidean(x: Row, y: Row) -> float:
    squares = []
    for a, b in zip(x, y, strict=True):
        if not (math.isnan(a) or math.isnan(b)):
            squares.append((a - b) * (a - b))
    return root(divide(total(squares), len(squares)) * len(x)) if squares else NAN


_PAIR: dict[str, Callable[..., float]] = {name: globals()[name] for name in METRICS}


# Whole matrices, and the parameters scipy takes from the data.


def variance(rows: Sequence[Row]) -> list[Any]:
    """Sample variance of each column, from exact fractions."""
    return [] if not rows else [row[i] for i, row in enumerate(covariance(rows))]


def covariance(rows: Sequence[Row]) -> list[list[Any]]:
    """Sample covariance of the columns as exact fractions; NaN for fewer than two rows."""
    features = len(rows[0])
    if len(rows) < 2:
        return [[NAN] * features for _ in range(features)]
    columns = [[Fraction(row[f]) for row in rows] for f in range(features)]
    centred = [[a - sum(column) / len(rows) for a in column] for column in columns]
    return [[sum(a * b for a, b in zip(u, v, strict=True)) / (len(rows) - 1) for v in centred] for u in centred]


def inverse(matrix: Sequence[Sequence[Fraction]]) -> list[list[float]]:
    """Inverse by Gauss and Jordan in exact fractions; ZeroDivisionError when there is none."""
    size = len(matrix)
    work = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for k in range(size):
        pivot = next((i for i in range(k, size) if work[i][k] != 0), k)
        work[k], work[pivot] = work[pivot], work[k]
        work[k] = [a / work[k][k] for a in work[k]]
        for i in range(size):
            if i != k:
                work[i] = [a - work[i][k] * b for a, b in zip(work[i], work[k], strict=True)]
    return [[float(a) for a in row[size:]] for row in work]


def rows_of(array: Any) -> list[list[float]]:
    """Rows of a two-dimensional array as lists of Python floats."""
    return [[float(value) for value in row] for row in np.asarray(array)]


def pair(metric: str, x: Row, y: Row, *, p: float = 2.0, w: Row | None = None, V: Any = None, VI: Any = None) -> float:
    """Distance of two rows; `V` and `VI` must be given where the metric needs them."""
    function = _PAIR[metric]
    if metric == "dice":
        return dice(x, y, w)
    if metric == "minkowski":
        return minkowski(x, y, [1.0] * len(x) if w is None else w, p)
    if metric in WEIGHTED:
        return function(x, y, [1.0] * len(x) if w is None else w)
    if metric == "seuclidean":
        return seuclidean(x, y, V)
    if metric == "mahalanobis":
        return mahalanobis(x, y, VI)
    return function(x, y)


def matrix(X: Any, Y: Any = None, metric: str = "euclidean", **parameters: Any) -> np.ndarray:
    """All pairs, one after the other. `Y` None is X against itself."""
    first, second = rows_of(X), rows_of(X if Y is None else Y)
    stack = first if Y is None else first + second
    if metric == "seuclidean" and parameters.get("V") is None:
        parameters["V"] = variance(stack)
    if metric == "mahalanobis" and parameters.get("VI") is None:
        parameters["VI"] = inverse(covariance(stack))
    for name in ("w", "V"):
        if parameters.get(name) is not None:
            parameters[name] = [float(v) for v in parameters[name]]
    if parameters.get("VI") is not None:
        parameters["VI"] = rows_of(parameters["VI"])
    result = np.empty((len(first), len(second)))
    for i, x in enumerate(first):
        for j, y in enumerate(second):
            result[i, j] = pair(metric, x, y, **parameters)
    return result


def condensed(square: np.ndarray) -> Iterator[float]:
    """Entries above the diagonal, row by row: the order of scipy's ``pdist``."""
    for i in range(len(square)):
        for j in range(i + 1, len(square)):
            yield square[i, j]


# Exact arithmetic.


def exact_sqeuclidean(x: Row, y: Row) -> Fraction:
    return sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x, y, strict=True)), Fraction(0))


def exact_cityblock(x: Row, y: Row) -> Fraction:
    return sum((abs(Fraction(a) - Fraction(b)) for a, b in zip(x, y, strict=True)), Fraction(0))


def exact_euclidean(x: Row, y: Row, bits: int = 128) -> Fraction:
    """Square root of the exact square, right to a relative error of ``2**(1 - bits)``."""
    square = exact_sqeuclidean(x, y)
    if square == 0:
        return square
    shift = max(0, bits - (square.numerator.bit_length() - square.denominator.bit_length()) // 2)
    return Fraction(math.isqrt((square.numerator << 2 * shift) // square.denominator), 1 << shift)


def relative_error(value: float, exact: Fraction) -> float:
    """How far `value` is from `exact`, in parts of `exact`; infinite for a wrong zero."""
    if exact == 0:
        return 0.0 if value == 0 else INF
    if not math.isfinite(value):
        return INF
    return float(abs(Fraction(value) - exact) / abs(exact))
