"""Every example and every command in the README is run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlpipe.config import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = "".join(body for kind, body in BLOCKS if kind == "sh" and body.startswith(("mlpipe ", "# ")))
PYTHON = [body for kind, body in BLOCKS if kind == "python"]
OUTPUTS = [body for kind, body in BLOCKS if kind == ""]


def call(command: list[str | Path], directory: Path) -> str:
    """Run a command that finds this interpreter, and the mlpipe beside it, first; return what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_distances(out: str, directory: Path) -> None:
    whole, condensed = (np.load(directory / f"digits-{name}.npy") for name in ("distances", "condensed"))
    digits = np.load(ROOT / "examples/data/digits.npy").astype(float)
    np.testing.assert_allclose(whole[17], np.linalg.norm(digits - digits[17], axis=1), rtol=1e-12)
    np.testing.assert_array_equal(whole, whole.T)
    np.testing.assert_array_equal(condensed, whole[np.triu_indices(len(whole), 1)])
    assert out.count(" yes\n") == 2
    assert (directory / "report.json").exists()


def check_closest_pair(out: str, directory: Path) -> None:
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["euclidean", "chebyshev", "canberra"]
    for line in lines:
        one, other = re.findall(r"a (\d)", line)
        assert one == other


def check_two_files(out: str, directory: Path) -> None:
    share = re.fullmatch(r"the nearest known digit is the same digit for ([\d.]+)% of 297\n", out)
    assert share is not None
    assert float(share[1]) > 90


def check_unattended(out: str, directory: Path) -> None:
    assert out.endswith("done\n")
    assert np.load(directory / "distances.npy").max() == 16


def check_training_set(out: str, directory: Path) -> None:
    names = ("train", "test")
    rows = {name: np.load(directory / f"{name}.npy") for name in names}
    labels = {name: np.load(directory / f"{name}-labels.npy") for name in names}
    digits, known = (np.load(ROOT / f"examples/data/{name}.npy") for name in ("digits", "digits_labels"))
    whole = sorted(map(bytes, np.column_stack([digits, known.astype("u1")])))
    parts = [np.column_stack([rows[name], labels[name].astype("u1")]) for name in names]
    assert sorted(map(bytes, np.concatenate(parts))) == whole
    assert 0.75 < len(rows["train"]) / len(digits) < 0.85
    mean, deviation = rows["train"].mean(axis=0), rows["train"].std(axis=0)
    test = (rows["test"] - mean) / np.where(deviation > 0, deviation, 1)
    np.testing.assert_allclose(np.load(directory / "test-ready.npy"), test, rtol=1e-9, atol=1e-12)
    train = np.load(directory / "train-ready.npy")
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(np.load(directory / "test-ready-labels.npy"), labels["test"])
    assert out.count(" yes\n") == 2


def check_stream(out: str, directory: Path) -> None:
    assert out == "1792 rows of float32, from 0 to 1\n"


def check_count(out: str, directory: Path) -> None:
    digits, labels = (np.load(ROOT / f"examples/data/{name}.npy") for name in ("digits", "digits_labels"))
    lines = out.splitlines()
    assert lines[0] == "word,count"
    assert len(lines) == 14
    for digit, line in enumerate(lines[4:]):
        assert line == f"a {digit} takes {digits[labels == digit].sum(axis=1).mean():.0f} drops of ink"
    pixels = np.loadtxt(directory / "pixels.csv", int, delimiter=",", skiprows=1)
    for column in range(64):
        values, counts = np.unique(digits[:, column], return_counts=True)
        np.testing.assert_array_equal(pixels[pixels[:, 0] == column, 1:], np.column_stack([values, counts]))
    bins = [one["count"] for one in json.loads((directory / "bins.json").read_text())["counts"]]
    sums = digits[:, 20].astype(float) + digits[:, 28]
    assert bins == np.histogram(sums, [0, 8, 16, 24, 32])[0].tolist()


def check_stats(out: str, directory: Path) -> None:
    digits = np.load(ROOT / "examples/data/digits.npy").astype(float)
    constant = int((digits.min(axis=0) == digits.max(axis=0)).sum())
    assert out.startswith(f"{constant} pixels are the same in all 1797 digits\n")
    assert out.count("\n") == 3
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(np.load(directory / "correlation.npy"), np.corrcoef(digits.T), rtol=1e-9, atol=1e-12)
    assert json.loads((directory / "standardized.json").read_text())["rows"] == len(digits)
    assert np.load(directory / "first.npy").shape == (100, 64)


CHECKS: dict[str, Callable[[str, Path], None]] = {
    "closest_pair.sh": check_closest_pair,
    "count.sh": check_count,
    "distances.sh": check_distances,
    "stats.sh": check_stats,
    "stream.sh": check_stream,
    "training_set.sh": check_training_set,
    "two_files.sh": check_two_files,
    "unattended.sh": check_unattended,
}


@pytest.mark.parametrize("name", CHECKS)
def test_example(name: str, tmp_path: Path) -> None:
    script = ROOT / "examples" / name
    CHECKS[name](call([script, tmp_path], tmp_path), tmp_path)


def test_every_example_is_checked() -> None:
    assert sorted(path.name for path in (ROOT / "examples").glob("*.sh")) == sorted(CHECKS)


def check_shards(directory: Path) -> None:
    rows = [np.load(path) for path in sorted((directory / "training_set").glob("shard-?????.npy"))]
    assert [len(shard) for shard in rows] == [500, 500, 500, 297]
    np.testing.assert_allclose(np.concatenate(rows).mean(axis=0), 0, atol=1e-12)
    assert np.load(directory / "digits-stats.npz")["mean"].shape == (64,)


def check_augmented(directory: Path) -> None:
    assert np.load(directory / "augmented.npy").shape == (1797, 65)


def check_counts(directory: Path) -> None:
    digits, labels = (np.load(ROOT / f"examples/data/{name}.npy") for name in ("digits", "digits_labels"))
    table = np.load(directory / "counts.npy")
    assert len(table) == 100
    assert (np.diff(table[:, 2]) <= 0).all()
    for label, value, count in table[:10].tolist():
        assert (np.minimum(digits[labels == label], 12) == value).sum() == count


def check_trial(directory: Path) -> None:
    record = json.loads((directory / "trial.json").read_text())
    assert (record["result"], record["status"]) == ({"rows": 1_000_000}, "done")


CONFIGS: dict[str, Callable[[Path], None]] = {
    "augmented.toml": check_augmented,
    "counts.toml": check_counts,
    "training_set.toml": check_shards,
    "trial.toml": check_trial,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    command: list[str | Path] = ["mlpipe", "-q", "run", "--config", ROOT / "configs" / name]
    assert call([*command, "--dry-run", "--save-config", "again.toml"], tmp_path).startswith("link ")
    assert load(tmp_path / "again.toml").verbs == load(ROOT / "configs" / name).verbs
    assert call(command, tmp_path) == ""
    CONFIGS[name](tmp_path)


def test_every_config_is_checked() -> None:
    assert sorted(path.name for path in (ROOT / "configs").glob("*")) == sorted(CONFIGS)


@pytest.mark.timeout(900)  # two minutes of compiling alone, where no kernel is in the cache
def test_readme_commands_in_a_row_print_what_it_shows(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    printed = call(["bash", "-euo", "pipefail", "-c", COMMANDS], tmp_path)
    assert OUTPUTS
    for shown in OUTPUTS:
        assert shown in printed


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_readme_python(number: int) -> None:
    assert call([sys.executable, "-c", PYTHON[number]], ROOT)


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "examples/data/README.md"])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
