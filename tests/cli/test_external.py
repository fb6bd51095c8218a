"""What does not fit into memory: the same bytes, within the ceiling, and nothing left behind."""

from __future__ import annotations

import json
import re
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run
from tests.cli.gate import Gated

CHAINS = {
    "shuffle": ["batch", "--size", "1000", "then", "shuffle", "--seed", "3"],
    "dedup": ["dedup"],
    "dedup of rows whose number is not known": ["dedup", "then", "shuffle", "--seed", "3"],
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 MB, of which a third are rows that have come before."""
    path = tmp_path_factory.mktemp("external") / "X.npy"
    values = np.random.default_rng(0).random((170_000, 40), np.float32)
    np.save(path, values[np.random.default_rng(1).integers(0, len(values), 250_000)])
    return path


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_the_least_memory_gives_the_same_bytes(spawn: Run, tmp_path: Path, rows: Path, chain: list[str]) -> None:
    def carry_out(memory: str) -> tuple[int, str]:
        flags = ["--report", "report.json", "--force", "--memory", memory]
        done = spawn("run", *flags, "read", rows, "then", *chain, "then", "write", "out.npy", cwd=tmp_path)
        return done.code, done.err

    code, message = carry_out("1MiB")
    least = re.search(r"use --memory (\S+) or more", message)
    assert code == 7
    assert least is not None
    assert carry_out(least[1])[0] == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["process"]["anonymous_peak"] <= report["plan"]["memory_ceiling"]
    small = np.load(tmp_path / "out.npy")
    assert carry_out("1GiB")[0] == 0
    assert small.tobytes() == np.load(tmp_path / "out.npy").tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "report.json"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_behind(tmp_path: Path, rows: Path, number: signal.Signals) -> None:
    place, gate = tmp_path / "place", tmp_path / "gate"
    place.mkdir()
    gate.mkdir()
    chain = ["read", rows, "then", *CHAINS["shuffle"], "then", "write", "out.npy"]
    gated = Gated(gate, "pwrite", 40, "-q", "run", "--memory", "130MiB", *chain, cwd=place)
    assert gated.reached.exists()
    if number == signal.SIGKILL:
        gated.process.kill()
    else:
        gated.signal(number)
    assert gated.let_through()[0] == (143 if number == signal.SIGTERM else -9)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("name", CHAINS)
def test_a_file_that_may_not_grow_so_large(spawn: Run, tmp_path: Path, rows: Path, name: str) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    arguments = ["run", "--memory", "130MiB", "read", rows, "then", *CHAINS[name], "then", "nothing"]
    done = spawn(*arguments, cwd=tmp_path, preexec_fn=limit)
    assert done.code == 5
    assert "temporary files in .: " in done.err
    assert ("needs 38.9 MiB, files may have 1.00 MiB" if name == "shuffle" else "file too large") in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


PLACES = {
    "beside the output": ("shuffle", "write place/out.npy", "place"),
    "beside the directory": ("shuffle", "write place/out/", "place"),
    "beside what a link points to": ("shuffle", "write link.npy", "{tmp}/place"),
    "beside the parts": ("shuffle", "split --fractions 0.5,0.5 a.npy place/b.npy", "place"),
    "where it was said": ("shuffle --temp-dir elsewhere", "write place/out.npy", "elsewhere"),
    "without a file": ("shuffle", "nothing", "."),
    "to stdout": ("shuffle", "write -", "."),
    "dedup": ("dedup", "write place/out.npy", "place"),
    "dedup elsewhere": ("dedup --temp-dir elsewhere", "write place/out.npy", "elsewhere"),
}


@pytest.mark.parametrize("name", PLACES)
def test_where_temporary_files_go(spawn: Run, tmp_path: Path, rows: Path, name: str) -> None:
    stage, sink, wanted = PLACES[name]
    for directory in ("place", "elsewhere"):
        (tmp_path / directory).mkdir()
    (tmp_path / "link.npy").symlink_to("place/linked.npy")
    chain = ["read", rows, "then", "batch", "--size", "100", "then", *stage.split(), "then", *sink.split()]
    done = spawn("run", "-n", "--json", "--memory", "130MiB", *chain, cwd=tmp_path)
    assert done.code == 0, done.err
    found = [stage["temporary_files"] for stage in json.loads(done.out)["stages"] if "temporary_files" in stage]
    assert found == [wanted.format(tmp=tmp_path.resolve())]


@pytest.mark.parametrize("stage", ["shuffle", "dedup"])
def test_a_directory_that_is_not_there(spawn: Run, tmp_path: Path, rows: Path, stage: str) -> None:
    chain = ["read", rows, "then", "batch", "--size", "100", "then", stage, "--temp-dir", "missing", "then", "nothing"]
    done = spawn("run", "-n", "--memory", "130MiB", *chain, cwd=tmp_path)
    assert done.code == 5
    message = f"link 3 ({stage}): temporary files in missing: there is no such directory; create it first"
    assert message in done.err
