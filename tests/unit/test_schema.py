"""Records read back: the sample is one, and whatever else is in a file is refused in one line that says why."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlpipe.errors import InputError, InputMissingError
from mlpipe.measure.schema import check_record, load_record

SAMPLE = Path(__file__).parents[1] / "records/sample.json"
DOCS = Path(__file__).parents[2] / "docs/record.md"


def sample() -> dict[str, Any]:
    return json.loads(SAMPLE.read_text())


def leaves(value: Any, path: tuple[Any, ...] = ()):
    """Every place in a record, outside of what has no schema."""
    yield path
    if path in {("plan",), ("result",)}:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))


def put(record: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        record = record[key]
    record[path[-1]] = value


def test_the_sample_is_a_record():
    assert load_record(SAMPLE) == check_record(sample())


def test_keys_that_are_not_known_are_let_pass():
    record = sample()
    record["later"] = record["stages"][0]["later"] = {"a": [1]}
    assert check_record(record) is record


@pytest.mark.parametrize("path", [path for path in leaves(sample()) if path], ids=str)
def test_nothing_may_be_of_another_type(path):
    record = sample()
    put(record, path, object())
    free = path[0] in ("plan", "result") and len(path) > 1
    if not free:
        with pytest.raises(InputError) as raised:
            check_record(record, "F.json")
        message = str(raised.value)
        assert message.startswith("F.json: ")
        assert "\n" not in message


@pytest.mark.parametrize("path", [path for path in leaves(sample()) if path and isinstance(path[-1], str)], ids=str)
def test_nothing_may_be_missing(path):
    record = sample()
    if path[0] in ("not_measured", "versions") or "queues" in path[:-1]:
        path = path[:1]
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    with pytest.raises(InputError):
        check_record(record)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("wall_s",), True, "wall_s is true, not a number"),
        (("wall_s",), "1", 'wall_s is "1", not a number'),
        (("threads",), 2.0, "threads is 2.0, not a whole number"),
        (("status",), "good", 'status is "good", not done or failed or interrupted'),
        (("stages", 0, "cpu_s"), 10**400, "not a number"),
        (("stages", 0, "timeline", "self"), [0.5], "timeline has lists of different lengths"),
        (("process", "samples", "rss"), [1], "process.samples.rss has 1 points"),
        (("process", "samples", "queues"), {"read": []}, "process.samples.queues.read has 0 points"),
        (("command",), "run", "command is"),
        (("not_measured",), {"a": 1}, "not_measured.a is 1, not text"),
    ],
)
def test_what_is_wrong_is_named(path, value, said):
    record = copy.deepcopy(sample())
    put(record, path, value)
    with pytest.raises(InputError) as raised:
        check_record(record, "F.json")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON"),
        (b"\x93NUMPY\x01\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"null", "not a record of mlpipe"),
        (b'{"version": 3}', "not a record of mlpipe"),
        (b'{"schema_version": 1}', "schema_version 1, this mlpipe reads 2"),
        (b'{"schema_version": 3}', "schema_version 3"),
        (b'{"schema_version": true}', "schema_version is true, not a whole number"),
        (b'{"schema_version": "2\\n"}', r'schema_version is "2\n", not a whole number'),
        (b'{"schema_version": 2}', "command is missing"),
        (b'{"schema_version": 2, "wall_s": NaN}', "NaN is not JSON"),
    ],
)
def test_what_is_no_record(tmp_path, content, said):
    path = tmp_path / "F.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        load_record(path)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_numbers_out_of_range_in_a_file(tmp_path):
    path = tmp_path / "F.json"
    record = {**sample(), "wall_s": 12345}
    path.write_text(json.dumps(record).replace("12345", "1e999"))
    with pytest.raises(InputError, match="wall_s"):
        load_record(path)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("none.json", "pipe", "."):
        with pytest.raises(InputMissingError):
            load_record(tmp_path / name)
    with pytest.raises(InputMissingError):
        load_record("a\0b")


def test_every_key_is_documented():
    text = DOCS.read_text()
    missing = {path[-1] for path in leaves(sample()) if path and isinstance(path[-1], str)}
    free = {*sample()["not_measured"], *sample()["versions"], *sample()["process"]["samples"]["queues"]}
    assert {key for key in missing - free if f"`{key}`" not in text} == set()
