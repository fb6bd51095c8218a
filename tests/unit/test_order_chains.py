"""Chains that choose and order rows: the same rows wherever the verb stands, and however the rows are stored."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import UsageError

X = np.arange(9000 * 5, dtype="f4").reshape(9000, 5)
VERBS: dict[str, dict[str, Any]] = {
    "head": {"rows": 4321},
    "skip": {"rows": 4321},
    "tail": {"rows": 4321},
    "sample": {"rows": 2000, "seed": 3},
    "sample ": {"fraction": 0.3, "seed": 3},
    "shuffle": {"seed": 3, "epoch": 1},
    "shuffle ": {"seed": 3, "buffer_size": 1234},
    "repeat": {"epochs": 3},
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    Path("shards").mkdir()
    for place, (start, stop) in enumerate(itertools.pairwise([0, 1, 4000, 4000, 8999, 9000])):
        np.save(f"shards/{place}.npy", X[start:stop])


def result(chain: Any) -> list[float]:
    """First value of each row that comes out, and its label, which must be the last value."""
    found = []
    for rows, labels in chain:
        np.testing.assert_array_equal(rows[:, 0] + 4, labels)
        found += labels.tolist()
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_rows_do_not_depend_on_where_the_verb_stands_or_how_rows_come(verb: str) -> None:
    def add(chain: Any) -> Any:
        return getattr(chain, verb.strip())(**VERBS[verb])

    expected = result(add(mlpipe.read("X.npy", label_column=-1)))
    assert expected != X[:, -1].tolist()
    assert result(add(mlpipe.read("shards", label_column=-1))) == expected
    for size in (1000, 777):
        assert result(add(mlpipe.read("X.npy", label_column=-1).batch(size))) == expected
    add(mlpipe.read("X.npy")).write("Y.npy")
    written = np.load("Y.npy")
    assert written[:, -1].tolist() == expected
    np.testing.assert_array_equal(np.diff(written, axis=1), 1)


@pytest.mark.parametrize(
    "verb", ["tail --rows 9", "sample --rows 9", "shuffle --buffer-size 9", "shuffle", "repeat --epochs 2"]
)
def test_rows_that_come_through_a_pipe(verb: str) -> None:
    command = [
        sys.executable,
        "-m",
        "mlpipe",
        "-q",
        "run",
        "read",
        "-",
        "then",
        *verb.split(),
        "then",
        "write",
        "P.npy",
    ]
    with open("X.npy", "rb") as file, subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as cat:
        subprocess.run(command, stdin=cat.stdout, check=True)
    name, *words = verb.split()
    options = {words[i].lstrip("-").replace("-", "_"): int(words[i + 1]) for i in range(0, len(words), 2)}
    getattr(mlpipe.read("X.npy"), name)(**options).write("Y.npy")
    assert Path("P.npy").read_bytes() == Path("Y.npy").read_bytes()


def test_memory_and_threads_change_nothing() -> None:
    for verb, options in (("shuffle", {"seed": 1}), ("shuffle", {"buffer_size": 500}), ("sample", {"rows": 700})):
        contents = set()
        for memory, threads in ((None, 1), ("300MiB", 2), (None, 3)):
            chain = getattr(mlpipe.read("X.npy").batch(33), verb)(**options)
            chain.write("Y.npy", memory=memory, threads=threads, force=True)
            contents.add(Path("Y.npy").read_bytes())
        assert len(contents) == 1


def test_rows_repeated_forever_stop_when_nobody_wants_more() -> None:
    chain = mlpipe.read("X.npy", label_column=-1).shuffle(seed=2).repeat(epochs="forever").batch(1000)
    batches = list(itertools.islice(chain, 30))
    labels = np.concatenate([labels for _, labels in batches])
    for epoch in range(3):
        part = labels[9000 * epoch : 9000 * (epoch + 1)]
        once = result(mlpipe.read("X.npy", label_column=-1).shuffle(seed=2, epoch=epoch))
        assert part.tolist() == once
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mlpipe")]
    cut = mlpipe.read("X.npy").repeat(epochs="forever").batch(1000).head(rows=20_000)
    assert sum(len(rows) for rows in cut) == 20_000
    with pytest.raises(UsageError, match="never end"):
        mlpipe.read("X.npy").repeat(epochs="forever").write("Y.npy")
    assert not Path("Y.npy").exists()


def test_the_words_of_an_option() -> None:
    assert mlpipe.read("X.npy").repeat("2") == mlpipe.read("X.npy").repeat(2)
    with pytest.raises(UsageError, match="repeat --epochs x: give a whole number, or forever"):
        mlpipe.read("X.npy").repeat("x")
    with pytest.raises(UsageError):
        mlpipe.read("X.npy").repeat(2.5)


def test_transforms_of_each_row_do_not_keep_a_source_from_being_read_in_order() -> None:
    chain = mlpipe.read("X.npy", label_column=-1).clip(max=3e4).sqrt().shuffle(seed=4).log1p().repeat(epochs=2)
    with chain.opened() as pipeline:
        assert [stage.name for stage in pipeline.stages] == ["clip", "sqrt", "log1p"]
        assert pipeline.source.spec.rows == 18_000
    labels = np.concatenate([labels for _, labels in chain])
    rows = np.concatenate([rows for rows, _ in chain])
    once = [result(mlpipe.read("X.npy", label_column=-1).shuffle(seed=4, epoch=epoch)) for epoch in (0, 1)]
    assert labels.tolist() == once[0] + once[1]
    expected = np.log1p(np.sqrt(np.minimum(labels[:, None] - [4, 3, 2, 1], 3e4), dtype="f4"), dtype="f4")
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    # What learns from all rows, or looks at others, comes first.
    with mlpipe.read("X.npy").standardize().shuffle().opened() as pipeline:
        assert [stage.name for stage in pipeline.stages] == ["standardize", "shuffle"]
    with mlpipe.read("X.npy").batch(10).shuffle().opened() as pipeline:
        assert [stage.name for stage in pipeline.stages] == ["batch", "shuffle"]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [1, 700, 4500, 9000, 10_000])
def test_batches_end_with_their_epoch(size: int, drop_last: bool) -> None:
    if size == 1:
        np.save("X.npy", X[:20])
    once = mlpipe.read("X.npy", label_column=-1)
    count = 20 if size == 1 else 9000
    chain = once.shuffle(seed=5).batch(size, drop_last=drop_last).sqrt().repeat(epochs=4)
    with chain.opened() as pipeline:
        assert [stage.name for stage in pipeline.stages] == ["batch", "sqrt"]
        expected_rows = 4 * (count // size * size if drop_last else count)
        assert pipeline.specs()[-1].rows == expected_rows
    batches = [labels.tolist() for _, labels in chain]
    expected = [
        labels.tolist()
        for epoch in range(4)
        for _, labels in once.shuffle(seed=5, epoch=epoch).batch(size, drop_last=drop_last)
    ]
    assert batches == expected


def test_endless_batches_of_which_none_is_full() -> None:
    with pytest.raises(UsageError, match="of only 9000 rows no batch is ever full"):
        list(mlpipe.read("X.npy").batch(9001, drop_last=True).repeat(epochs="forever"))


@pytest.mark.parametrize("size", [77, 1000, 20_000])
def test_rows_that_are_held_are_shuffled_anew_for_each_epoch(size: int) -> None:
    read = mlpipe.read("X.npy", label_column=-1)
    expected = result(read.shuffle(seed=5, epoch=2).repeat(epochs=3))
    chain = read.batch(size).shuffle(seed=5, epoch=2).repeat(epochs=3)
    with chain.opened() as pipeline:
        assert [stage.name for stage in pipeline.stages] == ["batch", "shuffle", "repeat"]
    assert result(chain) == expected
