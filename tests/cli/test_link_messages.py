"""What keeps a chain from being planned is said of a link, by its number and its verb."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, MlpipeError
from tests.cli.conftest import Run

MESSAGES = {
    "read Y.npy then nothing": "link 1 (read): Y.npy: ",
    "read X.npy then standardize then select --columns 0 then standardize --from s.npz then nothing": (
        "link 4 (standardize): has statistics of rows of shape (3,), but rows have shape (1,)"
    ),
    "read X.npy then clip --min 0 then clip --min 0 --max 1 then one-hot --classes 3 then nothing": (
        "link 4 (one-hot): takes rows of one whole number, not of shape (3,)"
    ),
    "read X.npy then head then project --matrix X.npy then project --matrix X.npy then nothing": (
        "link 3 (project): "
    ),
    "read X.npy then abs then select --columns 9 then abs then nothing": "link 3 (select): ",
    "read X.npy then repeat --epochs forever then tail then nothing": "link 3 (tail): these rows never stop coming",
    "read X.npy then repeat --epochs forever then write Z.npy": "link 3 (write): ",
    "read X.npy then batch --size 2 then abs then abs then write X.npy": "link 5 (write): X.npy: also an input",
    "read X.npy then tee Z.npy then tee Z.npy then nothing": "link 3 (tee): both tee and tee name Z.npy",
    "read C.npy then abs then abs then nothing": "link 2 (abs): rows of complex64",
    "read C.npy then clip --min 0 then abs then nothing": "link 2 (clip): rows of complex64",
    "read X.npy then abs then shuffle then clip --min 0 then noise --from 3 then nothing": "link 5 (noise): no option",
}  # fmt: skip


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", np.arange(12.0).reshape(4, 3))
    np.save("C.npy", np.ones((4, 3), np.complex64))
    np.savez("s.npz", count=np.full(3, 4), mean=np.zeros(3), variance=np.ones(3))


@pytest.mark.parametrize("chain", MESSAGES)
def test_the_link_is_named(run: Run, chain: str) -> None:
    done = run("run", "--force", *shlex.split(chain))
    assert done.code in (2, 3, 4, 5)
    assert done.err.startswith(f"mlpipe: error: {MESSAGES[chain]}"), done.err
    assert done.err.count("\n") == 1


def test_the_link_that_memory_is_too_small_for(run: Run) -> None:
    np.save("big.npy", np.zeros((40_000, 500)))
    chain = "read big.npy then abs then batch --size 30000 then nothing"
    done = run("run", "--memory", "100MiB", *shlex.split(chain))
    assert done.code == 7
    assert "link 3 (batch) and the interpreter need" in done.err


def test_in_python() -> None:
    with pytest.raises(InputError, match=r"^link 3 \(one-hot\): takes rows of one whole number"):
        list(mlpipe.read("X.npy").head(2).one_hot(classes=3))


def test_single_commands_have_no_links(run: Run) -> None:
    done = run("distances", "C.npy")
    assert done.code == 4
    assert "link" not in done.err
    with pytest.raises(MlpipeError, match=r"^(?!link)"):
        mlpipe.pairwise_distances(np.ones((2, 2)), np.ones((2, 3)))
