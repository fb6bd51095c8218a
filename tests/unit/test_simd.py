"""Vectors of every width give the same bytes, for every kernel."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

from mlpipe.api import pairwise_distances
from mlpipe.kernels import simd
from mlpipe.kernels.distances import FEATURES
from mlpipe.kernels.metrics import METRICS
from mlpipe.stages.metrics import DEFINITIONS, Measure

NARROWER = [bits for bits in (256, 128) if bits < simd.host_width().bits]
COUNTS = (1, 3, 33, 70, FEATURES + 7)


def cases() -> list[tuple[str, dict, int]]:
    """Metric, parameters and number of features, so that every kernel is reached."""
    random = np.random.default_rng(8)
    found = []
    for definition in DEFINITIONS:
        name = definition.name
        for features in (definition.features,) if definition.features else COUNTS:
            given: dict = {"p": 2.5} if name == "minkowski" else {}
            if name == "seuclidean":
                given = {"V": random.uniform(0.5, 2, features)}
            if name == "mahalanobis":
                features = min(features, 70)
                indefinite = random.normal(size=(features, features))
                found.append((name, {"VI": indefinite + indefinite.T}, features))
                given = {"VI": np.eye(features) + 1 / features}
            found.append((name, given, features))
            if "w" in definition.accepts.split():
                found.append((name, {**given, "w": random.integers(0, 3, features) + 0.25}, features))
    return found


@cache
def digests() -> dict[str, str]:
    """A digest of the distances of every case, in both precisions; with narrow vectors in one, for compiling is slow.

    It is another one with 256 bits than with 128.
    """
    random = np.random.default_rng(11)
    result = {}
    for number, (name, given, features) in enumerate(cases()):
        x, y = (np.round(random.normal(size=(rows, features)), 1) for rows in (7, 145))
        if name == "jensenshannon":
            x, y = abs(x), abs(y)
        y[:5] = x[:5]
        x[5, features // 2], y[6, -1] = np.inf, np.nan
        either = {128: ("f8", "f4")[number % 2], 256: ("f4", "f8")[number % 2]}
        for dtype in [either[simd.host_width().bits]] if simd.host_width().bits in either else ("f4", "f8"):
            with np.errstate(invalid="ignore"):
                values = pairwise_distances(x, y, name, dtype=dtype, **given)
            key = f"{number}: {name} {' '.join(given)} {features} {dtype}"
            result[key] = hashlib.sha256(values.tobytes()).hexdigest()
    return result


def digests_at(bits: int) -> dict[str, str]:
    """The same in a process of its own, with vectors of that width; it says which it used."""
    code = (
        "import json; from mlpipe.kernels import simd; from tests.unit import test_simd as t;"
        "print(json.dumps([simd.host_width().bits, t.digests()]))"
    )
    environment = {**os.environ, simd.SIMD_VARIABLE: str(bits)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used, result = json.loads(done.stdout)
    assert used == bits
    return result


def test_cases_reach_every_kernel():
    reached = {Measure(name, **given).kernel for name, given, _ in cases()}
    assert reached | {"mahalanobis+w"} == set(METRICS)  # that one is chosen for an indefinite VI, which is among them


def test_results_vary():
    """So that equal digests mean something."""
    assert len(set(digests().values())) > len(METRICS)


@pytest.mark.timeout(900)  # a cold cache: minutes of compiling
@pytest.mark.skipif(not NARROWER, reason="this processor has 128-bit vectors only: there are no narrower ones")
def test_narrower_vectors_give_the_same_bytes():
    with ThreadPoolExecutor() as pool:
        narrow = list(pool.map(digests_at, NARROWER))
    wide = digests()
    for bits, result in zip(NARROWER, narrow, strict=True):
        assert [key for key in result if wide[key] != result[key]] == [], f"{bits} bits"
        assert len(result) == len(cases())


@pytest.mark.parametrize(("asked", "least"), [("", 512), ("1024", 512), ("64", 512), ("256", 256), ("128", 128)])
def test_width_asked_for(asked, least, monkeypatch):
    host = simd.host_width().bits
    monkeypatch.setenv(simd.SIMD_VARIABLE, asked)
    assert simd.host_width.__wrapped__().bits == min(host, least)


def test_lanes():
    assert [simd.AVX512.lanes(4), simd.AVX512.lanes(8), simd.AVX2.lanes(4), simd.NEON.lanes(8)] == [16, 8, 8, 2]


def test_describe_agrees_with_the_width():
    width = simd.host_width()
    facts = simd.describe()
    assert (facts["bits"], facts["name"]) == (width.bits, width.name)
    assert facts["float32_lanes"] == 2 * facts["float64_lanes"] == width.bits // 32
