"""One input, one command: the same output bytes, whatever the memory, the threads, the lanes or the way out."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.cli.main import main

# Files, flags. More than 1024 rows of 1024 features against themselves are computed once and mirrored.
CASES = {
    "two files": ["narrow.npy", "wide.npy"],
    "one file": ["narrow.npy", "--metric", "cosine"],
    "mirrored": ["tall.npy"],
    "condensed": ["narrow.npy", "--metric", "cityblock", "--dtype", "float64", "--condensed"],
    "computed parameters": ["short.npy", "wide.npy", "--metric", "mahalanobis"],
    "logarithms": ["short.npy", "wide.npy", "--metric", "jensenshannon"],
    "odd values": ["odd.npy", "--metric", "braycurtis"],
}


def make_inputs() -> None:
    """Write into the working directory what `CASES` reads."""
    random = np.random.default_rng(8)
    np.save("narrow.npy", random.random((2100, 33)).astype("f4"))
    np.save("wide.npy", np.asfortranarray(random.random((1300, 33)).astype(">f4")))
    np.save("short.npy", random.random((130, 33)))
    np.save("tall.npy", random.normal(size=(2111, 1025)).astype("f4"))
    odd = random.normal(size=(300, 7)).astype("f4")
    odd[random.random(odd.shape) < 0.1] = np.nan
    odd[random.random(odd.shape) < 0.1] = 0
    odd[random.random(odd.shape) < 0.02] = np.inf
    np.save("odd.npy", odd)


def digest(case: str, *flags: str) -> str:
    """Hash of the file a case writes."""
    assert main(["-q", "distances", *CASES[case], "-o", "D.npy", "--force", *flags]) == 0
    return hashlib.sha256(Path("D.npy").read_bytes()).hexdigest()


def all_digests() -> dict[str, str]:
    """Hash of every case, for another process to compare with."""
    make_inputs()
    return {case: digest(case) for case in CASES}


def smallest(case: str) -> int:
    """The smallest ceiling that the plan takes, in MiB."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(["distances", *CASES[case], "-o", "D.npy", "--force", "--memory", "1MiB"]) == 7
    return int(said.getvalue().split("use --memory ")[1].split("MiB")[0]) + 1


def layout(case: str, above: int) -> dict[str, Any]:
    """What the plan says of the stage, for a ceiling so many MiB above the smallest."""
    memory = f"{smallest(case) + above}MiB"
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert main(["distances", *CASES[case], "-o", "new.npy", "--dry-run", "--json", "--memory", memory]) == 0
    stage: dict[str, Any] = json.loads(shown.getvalue())["stages"][0]
    return stage


@pytest.fixture(scope="module", autouse=True)
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with contextlib.chdir(tmp_path_factory.mktemp("determinism")):
        make_inputs()
        yield


@pytest.fixture(scope="module")
def expected(directory: None) -> dict[str, str]:
    return {case: digest(case, "--threads", "1", "--memory", "1GiB") for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_memory_and_threads_change_no_byte(case: str, expected: dict[str, str]) -> None:
    for above, threads in ((0, 2), (1, 1), (2, 3), (6, 2), (20, 3), (1000, 1), (1000, 2), (1000, 3)):
        flags = ["--memory", f"{smallest(case) + above}MiB", "--threads", str(threads)]
        assert (flags, digest(case, *flags)) == (flags, expected[case])


def test_the_cases_take_every_layout() -> None:
    roomy, tight = layout("mirrored", 1000), layout("mirrored", 2)
    assert (roomy["pairs_computed"], tight["pairs_computed"]) == ("once, mirrored", "all")
    assert (roomy["passes_over_y"], roomy["y_rows_held"]) == (1, 2111)
    assert tight["passes_over_y"] == tight["blocks"] > 1
    assert tight["y_rows_held"] < 2111
    assert layout("condensed", 1000)["pairs_computed"] == "once"
    assert layout("two files", 1000)["tile"][1] == 1300
    assert layout("two files", -3)["tile"][1] < 1300  # the ceiling that is named leaves a margin


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("above", [0, 1000])
def test_standard_output_gets_the_same_bytes(case: str, above: int, expected: dict[str, str]) -> None:
    memory = f"{smallest(case) + 1 + above}MiB"
    found = Path("stdout.npy")
    kept = os.dup(1)
    with open(found, "wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            with os.fdopen(os.dup(1), "w") as stream, contextlib.redirect_stdout(stream):
                code = main(["-q", "distances", *CASES[case], "-o", "-", "--memory", memory])
        finally:
            os.dup2(kept, 1)
            os.close(kept)
    assert code == 0
    assert hashlib.sha256(found.read_bytes()).hexdigest() == expected[case]


@pytest.mark.parametrize("arguments", [["narrow.npy"], ["wide.npy", "narrow.npy"], ["odd.npy", "-m", "cityblock"]])
def test_memory_and_threads_change_no_summary(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = set()
    for above, threads in itertools.product((0, 5, 1000), (1, 3)):
        memory = smallest("one file") + above
        flags = ["--json", "--memory", f"{memory}MiB", "--threads", str(threads)]
        capsys.readouterr()
        assert main(["-q", "distances", *arguments, *flags]) == 0
        found.add(capsys.readouterr().out)
    assert len(found) == 1


def test_the_threads_of_blas_change_no_byte(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    basis = random.normal(size=(600, 600))
    np.save(tmp_path / "few.npy", random.random((20, 600)))
    np.save(tmp_path / "VI.npy", basis @ basis.T)
    arguments = ["-m", "mlpipe", "-q", "distances", "few.npy", "-m", "mahalanobis", "--inverse-covariance", "VI.npy"]
    found = set()
    for threads in ("1", "4"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, *arguments, "--force", "-o", "D.npy"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        found.add((tmp_path / "D.npy").read_bytes())
    assert len(found) == 1


def test_narrower_vectors_change_no_byte(tmp_path: Path, expected: dict[str, str]) -> None:
    code = "import json; from tests.cli.test_determinism import all_digests; print(json.dumps(all_digests()))"
    environment = {**os.environ, "MLPIPE_SIMD_BITS": "256", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    assert json.loads(done.stdout) == expected
