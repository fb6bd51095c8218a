"""`mlpipe distances`: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

from mlpipe.cli.main import main
from mlpipe.npy_format import build_header
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
Bytes = Callable[..., tuple[int, bytes]]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two inputs in the working directory, whose rows differ and are never negative."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(5)
    np.save("X.npy", random.random((7, 5)).astype("f4"))
    np.save("Y.npy", random.random((4, 5)).astype("f4"))


@pytest.fixture
def stream(capfdbinary: pytest.CaptureFixture[bytes]) -> Bytes:
    """Run `mlpipe ARGUMENTS…` within this process; its exit code, and the bytes on stdout."""

    def call(*arguments: str | Path) -> tuple[int, bytes]:
        capfdbinary.readouterr()
        return main([str(argument) for argument in arguments]), capfdbinary.readouterr().out

    return call


def file_of_holes(name: str, *shape: int) -> None:
    """Zeros that take no room on the disk."""
    header = build_header(shape, "<f8")
    Path(name).write_bytes(header)
    os.truncate(name, len(header) + 8 * math.prod(shape))


def inputs() -> tuple[np.ndarray, np.ndarray]:
    return np.load("X.npy").astype("f8"), np.load("Y.npy").astype("f8")


def test_a_file(run: Run) -> None:
    code, out, err = run("distances", "X.npy", "Y.npy", "-o", "D.npy")
    assert (code, out) == (0, "")
    assert err.endswith("mlpipe: wrote D.npy: 7 x 4 float32 euclidean distances\n")
    found = np.load("D.npy")
    assert (found.shape, found.dtype) == ((7, 4), np.float32)
    np.testing.assert_allclose(found, scipy_distance.cdist(*inputs()), rtol=1e-6)
    assert sorted(os.listdir()) == ["D.npy", "X.npy", "Y.npy"]


@pytest.mark.parametrize("arguments", [["X.npy", "Y.npy"], ["X.npy"], ["X.npy", "--condensed"]])
def test_stdout_gets_the_bytes_of_the_file(stream: Bytes, arguments: list[str]) -> None:
    assert stream("distances", *arguments, "-o", "D.npy")[0] == 0
    code, out = stream("distances", *arguments, "-o", "-")
    assert code == 0
    assert out == Path("D.npy").read_bytes()
    saved = io.BytesIO()
    np.save(saved, np.load("D.npy"))
    assert out == saved.getvalue()


def test_without_an_output_a_summary_is_shown(run: Run) -> None:
    code, out, err = run("-q", "distances", "X.npy", "Y.npy")
    expected = scipy_distance.cdist(*inputs())
    row, column = np.unravel_index(expected.argmin(), expected.shape)
    facts = dict(line.split(None, 1) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert list(facts) == ["metric", "shape", "dtype", "distances", "smallest", "mean", "largest"]
    assert (facts["metric"], facts["shape"], facts["dtype"], facts["distances"]) == (
        "euclidean", "7 x 4", "float32", "28",
    )  # fmt: skip
    assert float(facts["smallest"].split()[0]) == pytest.approx(expected.min(), rel=1e-6)
    assert facts["smallest"].endswith(f"rows {row} and {column}")
    assert float(facts["mean"]) == pytest.approx(expected.mean(), rel=1e-6)
    assert float(facts["largest"].split()[0]) == pytest.approx(expected.max(), rel=1e-6)


def test_the_summary_of_x_alone_counts_each_pair_once(run: Run) -> None:
    code, out, _ = run("distances", "X.npy", "--json")
    facts = json.loads(out)
    expected = scipy_distance.pdist(inputs()[0])
    first, second = np.triu_indices(7, 1)
    assert code == 0
    assert (facts["shape"], facts["pairs"], facts["missing"], facts["infinite"]) == ([7, 7], 21, 0, 0)
    assert facts["minimum"] == pytest.approx(expected.min(), rel=1e-6)
    assert facts["mean"] == pytest.approx(expected.mean(), rel=1e-6)
    assert facts["maximum"] == pytest.approx(expected.max(), rel=1e-6)
    assert facts["closest"] == [first[expected.argmin()], second[expected.argmin()]]
    assert facts["farthest"] == [first[expected.argmax()], second[expected.argmax()]]


def test_the_summary_says_what_is_missing_or_infinite(run: Run) -> None:
    np.save("odd.npy", np.array([[0.0], [np.nan], [np.inf], [3.0]]))
    code, out, _ = run("distances", "odd.npy")
    facts = dict(line.split(None, 1) for line in out.splitlines())
    assert (code, facts["missing"], facts["infinite"]) == (0, "3", "2")
    assert facts["smallest"] == "3  rows 0 and 3"
    np.save("none.npy", np.full((2, 3), np.nan))
    code, out, _ = run("distances", "none.npy", "--json")
    facts = json.loads(out)
    assert (code, facts["pairs"], facts["missing"], facts["mean"], facts["closest"]) == (0, 1, 1, None, None)


def test_json_of_a_run_that_writes(run: Run) -> None:
    code, out, _ = run("distances", "X.npy", "Y.npy", "-o", "D.npy", "--json")
    assert code == 0
    assert json.loads(out) == {
        "shape": [7, 4], "dtype": "float32", "metric": "euclidean", "output": "D.npy", "bytes": 112,
    }  # fmt: skip


@pytest.mark.parametrize("metric", ["euclidean", "braycurtis", "cosine", "dot"])
def test_condensed_is_pdist(run: Run, metric: str) -> None:
    X, _ = inputs()
    assert run("distances", "X.npy", "--condensed", "--metric", metric, "-o", "D.npy").code == 0
    found = np.load("D.npy")
    full = X @ X.T if metric == "dot" else scipy_distance.squareform(scipy_distance.pdist(X, metric))
    np.testing.assert_allclose(found, full[np.triu_indices(7, 1)], rtol=1e-5, atol=1e-7)
    assert run("distances", "X.npy", "--metric", metric, "-o", "whole.npy").code == 0
    assert found.tobytes() == np.load("whole.npy")[np.triu_indices(7, 1)].tobytes()


def test_condensed_is_for_one_file(run: Run) -> None:
    code, out, err = run("distances", "X.npy", "Y.npy", "--condensed", "-o", "D.npy")
    assert (code, out, err) == (2, "", "mlpipe: error: --condensed is for X against itself; leave Y out\n")


@pytest.mark.parametrize(
    ("flags", "metric", "parameters"),
    [
        (["--metric", "c"], "cityblock", {}),
        (["--metric", "cityblock", "--weights", "w.npy"], "cityblock", {"w": "w"}),
        (["-m", "minkowski", "--p", "3"], "minkowski", {"p": 3}),
        (["-m", "minkowski", "--p", "0.5", "--weights", "w.npy"], "minkowski", {"p": 0.5, "w": "w"}),
        (["-m", "seuclidean", "--variance", "V.npy"], "seuclidean", {"V": "V"}),
        (["-m", "seuclidean"], "seuclidean", {}),
        (["-m", "mahalanobis", "--inverse-covariance", "VI.npy"], "mahalanobis", {"VI": "VI"}),
        (["-m", "mahalanobis"], "mahalanobis", {}),
        (["-m", "jensenshannon"], "jensenshannon", {}),
    ],
)
def test_metrics_take_their_parameters_from_files(
    run: Run, flags: list[str], metric: str, parameters: dict[str, Any]
) -> None:
    random = np.random.default_rng(9)
    basis = random.normal(size=(5, 5))
    files = {"w": np.array([0, 1, 2, 3, 4], ">i2"), "V": random.uniform(1, 2, 5), "VI": basis @ basis.T + np.eye(5)}
    for name, values in files.items():
        np.save(f"{name}.npy", np.asfortranarray(values))
    given = {name: files.get(value, value) for name, value in parameters.items()}
    assert run("distances", "X.npy", "Y.npy", "--dtype", "float64", *flags, "-o", "D.npy").code == 0
    np.testing.assert_allclose(np.load("D.npy"), scipy_distance.cdist(*inputs(), metric, **given), rtol=1e-11)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--metric", "euclidaen"], 2, ["unknown metric 'euclidaen'", "did you mean euclidean?"]),
        (["--weights", "Y.npy"], 4, ["Y.npy has shape (4, 5)", "w of 5 features must have (5,)"]),
        (["--weights", "long.npy"], 4, ["long.npy has shape (6,)", "5 features"]),
        (["--weights", "negative.npy"], 4, ["w must be finite and not negative", "w[1] is -1"]),
        (["--weights", "missing.npy"], 3, ["missing.npy: no such file"]),
        (["--variance", "five.npy"], 2, ["euclidean takes w, not V"]),
        (["-m", "seuclidean", "--variance", "long.npy"], 4, ["long.npy has shape (6,)", "(5,)"]),
        (["-m", "mahalanobis", "--inverse-covariance", "X.npy"], 4, ["X.npy has shape (7, 5)", "(5, 5)"]),
        (["-m", "mahalanobis", "--inverse-covariance", "huge.npy"], 4, ["huge.npy has shape (1000000, 1000000)"]),
        (["-m", "minkowski", "--p", "0"], 2, ["p must be above 0, not 0"]),
        (["-m", "minkowski", "--p", "nan"], 2, ["p must be above 0, not nan"]),
        (["-m", "minkowski", "--p", "two"], 2, ["--p two"]),
        (["-m", "haversine"], 4, ["haversine takes rows of 2 features, not 5"]),
        (["--dtype", "float16"], 2, ["float16"]),
    ],
)
def test_parameters_that_do_not_fit(run: Run, flags: list[str], code: int, words: list[str]) -> None:
    np.save("long.npy", np.ones(6))
    np.save("five.npy", np.ones(5))
    file_of_holes("huge.npy", 1_000_000, 1_000_000)
    np.save("negative.npy", np.array([1, -1, 1, 1, 1]))
    before = sorted(os.listdir())
    ended = run("distances", "X.npy", "Y.npy", *flags, "-o", "D.npy")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("mlpipe: error: ")
    assert ended.err.count("\n") == 1
    assert [word for word in words if word not in ended.err] == []
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("metric", ["seuclidean", "mahalanobis"])
def test_parameters_that_the_data_cannot_give(run: Run, metric: str) -> None:
    np.save("flat.npy", np.ones((9, 3)))
    code, _, err = run("distances", "flat.npy", "-m", metric, "-o", "D.npy")
    if metric == "seuclidean":  # 0/0, as in scipy
        assert code == 0
        assert np.isnan(np.load("D.npy")).all()
    else:
        assert code == 4
        assert "singular" in err
        assert not os.path.exists("D.npy")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("<f4", "f4"),
        (">f4", "f4"),
        ("f2", "f4"),
        (">f2", "f4"),
        (">f8", "f8"),
        ("i1", "f8"),
        (">u8", "f8"),
        ("?", "f8"),
    ],
)
def test_dtypes_and_orders(run: Run, dtype: str, expected: str, order: str) -> None:
    values = np.random.default_rng(3).integers(0, 2, (300, 9))
    np.save("A.npy", np.asarray(values, dtype, order=order))
    np.save("B.npy", np.asarray(values[:50], dtype))
    assert run("distances", "A.npy", "B.npy", "-o", "D.npy").code == 0
    found = np.load("D.npy")
    assert found.dtype == np.dtype(expected)
    np.testing.assert_allclose(found, scipy_distance.cdist(values, values[:50]), rtol=1e-6)


def test_dtype_of_the_computation(run: Run) -> None:
    for wanted in ("float64", "float32"):
        assert run("distances", "X.npy", "Y.npy", "--dtype", wanted, "--force", "-o", "D.npy").code == 0
        assert np.load("D.npy").dtype == wanted
    np.save("wide.npy", np.load("Y.npy").astype("f8"))
    assert run("distances", "X.npy", "wide.npy", "--force", "-o", "D.npy").code == 0
    assert np.load("D.npy").dtype == np.float64


def test_one_dimension_is_one_feature(run: Run) -> None:
    np.save("a.npy", np.arange(3.0))
    np.save("b.npy", np.array([10, 20]))
    code, _, err = run("distances", "a.npy", "b.npy", "-o", "D.npy")
    assert code == 0
    assert "mlpipe: a.npy and b.npy are one-dimensional: every element is taken as a row of one feature\n" in err
    assert np.load("D.npy").tolist() == [[10, 20], [9, 19], [8, 18]]
    code, _, err = run("-q", "distances", "a.npy", "-m", "cityblock", "--condensed", "-o", "C.npy")
    assert (code, err) == (0, "")
    assert np.load("C.npy").tolist() == [1, 2, 1]


@pytest.mark.parametrize(("rows", "others"), [(0, 4), (4, 0), (0, 0), (0, None), (1, None)])
@pytest.mark.parametrize("features", [0, 3])
def test_no_rows(run: Run, rows: int, others: int | None, features: int) -> None:
    np.save("A.npy", np.ones((rows, features)))
    files = ["A.npy"]
    if others is not None:
        np.save("B.npy", np.ones((others, features)))
        files.append("B.npy")
    assert run("distances", *files, "-o", "D.npy").code == 0
    assert np.array_equal(np.load("D.npy"), np.zeros((rows, rows if others is None else others)))
    code, out, _ = run("distances", *files)
    facts = dict(line.split(None, 1) for line in out.splitlines())
    assert (code, facts["smallest"], facts["mean"], facts["largest"]) == (0, "-", "-", "-")
    if others is None:
        assert run("distances", "A.npy", "--condensed", "-o", "C.npy").code == 0
        assert np.load("C.npy").shape == (0,)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((3, 4), (2, 5), ["A.npy (3, 4)", "B.npy (2, 5)", "same number of features"]),
        ((3, 4), (5,), ["A.npy (3, 4)", "B.npy (5,)"]),
        ((3, 1), (5,), ["A.npy (3, 1)", "B.npy (5,)"]),
        ((2, 3, 4), (2, 12), ["A.npy has shape (2, 3, 4)", "reshape it to two dimensions"]),
        ((2, 12), (2, 3, 4), ["B.npy has shape (2, 3, 4)", "reshape it to two dimensions"]),
        ((), (3,), ["A.npy"]),
    ],
)
def test_shapes_that_do_not_fit(run: Run, first: tuple[int, ...], second: tuple[int, ...], words: list[str]) -> None:
    np.save("A.npy", np.zeros(first))
    np.save("B.npy", np.zeros(second))
    code, out, err = run("distances", "A.npy", "B.npy", "-o", "D.npy")
    assert (code, out) == (4, "")
    assert err.count("\n") == 1
    assert [word for word in words if word not in err] == []
    assert not os.path.exists("D.npy")


def test_stdin_cannot_be_an_input(run: Run) -> None:
    code, _, err = run("distances", "-", "Y.npy")
    assert code == 2
    assert "stdin cannot; name a file" in err


def test_an_existing_output_is_kept_without_force(run: Run) -> None:
    Path("D.npy").write_bytes(b"old")
    code, out, err = run("distances", "X.npy", "Y.npy", "-o", "D.npy")
    assert (code, out) == (5, "")
    assert err == "mlpipe: error: D.npy: exists; use --force to replace it, or write to another file\n"
    assert Path("D.npy").read_bytes() == b"old"
    assert run("distances", "X.npy", "Y.npy", "-o", "D.npy", "-f").code == 0
    assert np.load("D.npy").shape == (7, 4)


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hard link", "from a directory", "Y", "parameter"])
def test_an_input_is_never_overwritten(run: Run, way: str) -> None:
    np.save("w.npy", np.ones(5))
    os.mkdir("below")
    target = {"same": "X.npy", "Y": "Y.npy", "relative": "below/../X.npy", "parameter": "w.npy"}.get(way, "other.npy")
    if way == "symlink":
        os.symlink("X.npy", target)
    elif way == "hard link":
        os.link("X.npy", target)
    elif way == "from a directory":
        os.symlink(os.path.abspath("X.npy"), target := "below/X.npy")
    before = {path: Path(path).read_bytes() for path in ("X.npy", "Y.npy", "w.npy")}
    code, _, err = run("distances", "X.npy", "Y.npy", "--weights", "w.npy", "--force", "-o", target)
    assert code == 5
    assert err == f"mlpipe: error: {target}: also an input, which writing it would destroy; write to another file\n"
    assert before == {path: Path(path).read_bytes() for path in before}


def test_redirecting_onto_an_input_is_refused(spawn: Run) -> None:
    before = Path("X.npy").read_bytes()
    with open("X.npy", "r+b") as file:
        code, _, err = spawn("distances", "X.npy", "Y.npy", "-o", "-", stdout=file)
    assert code == 5
    assert "also an input" in err
    assert Path("X.npy").read_bytes() == before


@pytest.mark.parametrize("target", ["", ".", "/", "below", "missing/D.npy", "/dev/null", "X.npy/D.npy", "D.npy/"])
def test_outputs_that_cannot_be(run: Run, target: str) -> None:
    os.mkdir("below")
    before = sorted(os.listdir())
    code, out, err = run("distances", "X.npy", "Y.npy", "--force", "-o", target)
    assert (code, out) == (5, "")
    assert err.count("\n") == 1
    assert err.startswith(f"mlpipe: error: {target or repr(target)}")
    assert sorted(os.listdir()) == before


def test_more_than_fits_the_disk_is_refused_before_any_work(run: Run) -> None:
    file_of_holes("many.npy", 4_000_000, 2)
    assert shutil.disk_usage(".").free < 8 * 4_000_000**2
    for flags in ([], ["--dry-run"], ["--condensed"]):
        code, out, err = run("distances", "many.npy", "-o", "D.npy", *flags)
        assert (code, out) == (5, "")
        need = "58.2 TiB" if flags == ["--condensed"] else "116 TiB"
        assert err.startswith(f"mlpipe: error: D.npy: needs {need}, ")
        assert " free; " in err
        assert err.endswith("mlpipe neighbors gives the k nearest without the matrix\n")
        assert sorted(os.listdir()) == ["X.npy", "Y.npy", "many.npy"]


@pytest.mark.parametrize("name", ["two words.npy", "two\nlines.npy", "ünïcödé 日.npy", "-dash.npy", "~.npy", "$HOME"])
def test_names_of_files(run: Run, name: str) -> None:
    shutil.copy("X.npy", name)
    os.mkdir("out")
    assert run("distances", "-o", f"out/{name}", "--", name, "Y.npy").code == 0
    np.testing.assert_allclose(np.load(f"out/{name}"), scipy_distance.cdist(*inputs()), rtol=1e-6)
    code, _, err = run("distances", "-o", f"out/{name}", "--", name, "Y.npy")
    assert code == 5
    assert err.count("\n") == 1


def test_the_example_in_the_help_runs(run: Run) -> None:
    _, out, _ = run("distances", "--help")
    example = " ".join(out.split()).split("Example: mlpipe ")[1].split(" Arguments:")[0]
    assert run(*example.split()).code == 0
    np.testing.assert_allclose(np.load("D.npy"), scipy_distance.cdist(*inputs(), "cityblock"), rtol=1e-6)


def test_the_digits(run: Run) -> None:
    digits = ROOT / "examples/data/digits.npy"
    assert run("distances", digits, "--condensed", "-o", "D.npy").code == 0
    assert np.array_equal(np.load("D.npy"), scipy_distance.pdist(np.load(digits)))
