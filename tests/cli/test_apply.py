"""Expressions and functions from the command line and from configs: exit codes, and that no expression runs code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run

X = np.arange(12.0, dtype=np.float32).reshape(4, 3)


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    Path("user.py").write_text(
        "def plus(x: float):\n    return x + 1\n\ndef bad(x: float):\n    return x.colour\n\n"
        "def fails(x: float):\n    if x == 7:\n        raise ValueError('seven')\n    return x\n"
    )


def test_from_the_command_line(run: Run) -> None:
    chain = ("read", "X.npy", "then", "apply", "log1p(abs(x)) / 3", "then", "apply-python", "user.py:plus")
    assert run("-q", "run", *chain, "then", "write", "out.npy").code == 0
    np.testing.assert_allclose(np.load("out.npy"), np.log1p(X) / 3 + 1, rtol=1e-6)


def test_an_expression_that_begins_with_a_minus(run: Run) -> None:
    assert run("-q", "run", "read", "X.npy", "then", "apply", "--", "-x[0]", "then", "write", "out.npy").code == 0
    np.testing.assert_array_equal(np.load("out.npy"), -X[:, 0])


@pytest.mark.parametrize("text", ["-x[0], x[1]", "x\n  + x[0]", "1 if x > 3 else -1"])
def test_configs(text: str, run: Run) -> None:
    chain = ("read", "X.npy", "then", "apply", "--dtype", "float64", "--", text, "then", "write", "out.npy")
    assert run("-q", "run", "--save-config", "c.toml", *chain).code == 0
    first = Path("out.npy").read_bytes()
    assert run("-q", "run", "--force", "--config", "c.toml").code == 0
    assert Path("out.npy").read_bytes() == first


def test_a_config_that_holds_code_does_not_run_it(run: Run) -> None:
    for text in ("__import__('os').system('touch pwned')", "().__class__.__base__.__subclasses__()", "x" + ".a" * 900):
        Path("c.toml").write_text(
            f'[[link]]\nverb = "read"\npaths = ["X.npy"]\n\n[[link]]\nverb = "apply"\nexpression = "{text}"\n'
        )
        code, out, err = run("run", "--config", "c.toml")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("apply", "y + 1"), 2, "'y + 1', column 1: no name 'y'"),
        (("apply", "x[3]"), 2, "link 2 (apply): 'x[3]', column 1: the rows have 3 columns"),
        (("apply", "x", "--dtype", "int7"), 2, "int7"),
        (("apply-python", "user.py"), 2, "FILE.py:function"),
        (("apply-python", "missing.py:f"), 3, "missing.py: no such file"),
        (("apply-python", "user.py:pluss"), 2, "did you mean plus?"),
        (("apply-python", "user.py:bad"), 2, "user.py:5: bad does not compile for scalars of float32: Unknown"),
        (("apply-python", "user.py:fails"), 4, "user.py:fails: row 2: ValueError: seven"),
        (("apply-python", "user.py:plus", "--kind", "row", "--columns", "2"), 4, "row 0: returns shape (3,)"),
    ],
)
def test_refused(words: tuple[str, ...], code: int, message: str, run: Run) -> None:
    ended = run("run", "read", "X.npy", "then", *words, "then", "write", "out.npy")
    assert ended.code == code
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("out.npy").exists()
