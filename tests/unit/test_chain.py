"""Chains in Python: built, iterated over, run, kept."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, InputMissingError, MemoryCeilingError, OutputError, UsageError
from mlpipe.registry import make
from mlpipe.stages.head import Head

X = np.arange(70, dtype="f4").reshape(10, 7)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    np.save("big.npy", np.arange(600_000.0).reshape(-1, 6))


def running() -> tuple[set[str], int]:
    """Threads of mlpipe that live, and how many descriptors are open."""
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("mlpipe")}
    return names, len(os.listdir("/proc/self/fd"))


def test_batches() -> None:
    chain = mlpipe.read("X.npy").head(rows=8).batch(3)
    for _ in range(2):  # as often as one likes
        batches = list(chain)
        assert [len(batch) for batch in batches] == [3, 3, 2]
        np.testing.assert_array_equal(np.concatenate(batches), X[:8])


def test_blocks_may_be_kept_and_changed() -> None:
    blocks = list(mlpipe.read("big.npy"))
    assert len(blocks) > 1
    for block in blocks:
        block *= 2
    np.testing.assert_array_equal(np.concatenate(blocks), 2 * np.load("big.npy"))
    batches = list(mlpipe.read("big.npy").batch(777))
    np.testing.assert_array_equal(np.concatenate(batches), np.load("big.npy"))


def test_labels_come_as_pairs() -> None:
    [(rows, labels)] = mlpipe.read("X.npy", label_column=-1)
    np.testing.assert_array_equal(rows, X[:, :-1])
    np.testing.assert_array_equal(labels, X[:, -1])


def test_several_files_and_paths() -> None:
    rows = np.concatenate(list(mlpipe.read("X.npy", Path("X.npy"))))
    np.testing.assert_array_equal(rows, np.concatenate([X, X]))
    assert mlpipe.read(["X.npy", "X.npy"]) == mlpipe.read("X.npy", "X.npy")


def test_write(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = mlpipe.read("X.npy").head(3)
    assert chain.write("Y.npy") is None
    np.testing.assert_array_equal(np.load("Y.npy"), X[:3])
    with pytest.raises(OutputError, match="exists"):
        chain.write("Y.npy")
    mlpipe.read("X.npy").write(Path("Y.npy"), force=True, memory="1GiB", threads=1)
    np.testing.assert_array_equal(np.load("Y.npy"), X)
    with pytest.raises(MemoryCeilingError):
        chain.write("Z.npy", memory=1 << 20)
    with pytest.raises(MemoryCeilingError):
        list(chain.batches(memory="1MiB"))
    with pytest.raises(OutputError, match="also an input"):
        chain.write("X.npy", force=True)


def test_stopping_early_closes_everything() -> None:
    before = running()
    for chain in (mlpipe.read("big.npy"), mlpipe.read("big.npy").batch(10), mlpipe.read("big.npy").head(99_000)):
        for _ in chain:
            break
        assert running() == before
    iterator = iter(mlpipe.read("big.npy").batch(10))
    next(iterator)
    assert running() != before
    iterator.close()  # type: ignore[attr-defined]
    assert running() == before


def test_errors_close_everything() -> None:
    before = running()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            [1 / 0 for _ in mlpipe.read("big.npy").batch(10)]
        with pytest.raises(OutputError):
            mlpipe.read("big.npy").write("no/Y.npy")
        with pytest.raises(InputMissingError):
            list(mlpipe.read("X.npy", "no.npy"))
        assert running() == before


def test_a_file_that_shrinks_while_it_is_read() -> None:
    before = running()
    with pytest.raises(InputError, match="run again"):  # noqa: PT012 - the first step must work
        for _ in mlpipe.read("big.npy").batch(10):
            os.truncate("big.npy", 1000)
    assert running() == before


def test_two_at_once() -> None:
    pairs = zip(mlpipe.read("X.npy").batch(4), mlpipe.read("X.npy").batch(4), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_nothing_is_opened_before_it_is_needed() -> None:
    chain = mlpipe.read("later.npy").batch(4)
    np.save("later.npy", X)
    assert len(list(chain)) == 3


def test_repr_can_be_run() -> None:
    chain = mlpipe.read("X.npy", "it's.npy", label_column=-1).head().batch(3, drop_last=True)
    assert repr(chain) == ("""mlpipe.read('X.npy', "it's.npy", label_column=-1).head().batch(size=3, drop_last=True)""")
    assert eval(repr(chain)) == chain
    assert hash(chain) == hash(eval(repr(chain)))


def test_methods() -> None:
    chain = mlpipe.read("X.npy")
    assert {"head", "batch", "write", "nothing", "run", "save"} <= set(dir(chain))
    assert "read" not in dir(chain)
    assert "The first rows." in chain.head.__doc__
    assert chain.head.__name__ == "head"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda chain: chain.haed(), AttributeError, "a chain has no verb 'haed'; did you mean head?"),
        (lambda chain: chain.read("X.npy"), AttributeError, "read is a source, with which a chain begins"),
        (lambda chain: chain.head(rwos=3), UsageError, "head has no option 'rwos'; did you mean rows?"),
        (lambda chain: chain.head("x"), UsageError, "rows = 'x': give a whole number"),
        (lambda chain: chain.head(1, 2), UsageError, "head got 2 values; it takes rows"),
        (lambda chain: chain.batch(), UsageError, "batch needs size"),
        (lambda chain: chain.write("Y.npy", frce=True), UsageError, "write has no option 'frce'"),
        (lambda chain: list(mlpipe.Pipeline(())), UsageError, "a chain begins with a source"),
        (lambda chain: list(mlpipe.Pipeline((Head(),))), UsageError, r"link 1 \(head\): a stage cannot come first"),
        (lambda chain: list(mlpipe.Pipeline((3,))), UsageError, "int is no verb"),
        (lambda chain: mlpipe.Pipeline((*chain.verbs, *chain.verbs)).run(), UsageError, r"link 2 \(read\): a source"),
        (lambda chain: list(mlpipe.Pipeline((*chain.verbs, make("nothing")))), UsageError, "ends with a sink; run it"),
        (lambda chain: chain.run(memory="much"), UsageError, "'much' is not a size"),
        (lambda chain: chain.run(threads=0), UsageError, "threads = 0"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(mlpipe.read("X.npy"))


def test_configs() -> None:
    chain = mlpipe.read("X.npy").head(3).batch(2)
    chain.save("c.toml")
    assert mlpipe.Pipeline.load("c.toml") == chain
    assert [len(batch) for batch in mlpipe.Pipeline.load("c.toml")] == [2, 1]
    with pytest.raises(OutputError, match="exists"):
        chain.save("c.toml")
    chain.head(1).save("c.toml", force=True)
    assert len(mlpipe.Pipeline.load("c.toml").verbs) == 4
    with pytest.raises(InputMissingError):
        mlpipe.Pipeline.load("no.toml")


def test_a_chain_with_a_sink_is_run() -> None:
    mlpipe.Pipeline((*mlpipe.read("X.npy").verbs, make("write", "Y.npy"))).save("c.toml")
    assert mlpipe.Pipeline.load("c.toml").run() is None
    np.testing.assert_array_equal(np.load("Y.npy"), X)
