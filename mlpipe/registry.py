"""Finding verbs by name, our own and those of other packages, and making them.

Packages add verbs through the entry-point group ``mlpipe.verbs``, whose entries name dataclasses as
`mlpipe.declare` describes them. None of theirs is imported before it is asked for.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import re
import typing
from collections.abc import Sequence
from typing import Any

from mlpipe.declare import Parameter, nearest, parameters, summary, value_of
from mlpipe.errors import UsageError
from mlpipe.verbs import OWN, Entry, Kind

GROUP = "mlpipe.verbs"
FLOWS = ("streaming", "buffering", "fitting", "reducing")

_BY_NAME = {entry.name: entry for entry in OWN}


def table() -> dict[str, Entry]:
    """All verbs by name, our own first.

    Examples
    --------
    >>> table()["head"].kind
    'stage'
    """
    return {**_BY_NAME, **_others()[0]}


def unusable() -> list[str]:
    """What is wrong with verbs of other packages, a line for each that was left out."""
    return list(_others()[1].values())


@functools.cache
def _others() -> tuple[dict[str, Entry], dict[str, str]]:
    """Verbs of other packages by name, and what is wrong with those that cannot be used."""
    found: dict[str, Entry] = {}
    wrong: dict[str, str] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        where = f"verb {point.name} of {point.dist.name if point.dist else point.value}"
        if point.name in found or point.name in _BY_NAME:
            wrong.setdefault(f"{point.name} again", f"{where}: left out, for there is another of that name")
            continue
        try:
            found[point.name] = _entry(point.name, point.value, point.load())
        except Exception as error:  # noqa: BLE001 - whatever another package does when it is imported
            reason = " ".join(str(error).split())
            wrong[point.name] = f"{where}: cannot be used: {type(error).__name__}: {reason}"
    return found, wrong


def _entry(name: str, target: str, verb: Any) -> Entry:
    """The line of the table for another package's class."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name == "then":
        raise ValueError("a verb is named in small letters, digits and dashes")
    kind: Any = getattr(verb, "kind", "stage" if hasattr(verb, "apply") else None)
    if kind not in typing.get_args(Kind) or not hasattr(verb, "open"):
        raise TypeError("a verb has a method open, and kind is source, stage or sink")
    parameters(verb)
    return Entry(name, kind, flow_of(verb), target, summary(verb))


def flow_of(verb: Any) -> str:
    """How much of its input a verb's class has to see, its options being what they are by default."""
    flow = getattr(object.__new__(verb), "flow", "streaming")
    if flow not in FLOWS:
        raise ValueError(f"flow is {flow!r}, not one of {', '.join(FLOWS)}")
    return str(flow)


def find(name: str) -> Entry:
    """Return the verb of a name; other packages are looked at only for what is not our own.

    Raises
    ------
    UsageError
        With the nearest names, if there is none.

    Examples
    --------
    >>> find("haed")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: no verb 'haed'; did you mean head?
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    entries = table()
    if name in entries:
        return entries[name]
    if name in _others()[1]:
        raise UsageError(_others()[1][name])
    near = difflib.get_close_matches(name, entries, n=3)
    advice = f"did you mean {' or '.join(near)}?" if near else "see 'mlpipe verbs'"
    raise UsageError(f"no verb {name!r}; {advice}")


def entry_of(verb: Any) -> Entry:
    """The line of the table for an instance of a verb.

    Raises
    ------
    UsageError
        If its class is in no table.
    """
    kind = type(verb)
    for entry in OWN:
        if entry.target == f"{kind.__module__}:{kind.__qualname__}":
            return entry
    for entry in _others()[0].values():
        if entry.load() is kind:
            return entry
    raise UsageError(f"{kind.__name__} is no verb; add it to the entry-point group {GROUP}")


def name_of(verb: Any) -> str:
    """Name of a verb, from its class."""
    return entry_of(verb).name


def make(name: str, *values: Any, **options: Any) -> Any:
    """Return an instance of a verb; the command line, configs and Python all end here.

    Parameters
    ----------
    name : str
        The verb.
    *values
        Positional arguments, then options in the order in which they are declared.
    **options
        By the name of the field, or that of the key in a config with underscores.

    Raises
    ------
    UsageError
        For a verb or an option that does not exist, with the nearest name, and for a value of a wrong type.

    Examples
    --------
    >>> make("head", rows=3)
    Head(rows=3)
    """
    verb = find(name).load()
    declared = {one.name: one for one in sorted(parameters(verb), key=lambda one: not one.positional)}
    given = {**_placed(name, list(declared.values()), values)}
    for key, value in options.items():
        field = key if key in declared else f"{key}_"
        if field not in declared:
            raise UsageError(f"{name} has no option {key!r}{nearest(key, [one.name for one in declared.values()])}")
        if field in given:
            raise UsageError(f"{name} got {key} twice")
        given[field] = value
    for one in declared.values():
        if one.required and one.name not in given:
            raise UsageError(f"{name} needs {one.key}: {one.help}")
    return verb(**{field: value_of(declared[field], value) for field, value in given.items()})


def _placed(name: str, declared: Sequence[Parameter], values: Sequence[Any]) -> dict[str, Any]:
    """Values without a name, by the fields they belong to."""
    if values and declared and declared[0].positional and declared[0].many:
        alone = len(values) == 1 and isinstance(values[0], list | tuple)
        return {declared[0].name: tuple(values[0]) if alone else tuple(values)}
    if len(values) > len(declared):
        raise UsageError(
            f"{name} got {len(values)} values; it takes {', '.join(one.name for one in declared) or 'none'}"
        )
    return {one.name: value for one, value in zip(declared, values, strict=False)}
