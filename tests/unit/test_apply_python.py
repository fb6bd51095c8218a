"""``apply-python``: functions of every kind, compiled or not; and one clear line for everything that can go wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.buffers import Array
from mlpipe.chain import Chain
from mlpipe.errors import InputError, InputMissingError, MlpipeError, OutputError, UsageError
from mlpipe.registry import make
from mlpipe.stages.apply_python import ApplyPython
from mlpipe.stages.calling import cast_into
from tests.flow import flow

X = (np.random.default_rng(5).normal(size=(2503, 6)) * 10).astype(np.float32)

FUNCTIONS = """\
import numpy as np
import numba

def twice(x: float):
    return x * 2

def half_up(x: "np.float32"):
    return int(np.floor(x + 0.5))

def positive(x: float):
    return x > 0

def spread(row: np.ndarray):
    return row.max() - row.min()

def turned(row: np.ndarray):
    return row[::-1]

def ends(row: np.ndarray):
    return row[0], row[-1] > 0, 3

def first_two(row: np.ndarray):
    return row[:2]

def first_six(row: np.ndarray):
    return row[:6]

def as_it_is(batch: np.ndarray[tuple[int, int], np.dtype[np.float32]]):
    return batch

def backwards(row: np.ndarray, out):
    for k in range(out.size):
        out[k] = row[row.size - 1 - k]

def centred(batch: np.ndarray[tuple[int, int], np.dtype[np.float32]]):
    return batch - np.float32(np.sum(batch) / batch.size)

def first(batch: np.ndarray[tuple[int, int], np.dtype[np.float32]]):
    return batch[:, 0]

def doubled(batch: np.ndarray[tuple[int, int], np.dtype[np.float32]], out):
    out[:] = batch * 2

def inverse(x: float):
    return 1 / x

@numba.njit
def compiled(x):
    return x + 1

@numba.njit("float64(float64)")
def typed(x):
    return x + 1

@numba.njit("float32(float32[:])")
def typed_row(row):
    return row[1]

@numba.vectorize
def vectorized(x):
    return x + 1

@numba.njit(parallel=True)
def parallel(batch):
    out = np.empty_like(batch)
    for i in numba.prange(len(batch)):
        out[i] = batch[i] + 1
    return out

def refuses(row: np.ndarray):
    if row[0] == 77:
        raise ValueError("seventy-seven,\\nreally")
    return row[0]

def refuses_value(x: float):
    if x == 77:
        raise ValueError("seventy-seven")
    return x

def refuses_batch(batch: np.ndarray[tuple[int, int], np.dtype[np.float32]]):
    if (batch == 77).any():
        raise ValueError("seventy-seven")
    return batch

def outside(row: np.ndarray):
    return row[row.size]

def uneven(row: np.ndarray):
    return row[: 2 + (row[0] == 77)]

def helper(x):
    return x

def calls_helper(x: float):
    return helper(x)

def no_attribute(x: float):
    y = x + 1
    return y.colour

def text(x: float):
    return "a"

def nothing(x: float):
    x + 1

def square(row: np.ndarray):
    return np.zeros((2, 2))

def one_by_one(x: float):
    yield x

@numba.guvectorize("(n)->()")
def generalized(row, out):
    out[0] = row[0]

def gives_up(x: float):
    raise SystemExit("enough")

def leaves_out(row: np.ndarray, out):
    out[1] = row[0]

from math import sqrt

def imaginary(x: float):
    return 1j * x

def number_of_batch(batch: np.ndarray[tuple[int, int], np.dtype[np.float32]]):
    return 1.0

def unknown(x):
    return x

def none_at_all():
    return 1

def three(a: float, b, c):
    return a

def plain_sum(row: np.ndarray) -> float:
    return float(sum(sorted(row.tolist())))

def plain_text(row: np.ndarray) -> float:
    return "a"

def ragged(row: np.ndarray):
    return [[1], [1, 2]]

class Thing:
    pass

