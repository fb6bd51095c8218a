"""The schema of records, and reading them back: whatever is in a file, it is a record or one clear error."""

from __future__ import annotations

import functools
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from mlpipe.errors import InputError, InputMissingError
from mlpipe.measure.facts import SCHEMA_VERSION as SCHEMA_VERSION
from mlpipe.measure.facts import ArrayFacts as ArrayFacts
from mlpipe.measure.facts import BottleneckFacts as BottleneckFacts
from mlpipe.measure.facts import BottleneckKind as BottleneckKind
from mlpipe.measure.facts import Cache as Cache
from mlpipe.measure.facts import FingerprintFacts as FingerprintFacts
from mlpipe.measure.facts import FunctionFacts as FunctionFacts
from mlpipe.measure.facts import HostFacts as HostFacts
from mlpipe.measure.facts import InputFacts as InputFacts
from mlpipe.measure.facts import ProcessFacts as ProcessFacts
from mlpipe.measure.facts import ProfileFacts as ProfileFacts
from mlpipe.measure.facts import ProfileRunFacts as ProfileRunFacts
from mlpipe.measure.facts import ProfileSampleFacts as ProfileSampleFacts
from mlpipe.measure.facts import RecordFacts as RecordFacts
from mlpipe.measure.facts import SampleFacts as SampleFacts
from mlpipe.measure.facts import SourceLineFacts as SourceLineFacts
from mlpipe.measure.facts import SpreadFacts as SpreadFacts
from mlpipe.measure.facts import StageFacts as StageFacts
from mlpipe.measure.facts import Status as Status
from mlpipe.measure.facts import ThreadFacts as ThreadFacts
from mlpipe.measure.facts import TimelineFacts as TimelineFacts
from mlpipe.measure.sizes import visible

LARGEST_FILE = 64 << 20
"""Bytes of a record that is read; those mlpipe writes have some 100 KiB."""

_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null", list: "a list",
    dict: "an object",
}  # fmt: skip


