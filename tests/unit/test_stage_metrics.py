"""Metrics by name: aliases, parameters, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.metrics import METRICS
from mlpipe.readers.array import ArraySource
from mlpipe.stages.metrics import DEFINITIONS, Measure, find
from mlpipe.stages.shapes import check_rows, output_dtype
from tests import naive

ALIASES = [(alias, name) for name, aliases in naive.ALIASES.items() for alias in aliases]
SCIPY = sorted(info.canonical_name for info in scipy_distance._METRICS.values())
SCIPY_ALIASES = [
    (alias, info.canonical_name) for info in scipy_distance._METRICS.values() for alias in sorted(info.aka)
]


# Names.


def test_every_metric_of_scipy_and_three_more():
    assert sorted(definition.name for definition in DEFINITIONS) == sorted(
        [*SCIPY, "dot", "haversine", "nan_euclidean"]
    )


@pytest.mark.parametrize(("alias", "name"), [*ALIASES, *SCIPY_ALIASES])
def test_aliases(alias, name):
    assert find(alias).name == name
    assert find(alias.upper()).name == name


def test_no_name_means_two_metrics():
    names = [name for definition in DEFINITIONS for name in (definition.name, *definition.aliases)]
    assert len(names) == len(set(names))
    assert names == [name.lower() for name in names]


@pytest.mark.parametrize(
    ("typed", "meant"), [("euclidian", "euclidean"), ("cosin", "cosine"), ("manhatan", None), ("Jacard", "jaccard")]
)
def test_did_you_mean(typed, meant):
    with pytest.raises(UsageError) as caught:
        find(typed)
    message = str(caught.value)
    assert repr(typed) in message
    assert (f"did you mean {meant}?" in message) == (meant is not None)


def test_unlike_anything_lists_all():
    with pytest.raises(UsageError) as caught:
        Measure("§§§")
    assert caught.value.exit_code == 2
    assert all(definition.name in str(caught.value) for definition in DEFINITIONS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.name)
def test_definitions_are_complete(definition):
    assert definition.summary
    assert definition.kernel in METRICS
    assert set(definition.accepts.split()) <= {"p", "w", "V", "VI"}
    if "w" in definition.accepts.split():
        assert Measure(definition.name, w=[1.0]).kernel in METRICS


# Parameters.

GIVEN = {"p": 3.0, "w": [1.0, 2.0], "V": [1.0, 2.0], "VI": [[1.0, 0.0], [0.0, 1.0]]}
TAKES = {
    **dict.fromkeys(naive.WEIGHTED, "w"),
    "minkowski": "p w",
    "seuclidean": "V",
    "mahalanobis": "VI",
    "jensenshannon": "",
    "dot": "",
    "haversine": "",
    "nan_euclidean": "",
}


@pytest.mark.parametrize("parameter", GIVEN)
@pytest.mark.parametrize("name", sorted(TAKES))
def test_which_parameters_a_metric_takes(name, parameter):
    if parameter in TAKES[name].split():
        Measure(name, **{parameter: GIVEN[parameter]})
        return
    with pytest.raises(UsageError, match=f"^metric {name} takes .*, not {parameter}"):
        Measure(name, **{parameter: GIVEN[parameter]})


@pytest.mark.parametrize("p", [0, -1, -np.inf, np.nan, -0.0])
def test_order_that_is_none(p):
    with pytest.raises(UsageError, match="above 0"):
        Measure("minkowski", p=p)


@pytest.mark.parametrize(
    ("p", "kernel"),
    [
        (1, "cityblock"),
        (2, "euclidean"),
        (None, "euclidean"),
        (np.inf, "chebyshev"),
        (3, "minkowski"),
        (0.5, "minkowski"),
    ],
)
def test_orders_that_are_other_metrics(p, kernel):
    assert Measure("minkowski", p=p).kernel == kernel
    assert Measure("minkowski", p=p, w=[1.0]).kernel == f"{kernel}+w"


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_weight_that_is_none(value):
    with pytest.raises(InputError, match=r"w\[1\] is") as caught:
        Measure("euclidean", w=[1.0, value, 2.0])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", ["w", "V", "VI"])
@pytest.mark.parametrize(
    "value", [np.array(["a", "b"]), np.array([1j, 2]), np.array([None, 1]), np.ones((2, 2, 2)), np.float64(1)]
)
def test_parameter_that_is_no_array_of_numbers(name, value):
    metric = {"w": "euclidean", "V": "seuclidean", "VI": "mahalanobis"}[name]
    with pytest.raises(InputError, match=f"^{name} must be a "):
        Measure(metric, **{name: value})


@pytest.mark.parametrize(
    ("metric", "given"),
    [
        ("euclidean", {"w": np.ones(3)}),
        ("seuclidean", {"V": np.ones(5)}),
        ("mahalanobis", {"VI": np.eye(3)}),
        ("mahalanobis", {"VI": np.ones((4, 3))}),
        ("haversine", {}),
    ],
)
def test_features_that_do_not_fit(metric, given):
    with pytest.raises(InputError, match=r"4 features|not 4"):
        Measure(metric, **given).check_features(4)


@pytest.mark.parametrize("dtype", ["?", "i1", ">i8", "u4", "f2", ">f4", "f8"])
def test_parameters_of_any_type_are_converted(dtype):
    wide = np.ones((3, 4), dtype)
    measure = Measure("euclidean", w=wide[:, 1])
    assert measure.w.dtype == np.float64
    assert measure.w.flags.c_contiguous
    assert measure.w.tolist() == [1.0] * 3
    measure.check_features(3)


def test_parameters_are_not_changed_where_they_are():
    weights = np.array([1.0, 2.0])
    Measure("minkowski", p=1.5, w=weights)
    assert weights.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.name)
@pytest.mark.parametrize("output", ["f4", "f8"])
def test_precision_of_the_computation(definition, output):
    wide = definition.name in ("jensenshannon", "mahalanobis", "minkowski") or output == "f8"
    measure = Measure(definition.name, p=3.0 if definition.name == "minkowski" else None)
    computed = measure.compute_dtype(np.dtype(output))
    assert computed == (np.float64 if wide else np.float32)


# Shapes and types of X and Y.


def sources(*shapes):
    return [ArraySource(np.zeros(shape), name) for shape, name in zip(shapes, ("X", "Y"), strict=False)]


@pytest.mark.parametrize(
    ("shapes", "features"),
    [
        ([(3, 4)], 4),
        ([(3, 4), (5, 4)], 4),
        ([(3,), (5,)], 1),
        ([(0, 4), (5, 4)], 4),
        ([(3, 0), (2, 0)], 0),
        ([(0,)], 1),
    ],
)
def test_features_that_sources_share(shapes, features):
    assert check_rows(sources(*shapes)) == features


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(3, 4), (3, 5)], ["X (3, 4)", "Y (3, 5)"]),
        ([(3,), (3, 1)], ["X (3,)", "Y (3, 1)"]),
        ([(3, 4, 5)], ["X", "(3, 4, 5)", "two dimensions"]),
        ([(3, 4), (2, 2, 2)], ["Y", "(2, 2, 2)"]),
    ],
)
def test_rows_that_do_not_fit(shapes, words):
    with pytest.raises(InputError) as caught:
        check_rows(sources(*shapes))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["f4"], "f4"),
        (["f2"], "f4"),
        (["f2", ">f4"], "f4"),
        (["f4", "f8"], "f8"),
        (["f4", "i1"], "f8"),
        (["?"], "f8"),
        (["u2", "u2"], "f8"),
    ],
)
def test_type_that_comes_out(inputs, expected):
    assert output_dtype([np.dtype(dtype) for dtype in inputs]) == np.dtype(expected)


@pytest.mark.parametrize("wanted", ["float32", np.float32, ">f4", np.dtype("<f4")])
def test_type_that_is_wanted_is_native(wanted):
    found = output_dtype([np.dtype("f8")], wanted)
    assert (found, found.isnative) == (np.float32, True)


@pytest.mark.parametrize("wanted", ["f2", "i4", "c8", "?", "U3", "O"])
def test_type_that_cannot_be_wanted(wanted):
    with pytest.raises(UsageError, match="float32 or float64, not"):
        output_dtype([np.dtype("f8")], wanted)