number = 3
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file is run once, so that its functions are compiled once."""
    place = tmp_path_factory.mktemp("user")
    (place / "user.py").write_text(FUNCTIONS)
    return place


@pytest.fixture(autouse=True)
def _in_a_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    np.save("X.npy", X)
    for left in directory.glob("out*"):
        left.unlink()


def applied(function: str, x: Array = X, **options: Any) -> Array:
    np.save("X.npy", x)
    mlpipe.read("X.npy").apply_python(f"user.py:{function}", **options).write("out.npy")
    found = np.load("out.npy")
    Path("out.npy").unlink()
    return found


def message_of(error: type[MlpipeError], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).isprintable()
    assert type(caught.value) is error
    return str(caught.value)


def in_batches(x: Array, size: int, function: Callable[[Array], Array]) -> Array:
    return np.concatenate([function(x[start : start + size]) for start in range(0, len(x), size)])


def centred(part: Array) -> Array:
    return part - np.float32(part.sum() / part.size)


@pytest.mark.parametrize(
    ("function", "options", "expected"),
    [
        ("twice", {}, X * 2),
        ("half_up", {}, np.floor(X + np.float32(0.5)).astype(np.int64)),
        ("positive", {}, X > 0),
        ("spread", {}, X.max(1) - X.min(1)),
        ("turned", {}, X[:, ::-1]),
        ("ends", {}, np.stack([X[:, 0], X[:, -1] > 0, np.full(len(X), 3)], 1).astype(np.float32)),
        ("first_two", {"columns": 2}, X[:, :2]),
        ("backwards", {}, X[:, ::-1]),
        ("backwards", {"columns": 2}, X[:, :3:-1]),
        ("typed", {}, X + 1),
        ("leaves_out", {}, X[:, [0]] * np.array([0, 1, 0, 0, 0, 0], np.float32)),
        ("compiled", {"kind": "scalar"}, X + 1),
        ("typed_row", {}, X[:, 1]),
        ("vectorized", {}, X + 1),
        ("unknown", {"kind": "row"}, X),
        ("first", {}, X[:, 0]),
        pytest.param("parallel", {"kind": "batch"}, X + 1, marks=pytest.mark.slow),
        ("twice", {"dtype": "int8"}, np.clip(np.trunc(X * 2), -128, 127).astype(np.int8)),
        ("twice", {"dtype": "float16"}, (X * 2).astype(np.float16)),
        ("backwards", {"dtype": "float64"}, X[:, ::-1].astype(np.float64)),
        ("backwards", {"dtype": "float16"}, X[:, ::-1].astype(np.float16)),
    ],
)
def test_kinds(function: str, options: dict[str, Any], expected: Array) -> None:
    got = applied(function, **options)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "options", "expected"),
    [
        ("twice", {}, X * 2),
        ("spread", {"columns": 0}, np.ptp(X, axis=1)),
        ("turned", {}, X[:, ::-1]),
        ("ends", {"columns": 3}, np.stack([X[:, 0], X[:, -1] > 0, np.full(len(X), 3)], 1)),
        ("backwards", {"columns": 4}, X[:, :1:-1]),
        ("first", {"columns": 0}, X[:, 0]),
        ("doubled", {"rows": 7}, X * 2),
        ("inverse", {"dtype": "uint8"}, np.clip(np.trunc(1 / X), 0, 255)),
        ("plain_sum", {}, X.astype(float).sum(1)),
    ],
)
def test_object_mode(function: str, options: dict[str, Any], expected: Array) -> None:
    np.testing.assert_allclose(applied(function, object_mode=True, **options), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 1024])
def test_batches_have_the_size_that_was_asked_for(rows: int) -> None:
    expected = in_batches(X, rows, centred)
    np.testing.assert_allclose(applied("centred", rows=rows), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(applied("centred", rows=rows, object_mode=True), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "options"),
    [("twice", {}), ("centred", {"rows": 64}), ("centred", {"rows": 64, "object_mode": True})],
)
def test_same_bytes_in_any_blocks_and_threads(function: str, options: dict[str, Any]) -> None:
    labels = np.arange(len(X))
    np.save("y.npy", labels)
    found = set()
    for size, threads in [(None, 1), (None, 3), (100, 3), (1000, 2)]:
        chain = mlpipe.read("X.npy", labels="y.npy")
        chain = (chain if size is None else chain.batch(size)).apply_python(f"user.py:{function}", **options)
        Chain((*chain.verbs, make("write", "out.npy"))).run(threads=threads, force=True)
        found.add(Path("out.npy").read_bytes())
        np.testing.assert_array_equal(np.load("out-labels.npy"), labels)
    assert len(found) == 1


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u8", "f2", "f4", "f8", ">f4", ">i8"])
@pytest.mark.parametrize("object_mode", [False, True])
def test_dtypes(dtype: str, object_mode: bool) -> None:
    x = np.abs(X[:10]).astype(np.int8).astype(dtype)
    np.testing.assert_array_equal(applied("unknown", x, kind="row", object_mode=object_mode), x)


def test_rows_of_many_dimensions_and_of_one_value() -> None:
    cube = X[:60].reshape(5, 4, 3, 6)
    np.testing.assert_array_equal(applied("twice", cube), cube * 2)
    np.testing.assert_array_equal(applied("spread", cube), np.ptp(cube.reshape(5, -1), axis=1))
    np.testing.assert_array_equal(applied("unknown", cube, kind="batch"), cube)
    np.testing.assert_array_equal(applied("twice", X[:, 0]), X[:, 0] * 2)
    np.testing.assert_array_equal(applied("unknown", X[:, 0], kind="batch"), X[:, 0])
    assert "each row is one value; use --kind scalar" in message_of(InputError, lambda: applied("spread", X[:, 0]))


@pytest.mark.parametrize("function", ["twice", "first_six", "as_it_is"])
@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(function: str, rows: int) -> None:
    assert applied(function, X[:rows]).shape == (rows, 6)


def test_blocks_and_labels() -> None:
    stage = ApplyPython("user.py:spread").open(_opening())
    got, labels = flow(stage, X, np.arange(len(X)), sizes=(500, 1, 33), known=False)
    np.testing.assert_array_equal(got, X.max(1) - X.min(1))
    np.testing.assert_array_equal(labels, np.arange(len(X)))


def _opening() -> Any:
    from contextlib import ExitStack

    from mlpipe.opening import Opening

    return Opening(ExitStack())


def line_of(text: str) -> int:
    return FUNCTIONS[: FUNCTIONS.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("function", "options", "line", "reason"),
    [
        ("no_attribute", {}, "return y.colour", "Unknown attribute 'colour' of type float64; --object-mode calls it"),
        ("calls_helper", {}, "return helper(x)", "it calls helper, which is not compiled; decorate helper with @numba"),
        ("text", {}, "def text", "it returns Literal[str](a); numbers are needed"),
        ("nothing", {}, "def nothing", "it returns nothing; numbers are needed"),
        ("one_by_one", {}, "def one_by_one", "it returns float32 generator; numbers are needed"),
        ("imaginary", {}, "def imaginary", "it returns complex"),
        ("square", {}, "def square", "it returns array(float64, 2d, C); one number or a row of them is needed"),
        ("number_of_batch", {}, "def number_of_batch", "it returns float64; an array is needed"),
    ],
)
def test_what_does_not_compile(function: str, options: dict[str, Any], line: str, reason: str) -> None:
    message = message_of(UsageError, lambda: applied(function, **options))
    assert message.startswith(f"link 2 (apply-python): user.py:{line_of(line)}: {function} does not compile for ")
    assert reason in message


@pytest.mark.parametrize("object_mode", [False, True])
def test_exceptions_name_the_row(object_mode: bool) -> None:
    x = X.copy()
    x[2000, 0] = x[1700, 0] = x[2400, 3] = 77
    for function, where in (
        ("refuses", "row 1700: ValueError: seventy-seven, really"),
        ("refuses_value", "row 1700: ValueError: seventy-seven"),
        ("refuses_batch", "rows 1024 to 2047: ValueError: seventy-seven"),
        ("outside", "row 0: IndexError: index"),
    ):
        options = {"columns": 0} if object_mode and function in ("refuses", "outside") else {}
        call = lambda: applied(function, x, object_mode=object_mode, **options)  # noqa: B023, E731 - called at once
        assert message_of(InputError, call).startswith(f"link 2 (apply-python): user.py:{function}: {where}")
        assert not Path("out.npy").exists()


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        ("first_two", {}, "row 0: returns shape (2,) where shape (6,) is expected; give --columns 2"),
        ("turned", {"columns": 3}, "row 0: returns shape (6,) where shape (3,) is expected; give --columns 6"),
        ("uneven", {"columns": 2}, "row 9: returns shape (3,) where shape (2,) is expected; give --columns 3"),
        (
            "first_two",
            {"object_mode": True},
            "row 0: returns shape (2,) where shape (6,) is expected; give --columns 2",
        ),
        ("spread", {"object_mode": True}, "row 0: returns one value where shape (6,) is expected; give --columns 0"),
        ("plain_text", {"object_mode": True}, "row 0: returns str, not numbers"),
        ("gives_up", {"object_mode": True}, "row 0: SystemExit: enough"),
        ("ragged", {"object_mode": True}, "row 0: returns rows of unequal length"),
        ("unknown", {"kind": "batch", "columns": 2}, "rows 0 to 1023: returns shape (1024, 6) where shape (1024, 2)"),
        ("first_two", {"kind": "batch"}, "rows 0 to 1023: returns shape (2, 6) where shape (1024, 6) is expected"),
    ],
)
def test_results_that_do_not_fit(function: str, options: dict[str, Any], reason: str) -> None:
    x = X.copy()
    x[9, 0] = 77
    message = message_of(InputError, lambda: applied(function, x, **options))
    assert message.startswith(f"link 2 (apply-python): user.py:{function}: {reason}")


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        ("user.py", {}, UsageError, "apply-python user.py: give a file and one of its functions, as FILE.py:function"),
        (":f", {}, UsageError, "apply-python :f: give a file"),
        ("user.py:a.b", {}, UsageError, "apply-python user.py:a.b: give a file"),
        ("user.py:twice", {"columns": -1}, UsageError, "apply-python --columns -1: give 0 or more"),
        ("user.py:twice", {"rows": 0}, UsageError, "apply-python --rows 0: give 1 or more"),
        ("user.py:twice", {"columns": 3}, UsageError, "user.py:twice: --columns makes no sense for a scalar function"),
        ("user.py:spread", {"columns": 3}, UsageError, "user.py:spread: --columns 3, but it returns one value"),
        ("user.py:ends", {"columns": 2}, UsageError, "user.py:ends: --columns 2, but it returns 3 values"),
        ("user.py:backwards", {"columns": 0}, UsageError, "user.py:backwards: --columns 0 leaves it nothing to fill"),
        ("user.py:backwards", {"kind": "scalar"}, UsageError, "user.py:backwards: a second argument makes no sense"),
        ("user.py:unknown", {}, UsageError, "user.py:unknown: called for what? annotate its first parameter"),
        ("user.py:compiled", {}, UsageError, "user.py:compiled: called for what?"),
        ("user.py:none_at_all", {}, UsageError, "user.py:none_at_all: takes 0 arguments"),
        ("user.py:three", {}, UsageError, "user.py:three: takes 3 arguments"),
        ("user.py:twise", {}, UsageError, "user.py: has no function 'twise'; did you mean twice?"),
        (
            "user.py:sqrt",
            {"kind": "scalar"},
            UsageError,
            "user.py: sqrt does not compile for scalars of float32: it is a",
        ),
        (
            "user.py:generalized",
            {"kind": "row"},
            UsageError,
            "user.py: generalized does not compile for rows of float32",
        ),
        ("user.py:number", {}, UsageError, "user.py: number is no function but int"),
        ("user.py:Thing", {}, UsageError, "user.py: Thing is no function but type"),
        ("missing.py:f", {}, InputMissingError, "missing.py: no such file; check the path"),
        (".:f", {}, InputMissingError, ".: "),
    ],
)
def test_refused(target: str, options: dict[str, Any], error: type[MlpipeError], message: str) -> None:
    chain = lambda: mlpipe.read("X.npy").apply_python(target, **options).nothing()  # noqa: E731 - called once
    assert message_of(error, chain).removeprefix("link 2 (apply-python): ").startswith(message)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(x:\n", "broken.py:1: is no Python: '(' was never closed"),
        ("x = 1\n\ny = x.colour\n", "broken.py:3: cannot be imported: AttributeError: 'int' object has no attribute"),
        ("import no_such_module\n", "broken.py:1: cannot be imported: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)\n", "broken.py:2: cannot be imported: SystemExit: 3"),
        ("raise ValueError('two\\nlines')\n", "broken.py:1: cannot be imported: ValueError: two lines"),
        ("\0", "broken.py:1: is no Python"),
        ("\xff", "broken.py:1: is no Python"),
    ],
)
def test_files_that_cannot_be_imported(source: str, message: str) -> None:
    Path("broken.py").write_bytes(source.encode("latin-1"))
    chain = mlpipe.read("X.npy").apply_python("broken.py:f")
    assert message_of(UsageError, chain.nothing).startswith(f"link 2 (apply-python): {message}")


def test_the_file_may_import_its_neighbours_and_print(capfd: pytest.CaptureFixture[str]) -> None:
    Path("beside_user.py").write_text("import numba\n@numba.njit\ndef plus(x):\n    return x + 1\n")
    source = """\
        from dataclasses import dataclass
        from beside_user import plus

        print("imported")

        @dataclass
        class Unused:
            a: int = 0

        def f(x: float):
            return plus(x)
        """
    Path("main.py").write_text(dedent(source))
    before = list(sys.path)
    mlpipe.read("X.npy").apply_python("main.py:f").write("out.npy")
    np.testing.assert_array_equal(np.load("out.npy"), X + 1)
    assert capfd.readouterr() == ("", "imported\n")
    assert sys.path == before
    del sys.modules["beside_user"]


def test_a_file_is_run_again_when_it_changes() -> None:
    for factor in (2, 3):
        Path("times.py").write_text(f"def f(x: float):\n    return x * {factor}\n")
        for _ in range(2):
            batches = list(mlpipe.read("X.npy").apply_python("times.py:f"))
            np.testing.assert_allclose(np.concatenate(batches), X * factor, rtol=1e-6)


def test_no_output_replaces_the_file() -> None:
    chain = mlpipe.read("X.npy").apply_python("user.py:twice")
    call = Chain((*chain.verbs, make("write", "user.py"))).run
    assert message_of(OutputError, lambda: call(force=True))
    assert Path("user.py").read_text() == FUNCTIONS


def test_cast_into_other_memory() -> None:
    out = np.zeros((4, 3), np.int16).T
    cast_into(np.arange(12.0).reshape(3, 4) + 0.7, out)
    np.testing.assert_array_equal(out, np.arange(12).reshape(3, 4))