def load_record(path: str | os.PathLike[str]) -> RecordFacts:
    """Read a record that ``--report FILE.json`` or ``mlpipe profile -o FILE.json`` wrote.

    Parameters
    ----------
    path : str or path-like
        A regular file.

    Returns
    -------
    RecordFacts
        As checked by `check_record`.

    Raises
    ------
    InputMissingError
        If it cannot be read.
    InputError
        If it holds no record, or one of another schema.

    Examples
    --------
    >>> load_record("no-such.json")
    Traceback (most recent call last):
    mlpipe.errors.InputMissingError: no-such.json: no such file; check the path
    """
    name = os.fsdecode(path)
    try:
        status = os.stat(path)  # noqa: PTH116 - before it is opened: a pipe would block
        if not stat.S_ISREG(status.st_mode):
            raise InputMissingError(f"{name}: not a regular file; give a file that --report FILE.json wrote")
        if status.st_size > LARGEST_FILE:
            _fail(name, f"{status.st_size} bytes, a record has at most {LARGEST_FILE}")
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputMissingError(f"{name or repr(name)}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputMissingError(f"{name}: {reason}; give a file that --report FILE.json wrote") from error
    try:
        value = json.loads(content, parse_constant=lambda constant: _fail(name, f"{constant} is not JSON"))
    except (ValueError, RecursionError) as error:
        _fail(name, f"no JSON ({error})")
    return check_record(value, name)


def check_record(value: object, name: str = "record") -> RecordFacts:
    """Check that a value is a record of this schema; keys it does not know are left as they are.

    Parameters
    ----------
    value : object
        As `json.loads` gives it.
    name : str
        What messages call it.

    Returns
    -------
    RecordFacts
        The same object.

    Raises
    ------
    InputError
        For anything else, naming the first key that is wrong.

    Examples
    --------
    >>> check_record({"schema_version": 1}, "old.json")
    Traceback (most recent call last):
    mlpipe.errors.InputError: old.json: a record of schema_version 1, this mlpipe reads 2; measure again
    >>> check_record([], "a.json")
    Traceback (most recent call last):
    mlpipe.errors.InputError: a.json: not a record of mlpipe; give a file that --report FILE.json wrote
    """
    if not isinstance(value, Mapping) or "schema_version" not in value:
        _fail(name, "not a record of mlpipe", help="give a file that --report FILE.json wrote")
    version = value["schema_version"]
    if type(version) is not int:
        _fail(name, _wrong("schema_version", version, _WORDS[int]))
    if version != SCHEMA_VERSION:
        _fail(
            name,
            f"a record of schema_version {str(version)[:20]}, this mlpipe reads {SCHEMA_VERSION}",
            help="measure again",
        )
    for problem in _problems(value, RecordFacts, ""):
        _fail(name, problem)
    record = cast("RecordFacts", value)
    for problem in _uneven(record):
        _fail(name, problem)
    return record


def _fail(name: str, what: str, help: str = "measure again") -> NoReturn:  # noqa: A002
    raise InputError(f"{visible(f'{name}: {what}')}; {help}")


@functools.cache
def _keys(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _problems(value: object, kind: Any, where: str) -> Iterator[str]:
    """What is wrong with a value that should be of a type, as the TypedDicts say it."""
    if kind is Any:
        return
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        kinds = get_args(kind)
        if value is None and NoneType in kinds:
            return
        rest = [one for one in kinds if one is not NoneType]
        yield from _problems(value, rest[0], where) if len(rest) == 1 else ()
    elif origin is Literal:
        allowed = get_args(kind)
        if not any(value == one and type(value) is type(one) for one in allowed):
            yield _wrong(where, value, " or ".join(map(str, allowed)))
    elif origin is list:
        yield from _each(value, list, kind, where)
    elif origin is dict:
        yield from _each(value, dict, kind, where)
    elif is_typeddict(kind):
        yield from _object(value, kind, where)
    elif not _is(value, kind):
        yield _wrong(where, value, _WORDS[kind])


def _object(value: object, kind: Any, where: str) -> Iterator[str]:
    """What is wrong with a dict of certain keys."""
    if not isinstance(value, dict):
        yield _wrong(where, value, _WORDS[dict])
        return
    for key, inner in _keys(kind).items():
        place = f"{where}.{key}" if where else key
        if key in value:
            yield from _problems(value[key], inner, place)
        else:
            yield f"{place} is missing"


def _each(value: object, container: type, kind: Any, where: str) -> Iterator[str]:
    """What is wrong with a list, or with a dict of any keys."""
    if not isinstance(value, container):
        yield _wrong(where, value, _WORDS[container])
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _problems(item, get_args(kind)[1], f"{where}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _problems(item, get_args(kind)[0], f"{where}[{number}]")


def _is(value: object, kind: type) -> bool:
    """Whether a value is of a plain type; whole numbers are numbers, true is none, and neither is infinity."""
    if kind is float:
        return type(value) in (int, float) and _finite(value)
    return type(value) is kind


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _wrong(where: str, value: object, wanted: str) -> str:
    shown = json.dumps(value, default=str) if isinstance(value, str | int | float | bool | NoneType) else ""
    found = f" is {shown[:40]}, not" if shown else " is not"
    return f"{where}{found} {wanted}"


def _uneven(record: RecordFacts) -> Iterator[str]:
    """Lists that should be of equal length and are not."""
    process: ProcessFacts = record["process"]
    samples = process["samples"]
    count = len(samples["t_s"])
    lists: dict[str, list[Any] | None] = {key: cast("Any", samples)[key] for key in samples if key != "queues"}
    lists |= {f"queues.{key}": depths for key, depths in samples["queues"].items()}
    for key, points in lists.items():
        if isinstance(points, list) and len(points) != count:
            yield f"process.samples.{key} has {len(points)} points, t_s has {count}"
    for number, stage in enumerate(record["stages"]):
        yield from _uneven_steps(stage, number)


def _uneven_steps(stage: StageFacts, number: int) -> Iterator[str]:
    line = stage["timeline"]
    counts = {len(line["self"]), len(line["wait_in"]), len(line["wait_out"]), len(line["compile"])}
    if len(counts) > 1:
        yield f"stages[{number}].timeline has lists of different lengths"
