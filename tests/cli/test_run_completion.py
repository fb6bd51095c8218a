"""Completion of chains, as the shells ask for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlpipe.registry import table

MAIN = "import sys; from mlpipe.cli.main import main; sys.argv[0] = 'mlpipe'; sys.exit(main())"


def ask(shell: str, line: str) -> str:
    """What a shell is told for a line with the cursor at its end."""
    words = line.split(" ")
    environment = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-c", MAIN],
        env={**os.environ, "_MLPIPE_COMPLETE": f"complete_{shell}", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def words(line: str) -> list[str]:
    return ask("bash", line).split()


def names(*kinds: str) -> list[str]:
    return [entry.name for entry in table().values() if entry.kind in kinds]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mlpipe run read X.npy then hea", ["head"]),
        ("mlpipe run read X.npy + hea", ["head"]),
        ("mlpipe run --threads 2 read X.npy then hea", ["head"]),
        ("mlpipe run read X.npy then head --r", ["--rows"]),
        ("mlpipe run read X.npy then head -", ["--rows", "--help"]),
        ("mlpipe run read X.npy then batch --d", ["--drop-last"]),
        ("mlpipe run read X.npy then head --rows ", []),
        ("mlpipe run read X.npy then head --rows 3 ", ["then"]),
        ("mlpipe run read X.npy then head th", ["then"]),
        ("mlpipe run read X.npy ", ["then"]),
        ("mlpipe run read ", []),
        ("mlpipe run read X.npy then write Y.npy ", []),
        ("mlpipe run read X.npy then qqqq --", []),
        ("mlpipe run read X.npy then qqqq ", []),
        ("mlpipe run read X.npy then -", []),
        ("mlpipe run --sav", ["--save-config"]),
        ("mlpipe run --progress l", ["log"]),
        ("mlpipe ru", ["run"]),
    ],
)
def test_words(line: str, expected: list[str]) -> None:
    assert words(line) == expected


def test_verbs_by_their_place() -> None:
    assert words("mlpipe run ") == names("source")
    assert words("mlpipe run read X.npy then ") == names("stage", "sink")


def test_zsh_and_fish_show_what_a_verb_does() -> None:
    line = "mlpipe run read X.npy then hea"
    assert ask("zsh", line) == '_arguments \'*: :(("head":"The first rows."))\'\n'
    assert ask("fish", line) == "head\tThe first rows.\n"
    assert '"--rows":"How many."' in ask("zsh", "mlpipe run read X.npy then head --r")
    assert re.match(r"--rows\tHow many", ask("fish", "mlpipe run read X.npy then head --r"))


def test_a_config_that_is_broken_does_not_disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.toml").write_text("[")
    assert words("mlpipe run --config broken.toml --thr") == ["--threads"]
