"""`mlpipe verbs`, and what every verb of the table has to have."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpipe
from mlpipe.chain import Chain
from mlpipe.cli.chain import parse_links, split_links
from mlpipe.config import dumps, loads
from mlpipe.declare import Parameter, given_values, parameters, summary
from mlpipe.engine import budget
from mlpipe.errors import MlpipeError
from mlpipe.registry import flow_of, make, name_of
from mlpipe.verbs import OWN, Entry
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
TABLE = pytest.mark.parametrize("entry", OWN, ids=[entry.name for entry in OWN])
FOLDERS = {"readers": "source", "stages": "stage", "writers": "sink"}
FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=25)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, but for the examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_fits_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("verbs").out.splitlines()
    assert len(lines) == 1 + len(OWN)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    folded = run("verbs").out.splitlines()
    assert max(map(len, folded)) <= 80
    assert " ".join(" ".join(folded).split()) == " ".join(" ".join(lines).split())


@cache
def example(entry: Entry) -> str:
    """The example at the end of a verb's docstring, in one line."""
    last = inspect.cleandoc(entry.load().__doc__).split("\n\n")[-1]
    assert last.startswith("Example: mlpipe run "), f"{entry.name}: the docstring ends with an example"
    return " ".join(last.removeprefix("Example: ").split())


def example_links(entry: Entry) -> list[Any]:
    """All verbs of an example."""
    words = shlex.split(example(entry))
    words = words[words.index("run") + 1 :]
    for stop in ("|", "&&", ">"):
        words = words[: words.index(stop)] if stop in words else words
    while words[0].startswith("-"):
        words = words[1 if "=" in words[0] or words[0] in ("-n", "-f") else 2 :]
    return parse_links(split_links(words))


def in_example(entry: Entry) -> Any:
    """The verb as its example has it."""
    found = [verb for verb in example_links(entry) if name_of(verb) == entry.name]
    assert found, f"{entry.name}: its example uses it"
    return found[0]


@TABLE
def test_table_says_what_the_class_says(entry: Entry) -> None:
    verb = entry.load()
    assert entry.summary == summary(verb)
    assert entry.flow == flow_of(verb)
    assert entry.kind == FOLDERS[entry.target.split(".")[1]]
    assert verb.__name__.removesuffix("Verb").lower() == entry.name.replace("-", "")
    assert dataclasses.is_dataclass(verb)
    assert verb.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert len(entry.summary) < 100
    assert entry.summary.endswith(".")


@TABLE
def test_declared_fields_fit_every_form(entry: Entry) -> None:
    declared = parameters(entry.load())
    assert len({one.key for one in declared}) == len(declared)
    for field in dataclasses.fields(entry.load()):  # what a stage finds out is kept in fields, too
        found_out = field.name not in {one.name for one in declared}
        missing = field.default is field.default_factory is dataclasses.MISSING
        assert not (found_out and missing), field.name
    for one in declared:
        assert one.help.endswith("."), one.name
        assert one.type is not bool or one.default is False, f"{one.name}: a switch is off by default"
        assert not one.optional or one.default is None, f"{one.name}: a config has no null"
        assert not one.many or one.required or one.optional or isinstance(one.default, tuple), one.name


@TABLE
def test_help(entry: Entry, run: Run) -> None:
    code, out, err = run("run", entry.name, "--help")
    assert (code, err) == (0, "")
    assert entry.summary.removesuffix(".") in " ".join(out.split())
    assert example(entry) in out
    for one in parameters(entry.load()):
        assert one.positional or f"{one.flag} " in out, one.flag
    assert run("run", "read", "then", entry.name, "-h").code == 0


