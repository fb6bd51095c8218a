"""Chains as TOML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.config import config_file, dumps, load, loads
from mlpipe.errors import OutputError, UsageError
from mlpipe.registry import make
from mlpipe.stages.batch import Batch
from mlpipe.stages.head import Head

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=100)


def test_only_what_differs_from_the_defaults_is_written() -> None:
    assert dumps([Head(), Batch(3, drop_last=True)]) == (
        '[[link]]\nverb = "head"\n\n[[link]]\nverb = "batch"\nsize = 3\ndrop-last = true\n'
    )


@FIXED
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
def test_any_path_comes_back(paths: list[str]) -> None:
    verb = make("read", *paths)
    assert loads(dumps([verb])).verbs == (verb,)


def test_flags_come_back() -> None:
    flags = {"memory": 1 << 40, "report": "a\\b\n.json", "force": True}
    assert loads(dumps([Head()], flags)).flags == flags


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    file, content = config_file(path, [Head(3)])
    assert not path.exists()
    with file:
        file.pwrite(content, 0)
    config = load(path)
    assert (config.verbs, config.flags) == ((Head(3),), {})
    assert config.fingerprint is not None
    assert config.fingerprint.st_ino == path.stat().st_ino
    with pytest.raises(OutputError, match="exists"):
        config_file(path, [Head(3)])[0].check()


def test_messages_name_the_config_and_the_link() -> None:
    text = '[[link]]\nverb = "head"\n[[link]]\nverb = "batch"\nsiez = 3\n'
    with pytest.raises(UsageError, match=r"^here\.toml: link 2 \(batch\): no key 'siez'; did you mean size\?$"):
        loads(text, "here.toml")
