"""Chains as TOML: a table ``[run]`` of flags of the command line, and one ``[[link]]`` for each verb."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpipe.declare import given_values, nearest, parameters
from mlpipe.errors import InputMissingError, UsageError
from mlpipe.opening import FileIdentity
from mlpipe.readers.files import Fingerprint, open_regular, shown_name
from mlpipe.registry import find, make, name_of
from mlpipe.writers.atomic import AtomicFile

MOST_BYTES = 1 << 20
"""Of a config; what is longer is something else."""


@dataclass(frozen=True, slots=True)
class Config:
    """A config that was read.

    Parameters
    ----------
    flags : dict
        What ``[run]`` holds; who runs the chain says which there are.
    verbs : tuple
        Instances of the verbs' classes.
    fingerprint : Fingerprint or None
        Of the file it came from.
    """

    flags: dict[str, Any]
    verbs: tuple[Any, ...]
    fingerprint: Fingerprint | None = None


def load(path: str | os.PathLike[str]) -> Config:
    """Read a config.

    Raises
    ------
    InputMissingError
        If it cannot be read.
    UsageError
        If it is no TOML, or holds what no verb has.
    """
    name = shown_name(path)
    descriptor, fingerprint = open_regular(path)
    with open(descriptor, "rb") as file:
        try:
            content = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise InputMissingError(f"{name}: cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise UsageError(f"{name}: longer than {MOST_BYTES >> 20} MiB; a config is short")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 at byte {error.start}; a config is TOML") from None
    found = loads(text, name)
    return Config(found.flags, found.verbs, fingerprint)


def loads(text: str, name: str = "config") -> Config:
    r"""Take a config from its text; `name` is what messages call it.

    Examples
    --------
    >>> loads('[[link]]\nverb = "head"\nrows = 3\n').verbs
    (Head(rows=3),)
    """
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets of thousands of levels
        raise UsageError(f"{name}: no TOML: {error}") from None
    for key in content:
        if key not in ("run", "link"):
            raise UsageError(f"{name}: no key {key!r}{nearest(key, ('run', 'link'))}")
    flags, links = content.get("run", {}), content.get("link", [])
    if not isinstance(flags, dict):
        raise UsageError(f"{name}: run is no table; write [run] above its keys")
    if not isinstance(links, list) or not links:
        raise UsageError(f"{name}: needs a table [[link]] for each verb, from a source on")
    return Config(flags, tuple(_verb(link, place, name) for place, link in enumerate(links, 1)))


def _verb(link: Any, place: int, name: str) -> Any:
    verb = link.get("verb") if isinstance(link, dict) else None
    if not isinstance(verb, str):
        raise UsageError(f'{name}: link {place}: needs a key verb, such as verb = "head"')
    where = f"{name}: link {place} ({verb})"
    try:
        fields = {one.key: one.name for one in parameters(find(verb).load())}
        unknown = [key for key in link if key != "verb" and key not in fields]
        if unknown:
            raise UsageError(f"no key {unknown[0]!r}{nearest(unknown[0], fields)}")
        return make(verb, **{fields[key]: value for key, value in link.items() if key != "verb"})
    except UsageError as error:
        raise UsageError(f"{where}: {str(error).removeprefix(f'{verb} ')}") from None


def dumps(verbs: Sequence[Any], flags: Mapping[str, Any] | None = None) -> str:
    """The config of a chain; `loads` gives the same verbs back.

    Examples
    --------
    >>> from mlpipe.stages.head import Head
    >>> print(dumps([Head(3)], {"threads": 2}))
    [run]
    threads = 2
    <BLANKLINE>
    [[link]]
    verb = "head"
    rows = 3
    <BLANKLINE>
    """
    import tomli_w

    tables = [tomli_w.dumps({"run": dict(flags)})] if flags else []
    tables += ["[[link]]\n" + tomli_w.dumps({"verb": name_of(verb), **_keys(verb)}) for verb in verbs]
    return "\n".join(tables)


def _keys(verb: Any) -> dict[str, Any]:
    """Keys and values of a link; what is None is left out, for then that is the default."""
    keys = {one.name: one.key for one in parameters(type(verb))}
    return {keys[name]: _listed(value) for name, value in given_values(verb).items() if value is not None}


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, tuple) else value


def config_file(
    path: str | os.PathLike[str],
    verbs: Sequence[Any],
    flags: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    inputs: Sequence[FileIdentity] = (),
) -> tuple[AtomicFile, bytes]:
    """The file a config would be written to, not yet created, and what would be in it.

    Raises
    ------
    UsageError
        For text that TOML cannot hold, such as a path that is not UTF-8.
    """
    try:
        content = dumps(verbs, flags).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{shown_name(path)}: the chain has text that is not UTF-8; a config cannot hold it") from None
    return AtomicFile(path, size=len(content), force=force, inputs=inputs), content
