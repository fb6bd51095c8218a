"""The table of verbs: looking them up, and making them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlpipe.errors import UsageError
from mlpipe.registry import entry_of, find, flow_of, make, name_of, table
from mlpipe.stages.batch import Batch
from mlpipe.stages.head import Head


def test_lookup() -> None:
    assert find("head").load() is Head
    assert table()["head"] is find("head")
    assert (name_of(Head(3)), entry_of(Head(3)).kind, flow_of(Head)) == ("head", "stage", "streaming")
    with pytest.raises(UsageError, match="no verb 'baatch'; did you mean batch"):
        find("baatch")
    with pytest.raises(UsageError, match="int is no verb"):
        entry_of(3)


@pytest.mark.parametrize(
    ("name", "values", "options", "made"),
    [
        ("head", [], {}, Head(10)),
        ("head", [3], {}, Head(3)),
        ("batch", [4, True], {}, Batch(4, drop_last=True)),
        ("batch", [], {"size": 4, "drop_last": True}, Batch(4, drop_last=True)),
        ("read", ["a", "b"], {}, make("read", paths=["a", "b"])),
        ("read", [["a", "b"]], {}, make("read", "a", "b")),
        ("read", [Path("a")], {}, make("read", "a")),
    ],
)
def test_make(name: str, values: list[Any], options: dict[str, Any], made: Any) -> None:
    assert make(name, *values, **options) == made


@pytest.mark.parametrize(
    ("name", "values", "options", "message"),
    [
        ("haed", [], {}, "no verb 'haed'; did you mean head?"),
        ("head", [], {"rwos": 3}, "head has no option 'rwos'; did you mean rows?"),
        ("head", [3, 4], {}, "head got 2 values; it takes rows"),
        ("head", [3], {"rows": 3}, "head got rows twice"),
        ("nothing", [3], {}, "nothing got 1 values; it takes none"),
        ("nothing", [], {"x": 3}, "nothing has no option 'x'; it has none"),
        ("batch", [], {}, "batch needs size: Rows of a batch."),
        ("head", ["x"], {}, "rows = 'x': give a whole number"),
        ("head", [-1], {}, "head --rows -1: give 0 or more"),
    ],
)
def test_make_refuses(name: str, values: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(name, *values, **options)
    assert str(caught.value) == message


def test_the_table_imports_no_numpy() -> None:
    code = "import sys, mlpipe.registry as v; v.table(); v.find('head'); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
