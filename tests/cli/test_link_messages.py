"""What keeps a chain from being planned, and what ends a run, is said of a link, by its number and its verb."""

from __future__ import annotations

import os
import resource
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, MlpipeError
from tests.cli.conftest import Ended, Run

MESSAGES = {
    "read Y.npy then nothing": "link 1 (read): Y.npy: ",
    "read X.npy then check then nothing": "link 2 (check): nothing to check",
    "read X.npy then clip --min 3 --max 2 then nothing": "link 2 (clip): --min 3",
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


RUNNING = {
    "read L.npy then abs then one-hot --classes 2 then nothing": "link 3 (one-hot): row 2 holds 2",
    "read X.npy then abs then batch --size 2 then check --max 4 then nothing": "link 4 (check): row 1, column 2",
    "read X.npy then check --max 4 then standardize then nothing": "link 2 (check): row 1, column 2",
    "read X.npy then abs then shuffle then check --max -99 then write Z.npy": "link 4 (check): row 0",
}


@pytest.mark.parametrize("chain", RUNNING)
def test_the_link_at_which_a_run_ends(run: Run, chain: str) -> None:
    np.save("L.npy", np.arange(4))
    done = run("-q", "run", *shlex.split(chain))
    assert done.code == 4
    assert done.err.startswith(f"mlpipe: error: {RUNNING[chain]}"), done.err
    assert done.err.count("\n") == 1
    assert not Path("Z.npy").exists()


def test_files_that_change_while_they_are_read_belong_to_their_link() -> None:
    np.save("big.npy", np.zeros((100_000, 9)))
    with pytest.raises(InputError, match=r"^link 1 \(read\): big.npy: "):  # noqa: PT012 - the first step must work
        for _ in mlpipe.read("big.npy").batch(10).abs():
            os.truncate("big.npy", 1000)
    Y = np.ones((5, 9))
    np.save("big.npy", np.zeros((100_000, 9)))
    np.save("Y.npy", Y)
    with pytest.raises(InputError, match=r"^link 3 \(pairwise\): Y.npy: "):  # noqa: PT012 - the first step must work
        for _ in mlpipe.read("big.npy").batch(10).pairwise("Y.npy"):
            np.save("Y.npy", Y)


def test_disks_that_are_full_belong_to_the_link_that_writes(spawn: Run) -> None:
    np.save("big.npy", np.zeros((100_000, 9)))

    def limited(chain: str) -> Ended:
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        return spawn("-q", "run", *chain.split(), preexec_fn=limit)

    for chain, link in (
        ("read big.npy then write Z.npy", "link 2 (write): Z.npy: "),
        ("read big.npy then tee T.npy then nothing", "link 2 (tee): T.npy: "),
    ):
        done = limited(chain)
        assert done.code == 5, chain
        assert done.err.startswith(f"mlpipe: error: {link}"), done.err
    assert sorted(path.name for path in Path().iterdir()) == ["C.npy", "X.npy", "big.npy", "s.npz"]
