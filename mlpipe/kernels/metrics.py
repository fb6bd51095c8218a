"""What a metric does with one pair of values, and with the sums at the end.

A metric that sums (or takes the maximum) over features is two short functions on vectors: `step` takes
the running sums one feature further, `finish` turns them into the distance. The micro-kernel in
`tile.py` does everything else. Conventions for zeros, NaN and booleans are those of
``scipy.spatial.distance.cdist``; a step must not tell x from y, so that d(x, y) is d(y, x) to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mlpipe.kernels.simd import Emit, Value


@dataclass(frozen=True, slots=True)
class Given:
    """What a metric may use besides the values: constants, the weight, one number per row of X and Y."""

    constant: Callable[[int], Value]
    weight: Value = None
    x: Value = None
    y: Value = None


Sums = Sequence[Value]
Step = Callable[[Emit, Sums, Sums, Sums, Given], Sums]
Finish = Callable[[Emit, Sums, Given], Value]


def _add(v: Emit, a: Value, b: Value) -> Value:
    return v.add(a, b)


def _first(_v: Emit, sums: Sums, _given: Given) -> Value:
    return sums[0]


@dataclass(frozen=True)
class Metric:
    """A kernel of the family.

    Parameters
    ----------
    key : str
        Unique name; compiled code is kept under it.
    step, finish, merge : callable
        One feature further; sums to distance; two partial sums to one.
    sums : int
        How many running sums `step` keeps.
    features : int
        How many features `step` takes at once.
    weighted : bool
        Whether `step` reads a weight per feature.
    double : bool
        Computed in float64 whatever the output, because the terms cancel.
    """

    key: str
    step: Step = field(compare=False)
    finish: Finish = field(default=_first, compare=False)
    merge: Callable[[Emit, Value, Value], Value] = field(default=_add, compare=False)
    sums: int = 1
    features: int = 1
    weighted: bool = False
    double: bool = False


ONE = 2
"""Where the constants hold a 1 that the compiler cannot see."""


def _larger(v: Emit, a: Value, b: Value) -> Value:
    """The larger; NaN in `b` is passed over."""
    return v.select(v.test(">", b, a), b, a)


def _sqrt(v: Emit, sums: Sums, _given: Given) -> Value:
    return v.sqrt(sums[0])


def _apart(v: Emit, x: Sums, y: Sums, given: Given) -> Value:
    """x · 1 − y, which is x − y to the bit: where adders are units of their own (Zen 4), sums have them to themselves.

    cityblock does 27.5 instead of 23.8 · 10⁹ features a second there; elsewhere it makes no difference.
    """
    return v.fma(x[0], given.constant(ONE), v.neg(y[0]))


def _square(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    d = v.sub(x[0], y[0])
    return [v.fma(d, d, sums[0])]


def _weighted_square(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    d = v.sub(x[0], y[0])
    return [v.fma(v.mul(d, d), given.weight, sums[0])]


def _projected(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    """Squared difference of numbers in two parts: the high ones may cancel, the low ones then count."""
    d = v.add(v.sub(x[0], y[0]), v.sub(x[1], y[1]))
    return [v.fma(d, d, sums[0])]


def _weighted_projected(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    d = v.add(v.sub(x[0], y[0]), v.sub(x[1], y[1]))
    return [v.fma(v.mul(d, d), given.weight, sums[0])]


def _absolute(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [v.add(sums[0], v.abs(_apart(v, x, y, given)))]


def _weighted_absolute(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [v.fma(v.abs(v.sub(x[0], y[0])), given.weight, sums[0])]


def _largest(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [_larger(v, sums[0], v.abs(_apart(v, x, y, given)))]


def _weighted_largest(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    """A weight only says whether the feature counts."""
    larger = _larger(v, sums[0], v.abs(v.sub(x[0], y[0])))
    return [v.select(v.test(">", given.weight, v.constant(0.0)), larger, sums[0])]


def _power(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [v.add(sums[0], v.power(v.abs(v.sub(x[0], y[0])), given.constant(0)))]


def _weighted_power(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [v.fma(v.power(v.abs(v.sub(x[0], y[0])), given.constant(0)), given.weight, sums[0])]


def _root(v: Emit, sums: Sums, given: Given) -> Value:
    return v.power(sums[0], given.constant(1))


def _share(v: Emit, x: Sums, y: Sums) -> Value:
    """|x − y| / (|x| + |y|), 0 where both are 0."""
    size = v.add(v.abs(x[0]), v.abs(y[0]))
    size = v.select(v.test("==", size, v.constant(0.0)), v.constant(1.0), size)
    return v.div(v.abs(v.sub(x[0], y[0])), size)


def _canberra(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    return [v.add(sums[0], _share(v, x, y))]


def _weighted_canberra(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [v.fma(_share(v, x, y), given.weight, sums[0])]


def _braycurtis(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [v.add(sums[0], v.abs(_apart(v, x, y, given))), v.add(sums[1], v.abs(v.add(x[0], y[0])))]


def _weighted_braycurtis(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    w = given.weight
    return [v.fma(v.abs(v.sub(x[0], y[0])), w, sums[0]), v.fma(v.abs(v.add(x[0], y[0])), w, sums[1])]


def _ratio(v: Emit, sums: Sums, _given: Given) -> Value:
    return v.div(sums[0], sums[1])


def _add_where(v: Emit, mask: Value, amount: Value, total: Value) -> Value:
    """One masked add where the processor has it."""
    return v.select(mask, v.add(total, amount), total)


def _mismatch(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    return [_add_where(v, v.test("!=", x[0], y[0]), v.constant(1.0), sums[0])]


def _weighted_mismatch(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [_add_where(v, v.test("!=", x[0], y[0]), given.weight, sums[0])]


def _of_all(v: Emit, sums: Sums, given: Given) -> Value:
    return v.div(sums[0], given.constant(0))


def _dot(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    return [v.fma(x[0], y[0], sums[0])]


def _half_square(v: Emit, sums: Sums, given: Given) -> Value:
    """1 − u·v = |u − v|² / 2 for unit rows; rows without a direction carry NaN."""
    value = v.mul(v.constant(0.5), sums[0])
    value = v.select(v.test(">", value, v.constant(2.0)), v.constant(2.0), value)
    return v.add(value, v.add(given.x, given.y))


def _present(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    zero, there = v.constant(0.0), v.present(x[0], y[0])
    d = v.select(there, v.sub(x[0], y[0]), zero)
    return [v.fma(d, d, sums[0]), _add_where(v, there, v.constant(1.0), sums[1])]


def _scaled_to_all(v: Emit, sums: Sums, given: Given) -> Value:
    return v.sqrt(v.mul(v.div(sums[0], sums[1]), given.constant(0)))


def _haversine(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    half = v.constant(0.5)
    sines = [v.sin(v.mul(half, v.sub(x[f], y[f]))) for f in (0, 1)]
    return [v.fma(sine, sine, total) for sine, total in zip(sines, sums, strict=True)]


def _great_circle(v: Emit, sums: Sums, given: Given) -> Value:
    one = v.constant(1.0)
    h = v.fma(v.mul(given.x, given.y), sums[1], sums[0])
    h = v.select(v.test(">", h, one), one, h)
    return v.mul(v.constant(2.0), v.asin(v.sqrt(h)))


# Set metrics work on rows of 0 and 1: sums of those in one only, and of those in both.


def _differ_and_both(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    return [v.add(sums[0], v.abs(v.sub(x[0], y[0]))), v.fma(x[0], y[0], sums[1])]


def _weighted_differ_and_both(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    w = given.weight
    return [v.fma(v.abs(v.sub(x[0], y[0])), w, sums[0]), v.fma(v.mul(x[0], y[0]), w, sums[1])]


def _not_both(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    return [v.add(sums[0], v.sub(v.constant(1.0), v.mul(x[0], y[0])))]


def _weighted_not_both(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    return [v.fma(v.sub(v.constant(1.0), v.mul(x[0], y[0])), given.weight, sums[0])]


def _jaccard(v: Emit, sums: Sums, _given: Given) -> Value:
    union, zero = v.add(sums[0], sums[1]), v.constant(0.0)
    return v.select(v.test("==", union, zero), zero, v.div(sums[0], union))


def _rogerstanimoto(v: Emit, sums: Sums, given: Given) -> Value:
    return v.div(v.add(sums[0], sums[0]), v.add(given.constant(0), sums[0]))


def _sokalsneath(v: Emit, sums: Sums, _given: Given) -> Value:
    twice = v.add(sums[0], sums[0])
    return v.div(twice, v.add(twice, sums[1]))


def _dice(v: Emit, sums: Sums, _given: Given) -> Value:
    return v.div(sums[0], v.add(v.add(sums[1], sums[1]), sums[0]))


def _numeric_dice(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    """Not only for 0 and 1, as scipy has it: x(1−y) + y(1−x)."""
    one = v.constant(1.0)
    apart = v.add(v.mul(x[0], v.sub(one, y[0])), v.mul(y[0], v.sub(one, x[0])))
    return [v.add(sums[0], apart), v.fma(x[0], y[0], sums[1])]


def _weighted_dice(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    zero = v.constant(0.0)
    both = v.both(v.test("!=", x[0], zero), v.test("!=", y[0], zero))
    return [*_weighted_mismatch(v, sums, x, y, given), _add_where(v, both, given.weight, sums[1])]


def _contingency(v: Emit, sums: Sums, x: Sums, y: Sums, given: Given) -> Sums:
    w, half = given.weight, v.constant(0.5)
    in_x, in_y, not_x, not_y = (
        v.test(">", x[0], half),
        v.test(">", y[0], half),
        v.test("<", x[0], half),
        v.test("<", y[0], half),
    )
    masks = (v.both(in_x, in_y), v.both(in_x, not_y), v.both(not_x, in_y), v.both(not_x, not_y))
    return [_add_where(v, mask, w, total) for total, mask in zip(sums, masks, strict=True)]


def _yule(v: Emit, sums: Sums, _given: Given) -> Value:
    both, x_only, y_only, neither = sums
    half, zero = v.mul(x_only, y_only), v.constant(0.0)
    value = v.div(v.add(half, half), v.fma(both, neither, half))
    return v.select(v.test("==", half, zero), zero, value)


_JS_SERIES = 14
"""Terms of the series below |t| = 1/4: the first one left out is under 2⁻⁵⁶ / 400 of the sum."""


def _jensenshannon(v: Emit, sums: Sums, x: Sums, y: Sums, _given: Given) -> Sums:
    """p ln(p/m) + q ln(q/m) = m ((1+t) ln(1+t) + (1−t) ln(1−t)), t = (p−q)/(p+q).

    Written so because the two terms of the usual form cancel: near-identical rows then come out
    negative or with no digit right. The series is Σ t²ᵏ / (k (2k−1)).
    """
    zero, one = v.constant(0.0), v.constant(1.0)
    total = v.add(x[0], y[0])
    t = v.abs(v.div(v.sub(x[0], y[0]), v.select(v.test("==", total, zero), one, total)))
    square = v.mul(t, t)
    series = v.constant(1.0 / (_JS_SERIES * (2 * _JS_SERIES - 1)))
    for k in range(_JS_SERIES - 1, 0, -1):
        series = v.fma(series, square, v.constant(1.0 / (k * (2 * k - 1))))
    above, below = v.add(one, t), v.sub(one, t)
    nothing = v.test("==", below, zero)
    low = v.select(nothing, zero, v.mul(below, v.log(v.select(nothing, one, below))))
    logs = v.fma(above, v.log(above), low)
    value = v.select(v.test("<", t, v.constant(0.25)), v.mul(square, series), logs)
    return [v.fma(v.mul(v.constant(0.5), total), value, sums[0])]


def _root_of_half(v: Emit, sums: Sums, given: Given) -> Value:
    """Rows that are no distribution carry infinity, which wins over NaN in the other row."""
    improper = v.add(given.x, given.y)
    value = v.sqrt(v.mul(v.constant(0.5), sums[0]))
    return v.select(v.test(">", improper, v.constant(0.0)), improper, value)


_TABLE = [
    Metric("euclidean", _square, _sqrt),
    Metric("euclidean+w", _weighted_square, _sqrt, weighted=True),
    Metric("sqeuclidean", _square),
    Metric("sqeuclidean+w", _weighted_square, weighted=True),
    Metric("mahalanobis", _projected, _sqrt, features=2, double=True),
    Metric("mahalanobis+w", _weighted_projected, _sqrt, features=2, weighted=True, double=True),
    Metric("cityblock", _absolute),
    Metric("cityblock+w", _weighted_absolute, weighted=True),
    Metric("chebyshev", _largest, merge=_larger),
    Metric("chebyshev+w", _weighted_largest, merge=_larger, weighted=True),
    Metric("minkowski", _power, _root, double=True),
    Metric("minkowski+w", _weighted_power, _root, weighted=True, double=True),
    Metric("canberra", _canberra),
    Metric("canberra+w", _weighted_canberra, weighted=True),
    Metric("braycurtis", _braycurtis, _ratio, sums=2),
    Metric("braycurtis+w", _weighted_braycurtis, _ratio, sums=2, weighted=True),
    Metric("hamming", _mismatch, _of_all),
    Metric("hamming+w", _weighted_mismatch, _of_all, weighted=True),
    Metric("dot", _dot),
    Metric("unit", _square, _half_square),
    Metric("nan_euclidean", _present, _scaled_to_all, sums=2),
    Metric("haversine", _haversine, _great_circle, sums=2, features=2),
    Metric("jaccard", _differ_and_both, _jaccard, sums=2),
    Metric("jaccard+w", _weighted_differ_and_both, _jaccard, sums=2, weighted=True),
    Metric("rogerstanimoto", _absolute, _rogerstanimoto),
    Metric("rogerstanimoto+w", _weighted_absolute, _rogerstanimoto, weighted=True),
    Metric("russellrao", _not_both, _of_all),
    Metric("russellrao+w", _weighted_not_both, _of_all, weighted=True),
    Metric("sokalsneath", _differ_and_both, _sokalsneath, sums=2),
    Metric("sokalsneath+w", _weighted_differ_and_both, _sokalsneath, sums=2, weighted=True),
    Metric("dice", _numeric_dice, _dice, sums=2),
    Metric("dice+w", _weighted_dice, _dice, sums=2, weighted=True),
    Metric("yule+w", _contingency, _yule, sums=4, weighted=True),
    Metric("jensenshannon", _jensenshannon, _root_of_half, double=True),
]

METRICS: dict[str, Metric] = {metric.key: metric for metric in _TABLE}
"""Every kernel by its key; ``+w`` marks the one that reads a weight per feature."""