@TABLE
def test_example_runs(entry: Entry, workplace: Path, run: Run) -> None:
    if not re.search(r"[|&;<>$*]", example(entry)):
        assert run(*shlex.split(example(entry))[1:]).code == 0
        return
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script = ["bash", "-euo", "pipefail", "-c", example(entry)]
    done = subprocess.run(script, env={**os.environ, "PATH": path}, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


@TABLE
def test_example_in_python(entry: Entry) -> None:
    verb = in_example(entry)
    chain = Chain((verb,))
    assert eval(repr(chain), {"mlpipe": _Anything()}) == chain
    assert entry.kind == "source" or entry.name.replace("-", "_") in dir(chain)
    if entry.kind == "source":
        assert callable(getattr(mlpipe, entry.name.replace("-", "_")))
    fields = {one.key.replace("-", "_"): getattr(verb, one.name) for one in parameters(type(verb))}
    assert repr(make(entry.name, **fields)) == repr(verb)


class _Anything:
    """Stands for `mlpipe` in what a chain prints, and builds a chain of any one verb."""

    def __getattr__(self, name: str) -> Any:
        return lambda *values, **options: Chain((make(name.replace("_", "-"), *values, **options),))


def through(entry: Entry) -> list[Any]:
    """The verbs of an example up to the one it is for, and a file to write to."""
    verbs = example_links(entry)
    names = [name_of(verb) for verb in verbs]
    return [*verbs[: names.index(entry.name) + 1], make("write", "out.npy")]


def shards_of(path: str) -> None:
    """The rows of a file in three, in a directory."""
    rows = np.load(path)
    Path("shards").mkdir()
    for number, part in enumerate(np.split(rows, [len(rows) // 3, len(rows) // 3 + 1])):
        np.save(f"shards/{number}.npy", part)


@pytest.mark.parametrize("entry", [entry for entry in OWN if entry.kind == "stage"], ids=lambda entry: entry.name)
def test_same_bytes(entry: Entry, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, *verbs = through(entry)
    Chain((source, *verbs)).run(threads=1, force=True)
    first = Path("out.npy").read_bytes()
    monkeypatch.setattr(budget, "BLOCK_BYTES", 3000)
    Chain((source, *verbs)).run(threads=3, memory="400MiB", force=True)
    assert Path("out.npy").read_bytes() == first
    monkeypatch.setattr(budget, "BLOCK_BYTES", 700)
    shards_of(*source.paths)
    Chain((replace(source, paths=("shards",)), *verbs)).run(threads=2, force=True)
    assert Path("out.npy").read_bytes() == first


def values_of(one: Parameter) -> st.SearchStrategy[Any]:
    """Values of a parameter's type, sensible or not."""
    choices = typing.get_args(one.type) if typing.get_origin(one.type) is typing.Literal else ()
    texts = st.text(max_size=8) | st.sampled_from(["", "-", "--", "then", "a,b", "-1", "é\n", '"', "'''"])
    kinds: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-3, 100) | st.integers(-(2**64) + 1, 2**64 - 1),
        float: st.floats() | st.sampled_from([0.0, -0.0, 0.1, 0.5, 1.0]),
        bool: st.booleans(),
        str: texts,
    }
    value = st.sampled_from(choices) if choices else kinds.get(one.type, st.just(one.default))
    value = st.lists(value, max_size=4).map(tuple) if one.many else value
    return value | st.none() if one.optional else value


@TABLE
def test_configs_give_back_what_they_were_made_from(entry: Entry) -> None:
    declared = parameters(entry.load())
    base = given_values(in_example(entry))

    @FIXED
    @given(st.fixed_dictionaries({}, optional={one.name: values_of(one) for one in declared}))
    def check(changed: dict[str, Any]) -> None:
        try:
            verb = make(entry.name, **{**base, **changed})
        except MlpipeError:  # and nothing else: a config from anywhere ends in one line
            verb = make(entry.name, **base)
        assert [repr(one) for one in loads(dumps([verb])).verbs] == [repr(verb)]

    check()


@TABLE
def test_some_test_of_its_own(entry: Entry) -> None:
    named = re.compile(
        rf"\b{entry.load().__name__}\b|[\"' .]{re.escape(entry.name)}\b|\.{entry.name.replace('-', '_')}\("
    )
    files = [path for folder in ("unit", "property", "cli") for path in (ROOT / "tests" / folder).glob("test_*.py")]
    mine = {"test_verbs.py", "test_config.py", "test_chain.py", "test_declare.py"}
    assert any(named.search(path.read_text()) for path in files if path.name not in mine)


def test_table_of_all(run: Run) -> None:
    code, out, err = run("verbs")
    assert (code, err) == (0, "")
    lines = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    assert lines[0] == ["verb", "kind", "flow", "what it does"]
    assert lines[1:] == [[entry.name, entry.kind, entry.flow, entry.summary] for entry in OWN]
    facts = json.loads(run("verbs", "--json").out)
    assert [list(one) for one in facts] == [["name", "kind", "flow", "summary"]] * len(OWN)
    assert [list(one.values()) for one in facts] == lines[1:]


THIRD = '''
"""A verb of another package."""
from dataclasses import dataclass
from mlpipe.declare import option
from mlpipe.stages.streaming import Streaming

@dataclass(frozen=True)
class Plus(Streaming):
    """Adds a number.

    Example: mlpipe run read X.npy then plus --number 3 then nothing
    """

    number: int = option(1, help="Which.")

    def each(self, block):
        block.data += self.number
        yield block

class NoVerb:
    pass
'''


@pytest.fixture
def third(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with verbs, as pip would install it."""
    site = workplace / "site"
    (site / "more_verbs-1.0.dist-info").mkdir(parents=True)
    (site / "more_verbs.py").write_text(THIRD)
    (site / "more_verbs-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: more-verbs\nVersion: 1.0\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))
    return site


def declare_points(site: Path, *lines: str) -> None:
    path = site / "more_verbs-1.0.dist-info" / "entry_points.txt"
    path.write_text("\n".join(["[mlpipe.verbs]", *lines, ""]))


def test_verbs_of_another_package(third: Path, spawn: Run) -> None:
    declare_points(third, "plus = more_verbs:Plus")
    code, out, err = spawn("verbs", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)[-1] == {"name": "plus", "kind": "stage", "flow": "streaming", "summary": "Adds a number."}
    link = ["run", "-f", "read", "examples/data/digits.npy", "then", "plus", "--number", "3", "then", "write", "Y.npy"]
    assert spawn(*link).code == 0
    assert spawn("run", "--save-config", "c.toml", *link[1:]).code == 0
    assert 'verb = "plus"\nnumber = 3' in Path("c.toml").read_text()
    assert spawn("run", "--config", "c.toml", "-n").code == 0
    assert "--number" in spawn("run", "plus", "--help").out
    assert "did you mean plus?" in spawn("run", "read", "X.npy", "then", "pluss").err
    code = "import mlpipe; print(mlpipe.read('examples/data/digits.npy').plus(number=3))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "mlpipe.read('examples/data/digits.npy').plus(number=3)\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "gone = no_such_package:Verb",
            "verb gone of more-verbs: cannot be used: ModuleNotFoundError: No module named",
        ),
        ("gone = more_verbs:Nothing", "verb gone of more-verbs: cannot be used: AttributeError:"),
        ("gone = more_verbs:NoVerb", "verb gone of more-verbs: cannot be used: TypeError: a verb has a method open"),
        ("Two_Words = more_verbs:Plus", "verb Two_Words of more-verbs: cannot be used: ValueError: a verb is named"),
        ("then = more_verbs:Plus", "verb then of more-verbs: cannot be used: ValueError: a verb is named"),
        ("head = more_verbs:Plus", "verb head of more-verbs: left out, for there is another of that name"),
    ],
)
def test_a_broken_package_breaks_nothing(third: Path, spawn: Run, line: str, words: str) -> None:
    declare_points(third, line)
    code, out, err = spawn("verbs")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(OWN)
    assert err.startswith(f"mlpipe: warning: {words}")
    assert err.count("\n") == 1
    assert spawn("-q", "verbs").err == ""
    assert spawn("-q", "run", "read", "examples/data/digits.npy", "then", "head", "then", "nothing").code == 0


def test_using_a_broken_verb_says_what_is_wrong_with_it(third: Path, spawn: Run) -> None:
    declare_points(third, "gone = no_such_package:Verb")
    code, out, err = spawn("run", "read", "examples/data/digits.npy", "then", "gone")
    assert (code, out) == (2, "")
    assert err.startswith("mlpipe: error: link 2: verb gone of more-verbs: cannot be used")
